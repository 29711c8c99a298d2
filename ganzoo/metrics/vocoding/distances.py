"""How near resynthesised sound is to the sound whose mel spectrogram it was made from: pure functions of waveforms.

Waveforms are float32 `(B, T)` or `(B, C, T)` in [-1, 1], both of one shape and in time with each other; nothing is aligned.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ganzoo.errors import UserError
from ganzoo.metrics.metric import SubjectMetric
from ganzoo.metrics.records import MetricResult
from ganzoo.sound.spectral import stft_magnitude

# (n_fft, hop, window) of Yamamoto et al. (2020), table 1; everyone's since.
RESOLUTIONS = ((1024, 120, 600), (2048, 240, 1200), (512, 50, 240))
# Under magnitudes: what is quieter (16-bit sound has steps of 3e-5) is silence.
MAGNITUDE_FLOOR = 1e-4
COEFFICIENTS = 13


def log_mel_l1(copies: Tensor, originals: Tensor) -> Tensor:
    """The mean absolute difference of log-mel spectrograms.

    Args:
        copies: `(B, n_mels, T)`, natural logarithms.
        originals: The same.

    Returns:
        `(B,)`, in nats; 0.1 is 0.87 dB.

    Raises:
        UserError: Two shapes.
    """
    return (copies - _same(originals, copies)).abs().flatten(1).mean(dim=1)


def multi_resolution_stft(copies: Tensor, originals: Tensor) -> Tensor:
    """Spectral convergence plus log-magnitude distance, the mean of three resolutions (Yamamoto et al., 2020,
    https://arxiv.org/abs/1910.11480, equations 4 to 6).

    Args:
        copies: Waveforms `(B, ..., T)`, T more than 1024.
        originals: The same.

    Returns:
        `(B,)`.

    Raises:
        UserError: Two shapes, or too short for the longest window.
    """
    _same(originals, copies)
    longest = max(n_fft for n_fft, _, _ in RESOLUTIONS)
    if copies.shape[-1] <= longest // 2:
        raise UserError(f"waveforms of {copies.shape[-1]} samples are too short for a spectrum of {longest}")
    return torch.stack([_stft_distance(copies, originals, *resolution) for resolution in RESOLUTIONS]).mean(dim=0)


def _stft_distance(copies: Tensor, originals: Tensor, n_fft: int, hop_length: int, win_length: int) -> Tensor:
    copy, original = (
        stft_magnitude(waveforms, n_fft, hop_length, win_length, centre=True).clamp(min=MAGNITUDE_FLOOR).flatten(1)
        for waveforms in (copies, originals)
    )
    convergence = (original - copy).norm(dim=1) / original.norm(dim=1)
    return convergence + (original.log() - copy.log()).abs().mean(dim=1)


def mel_cepstral_distortion(copies: Tensor, originals: Tensor) -> Tensor:
    """Mel-cepstral distortion, `10 / ln 10 * sqrt(2 * sum d_k^2)` with k from 1 to 13, the mean over frames.

    The cepstrum is the orthonormal DCT-II of the log-mel spectrogram; coefficient 0, the loudness, is left out (Kubichek,
    1993). Frames are compared as they lie, without alignment in time. Numbers from other mel bands, or from the cepstra of
    a speech coder (WORLD, STRAIGHT), do not compare.

    Args:
        copies: Log-mel spectrograms `(B, n_mels, T)`, natural logarithms, n_mels at least 14.
        originals: The same.

    Returns:
        `(B,)`, in dB.

    Raises:
        UserError: Two shapes, or too few bands.
    """
    difference = copies - _same(originals, copies)
    cepstrum = cosine_basis(difference.shape[1], COEFFICIENTS).to(difference) @ difference
    return 10 / math.log(10) * (2 * cepstrum.square().sum(dim=1)).sqrt().mean(dim=-1)


def cosine_basis(bands: int, count: int) -> Tensor:
    """Rows 1 to `count` of the orthonormal DCT-II of `bands` values: `(count, bands)`.

    Raises:
        UserError: There are no so many.
    """
    if bands <= count:
        raise UserError(f"{count} cepstral coefficients need more than {count} mel bands, not {bands}")
    order, band = torch.arange(1, count + 1)[:, None], torch.arange(bands)
    return math.sqrt(2 / bands) * torch.cos(math.pi / bands * order * (band + 0.5))


def _same(originals: Tensor, copies: Tensor) -> Tensor:
    if originals.shape != copies.shape:
        raise UserError(f"copies of shape {tuple(copies.shape)} do not match originals of {tuple(originals.shape)}")
    return originals


def _log_mel_l1(copies: Any) -> MetricResult:
    return _of_mels(copies, "log_mel_l1", log_mel_l1)


def _mel_cepstral_distortion(copies: Any) -> MetricResult:
    return _of_mels(copies, "mel_cepstral_distortion", mel_cepstral_distortion)


def _of_mels(copies: Any, name: str, distance: Callable[[Tensor, Tensor], Tensor]) -> MetricResult:
    originals, made, baselines = copies.log_mels
    mel = copies.mel
    parameters = {"n_mels": mel.n_mels, "n_fft": mel.n_fft, "hop_length": mel.hop_length, "f_max": mel.upper}
    return _distance(copies, name, distance, originals, made, baselines, parameters, embedder="log-mel")


def _multi_resolution_stft(copies: Any) -> MetricResult:
    parameters = {"resolutions": [list(resolution) for resolution in RESOLUTIONS]}
    sets = copies.originals, copies.copies, copies.baselines
    return _distance(copies, "multi_resolution_stft", multi_resolution_stft, *sets, parameters, embedder="three STFTs")


def _distance(
    copies: Any,
    name: str,
    distance: Callable[[Tensor, Tensor], Tensor],
    originals: list[Tensor],
    made: list[Tensor],
    baselines: list[Tensor],
    parameters: dict[str, Any],
    *,
    embedder: str,
) -> MetricResult:
    """The mean over clips, each as important as the other."""
    found, baseline = (
        torch.cat([distance(copy, original) for copy, original in zip(set_, originals, strict=True)]).double()
        for set_ in (made, baselines)
    )
    details = {"standard_error": float(found.std() / len(found) ** 0.5)} if len(found) > 1 else {}
    return copies.request.result(
        name,
        float(found.mean()),
        parameters=parameters,
        details={**details, "griffin_lim": float(baseline.mean())},
        num_real=len(found),
        num_generated=len(found),
        embedder=embedder,
    )


METRICS = {
    "log_mel_l1": SubjectMetric(_log_mel_l1, higher_is_better=False),
    "multi_resolution_stft": SubjectMetric(_multi_resolution_stft, higher_is_better=False),
    "mel_cepstral_distortion": SubjectMetric(_mel_cepstral_distortion, higher_is_better=False),
}
