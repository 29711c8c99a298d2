"""A metric: how far the mean of the generated series is from that of the real ones."""

from __future__ import annotations

from typing import Any

from ganzoo.metrics.metric import SubjectMetric
from ganzoo.metrics.records import MetricResult


def mean_distance(subject: Any) -> MetricResult:
    """The largest distance between two means."""
    distance = (subject.generated.mean(dim=0) - subject.real.mean(dim=0)).abs().max()
    counts = {"num_real": len(subject.real), "num_generated": len(subject.generated)}
    return subject.request.result("mean_distance", float(distance), embedder="none", **counts)


METRIC = SubjectMetric(mean_distance, higher_is_better=False)
