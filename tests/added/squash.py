"""A penalty: small logits of generated samples."""

from __future__ import annotations

from pydantic import Field

from ganzoo.losses import Penalty, PenaltyConfig, average_over_outputs


class SquashConfig(PenaltyConfig):
    """Section of the penalty."""

    power: float = Field(2.0, ge=1, le=8, description="To which the logits are raised.")


PENALTY = Penalty(
    lambda fake_outputs, power: average_over_outputs(lambda logits: logits.abs().pow(power).mean(), fake_outputs),
    ("fake_outputs",),
    SquashConfig,
)
