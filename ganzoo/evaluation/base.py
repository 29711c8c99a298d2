"""What an evaluation is: how pipelines of a task, or of a modality, are measured."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ganzoo.metrics.metric import choose, measure
from ganzoo.utils.finding import Kind

if TYPE_CHECKING:
    from ganzoo.evaluation.request import Request
    from ganzoo.metrics.records import MetricResult

EVALUATIONS = Kind("evaluation", "ganzoo.evaluation", "EVALUATION")


@dataclass(frozen=True)
class Evaluation:
    """How pipelines are measured. It stands in a file named by their task, or else by the modality of their samples.

    Attributes:
        subject: Made of a request, it holds what the metrics read, each part made when it is first needed.
        defaults: The names of the metrics that are measured unless others are asked for, by the subject.
        kinds: Where its metrics are found.
        parameters: Of the request, what every result says beside the metric's own parameters.
    """

    subject: Callable[[Request], Any]
    defaults: Callable[[Any], Sequence[str]]
    kinds: Sequence[Kind]
    parameters: Callable[[Request], dict[str, Any]] = lambda request: {}

    def __call__(self, request: Request) -> list[MetricResult]:
        """Measures, and returns the results in the order of the metrics.

        Raises:
            UserError: An unknown metric, or one that this model or its data do not allow.
        """
        if request.metrics:
            choose(self.kinds, request.metrics)  # an unknown name is refused before anything is made
        subject = self.subject(request)
        results = measure(subject, choose(self.kinds, request.metrics or self.defaults(subject)))
        common = self.parameters(request)
        return [dataclasses.replace(result, parameters={**result.parameters, **common}) for result in results]


def evaluation_of(task: str, modality: str) -> Evaluation:
    """The evaluation of a task, or else of a modality.

    Raises:
        NotFoundError: There is neither.
    """
    return EVALUATIONS.get(task if task in EVALUATIONS.names() else modality)
