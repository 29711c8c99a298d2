"""Metrics of sound: embedders of waveforms, log-mel distances, and the measures of copy synthesis."""

from ganzoo.metrics.audio.embedders import CLAP_REPOSITORY, ClapEmbedder, LogMelEmbedder
from ganzoo.metrics.audio.vocoder import (
    RESOLUTIONS,
    cosine_basis,
    log_mel_l1,
    mel_cepstral_distortion,
    multi_resolution_stft,
)
from ganzoo.metrics.audio.waveforms import fit_waveforms, listening_features, listening_mel

__all__ = [
    "CLAP_REPOSITORY",
    "RESOLUTIONS",
    "ClapEmbedder",
    "LogMelEmbedder",
    "cosine_basis",
    "fit_waveforms",
    "listening_features",
    "listening_mel",
    "log_mel_l1",
    "mel_cepstral_distortion",
    "multi_resolution_stft",
]
