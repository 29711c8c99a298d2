"""A metric of pictures: the mean of the features' distance, for an embedder of theirs."""

from __future__ import annotations

from ganzoo.metrics.metric import Measurement, Metric

METRIC = Metric(
    lambda generated, real, choices: {
        "brightness": Measurement(float((generated.features.mean() - real.features.mean()).abs()))
    },
    higher_is_better=False,
)
