"""Embedders: what turns samples into the features that distances compare, and the probabilities that scores read.

A number means nothing without its embedder, so every embedder has a name and every result carries it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from ganzoo.utils.finding import Kind

if TYPE_CHECKING:
    pass


EMBEDDERS = Kind("embedder", "ganzoo.embedders", "EMBEDDER")


class Embedding(NamedTuple):
    """What an embedder says of a batch.

    Attributes:
        features: `(B, D)` float32.
        probabilities: `(B, K)` float32, rows that sum to 1; None when the embedder knows no classes.
        labels: `(B,)` what each sample is, or was asked to be, where that is known. No embedder sets it.
    """

    features: Tensor
    probabilities: Tensor | None
    labels: Tensor | None = None


class Embedder(Protocol):
    """Anything with a name that maps uint8 images `(B, C, H, W)`, or int16 waveforms `(B, C, L)`, to an `Embedding`.

    It refuses what it is not for: an embedder of pictures has no meaning for sound.
    """

    name: str

    def __call__(self, samples: Tensor) -> Embedding: ...


def _device(network: nn.Module) -> torch.device:
    return next(network.parameters()).device


@dataclass(frozen=True)
class EmbedderKind:
    """How an embedder is made.

    Attributes:
        open: `(source, sampling_rate)`: what follows the name and a colon (empty where nothing does), and the rate in Hz of the
            waveforms that it is to hear, or None.
    """

    open: Callable[[str, int | None], Embedder]
