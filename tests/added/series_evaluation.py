"""How series are measured."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch

from ganzoo.evaluation.base import Evaluation
from ganzoo.utils.finding import Kind


class Subject:
    """Generated and real series."""

    def __init__(self, request: Any) -> None:
        self.request = request

    @cached_property
    def generated(self) -> torch.Tensor:
        return self.request.pipeline.sample(self.request.num_samples, seed=self.request.seed).samples

    @cached_property
    def real(self) -> torch.Tensor:
        return torch.tensor(self.request.real.samples)


EVALUATION = Evaluation(
    Subject, lambda subject: ("mean_distance",), (Kind("metric of series", "added.metrics", "METRIC", joint="_"),)
)
