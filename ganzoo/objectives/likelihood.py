"""Maximum likelihood of a language model, alone or as a term of the adversarial text objectives."""

from __future__ import annotations

from typing import Any, Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from ganzoo.networks.text import TextDiscriminator, TextGenerator, trimmed
from ganzoo.objectives.base import Batch, Loss, Networks, Objective, StepContext, Trained
from ganzoo.recipe.objective import ObjectiveConfig
from ganzoo.recipe.sections import TrainingConfig

# What the objectives of text train.
LANGUAGE_MODEL = Trained(TextGenerator, "a language model, which generates text")
TEXT_DISCRIMINATOR = Trained(TextDiscriminator, "a discriminator of text")


class LikelihoodConfig(ObjectiveConfig):
    """Maximum likelihood of a language model: the mean negative log-likelihood of a token, given those before it."""

    type: Literal["likelihood"] = Field("likelihood", description="Which objective.")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="Share of the target spread over all tokens.")


class LikelihoodObjective(Objective):
    """Teacher forcing: the mean negative log-likelihood of a token, in nats, end of sentence included."""

    config_class = LikelihoodConfig
    trains = {"generator": LANGUAGE_MODEL}

    config: LikelihoodConfig

    def updates(self, training: TrainingConfig) -> dict[str, int]:
        return {"generator": 1}

    def generator_loss(self, networks: Networks, batch: Batch, context: StepContext) -> Loss:
        loss = likelihood(networks["generator"], batch, context, self.config.label_smoothing)
        return Loss({"likelihood": loss}, {"perplexity": loss.detach().exp()})

    def validation_loss(self, networks: Networks, batch: Batch, context: StepContext) -> Tensor:
        return likelihood(networks["generator"], batch, context)


def likelihood(generator: Any, batch: Batch, context: StepContext, label_smoothing: float = 0.0) -> Tensor:
    """Mean negative log-likelihood of the batch's tokens in nats: a 0-dim tensor with its graph."""
    tokens, mask = trimmed(batch.samples, generator.config)
    with context.autocast():
        if label_smoothing:
            logits = generator.predict_where(mask, tokens, batch.labels, batch.condition)
            return F.cross_entropy(logits.float(), tokens[mask], label_smoothing=label_smoothing)
        count = mask.sum()
        total, _ = generator.weighted_nll(mask, tokens, (1 / count).expand(count), batch.labels, batch.condition)
        return total


OBJECTIVE = LikelihoodObjective
