"""What a metric of text is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

from ganzoo.metrics.metric import Measurement
from ganzoo.metrics.records import MetricResult
from ganzoo.metrics.text.tokens import Sentences
from ganzoo.utils.finding import Kind

TEXT_METRICS = Kind("text metric", "ganzoo.metrics.text", "METRIC", joint="_")


class TextMetric(NamedTuple):
    """How a text metric is computed.

    Attributes:
        compute: `(samples, real)` -> measurements by name. Metrics that share a computation share the function, and it
            runs once for all of them.
        higher_is_better: Direction.
        against: Which real text it compares with, if any.
        protocol: What a reader must know of it beside the tokeniser.
    """

    compute: Callable[[Sentences, Sentences | None], dict[str, Measurement]]
    higher_is_better: bool
    against: Literal["test", "train"] | None = None
    protocol: str = ""

    @staticmethod
    def together(subject: Any, metrics: Mapping[str, TextMetric]) -> list[MetricResult]:
        """Those that were chosen, of one tokenisation of each text: the evaluation's subject has the sentences."""
        return subject.worded(metrics)
