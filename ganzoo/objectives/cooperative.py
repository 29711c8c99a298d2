"""Cooperative training (Lu et al., 2018): no rewards, no variance; every token of the vocabulary is judged at once."""

from __future__ import annotations

from typing import Literal, Protocol, runtime_checkable

import torch
from pydantic import Field
from torch import Tensor

from ganzoo.networks.text import token_mask, undisturbed, undropped
from ganzoo.objectives.base import Batch, Loss, Networks, Objective, StepContext, Trained, generate
from ganzoo.objectives.likelihood import LANGUAGE_MODEL, likelihood
from ganzoo.recipe.objective import ObjectiveConfig
from ganzoo.recipe.sections import TrainingConfig


@runtime_checkable
class Predicts(Protocol):
    """A network that predicts each token from those before it."""

    def predict_where(self, mask: Tensor, tokens: Tensor, labels: Tensor | None = None) -> Tensor: ...


class CooperativeConfig(ObjectiveConfig):
    """Cooperative training (Lu et al., 2018): a mediator learns the mixture of real and own text, the generator follows."""

    type: Literal["cooperative"] = Field("cooperative", description="Which objective.")
    divergence_weight: float = Field(1.0, gt=0, le=1e6, description="Weight of the divergence from the mediator.")
    likelihood_weight: float = Field(0.0, ge=0, le=1e6, description="Weight of the likelihood of real text.")
    real_prefixes: float = Field(
        0.0, ge=0, le=1, description="Share of the batch whose prefixes are real text instead of own samples."
    )


class CooperativeObjective(Objective):
    """A mediator (in the discriminator's place, itself a language model) learns the mixture of real and generated text;
    the generator lowers its divergence from the mediator at every prefix (equations 8 and 10)."""

    config_class = CooperativeConfig
    trains = {
        "generator": LANGUAGE_MODEL,
        "discriminator": Trained(Predicts, "a mediator, which predicts tokens as a language model does"),
    }

    config: CooperativeConfig

    def updates(self, training: TrainingConfig) -> dict[str, int]:
        return {"generator": 1, "discriminator": training.n_critic}

    def discriminator_loss(self, networks: Networks, batch: Batch, context: StepContext) -> Loss:
        generator, mediator = networks["generator"], networks["discriminator"]
        fake = generate(generator, batch, context)
        values = {
            name: likelihood(mediator, batch._replace(samples=samples), context)
            for name, samples in (("real", batch.samples), ("fake", fake))
        }
        return Loss(
            {name: 0.5 * value for name, value in values.items()}, {f"nll_{k}": v.detach() for k, v in values.items()}
        )

    def generator_loss(self, networks: Networks, batch: Batch, context: StepContext) -> Loss:
        generator, mediator = networks["generator"], networks["discriminator"]
        tokens = generate(generator, batch, context)
        real = round(self.config.real_prefixes * len(tokens))
        tokens = torch.cat([batch.samples[:real], tokens[real:]])
        mask = token_mask(tokens, generator.config)
        # Compared as they are: dropout is for learning from data.
        with context.autocast(), undropped(generator):
            own = generator.predict_where(mask, tokens, batch.labels, batch.condition)
            with undisturbed(mediator):
                mediated = mediator.predict_where(mask, tokens, batch.labels, batch.condition)
        terms = {"divergence": self.config.divergence_weight * divergence(own, mediated).mean()}
        if self.config.likelihood_weight:
            terms["likelihood"] = self.config.likelihood_weight * likelihood(generator, batch, context)
        return Loss(terms, {})

    def validation_loss(self, networks: Networks, batch: Batch, context: StepContext) -> Tensor:
        return likelihood(networks["generator"], batch, context)


def divergence(logits: Tensor, other: Tensor) -> Tensor:
    """KL(p || q) of the distributions with these logits, over the last dimension: (..., V) -> (...), in nats."""
    own, target = logits.float().log_softmax(dim=-1), other.float().log_softmax(dim=-1)
    return (own.exp() * (own - target)).sum(dim=-1)


OBJECTIVE = CooperativeObjective
