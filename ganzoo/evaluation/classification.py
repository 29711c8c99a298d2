"""Measuring those who judge: classifiers of pictures or of sound."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch

from ganzoo.errors import UserError
from ganzoo.evaluation.base import Evaluation
from ganzoo.utils.finding import Kind

if TYPE_CHECKING:
    from ganzoo.evaluation.request import Request

BATCH = 256


class Subject:
    """A classifier, and labelled samples."""

    def __init__(self, request: Request) -> None:
        self.request = request

    @cached_property
    def correct(self) -> torch.Tensor:
        """Whether each of the split's samples (N,) is told right.

        Raises:
            UserError: The data has no labels, or a class that the classifier does not know.
        """
        pipeline = self.request.pipeline
        real = self.request.real.numbered_as(pipeline.processor.class_names)
        if real.labels is None:
            raise UserError(f"{real.description} has no labels to compare a classifier with")
        found = []
        with torch.inference_mode():
            for start in range(0, len(real), BATCH):
                stored, labels = real.batch(np.arange(start, min(start + BATCH, len(real))))
                logits = pipeline.network(pipeline.processor.normalize(stored.to(pipeline.device))).logits
                found.append(logits.argmax(dim=1).cpu() == labels)
        return torch.cat(found)


EVALUATION = Evaluation(
    Subject,
    lambda subject: ("accuracy",),
    (Kind("metric of classifiers", "ganzoo.metrics.classification", "METRIC", joint="_"),),
)
