"""What a metric is: how it is computed, and what it finds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from ganzoo.embedders.base import Embedding


class Measurement(NamedTuple):
    """What a metric found, before its protocol is added: see `MetricResult`."""

    value: float
    parameters: dict[str, Any] = {}
    details: dict[str, Any] = {}


class Choices(NamedTuple):
    """What a metric leaves open.

    Attributes:
        seed: Of random subsets and splits.
        splits: Of the inception score. The paper's 10 suit its 50,000 samples; a part with few samples of each class
            scores too low.
    """

    seed: int = 0
    splits: int = 10


class Metric(NamedTuple):
    """How a metric is computed.

    Attributes:
        compute: `(generated, real, choices)` -> measurements by name. Metrics that share a computation share the
            function, and it runs once for all of them.
        higher_is_better: Direction.
        needs: The part of an embedding that it reads; what reads labels reads probabilities as well.
        compares: It needs real samples.
    """

    compute: Callable[[Embedding, Embedding | None, Choices], dict[str, Measurement]]
    higher_is_better: bool
    needs: Literal["features", "probabilities", "labels"] = "features"
    compares: bool = True
