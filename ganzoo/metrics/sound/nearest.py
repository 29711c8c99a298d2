"""How near generated sound is to the training data, and to itself (Donahue et al., 2019, section 5.3): distances of log-mel spectrograms."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from ganzoo.metrics.metric import SubjectMetric
from ganzoo.metrics.records import MetricResult

BATCH = 256


def _nearest_training(subject: Any) -> MetricResult:
    """|D|_train: near 0 for copies of the training data."""
    from ganzoo.metrics.nearest import nearest_distances

    training = subject.training
    generated, real = subject.points

    def to_training(points: Tensor) -> Tensor:
        starts = range(0, len(training), BATCH)
        rows = (training.batch(np.arange(start, min(start + BATCH, len(training))))[0] for start in starts)
        return nearest_distances(points, (subject.log_mels(part) for part in rows))

    floor = to_training(real) if subject.request.has_floor else None
    protocol = {"split": training.split, "num_real": len(training)}
    return _nearest(subject, "nearest_training", to_training(generated), floor, **protocol)


def _nearest_self(subject: Any) -> MetricResult:
    """|D|_self: near 0 where all samples are alike."""
    from ganzoo.metrics.nearest import nearest_distances_within

    generated, real = subject.points
    floor = nearest_distances_within(real) if subject.request.floor else None
    return _nearest(subject, "nearest_self", nearest_distances_within(generated), floor, num_real=0)


def _nearest(subject: Any, name: str, distances: Tensor, floor: Tensor | None, **protocol: Any) -> MetricResult:
    from ganzoo.embedders.listening import listening_mel

    mel = listening_mel(subject.sampling_rate)
    details = {"standard_deviation": float(distances.std()), "minimum": float(distances.min())}
    if floor is not None:
        details |= {"floor_standard_deviation": float(floor.std()), "num_reference": len(floor)}
    return subject.request.result(
        name,
        float(distances.mean()),
        parameters={"n_mels": mel.n_mels, "n_fft": mel.n_fft, "hop_length": mel.hop_length},
        details=details,
        floor=None if floor is None else float(floor.mean()),
        num_generated=len(distances),
        embedder="log-mel",
        **protocol,
    )


METRICS = {
    "nearest_training": SubjectMetric(_nearest_training, higher_is_better=True),
    "nearest_self": SubjectMetric(_nearest_self, higher_is_better=True),
}
