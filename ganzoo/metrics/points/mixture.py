"""The modes of a mixture that points cover: the protocol of VEEGAN and PacGAN, see `ganzoo.metrics.modes`."""

from __future__ import annotations

from functools import partial
from typing import Any

from ganzoo.metrics.metric import SubjectMetric
from ganzoo.metrics.records import MetricResult

_VALUES = {"modes": "covered", "high_quality": "high_quality", "mode_divergence": "divergence"}


def _counted(subject: Any, *, name: str) -> MetricResult:
    """One number of what was counted; the floor is what real points score."""
    generated, perfect = subject.generated, subject.perfect
    return subject.request.result(
        name,
        float(getattr(generated, _VALUES[name])),
        num_real=0 if perfect is None else subject.num_real,
        num_generated=subject.request.num_samples,
        embedder="none",
        parameters={"modes": len(subject.centres), "sigma": subject.sigma, "deviations": 3},
        details={"counts": generated.counts.tolist()} if name == "modes" else {},
        floor=None if perfect is None else float(getattr(perfect, _VALUES[name])),
    )


METRICS = {
    "modes": SubjectMetric(partial(_counted, name="modes"), higher_is_better=True),
    "high_quality": SubjectMetric(partial(_counted, name="high_quality"), higher_is_better=True),
    "mode_divergence": SubjectMetric(partial(_counted, name="mode_divergence"), higher_is_better=False),
}
