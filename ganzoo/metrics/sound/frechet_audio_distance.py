"""The Fréchet distance of sound over CLAP."""

from __future__ import annotations

import dataclasses
from typing import Any

from ganzoo.metrics.metric import SubjectMetric
from ganzoo.metrics.records import MetricResult


def _frechet_audio_distance(subject: Any) -> MetricResult:
    """The Fréchet distance over CLAP, whatever the other metrics are measured by (Kilgour et al., 2019, used VGGish)."""
    from ganzoo.embedders.opening import get_embedder
    from ganzoo.metrics.evaluate import evaluate_samples

    request = subject.request
    is_clap = isinstance(request.embedder, str) and request.embedder.partition(":")[0] == "clap"
    embedder = subject.embedder if is_clap else get_embedder("clap", sampling_rate=subject.sampling_rate)
    (result,) = evaluate_samples(
        subject.generated,
        subject.real[0],
        embedder=embedder,
        metrics=["frechet_distance"],
        seed=request.seed,
        dataset=request.real.description,
        split=request.real.split,
        reference=subject.some(subject.training, request.num_samples)[0] if request.has_floor else None,
        progress=request.progress,
    )
    return dataclasses.replace(result, name="frechet_audio_distance")


METRICS = {"frechet_audio_distance": SubjectMetric(_frechet_audio_distance, higher_is_better=False)}
