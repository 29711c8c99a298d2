"""Waveforms as the audio embedders and distances see them: int16 (B, C, L) at a rate that is stated."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from ganzoo.embedders.validation import check_waveforms
from ganzoo.errors import UserError
from ganzoo.sound.recording import FULL_SCALE
from ganzoo.sound.spectral import MelConfig, mel_spectrogram, resample

if TYPE_CHECKING:
    from ganzoo.processors import WaveformProcessor

# Added to mel magnitudes before the logarithm: what is below is silence.
FLOOR = 1e-4


def to_float(waveforms: Tensor) -> Tensor:
    """int16 (B, C, L) -> float32 in [-1, 1].

    Raises:
        UserError: Other tensors.
    """
    return check_waveforms(waveforms).float() / FULL_SCALE


def to_mono(waveforms: Tensor) -> Tensor:
    """int16 (B, C, L) -> float32 (B, L) in [-1, 1], the mean of the channels."""
    return to_float(waveforms).mean(dim=1)


def fit_waveforms(waveforms: Tensor, sampling_rate: int, processor: WaveformProcessor) -> Tensor:
    """Gives waveforms the rate, channels and length of a processor's clips.

    Many channels become one by the mean, and one becomes many by repetition. What is longer is cut at the end; what is
    shorter sits where the processor puts it, in silence. Waveforms that fit already come back as they are.

    Args:
        waveforms: int16 `(B, C, L)`.
        sampling_rate: Theirs, in Hz.
        processor: What is wanted.

    Returns:
        int16 `(B, processor.channels, processor.length)`.

    Raises:
        UserError: Not int16 waveforms, or a change of channels that has no meaning.
        MissingPackageError: Rates differ, and torchaudio, which resamples, does not load.
    """
    found, channels, length = check_waveforms(waveforms).shape[1], processor.channels, processor.length
    if sampling_rate == processor.sampling_rate and waveforms.shape[1:] == (channels, length):
        return waveforms
    if found != channels and 1 not in (found, channels):
        raise UserError(f"waveforms with {found} channels cannot be heard by an embedder that takes {channels}")
    values = waveforms.float()
    if found > channels:
        values = values.mean(dim=1, keepdim=True)
    values = resample(values, sampling_rate, processor.sampling_rate)[..., :length]
    missing = length - values.shape[-1]
    before = missing // 2 if processor.position == "centre" else 0
    values = F.pad(values, (before, missing - before))
    return values.round().clamp(-FULL_SCALE, FULL_SCALE).to(torch.int16).expand(-1, channels, -1)


def listening_mel(sampling_rate: int) -> MelConfig:
    """The mel bands in which distances are measured: frames of about 32 ms, a quarter of a frame apart, 40 bands (fewer
    where rates are low) from 40 Hz almost to half the rate; at 8 kHz frames of 256, hops of 64, up to 3,900 Hz.
    """
    n_fft = 2 ** round(math.log2(0.032 * sampling_rate))
    return MelConfig(
        sampling_rate=sampling_rate,
        n_fft=n_fft,
        hop_length=n_fft // 4,
        win_length=n_fft,
        n_mels=min(40, n_fft // 6),
        f_min=40.0,
        f_max=0.4875 * sampling_rate,
    )


def listening_features(waveforms: Tensor, sampling_rate: int) -> Tensor:
    """Log-mel spectrograms, log(mel + 1e-4), of waveforms mixed down to mono.

    Args:
        waveforms: int16 `(B, C, L)`.
        sampling_rate: In Hz.

    Returns:
        `(B, n_mels, frames)` float32.

    Raises:
        UserError: Not int16 waveforms, or shorter than a frame.
        MissingPackageError: torchaudio does not load.
    """
    return (mel_spectrogram(to_mono(waveforms), listening_mel(sampling_rate)) + FLOOR).log()
