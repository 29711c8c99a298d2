"""A task: its pipeline and how it is measured (two files where they are more than a line)."""

from __future__ import annotations

from typing import Any

from added.mean_distance import mean_distance
from added.series_evaluation import Subject
from ganzoo.evaluation.base import Evaluation
from ganzoo.metrics.metric import SubjectMetric
from ganzoo.pipelines import GANPipeline
from ganzoo.utils.finding import Kind


class ForecastPipeline(GANPipeline):
    """Goes on with a series: what it draws, behind what was there."""

    def __call__(self, beginning: Any = (), **how: Any) -> Any:
        drawn = super().__call__(num_samples=1, **how).series[0]
        return [*beginning, *drawn.tolist()]


PIPELINE = ForecastPipeline
METRIC = SubjectMetric(mean_distance, higher_is_better=False)
EVALUATION = Evaluation(
    Subject, lambda subject: ("mean_distance",), (Kind("metric of forecasts", "added.metrics", "METRIC", joint="_"),)
)
