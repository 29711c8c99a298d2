"""Measuring those who judge: classifiers of pictures or of sound."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from ganzoo.errors import UserError

if TYPE_CHECKING:
    from ganzoo.evaluation.request import Request
    from ganzoo.metrics.records import MetricResult

BATCH = 256


def classifier_accuracy(request: Request) -> list[MetricResult]:
    """The share of the split whose class the classifier names.

    Raises:
        UserError: The data has no labels.
    """
    pipeline, real = request.pipeline, request.real
    if real.labels is None:
        raise UserError(f"{real.description} has no labels to compare a classifier with")
    correct = 0
    with torch.inference_mode():
        for start in range(0, len(real), BATCH):
            stored, labels = real.batch(np.arange(start, min(start + BATCH, len(real))))
            logits = pipeline.network(pipeline.processor.normalize(stored.to(pipeline.device))).logits
            correct += int((logits.argmax(dim=1).cpu() == labels).sum())
    accuracy = correct / len(real)
    return [request.result("accuracy", accuracy, num_real=len(real), num_generated=0, embedder="the model itself")]
