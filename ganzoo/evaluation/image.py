"""Measuring generated pictures: against the split, and the training split against it as the floor."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch

from ganzoo.evaluation.base import Evaluation
from ganzoo.metrics.metric import METRICS

if TYPE_CHECKING:
    from ganzoo.data.dataset import ArrayDataset
    from ganzoo.evaluation.request import Request
    from ganzoo.metrics.metric import Metric
    from ganzoo.metrics.records import MetricResult

DEFAULT_METRICS = ("frechet_distance", "kid", "precision", "recall", "density", "coverage")
BATCH = 256


class Subject:
    """Pictures that a model draws; a conditional one is asked for its classes in turn."""

    def __init__(self, request: Request) -> None:
        self.request = request

    def embedded(self, metrics: Mapping[str, Metric]) -> list[MetricResult]:
        """Metrics of embeddings, each set embedded batch by batch."""
        from ganzoo.metrics.evaluate import evaluate_samples

        request = self.request
        real, count = request.real, request.num_samples
        reference = request.load(request.data.split) if request.has_floor else None
        num_classes = request.pipeline.config.num_classes
        labels = None if num_classes is None else torch.arange(count) % num_classes
        pictures, real_labels = _stored(real, count)
        return evaluate_samples(
            _generated(request, labels),
            pictures,
            embedder=request.embedder or "pixels",
            metrics=list(metrics),
            seed=request.seed,
            dataset=real.description,
            split=real.split,
            reference=_stored(reference, count)[0] if reference is not None else None,
            labels=labels,
            real_labels=real_labels,
            progress=request.progress,
        )


def _stored(dataset: ArrayDataset, count: int) -> tuple[torch.Tensor, torch.Tensor | None]:
    return dataset.batch(np.arange(min(count, len(dataset))))


def _generated(request: Request, labels: torch.Tensor | None) -> Iterator[torch.Tensor]:
    pipeline, count = request.pipeline, request.num_samples
    for start in range(0, count, BATCH):
        size = min(BATCH, count - start)
        asked = None if labels is None else labels[start : start + size]
        drawn = pipeline.sample(size, seed=request.seed + start, labels=asked, batch_size=BATCH)
        yield pipeline.processor.to_stored(drawn.samples)


EVALUATION = Evaluation(Subject, lambda subject: DEFAULT_METRICS, (METRICS,))
