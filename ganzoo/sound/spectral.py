"""Spectra of sound and back: STFT, mel spectrograms as HiFi-GAN's, resampling, Griffin-Lim.

Pure functions on tensors, differentiable where they can be, batch-independent. Only mel filters and resampling need
torchaudio, which is imported by `require_torchaudio` when they are first used.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from functools import lru_cache
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field, ValidationError, model_validator
from torch import Tensor

from ganzoo.errors import MissingPackageError, UserError
from ganzoo.utils.exact import Exact
from ganzoo.utils.validation import explain
from ganzoo.version import install_command

POWER_FLOOR = 1e-9  # under the square root, for its gradient at silence
MEL_FLOOR = 1e-5  # under the logarithm
# How `resample` filters; part of the key of whatever is kept of resampled sound.
RESAMPLING = "kaiser 64"
# 64 zero crossings, a transition of about 8% below half the lower rate, a stop band below -120 dB: "kaiser_best" of
# resampy (McFee), as torchaudio's documentation gives it.
_KERNEL = {
    "resampling_method": "sinc_interp_kaiser",
    "lowpass_filter_width": 64,
    "rolloff": 0.9475937167399596,
    "beta": 14.769656459379492,
}
# Terms of the ratio of two sampling rates: torchaudio's kernel holds about their product.
MAX_RATIO_TERM = 2000


class MelConfig(Exact):
    """A mel front end. The defaults are HiFi-GAN's (config_v1.json)."""

    sampling_rate: int = Field(22_050, ge=1000, le=384_000, description="Samples a second, in Hz.")
    n_fft: int = Field(1024, ge=16, le=2**15, description="Length of a transform, in samples.")
    hop_length: int = Field(256, ge=1, le=2**14, description="Samples from one frame to the next.")
    win_length: int = Field(1024, ge=4, le=2**15, description="Length of the Hann window, in samples.")
    n_mels: int = Field(80, ge=1, le=512, description="Mel bands.")
    f_min: float = Field(0.0, ge=0, description="Lower edge of the lowest band, in Hz.")
    f_max: float | None = Field(
        8000.0, gt=0, description="Upper edge of the highest band, in Hz; null for half the rate."
    )

    @model_validator(mode="after")
    def _fits(self) -> MelConfig:
        if not self.hop_length <= self.win_length <= self.n_fft:
            raise ValueError(
                f"hop_length={self.hop_length}, win_length={self.win_length} and n_fft={self.n_fft} must not decrease"
            )
        if not self.f_min < self.upper <= self.sampling_rate / 2:
            raise ValueError(
                f"f_min={self.f_min:g} < f_max={self.upper:g} <= sampling_rate / 2 = {self.sampling_rate / 2:g} must hold"
            )
        return self

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], *, where: str = "mel front end") -> MelConfig:
        """Validates `values`.

        Raises:
            UserError: One sentence that lists every wrong key of `where`.
        """
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            raise UserError(f"{where}: {explain(error, cls)}") from None

    @property
    def upper(self) -> float:
        """Upper edge of the highest band, in Hz."""
        return self.sampling_rate / 2 if self.f_max is None else self.f_max

    @property
    def padding(self) -> int:
        """Samples before the first hop that its frame reaches back to."""
        return (self.n_fft - self.hop_length) // 2


def require_torchaudio() -> ModuleType:
    """Imports torchaudio.

    Raises:
        MissingPackageError: It is not installed, or does not load: with a CPU-only build of torch it raises OSError, with
            another CUDA version RuntimeError.
    """
    try:
        import torchaudio
        import torchaudio.functional
        import torchaudio.transforms
    except (ImportError, OSError, RuntimeError) as error:
        state = "is not installed" if isinstance(error, ModuleNotFoundError) else f"does not load ({error})"
        raise MissingPackageError(
            f"mel spectrograms and resampling need torchaudio, which {state}; install torch and torchaudio of one version "
            f"and one CUDA version, e.g. with: {install_command('audio')} -c constraints.txt"
        ) from error
    return torchaudio


def mel_filters(config: MelConfig, device: torch.device | str = "cpu") -> Tensor:
    """Triangular filters (n_fft // 2 + 1, n_mels), spaced and scaled to unit area as in Slaney's Auditory Toolbox.

    Raises:
        MissingPackageError: torchaudio does not load.
        UserError: The bands are narrower than the spectrum's bins.
    """
    return _mel_filters(config, torch.device(device))


@lru_cache(maxsize=32)
def _mel_filters(config: MelConfig, device: torch.device) -> Tensor:
    import warnings

    torchaudio = require_torchaudio()
    # Kept for later calls, so whatever mode or default device the first one runs in must not show in it.
    with torch.inference_mode(False), torch.device("cpu"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about empty bands, which are an error here
        filters = torchaudio.functional.melscale_fbanks(
            n_freqs=config.n_fft // 2 + 1,
            f_min=config.f_min,
            f_max=config.upper,
            n_mels=config.n_mels,
            sample_rate=config.sampling_rate,
            norm="slaney",
            mel_scale="slaney",
        )
        if empty := int((filters.amax(dim=0) == 0).sum()):
            raise UserError(
                f"{empty} of {config.n_mels} mel bands hold no bin of a spectrum of n_fft={config.n_fft}; use fewer n_mels "
                "or a longer n_fft"
            )
        return filters.to(device)


def mel_spectrogram(waveforms: Tensor, config: MelConfig) -> Tensor:
    """Mel magnitudes, as HiFi-GAN computes them (Kong et al., 2020, and its code).

    Frame t is centred on samples [t * hop, (t + 1) * hop): reflection pads (n_fft - hop) / 2 on both sides.

    Args:
        waveforms: (..., T), T more than (n_fft - hop) / 2.

    Returns:
        (..., n_mels, T // hop), float32 whatever autocast says.

    Raises:
        UserError: The waveforms are too short to be reflected.
    """
    length, padding = waveforms.shape[-1], config.padding
    if length < config.hop_length or length <= config.n_fft - config.hop_length - padding:
        raise UserError(f"waveforms of {length} samples are too short for a mel spectrogram of n_fft={config.n_fft}")
    with torch.autocast(waveforms.device.type, enabled=False):
        flat = waveforms.float().reshape(-1, length)
        padded = F.pad(flat[:, None], (padding, config.n_fft - config.hop_length - padding), mode="reflect")[:, 0]
        spectrum = _stft(padded, _window(config.win_length, config.n_fft, flat.device), config.hop_length)
        magnitude = (spectrum.real.square() + spectrum.imag.square() + POWER_FLOOR).sqrt()
        mel = mel_filters(config, flat.device).T @ magnitude
    return mel.reshape(*waveforms.shape[:-1], *mel.shape[-2:])


def log_mel(waveforms: Tensor, config: MelConfig) -> Tensor:
    """Natural logarithm of `mel_spectrogram`, clamped at 1e-5: what a mel vocoder takes."""
    return mel_spectrogram(waveforms, config).clamp(min=MEL_FLOOR).log()


def resample(waveforms: Tensor, from_rate: int, to_rate: int) -> Tensor:
    """Changes the sampling rate by a windowed sinc (Kaiser, 64 zero crossings).

    From 44.1 to 16 kHz a tone of 7 kHz keeps its level (0.00 dB; 7.5 kHz: -3 dB), what lies above 8 kHz is gone (8.05 kHz: -78
    dB, from 8.3 kHz: below -140 dB). A checkpoint whose data were resampled with another kernel hears the same, but for
    what lies near half the lower rate.

    Args:
        waveforms: (..., T), float.
        from_rate: In Hz.
        to_rate: In Hz; the same one returns the waveforms untouched, without torchaudio. A ratio of rates of large terms
            (44101 / 8000) is replaced by a near one of terms up to 2,000, off by less than a millionth between rates
            of one magnitude.

    Returns:
        (..., ceil(T * to_rate / from_rate)).
    """
    if from_rate == to_rate:
        return waveforms
    ratio = Fraction(min(from_rate, to_rate), max(from_rate, to_rate)).limit_denominator(MAX_RATIO_TERM)
    down, up = ratio.denominator, max(ratio.numerator, 1)
    if from_rate < to_rate:
        down, up = up, down
    return _resampler(down, up, waveforms.device, waveforms.dtype)(waveforms)


@lru_cache(maxsize=32)
def _resampler(down: int, up: int, device: torch.device, dtype: torch.dtype) -> torch.nn.Module:
    """The resampler of a ratio of rates, with its kernel: of short clips, making it would be most of the work."""
    transforms = require_torchaudio().transforms
    # Kept for later calls, as the mel filters are.
    with torch.inference_mode(False), torch.device("cpu"):
        return transforms.Resample(down, up, **_KERNEL, dtype=torch.float64).to(device, dtype)


def stft_magnitude(
    waveforms: Tensor, n_fft: int, hop_length: int, win_length: int | None = None, *, centre: bool = False
) -> Tensor:
    """Magnitudes of a short-time Fourier transform with a periodic Hann window.

    Args:
        waveforms: (..., T).
        win_length: At most n_fft; the window sits in the middle of a frame. By default n_fft.
        centre: Reflect n_fft / 2 samples on both sides, so that frame t is centred on sample t * hop; else frame t begins
            there, and T must be at least n_fft.

    Returns:
        (..., n_fft // 2 + 1, frames).
    """
    flat = waveforms.float().reshape(-1, waveforms.shape[-1])
    if centre:
        flat = F.pad(flat[:, None], (n_fft // 2, n_fft // 2), mode="reflect")[:, 0]
    magnitude = _stft(flat, _window(win_length or n_fft, n_fft, flat.device), hop_length).abs()
    return magnitude.reshape(*waveforms.shape[:-1], *magnitude.shape[-2:])


def griffin_lim(
    magnitude: Tensor,
    n_fft: int,
    hop_length: int,
    win_length: int | None = None,
    *,
    iterations: int = 32,
    length: int | None = None,
    skip: int = 0,
    momentum: float = 0.99,
) -> Tensor:
    """A waveform of given STFT magnitudes (Griffin and Lim, 1984), with Perraudin et al.'s (2013) momentum.

    Deterministic: every clip starts with the same phases, so its result depends on no other of the batch.

    Args:
        magnitude: (..., n_fft // 2 + 1, T), of a periodic Hann window.
        length: Samples to return; by default all after `skip`.
        skip: Samples to leave out at the start: how far the first frame reaches back before the sound.
        momentum: Their alpha, 0 for Griffin-Lim proper.

    Returns:
        (..., length).
    """
    window = _window(win_length or n_fft, n_fft, magnitude.device)
    target = magnitude.float().reshape(-1, *magnitude.shape[-2:])
    weight = _overlap_weight(window, hop_length, target.shape[-1])
    estimate = torch.polar(target, _initial_phases(target))
    previous = torch.zeros_like(estimate)
    for _ in range(iterations):
        projected = _stft(_overlap_add(estimate, window, hop_length, weight), window, hop_length)
        accelerated = projected + momentum * (projected - previous)
        previous = projected
        estimate = target * torch.sgn(accelerated)
    waveforms = _overlap_add(estimate, window, hop_length, weight)[:, skip:]
    if length is not None:
        waveforms = F.pad(waveforms, (0, max(0, length - waveforms.shape[-1])))[:, :length]
    return waveforms.reshape(*magnitude.shape[:-2], -1)


def mel_to_waveform(log_mels: Tensor, config: MelConfig, *, iterations: int = 60) -> Tensor:
    """Griffin-Lim on what a log-mel spectrogram says of the magnitudes: the baseline of vocoders.

    Args:
        log_mels: (..., n_mels, T), of `log_mel`.

    Returns:
        (..., T * hop).
    """
    magnitude = magnitudes_from_mel(log_mels.float().exp(), config)
    length = log_mels.shape[-1] * config.hop_length
    arguments = (config.n_fft, config.hop_length, config.win_length)
    return griffin_lim(magnitude, *arguments, iterations=iterations, length=length, skip=config.padding)


def magnitudes_from_mel(mels: Tensor, config: MelConfig, *, iterations: int = 200) -> Tensor:
    """Non-negative magnitudes (..., n_fft // 2 + 1, T) whose mel spectrogram is `mels` (..., n_mels, T), by least squares.

    The pseudo-inverse, then Lee and Seung's (2001) multiplicative steps, which keep what is positive so.
    """
    filters = mel_filters(config, mels.device)  # (F, M)
    start = torch.linalg.pinv(filters.T) @ mels
    # Where the pseudo-inverse is negative it says nothing; the steps need a little to start from.
    magnitude = start.clamp(min=0) + 1e-3 * start.abs().mean(dim=-2, keepdim=True) + 1e-12
    numerator = filters @ mels
    # Bins beyond the bands hold nothing that is known: silence.
    magnitude = magnitude * (filters.amax(dim=1) > 0)[:, None]
    for _ in range(iterations):
        magnitude = magnitude * numerator / (filters @ (filters.T @ magnitude) + 1e-12)
    return magnitude


def _window(win_length: int, n_fft: int, device: torch.device) -> Tensor:
    """A periodic Hann window in the middle of n_fft samples."""
    before = (n_fft - win_length) // 2
    return F.pad(torch.hann_window(win_length, device=device), (before, n_fft - win_length - before))


def _stft(waveforms: Tensor, window: Tensor, hop_length: int) -> Tensor:
    """(B, T) -> complex (B, n_fft // 2 + 1, 1 + (T - n_fft) // hop)."""
    return torch.stft(waveforms, len(window), hop_length, window=window, center=False, return_complex=True)


def _overlap_add(spectrum: Tensor, window: Tensor, hop_length: int, weight: Tensor) -> Tensor:
    """The waveforms (B, n_fft + (T - 1) * hop) whose STFT is nearest to `spectrum` (B, F, T) (Griffin and Lim, eq. 6)."""
    parts = torch.fft.irfft(spectrum, n=len(window), dim=1) * window[:, None]
    return _add_up(parts, hop_length) / weight


def _overlap_weight(window: Tensor, hop_length: int, frames: int) -> Tensor:
    """What equation 6 divides by, (1, n_fft + (T - 1) * hop): the windows' squares, added up."""
    weight = _add_up(window.square()[None, :, None].expand(1, -1, frames), hop_length)
    # The first and last samples lie under the foot of one window only: no click may grow out of its smallness. A fifth of a
    # window is faded in and out instead.
    return weight.clamp(min=0.1 * weight.max())


def _add_up(parts: Tensor, hop_length: int) -> Tensor:
    """Frames (B, n_fft, T), each `hop_length` after the one before, added up: (B, n_fft + (T - 1) * hop)."""
    n_fft, frames = parts.shape[1:]
    return F.fold(parts, (1, n_fft + (frames - 1) * hop_length), (1, n_fft), stride=(1, hop_length))[:, 0, 0]


def _initial_phases(target: Tensor) -> Tensor:
    """Phases (B, F, T) to begin with: the same for every clip, drawn by a generator of their own."""
    generator = torch.Generator().manual_seed(0)
    drawn = torch.rand(target.shape[-2:], generator=generator, device="cpu") * (2 * torch.pi)
    return drawn.to(target.device).expand_as(target)
