"""Sound as a picture: SpecGAN's spectrograms, which any image network can make."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field, model_validator

from ganzoo.errors import UnusableSample, UserError
from ganzoo.processors.waveform import WaveformProcessor

if TYPE_CHECKING:
    import torch
    from typing_extensions import Self

MIN_STD = 1e-6  # of a bin that never changes


class SpectrogramProcessor(WaveformProcessor):
    """Clips whose networks see spectrograms: int16 (C, length) in storage, float (C, n_fft // 2, length // hop) in [-1, 1].

    The representation of SpecGAN (Donahue et al., 2019, section 3.2): magnitudes of an STFT with a periodic Hann window, the
    sound padded with silence at its end; the Nyquist bin left out; their logarithm, shifted and scaled to mean 0 and
    deviation 1 in each bin over the training data (`fitted`), clipped at `clip` deviations and divided by it. A row of the
    picture is a bin, the lowest first. Back by Griffin-Lim.
    """

    processor_type: ClassVar[str] = "spectrogram"
    transforms: ClassVar[tuple[str, ...]] = ()  # of part of a clip, the picture would have another size
    channels_last: ClassVar[bool] = True

    n_fft: int = Field(
        256, ge=8, le=2**13, description="Length of a transform and its window; the picture's height is half."
    )
    hop_length: int = Field(128, ge=2, le=2**12, description="Samples from one column of the picture to the next.")
    clip: float = Field(3.0, gt=0, le=20, description="Deviations from the mean that are kept; they become -1 to 1.")
    floor: float = Field(
        1e-6,
        gt=0,
        le=1,
        description="Added to the magnitudes before the logarithm (a full-scale sine has n_fft / 4): what lies below is silence. "
        "Raise it where recordings are silent for a good part: at the paper's value the statistics are those of the silence.",
    )
    iterations: int = Field(16, ge=0, le=1000, description="Steps of Griffin-Lim on the way back to sound.")
    mean: tuple[float, ...] | None = Field(
        None, description="Of the log magnitudes in each bin; from the training data."
    )
    std: tuple[float, ...] | None = Field(None, description="Their deviation in each bin; from the training data.")

    @model_validator(mode="after")
    def _fits(self) -> SpectrogramProcessor:
        if self.n_fft % 2:
            raise ValueError(f"n_fft={self.n_fft} must be even")
        if self.hop_length > self.n_fft // 2:
            raise ValueError(f"hop_length={self.hop_length} must be at most half of n_fft={self.n_fft}")
        if self.length % self.hop_length:
            raise ValueError(f"length={self.length} must be a multiple of hop_length={self.hop_length}")
        if (self.mean is None) != (self.std is None):
            raise ValueError("mean and std belong together")
        if self.mean is not None and self.std is not None:
            if not len(self.mean) == len(self.std) == self.n_fft // 2:
                raise ValueError(f"mean and std must have {self.n_fft // 2} values, one for each bin")
            if min(self.std) <= 0:
                raise ValueError("std must be positive")
        return self

    @property
    def network_shape(self) -> tuple[int, ...]:
        return (self.channels, self.n_fft // 2, self.length // self.hop_length)

    def fingerprint(self) -> str:
        """What is stored are waveforms: clips made for a waveform model serve this one too."""
        return WaveformProcessor(
            **{name: getattr(self, name) for name in WaveformProcessor.model_fields}
        ).fingerprint()

    def fitted(self, raws: Iterable[Any]) -> Self:
        """The processor with the mean and deviation of each bin over all clips of `raws`; itself if it has them.

        Raises:
            UserError: No recording can be used.
        """
        if self.mean is not None:
            return self
        count, total, squares = 0, np.zeros(self.n_fft // 2), np.zeros(self.n_fft // 2)
        for batch in _batches(self._clips(raws)):
            logs = self._log_magnitudes(super().normalize(batch)).transpose(0, 2).flatten(1).double().numpy()
            count += logs.shape[1]
            total += logs.sum(axis=1)
            squares += np.square(logs).sum(axis=1)
        if not count:
            raise UserError(
                "no recording can be used, so a spectrogram processor cannot take its statistics from them"
            )
        mean = total / count
        std = np.sqrt(np.maximum(squares / count - mean**2, MIN_STD**2))
        return self.revised(mean=tuple(mean.tolist()), std=tuple(std.tolist()))

    def _clips(self, raws: Iterable[Any]) -> Iterator[np.ndarray]:
        for raw in raws:
            try:
                yield from self.encode_all(raw)
            except UnusableSample:  # counted and named where the data cache is made
                continue

    def normalize(self, stored: torch.Tensor) -> torch.Tensor:
        """int16 waveforms (B, C, length) -> float32 spectrograms (B, C, n_fft // 2, length // hop) in [-1, 1].

        Raises:
            UserError: The processor has no statistics.
        """
        mean, std = self._statistics(stored.device)
        logs = self._log_magnitudes(super().normalize(stored))
        return ((logs - mean) / (std * self.clip)).clamp_(-1, 1)

    def to_waveforms(self, samples: torch.Tensor) -> torch.Tensor:
        """Spectrograms (B, C, n_fft // 2, length // hop) -> float32 waveforms (B, C, length), by Griffin-Lim.

        With `peak_normalize`, a waveform that would be cut off at full scale is scaled to it: Griffin-Lim's phases add up
        to other peaks, and a small error of a logarithm is a large one of loudness.

        Raises:
            UserError: The processor has no statistics.
        """
        import torch.nn.functional as F

        from ganzoo.sound.spectral import griffin_lim

        mean, std = self._statistics(samples.device)
        logs = samples.float().clamp(-1, 1) * (std * self.clip) + mean
        magnitude = F.pad(logs.exp().sub(self.floor).clamp_(min=0), (0, 0, 0, 1))  # without a Nyquist bin
        waveforms = griffin_lim(magnitude, self.n_fft, self.hop_length, iterations=self.iterations, length=self.length)
        if self.peak_normalize:
            waveforms = waveforms / waveforms.abs().amax(dim=(1, 2), keepdim=True).clamp_(min=1)
        return waveforms

    def _log_magnitudes(self, waveforms: torch.Tensor) -> torch.Tensor:
        """(B, C, length) -> (B, C, n_fft // 2, length // hop)."""
        import torch.nn.functional as F

        from ganzoo.sound.spectral import stft_magnitude

        padded = F.pad(waveforms, (0, self.n_fft - self.hop_length))
        return stft_magnitude(padded, self.n_fft, self.hop_length)[..., :-1, :].add(self.floor).log()

    def _statistics(self, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and deviation (n_fft // 2, 1) of each bin."""
        import torch

        if self.mean is None or self.std is None:
            raise UserError(
                "the spectrogram processor has no statistics yet; take them from training data by fitted(recordings), or load "
                "the processor of a checkpoint"
            )
        return tuple(torch.tensor(values, device=device)[:, None] for values in (self.mean, self.std))


def _batches(clips: Iterable[np.ndarray], size: int = 64) -> Iterator[torch.Tensor]:
    """Tensors (up to size, C, length) of consecutive clips."""
    import torch

    clips = iter(clips)
    while batch := list(islice(clips, size)):
        yield torch.from_numpy(np.stack(batch))


PROCESSOR = SpectrogramProcessor
