"""Measuring points: the modes of the mixture that they were to imitate."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import torch

from ganzoo.data.sets.mixtures import mixture
from ganzoo.evaluation.base import Evaluation
from ganzoo.metrics.modes import Modes, count_point_modes
from ganzoo.utils.finding import Kind

if TYPE_CHECKING:
    from ganzoo.evaluation.request import Request

DEFAULT_METRICS = ("modes", "high_quality", "mode_divergence")


class Subject:
    """Generated points, and real ones as the floor, against the centres of the mixture.

    Raises:
        UserError: The data is no mixture.
    """

    def __init__(self, request: Request) -> None:
        self.request = request
        known = mixture(request.data.dataset)
        self.centres, self.sigma = torch.tensor(known.centres), known.sigma

    @cached_property
    def generated(self) -> Modes:
        request = self.request
        samples = request.pipeline.sample(request.num_samples, seed=request.seed, batch_size=4096).samples
        return count_point_modes(request.pipeline.processor.to_stored(samples).cpu(), self.centres, self.sigma)

    @property
    def num_real(self) -> int:
        return min(self.request.num_samples, len(self.request.real))

    @cached_property
    def perfect(self) -> Modes | None:
        """What real points score; None where no floor is wanted."""
        if not self.request.floor:
            return None
        return count_point_modes(torch.tensor(self.request.real.samples[: self.num_real]), self.centres, self.sigma)


EVALUATION = Evaluation(
    Subject, lambda subject: DEFAULT_METRICS, (Kind("metric of points", "ganzoo.metrics.points", "METRIC", joint="_"),)
)
