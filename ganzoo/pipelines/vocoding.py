"""The pipeline of vocoders: sound from mel spectrograms, and recordings through them and back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ganzoo.errors import UserError
from ganzoo.hub.words import CardWords
from ganzoo.networks.audio import Vocoder
from ganzoo.pipelines.base import Pipeline
from ganzoo.pipelines.drawing import check_positive
from ganzoo.processors import Processor
from ganzoo.sound.spectral import MelConfig, log_mel, resample
from ganzoo.utils.files import write_bytes
from ganzoo.utils.precision import autocast, resolve_precision

if TYPE_CHECKING:
    from ganzoo.data.dataset import ArrayDataset
    from ganzoo.processors.waveform import AudioOutput

CHUNK_FRAMES = 1024
NUM_EXAMPLES = 8  # each beside its copy
ORIGINALS_FILE = "samples/originals.wav"
# Natural logarithms of magnitudes, floored at 1e-5, lie between -11.5 and about 3.
MEL_RANGE = (-25.0, 15.0)
_FILE_SCALE = 32_768  # a 16-bit WAV file's full scale, as it is read


class VocoderPipeline(Pipeline):
    """Makes sound from log-mel spectrograms.

    Example:
        >>> pipe = ganzoo.from_pretrained("hifigan-digits")
        >>> output = pipe.vocode(mel)
        >>> soundfile.write("speech.wav", output.audios[0].T, output.sampling_rate)
        >>> pipe("recording.wav").audios[0]
    """

    command = "vocode"

    @classmethod
    def card_words(cls, processor: Processor | type[Processor]) -> CardWords:
        from ganzoo.processors.waveform import WRITES

        common = super().card_words(processor)
        copies = 'output = pipe("recording.wav")  # its mel spectrogram, and sound again; pipe.vocode(mel) takes yours'
        return replace(
            common,
            tag="vocoder",
            hub_task="audio-to-audio",
            tags=("gan", "audio", "neural-vocoder", "text-to-speech", "audio-generation"),
            # To copy a recording it makes its mel spectrogram, by the filters of torchaudio.
            extra="audio",
            usage=(*common.usage, copies, WRITES),
            imports=("soundfile",),
        )

    @property
    def vocoder(self) -> Vocoder:
        return self.network

    @property
    def mel_config(self) -> MelConfig:
        """The front end that makes this model's spectrograms: `ganzoo.sound.spectral.log_mel(waveforms, pipe.mel_config)`."""
        return self.network.mel_config

    @torch.inference_mode()
    def vocode(
        self,
        mel: Tensor | np.ndarray,
        *,
        output_type: str = "np",
        precision: str = "fp32",
        batch_size: int = 8,
        chunk_frames: int = CHUNK_FRAMES,
    ) -> AudioOutput:
        """Makes sound from log-mel spectrograms, long ones in parts; the parts show in no sample.

        Args:
            mel: (B, n_mels, T), or (n_mels, T) for one: natural logarithms, made as `mel_config` says.
            output_type: `"np"` or `"pt"`.
            precision: `"fp32"`; `"bf16"`, several times faster on processors that multiply it, at a noise some 40 dB below the
                sound; or `"auto"`, bf16 on these.
            batch_size: Spectrograms computed at once.
            chunk_frames: Frames of them computed at once.

        Returns:
            `.audios`, float32 (B, 1, T * hop_length) in [-1, 1], and their `.sampling_rate`.

        Raises:
            UserError: The spectrogram has another shape or scale than this model's, or values that are no numbers.
        """
        check_positive("batch_size", batch_size)
        check_positive("chunk_frames", chunk_frames)
        with self._computing(precision):
            rows = [self._vocode(part, chunk_frames) for part in self._checked(mel).split(batch_size)]
        return self.processor.output(torch.cat(rows), output_type, labels=None, latents=None)

    @torch.inference_mode()
    def __call__(
        self,
        recordings: Any,
        *,
        output_type: str = "np",
        precision: str = "fp32",
        chunk_frames: int = CHUNK_FRAMES,
    ) -> AudioOutput:
        """Copy synthesis: makes recordings again from their spectrograms, which is how vocoders are judged.

        Args:
            recordings: One or a list: paths, bytes, or `ganzoo.sound.recording.Recording`, of any rate, length and number of
                channels; resampled to the model's rate and mixed to one channel.
            output_type: `"np"` or `"pt"`.
            precision: As in `vocode`.
            chunk_frames: Frames computed at once.

        Returns:
            `.audios`, a list of float32 (1, T) in [-1, 1], each as long and as loud as its recording, and their
            `.sampling_rate`.

        Raises:
            UnusableSample: A recording cannot be read.
            MissingPackageError: torchaudio, which computes the spectrograms, does not load.
        """
        from ganzoo.processors.waveform import AudioOutput

        check_positive("chunk_frames", chunk_frames)
        listed = recordings if isinstance(recordings, list) else [recordings]
        if not listed:
            raise UserError("there is no recording to copy")
        how = {"precision": precision, "chunk_frames": chunk_frames}
        copies = [self.resynthesise(self.read(recording)[None], **how)[0] for recording in listed]
        return AudioOutput(
            [self.processor.decode(copy, output_type) for copy in copies], self.mel_config.sampling_rate
        )

    def read(self, recording: Any) -> Tensor:
        """A recording as the model hears it: float32 (1, T), at its sampling rate, all channels mixed.

        Its offset is taken away if that of the training data was (`processor.remove_offset`); quiet ends stay, because the
        copy is to be as long.

        Raises:
            UnusableSample: It cannot be read, or its channels are of opposite phase and nothing is left of them.
        """
        from ganzoo.sound.recording import mixed, read_recording, without_offset

        samples, rate = read_recording(recording)
        if self.processor.remove_offset:
            samples = without_offset(samples, rate)
        return resample(torch.from_numpy(mixed(samples)), rate, self.mel_config.sampling_rate)

    @torch.inference_mode()
    def resynthesise(self, waveforms: Tensor, *, precision: str = "fp32", chunk_frames: int = CHUNK_FRAMES) -> Tensor:
        """Waveforms (B, 1, T) at the model's rate -> their copies (B, 1, T), float32 on the CPU.

        Where the training data were scaled to one peak, so is every waveform for the model, and back after it.
        """
        gain = self._gain(waveforms)
        mel = self.mel_config
        length = waveforms.shape[-1]
        frames = max(-(-length // mel.hop_length), -(-mel.n_fft // mel.hop_length))
        padded = F.pad(waveforms * gain, (0, frames * mel.hop_length - length))

        def render(first: int, last: int) -> Tensor:
            part = padded[..., first * mel.hop_length : last * mel.hop_length].to(self.device)
            return self.network(self.network.spectrogram(part).to(self.network.dtype))

        # At a cut the spectrogram itself is wrong as far as its window reaches.
        context = self.network.context + -(-mel.n_fft // mel.hop_length)
        with self._computing(precision):
            return _in_chunks(render, frames, mel.hop_length, chunk_frames, context)[..., :length] / gain

    def mel_distance(self, real: Tensor, fake: Tensor) -> float:
        """Mean absolute difference of two waveforms' (..., T) log-mel spectrograms, up to half the sampling rate.

        Both are scaled by the peak of the real one as the model's training data were: of quiet sound the floor of the
        logarithm would hide the differences.
        """
        mel = self.mel_config.model_copy(update={"f_max": None})
        gain = self._gain(real)
        missing = max(0, mel.n_fft - real.shape[-1])
        padded = [F.pad(waveform * gain, (0, missing)) for waveform in (real, fake)]
        total, count, size = 0.0, 0, max(CHUNK_FRAMES * mel.hop_length, mel.n_fft)
        # Parts of their own, the last one with what is left: a spectrum of an hour would fill the memory.
        last = max(1, padded[0].shape[-1] // size)
        for index in range(last):
            stop = None if index == last - 1 else (index + 1) * size
            real_mel, fake_mel = (log_mel(waveform[..., index * size : stop], mel) for waveform in padded)
            total += (real_mel - fake_mel).abs().sum().item()
            count += real_mel.numel()
        return total / count

    def _computing(self, precision: str) -> AbstractContextManager:
        return autocast(self.device.type, resolve_precision(precision, self.device))

    def _gain(self, waveforms: Tensor) -> Tensor:
        """(B, 1, 1): what brings each waveform to the peak that the processor gives its clips."""
        from ganzoo.processors.waveform import PEAK

        peaks = waveforms.abs().amax(dim=-1, keepdim=True)
        heard = peaks >= max(self.processor.silence, 1e-6)
        return torch.where(heard & self.processor.peak_normalize, PEAK / peaks.clamp(min=1e-6), 1.0)

    def _vocode(self, mels: Tensor, chunk_frames: int) -> Tensor:
        def render(first: int, last: int) -> Tensor:
            return self.network(mels[..., first:last].to(self.device, self.network.dtype))

        return _in_chunks(render, mels.shape[-1], self.mel_config.hop_length, chunk_frames, self.network.context)

    def _checked(self, mel: Any) -> Tensor:
        """float32 (B, n_mels, T)."""
        bands = self.mel_config.n_mels
        try:
            values = torch.as_tensor(mel)
        except (RuntimeError, TypeError, ValueError):
            values = torch.empty(0)
        shape = tuple(values.shape)
        if values.ndim not in (2, 3) or values.shape[-2] != bands or not values.numel():
            swapped = values.ndim in (2, 3) and values.shape[-1] == bands
            hint = "; its last two axes are swapped, transpose them" if swapped else ""
            raise UserError(
                f"mel must have the shape ({bands}, frames) or (batch, {bands}, frames), not {shape}{hint}"
            )
        if not values.is_floating_point() or not values.isfinite().all():
            raise UserError("mel must hold finite floating-point numbers")
        low, high = values.min().item(), values.max().item()
        if low < MEL_RANGE[0] or high > MEL_RANGE[1]:
            raise UserError(
                f"mel holds values from {low:.3g} to {high:.3g}; this model's are natural logarithms, from -11.5 to about 3 "
                "(ganzoo.sound.spectral.log_mel with the pipeline's mel_config makes them), not decibels or magnitudes"
            )
        return values.detach().float().reshape(-1, *shape[-2:])

    # ------------------------------------------------------------------------------------------- previews and the card

    _examples: Tensor | None = None

    @property
    def examples(self) -> Tensor | None:
        """A few stored clips of the training data, int16 (N, 1, length), to be heard beside their copies."""
        if self._examples is None and self.repository is not None:
            path = self.repository.find(ORIGINALS_FILE)
            if path is not None:
                self._examples = _read_clips(path, self.processor.length)
        return self._examples

    def take_examples(self, dataset: ArrayDataset) -> None:
        """A few clips, from all over the data."""
        indices = np.unique(np.linspace(0, len(dataset) - 1, NUM_EXAMPLES).astype(int))
        self._examples = torch.from_numpy(np.stack([dataset.samples[index] for index in indices]))

    @torch.inference_mode()
    def save_preview(self, folder: Path, name: str, *, num_samples: int = NUM_EXAMPLES, seed: int = 0) -> list[str]:
        """Writes clips of the training data, each followed by its copy; nothing where no clips are known.

        Args:
            num_samples: Pairs at most.
            seed: Nothing is random here.

        Returns:
            The names of the files.
        """
        if self.examples is None:
            return []
        originals = self.processor.normalize(self.examples[: min(num_samples, NUM_EXAMPLES)])
        pairs = torch.stack([originals, self.resynthesise(originals)], dim=1)
        return self.processor.save_preview(pairs.flatten(0, 1), folder, name)

    def _save_examples(self, folder: Path) -> dict[str, Any]:
        super()._save_examples(folder)
        if self.examples is None:
            return {}
        from ganzoo.sound.drawing import wav_bytes

        sound = self.examples.numpy().reshape(1, -1)
        write_bytes(folder / ORIGINALS_FILE, wav_bytes(sound, self.mel_config.sampling_rate))
        names = self.save_preview(folder / "samples", "pairs")
        return {"samples": [f"samples/{name}" for name in names], "order": "each recording followed by its copy"}


def _in_chunks(
    render: Callable[[int, int], Tensor], frames: int, hop_length: int, chunk_frames: int, context: int
) -> Tensor:
    """Sound made part by part, equal to what is made at once: each part is rendered with `context` frames more on both
    sides, as far as there are any, whose samples are thrown away.

    Args:
        render: The samples (B, 1, (last - first) * hop_length) of the frames [first, last).

    Returns:
        (B, 1, frames * hop_length), float32 on the CPU.
    """
    pieces = []
    for start, stop in _spans(frames, chunk_frames):
        first, last = max(0, start - context), min(frames, stop + context)
        piece = render(first, last)[..., (start - first) * hop_length : (stop - first) * hop_length]
        pieces.append(piece.float().cpu())
    return torch.cat(pieces, dim=-1)


def _spans(total: int, size: int) -> Iterator[tuple[int, int]]:
    for start in range(0, total, size):
        yield start, min(start + size, total)


def _read_clips(path: Path, length: int) -> Tensor:
    """Clips of equal length, one after another in a 16-bit WAV file: int16 (N, 1, length)."""
    from ganzoo.sound.recording import read_recording

    samples = np.rint(read_recording(path).samples * _FILE_SCALE).astype(np.int16)
    whole = samples.shape[1] // length
    return torch.from_numpy(samples[:1, : whole * length].reshape(whole, 1, length).copy())


PIPELINE = VocoderPipeline
