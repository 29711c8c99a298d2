"""Measuring points: the modes of the mixture that they were to imitate."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ganzoo.data.sets.mixtures import mixture
from ganzoo.errors import UserError, did_you_mean, shorten
from ganzoo.metrics.modes import count_point_modes

if TYPE_CHECKING:
    from ganzoo.evaluation.request import Request
    from ganzoo.metrics.records import MetricResult

POINT_METRICS = ("modes", "high_quality", "mode_divergence")


def evaluate_points(request: Request) -> list[MetricResult]:
    """Generated points against the centres of the mixture; the floor is what real points score.

    Raises:
        UserError: An unknown metric, or data that is no mixture.
    """
    names = request.metrics or POINT_METRICS
    for name in names:
        if name not in POINT_METRICS:
            hint = did_you_mean(name, POINT_METRICS)
            raise UserError(
                f"there is no metric of points {shorten(name)}.{hint} The metrics are: {', '.join(POINT_METRICS)}"
            )
    known = mixture(request.data.dataset)
    centres = torch.tensor(known.centres)
    pipeline = request.pipeline
    samples = pipeline.sample(request.num_samples, seed=request.seed, batch_size=4096).samples
    generated = count_point_modes(pipeline.processor.to_stored(samples).cpu(), centres, known.sigma)
    real = torch.tensor(request.real.samples[: request.num_samples]) if request.floor else None
    perfect = None if real is None else count_point_modes(real, centres, known.sigma)
    values = {"modes": "covered", "high_quality": "high_quality", "mode_divergence": "divergence"}
    return [
        request.result(
            name,
            float(getattr(generated, values[name])),
            num_real=0 if real is None else len(real),
            num_generated=len(samples),
            embedder="none",
            parameters={"modes": len(centres), "sigma": known.sigma, "deviations": 3},
            details={"counts": generated.counts.tolist()} if name == "modes" else {},
            floor=None if perfect is None else float(getattr(perfect, values[name])),
        )
        for name in names
    ]
