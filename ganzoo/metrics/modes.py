"""How many modes of a mixture in the plane points cover, and how well."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ganzoo.embedders.base import Embedding
from ganzoo.errors import UserError
from ganzoo.metrics.metric import Choices, Measurement, Metric


class Modes(NamedTuple):
    """What was counted.

    Attributes:
        covered: Modes with at least one sample (of points: one of high quality).
        counts: (modes,) samples of each.
        high_quality: Share of the samples that lie on a mode; 1 where there is nothing else.
    """

    covered: int
    counts: Tensor
    high_quality: float

    @property
    def divergence(self) -> float:
        """KL(samples || uniform) over the modes, in nats: sum p log(p K) over those that were hit. 0 where none was."""
        total = int(self.counts.sum())
        if not total:
            return 0.0
        shares = self.counts.double() / total
        shares = shares[shares > 0]
        return float((shares * (shares * len(self.counts)).log()).sum())


def count_point_modes(points: Tensor, centres: Tensor, sigma: float, *, deviations: float = 3.0) -> Modes:
    """The protocol of VEEGAN and PacGAN (Lin et al., 2018, section 4.1): a point belongs to the nearest centre; it is of high
    quality within three standard deviations; a mode is covered by one such point.

    Perfect samples score 1 - exp(-9 / 2) = 98.9 % in the plane.

    Args:
        points: (N, D), in the data's units.
        centres: (modes, D).
        sigma: Standard deviation of a mode, in each coordinate.
        deviations: How many of them are near enough.

    Raises:
        UserError: Shapes that do not match.
    """
    if points.ndim != 2 or centres.ndim != 2 or points.shape[1] != centres.shape[1] or not len(points):
        raise UserError(
            f"points {tuple(points.shape)} and centres {tuple(centres.shape)} must be (N, D) and (modes, D)"
        )
    distance, nearest = torch.cdist(points.double(), centres.double()).min(dim=1)
    good = distance < deviations * sigma
    counts = torch.bincount(nearest[good], minlength=len(centres))
    return Modes(int((counts > 0).sum()), counts, float(good.double().mean()))


def expected_divergence(num_samples: int, num_modes: int) -> float:
    """The mean of `Modes.divergence` of perfectly uniform samples, to first order: (K - 1) / 2N; what a perfect model gets.

    Miller (1955): the bias of the plug-in entropy.
    """
    return (num_modes - 1) / (2 * num_samples) if num_samples else math.inf


def _modes(generated: Embedding, real: Embedding | None, choices: Choices) -> dict[str, Measurement]:
    classes = generated.probabilities.shape[1]
    covered = len(generated.probabilities.argmax(dim=1).unique())
    return {"modes": Measurement(float(covered), {"classes": classes})}


METRICS = {"modes": Metric(_modes, higher_is_better=True, needs="probabilities", compares=False)}
