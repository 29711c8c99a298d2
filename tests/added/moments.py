"""An objective: the generator's mean is pulled to that of the data, without a judge."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from ganzoo.networks.base import Generator
from ganzoo.objectives.base import Batch, Loss, Networks, Objective, StepContext, Trained
from ganzoo.recipe.objective import ObjectiveConfig


class MomentsConfig(ObjectiveConfig):
    """Objective that matches means."""

    type: Literal["moments"] = Field("moments", description="Which objective.")
    weight: float = Field(1.0, gt=0, le=1e6, description="Factor.")


class MomentsObjective(Objective):
    """The squared distance of the means."""

    config_class = MomentsConfig
    trains = {"generator": Trained(Generator, "a generator")}

    def updates(self, training: Any) -> dict[str, int]:
        return {"generator": 1}

    def generator_loss(self, networks: Networks, batch: Batch, context: StepContext) -> Loss:
        generator = networks["generator"]
        latents = context.draw_latents(generator, len(batch.samples))
        with context.autocast():
            drawn = generator(latents)
        distance = (drawn.float().mean(dim=0) - batch.samples.mean(dim=0)).square().mean()
        return Loss({"moments": self.config.weight * distance}, {})


OBJECTIVE = MomentsObjective
