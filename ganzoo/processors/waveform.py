"""Sound as it is: waveforms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from ganzoo.errors import UnusableSample
from ganzoo.processors.base import Processor
from ganzoo.processors.words import Words
from ganzoo.sound.recording import FULL_SCALE, Recording, mixed, read_recording, to_int16, without_offset
from ganzoo.utils.files import write_bytes
from ganzoo.utils.terminal import PATIENCE, bar

if TYPE_CHECKING:
    import torch

# Where a recording's peak goes when it is normalised: a little room for what resampling by a player overshoots.
# A line of code that writes what a pipeline of sound returned.
WRITES = 'soundfile.write("{name}.wav", output.audios[0].T, output.sampling_rate)'
PEAK = 0.95
LEVEL_SECONDS = 0.02  # over which the loudness of a moment is taken
# Beyond full scale by more than this, samples are in units that nobody stated.
MAX_UNSCALED_PEAK = 4.0


@dataclass
class AudioOutput:
    """What an audio pipeline returns.

    Attributes:
        audios: Waveforms (B, C, L) in [-1, 1]: float32 array (`output_type="np"`) or tensor (`"pt"`).
        sampling_rate: Samples a second, in Hz.
        labels: (B,) classes of a conditional model, else None.
        latents: (B, latent_dim), with which each sample can be made again; None for what was made from other sound.
    """

    audios: Any
    sampling_rate: int
    labels: torch.Tensor | None = None
    latents: torch.Tensor | None = None


class WaveformProcessor(Processor):
    """Clips of one length: int16 (C, length) in storage, float in [-1, 1] in the networks (full scale 32767)."""

    processor_type: ClassVar[str] = "waveform"
    modality: ClassVar[str] = "audio"
    may_lack_labels: ClassVar[bool] = True  # a set of recordings is rarely clean
    storage_dtype: ClassVar[str] = "int16"
    sample_file: ClassVar[str | None] = ".wav"
    written: ClassVar[tuple[str, str]] = ("sound is", ".wav")
    one_file_each: ClassVar[bool] = True
    output_types: ClassVar[tuple[str, ...]] = ("np", "pt")
    transforms: ClassVar[tuple[str, ...]] = ("segment",)
    words: ClassVar[Words] = Words(
        noun="recording",
        given='["recording.wav"]',
        drawn=("output = pipe(num_samples=4, seed=0)", WRITES),
        imports=("soundfile",),
        tags=("audio",),
        drawn_tags=("audio-generation", "unconditional-audio-generation"),
    )
    when_absent: ClassVar[Mapping[str, Any]] = {"remove_offset": False, "trim_db": None}

    length: int = Field(ge=16, le=2**22, description="Samples of a clip, in each channel.")
    channels: int = Field(1, ge=1, le=8, description="1 mono, 2 stereo.")
    sampling_rate: int = Field(
        16_000, ge=1000, le=384_000, description="Samples a second, in Hz; other recordings are resampled."
    )
    peak_normalize: bool = Field(
        True,
        description="Scale each recording, as a whole, to a peak of 0.95; the slices of one keep their relative loudness.",
    )
    remove_offset: bool = Field(
        True, description="Take the constant part out of each channel, which some sound cards add (an offset, DC)."
    )
    position: Literal["start", "centre"] = Field(
        "start", description="Where a recording that is shorter than a clip sits in it; the rest is silence."
    )
    slices: Literal["first", "all"] = Field(
        "first",
        description="What a longer recording gives: first = `length` samples from where its sound begins; all = consecutive "
        "slices from there, the last one padded if at least half full, silent ones left out.",
    )
    trim_db: float | None = Field(
        30.0,
        gt=0,
        le=200,
        description="The sound of a longer recording begins and ends with its first and last 20 ms that are at most so many "
        "decibels below its loudest 20 ms: room noise before and after it is cut off. null: with the file.",
    )
    min_seconds: float = Field(
        0.05, ge=0, le=3600, description="A recording that is shorter than this, and than a clip, is not used."
    )
    silence: float = Field(
        1e-3,
        ge=0,
        lt=0.5,
        description="A recording or slice whose peak is below this part of full scale is silent, and not used.",
    )

    @property
    def sample_shape(self) -> tuple[int, ...]:
        return (self.channels, self.length)

    def largest(self, transform: str) -> float:
        return self.length if transform == "segment" else super().largest(transform)

    def encode(self, raw: Any) -> np.ndarray:
        """The first clip of `encode_all`."""
        return self.encode_all(raw)[0]

    def encode_all(self, raw: Any) -> list[np.ndarray]:
        """Turns a recording into clips, int16 (C, length), at least one.

        Args:
            raw: What `ganzoo.sound.recording.read_recording` reads; or an int16, int32, float32 or float64 array (C, T) or (T,)
                at the processor's sampling rate.

        Raises:
            UnusableSample: It cannot be read, or is silent, too short, or of a number of channels that does not fit.
            MissingPackageError: It has another sampling rate and torchaudio, which resamples, does not load.
        """
        samples = self._prepared(raw)
        if self.peak_normalize:
            samples = samples * (PEAK / np.abs(samples).max())
        clips = [self._padded(part) for part in self._slices(samples) if np.abs(part).max() >= self.silence]
        if not clips:
            raise UnusableSample("the recording's first part is silent; drop it, cut the silence away, or set trim_db")
        return clips

    def _prepared(self, raw: Any) -> np.ndarray:
        """The recording at the processor's rate and channels, float32 (C, T), as loud as it is."""
        recording = read_recording(Recording(raw, self.sampling_rate) if isinstance(raw, np.ndarray) else raw)
        samples = without_offset(*recording) if self.remove_offset else recording.samples
        samples = self._mixed(samples)
        peak = np.abs(samples).max()
        if peak < max(self.silence, np.finfo(np.float32).tiny):
            constant = " but for a constant offset" if np.abs(recording.samples).max() >= self.silence else ""
            raise UnusableSample(f"the recording is silent{constant}: its peak is {peak:.1g} of full scale; drop it")
        if not self.peak_normalize and peak > MAX_UNSCALED_PEAK:
            raise UnusableSample(
                f"the recording's peak is {peak:.3g} times full scale, its unit is unknown; use peak_normalize"
            )
        seconds = samples.shape[1] / recording.sampling_rate
        if seconds < min(self.min_seconds, self.length / self.sampling_rate):
            raise UnusableSample(f"the recording lasts {seconds:.3g} s, less than min_seconds={self.min_seconds:g}")
        if recording.sampling_rate == self.sampling_rate:
            return samples
        return self._resampled(samples, peak, recording.sampling_rate)

    def _resampled(self, samples: np.ndarray, peak: float, rate: int) -> np.ndarray:
        import torch

        from ganzoo.sound.spectral import resample

        # At full scale, because float32 would overflow on the loudest recordings that it can hold.
        resampled = resample(torch.from_numpy(samples / peak), rate, self.sampling_rate).numpy()
        if float(np.abs(resampled).max()) * float(peak) < max(self.silence, np.finfo(np.float32).tiny):
            raise UnusableSample(f"the recording has nothing below {self.sampling_rate // 2} Hz that can be heard")
        return resampled if self.peak_normalize else resampled * peak

    def _mixed(self, samples: np.ndarray) -> np.ndarray:
        """Stereo becomes mono by the mean, mono becomes stereo by repetition."""
        found = samples.shape[0]
        if found == self.channels:
            return samples
        if self.channels == 1 and found == 2:
            return mixed(samples)
        if found == 1 and self.channels == 2:
            return np.repeat(samples, 2, axis=0)
        raise UnusableSample(f"the recording has {found} channels, the processor {self.channels}; mix it down first")

    def _slices(self, samples: np.ndarray) -> list[np.ndarray]:
        """Parts of at most `length` samples, at least one."""
        start, end = self._sounding(samples)
        if self.slices == "first":
            return [samples[:, start : start + self.length]]
        parts = [samples[:, i : min(i + self.length, end)] for i in range(start, end, self.length)]
        return [part for index, part in enumerate(parts) if index == 0 or 2 * part.shape[1] >= self.length]

    def _sounding(self, samples: np.ndarray) -> tuple[int, int]:
        """Where the sound of a recording begins and ends: all of it if it is not longer than a clip, else at least a clip."""
        total = samples.shape[1]
        size = max(1, round(LEVEL_SECONDS * self.sampling_rate))
        count = total // size
        if self.trim_db is None or total <= self.length or count == 0:
            return 0, total
        moments = samples[:, : count * size].reshape(len(samples), count, size)
        levels = np.einsum("cnt,cnt->n", moments, moments)
        (loud,) = np.nonzero(levels >= levels.max() * 10 ** (-self.trim_db / 10))
        start = min(int(loud[0]) * size, total - self.length)
        # What is left after the last moment is shorter than one, and goes with it.
        end = total if loud[-1] == count - 1 else int(loud[-1] + 1) * size
        return start, max(end, start + self.length)

    def _padded(self, part: np.ndarray) -> np.ndarray:
        clip = np.zeros(self.sample_shape, dtype=np.int16)
        start = (self.length - part.shape[1]) // 2 if self.position == "centre" else 0
        clip[:, start : start + part.shape[1]] = to_int16(part)
        return clip

    def fingerprint(self) -> str:
        from ganzoo.sound.spectral import RESAMPLING

        return f"{super().fingerprint()}resampled: {RESAMPLING}"

    def normalize(self, stored: torch.Tensor) -> torch.Tensor:
        """int16 (B, C, length) -> float32 in [-1, 1]."""
        return stored.float().div_(FULL_SCALE)

    def to_waveforms(self, samples: torch.Tensor) -> torch.Tensor:
        """The networks' space -> float32 waveforms (B, C, L), not yet clamped."""
        return samples.float()

    def to_stored(self, samples: torch.Tensor) -> torch.Tensor:
        """The networks' space -> int16 waveforms (B, C, L), rounded, clamped."""
        import torch

        return self.decode(samples, "pt").mul(FULL_SCALE).round_().to(torch.int16)

    def decode(self, samples: torch.Tensor, output_type: str = "np") -> Any:
        """Turns generated samples into waveforms.

        Args:
            output_type: `"np"`: float32 array (B, C, L) in [-1, 1]; `"pt"`: the same as a tensor, on the samples' device.

        Raises:
            UserError: Unknown output type.
        """
        self.check_output_type(output_type)
        waveforms = self.to_waveforms(samples.detach()).clamp(-1, 1)
        return waveforms if output_type == "pt" else waveforms.cpu().numpy()

    def output(self, samples: torch.Tensor, output_type: str, *, labels: Any, latents: Any) -> AudioOutput:
        return AudioOutput(self.decode(samples, output_type), self.sampling_rate, labels, latents)

    def save_preview(self, samples: torch.Tensor, folder: Path, name: str) -> list[str]:
        """Writes `name.wav`, up to 16 clips one after another, and `name.png`, their waveforms and spectrograms."""
        from ganzoo.sound.drawing import MAX_CLIPS, draw_sheet, wav_sheet

        clips = self.to_stored(samples[:MAX_CLIPS]).cpu().numpy()
        write_bytes(folder / f"{name}.wav", wav_sheet(clips, self.sampling_rate))
        write_bytes(folder / f"{name}.png", draw_sheet(clips, self.sampling_rate))
        return [f"{name}.wav", f"{name}.png"]

    def save_samples(self, samples: torch.Tensor, target: Path) -> list[Path]:
        """Writes all samples, one after another with pauses, to `target` if it names a .wav file, and a picture of them
        beside it; else one WAV file a sample, and `overview.png`, into the folder `target`.

        Raises:
            UserError: The file name has another ending than .wav.
        """
        from ganzoo.sound.drawing import draw_sheet, wav_bytes, wav_sheet

        clips = self.to_stored(samples).cpu().numpy()
        if self.names_a_file(target):
            files = {target: wav_sheet(clips, self.sampling_rate)}
            picture = target.with_suffix(".png")
        else:
            files = {target / f"{i:05d}.wav": wav_bytes(clip, self.sampling_rate) for i, clip in enumerate(clips)}
            picture = target / "overview.png"
        files[picture] = draw_sheet(clips, self.sampling_rate)
        for path, content in bar(files.items(), desc="writing", unit=" files", delay=PATIENCE):
            write_bytes(path, content)
        return list(files)

    def show(self, samples: torch.Tensor) -> str:
        """Draws the waveforms, two pixels a character."""
        from ganzoo.sound.drawing import show_waveforms

        return show_waveforms(self.to_stored(samples).cpu().numpy())


PROCESSOR = WaveformProcessor
