"""Measuring generated pictures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch

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
        embedder=request.embedder or "pixels",
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
