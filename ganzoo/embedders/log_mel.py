"""Log-mel statistics of sound as features: needs no network."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from ganzoo.embedders.base import EmbedderKind, Embedding
from ganzoo.embedders.listening import listening_features
from ganzoo.errors import UserError


class LogMelEmbedder:
    """The log-mel spectrogram itself, averaged to 16 x 16: no network, knows no classes."""

    name = "log-mel"
    size = 16

    def __init__(self, sampling_rate: int) -> None:
        """Listens.

        Args:
            sampling_rate: Of the waveforms, in Hz.
        """
        self.sampling_rate = sampling_rate

    def __call__(self, waveforms: Tensor) -> Embedding:
        """Maps int16 waveforms `(B, C, L)` to features `(B, 256)`, in nats."""
        spectrograms = listening_features(waveforms, self.sampling_rate)
        return Embedding(F.adaptive_avg_pool2d(spectrograms[:, None], self.size).flatten(1), None)


def _open(source: str, sampling_rate: int | None) -> LogMelEmbedder:
    if sampling_rate is None:
        raise UserError("the embedder 'log-mel' must be told the sampling rate of what it hears")
    return LogMelEmbedder(sampling_rate)


EMBEDDER = EmbedderKind(_open)
