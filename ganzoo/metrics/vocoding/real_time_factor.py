"""How fast a vocoder is."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from ganzoo.metrics.metric import SubjectMetric
from ganzoo.metrics.records import MetricResult

TIMED_RUNS = 5


@torch.inference_mode()
def _real_time_factor(copies: Any) -> MetricResult:
    """Seconds of work for a second of sound: a clip from its spectrogram, alone in its batch, the median of five times."""
    pipeline = copies.pipeline
    network, rate = pipeline.network, pipeline.processor.sampling_rate
    clip = pipeline.processor.normalize(copies.chosen[0][:1].to(pipeline.device))
    mel = network.spectrogram(clip).to(network.dtype)
    length = network(mel).cpu().shape[-1]  # the first time is slower
    seconds = [_seconds(lambda: network(mel).cpu()) for _ in range(TIMED_RUNS)]
    factor = statistics.median(seconds) * rate / length
    machine = {"device": str(pipeline.device), "threads": torch.get_num_threads()}
    return copies.request.result(
        "real_time_factor",
        factor,
        parameters={"seconds": round(length / rate, 3), "runs": TIMED_RUNS, "batch_size": 1, **machine},
        details={"times_real_time": 1 / factor},
        num_real=0,
        num_generated=1,
        embedder="none",
    )


def _seconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


METRICS = {"real_time_factor": SubjectMetric(_real_time_factor, higher_is_better=False)}
