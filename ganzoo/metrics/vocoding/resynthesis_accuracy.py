"""Whether what was said is still heard in a copy."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ganzoo.errors import UserError
from ganzoo.metrics.metric import SubjectMetric
from ganzoo.metrics.records import MetricResult


def _resynthesis_accuracy(copies: Any) -> MetricResult:
    """Whether a classifier still hears what was said: its accuracy on the copies, beside that on the originals."""
    from ganzoo.embedders.opening import get_embedder
    from ganzoo.metrics.evaluate import embed_samples

    labels, request = copies.labels, copies.request
    if labels is None:
        raise UserError(f"resynthesis_accuracy: {request.real.description} has no labels")
    embedder = get_embedder(request.embedder or "log-mel", sampling_rate=copies.pipeline.processor.sampling_rate)

    def accuracy(waveforms: list[Tensor]) -> float:
        stored, needed_for = copies.stored(waveforms), ("resynthesis_accuracy",)
        embedding = embed_samples(stored, embedder=embedder, needed_for=needed_for, progress=request.progress)
        return float((embedding.probabilities.argmax(dim=1) == labels).double().mean())

    return request.result(
        "resynthesis_accuracy",
        accuracy(copies.copies),
        details={"griffin_lim": accuracy(copies.baselines)},
        floor=accuracy(copies.originals),
        num_real=len(labels),
        num_generated=len(labels),
        embedder=embedder.name,
    )


METRICS = {"resynthesis_accuracy": SubjectMetric(_resynthesis_accuracy, higher_is_better=True)}
