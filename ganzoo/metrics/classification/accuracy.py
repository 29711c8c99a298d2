"""How often a classifier is right."""

from __future__ import annotations

from typing import Any

from ganzoo.metrics.metric import SubjectMetric
from ganzoo.metrics.records import MetricResult


def _accuracy(subject: Any) -> MetricResult:
    """The share of the split whose class the classifier names."""
    correct = subject.correct
    return subject.request.result(
        "accuracy",
        float(correct.double().mean()),
        num_real=len(correct),
        num_generated=0,
        embedder="the model itself",
    )


METRICS = {"accuracy": SubjectMetric(_accuracy, higher_is_better=True)}
