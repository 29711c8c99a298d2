"""What a metric is: how it is computed, and what it finds.

A metric is a record in the file of its function, `METRIC = ...` or `METRICS = {name: ...}`, in the folder of what it measures:
here of embeddings, in `text/`, `sound/`, `vocoding/`, `points/`, `classification/`. An evaluation says which folders are its.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from ganzoo.embedders.base import Embedding
from ganzoo.errors import UserError, did_you_mean, shorten
from ganzoo.metrics.records import MetricResult
from ganzoo.utils.finding import Kind
from ganzoo.version import __version__

METRICS = Kind("metric", "ganzoo.metrics", "METRIC", joint="_")


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

    @staticmethod
    def together(subject: Any, metrics: Mapping[str, Metric]) -> list[MetricResult]:
        """Those that were chosen, of one embedding of each set: the evaluation's subject makes it."""
        return subject.embedded(metrics)


class SubjectMetric(NamedTuple):
    """A metric of whatever an evaluation makes, its subject: copies, likelihoods, distances.

    Attributes:
        compute: Maps the subject to the result.
        higher_is_better: Direction.
    """

    compute: Callable[[Any], MetricResult]
    higher_is_better: bool

    @staticmethod
    def together(subject: Any, metrics: Mapping[str, SubjectMetric]) -> list[MetricResult]:
        """Each by itself."""
        return [metric.compute(subject) for metric in metrics.values()]


def choose(kinds: Sequence[Kind], names: str | Sequence[str]) -> dict[str, Any]:
    """The records of metrics by name, in the order asked for.

    Raises:
        UserError: No name, or one that no kind knows; says which there are.
    """
    names = [names] if isinstance(names, str) else names
    known = {name: kind for kind in reversed(kinds) for name in kind.names()}
    noun = kinds[0].noun
    if not names:
        raise UserError(f"name at least one {noun} of: {', '.join(known)}")
    for name in names:
        if name not in known:
            hint = did_you_mean(name, known)
            raise UserError(f"there is no {noun} {shorten(name)}.{hint} There are: {', '.join(known)}")
    return {name: known[name].get(name) for name in names}


def measure(subject: Any, metrics: Mapping[str, Any]) -> list[MetricResult]:
    """The numbers of an evaluation's subject, in the order of the metrics; those of one sort are measured together."""
    results: dict[str, MetricResult] = {}
    for sort in dict.fromkeys(type(metric) for metric in metrics.values()):
        own = {name: metric for name, metric in metrics.items() if type(metric) is sort}
        results |= {result.name: result for result in sort.together(subject, own)}
    if missing := metrics.keys() - results.keys():
        raise UserError(f"the metric {missing.pop()!r} gave no number of that name")
    return [results[name] for name in metrics]


def result_of(name: str, found: Measurement, floor: Measurement | None, **protocol: Any) -> MetricResult:
    """A measurement with its protocol, and what measured it."""
    import torch

    return MetricResult(
        name=name,
        value=found.value,
        parameters=dict(found.parameters),
        details=found.details | (floor.details if floor else {}),
        floor=floor.value if floor else None,
        ganzoo_version=__version__,
        torch_version=str(torch.__version__),
        **protocol,
    )
