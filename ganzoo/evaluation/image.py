"""Measuring pictures, and those who judge them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch

from ganzoo.errors import UserError

if TYPE_CHECKING:
    from ganzoo.data.dataset import ArrayDataset
    from ganzoo.evaluation.request import Request
    from ganzoo.metrics.evaluate import MetricResult

DEFAULT_METRICS = ("frechet_distance", "kid", "precision", "recall", "density", "coverage")
BATCH = 256


def evaluate_images(request: Request) -> list[MetricResult]:
    """Generated pictures against the split, and the training split against it as the floor."""
    from ganzoo.metrics.evaluate import evaluate_samples

    real, count = request.real, request.num_samples
    reference = request.load(request.data.split) if request.has_floor else None
    return evaluate_samples(
        _generated(request),
        _stored(real, count),
        embedder=request.embedder,
        metrics=request.metrics or DEFAULT_METRICS,
        seed=request.seed,
        dataset=real.description,
        split=real.split,
        reference=_stored(reference, count) if reference is not None else None,
        progress=request.progress,
    )


def _stored(dataset: ArrayDataset, count: int) -> torch.Tensor:
    return dataset.batch(np.arange(min(count, len(dataset))))[0]


def _generated(request: Request) -> Iterator[torch.Tensor]:
    pipeline, count = request.pipeline, request.num_samples
    for start in range(0, count, BATCH):
        drawn = pipeline.sample(min(BATCH, count - start), seed=request.seed + start, batch_size=BATCH)
        yield pipeline.processor.to_stored(drawn.samples)


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
