"""Cooperative training (Lu et al., 2018): no rewards, no variance; every token of the vocabulary is judged at once."""

from __future__ import annotations

import torch
from torch import Tensor

from ganzoo.language import split_prompts, token_mask, undisturbed, undropped
from ganzoo.training.objective_sections import CooperativeConfig
from ganzoo.training.objectives.base import Batch, Loss, Networks, Objective, StepContext
from ganzoo.training.objectives.likelihood import likelihood
from ganzoo.training.sections import TrainingConfig


class CooperativeObjective(Objective):
    """A mediator (in the discriminator's place, itself a language model) learns the mixture of real and generated text;
    the generator lowers its divergence from the mediator at every prefix (equations 8 and 10)."""

    config: CooperativeConfig

    def updates(self, training: TrainingConfig) -> dict[str, int]:
        return {"generator": 1, "discriminator": training.n_critic}

    def discriminator_loss(self, networks: Networks, batch: Batch, context: StepContext) -> Loss:
        generator, mediator = networks["generator"], networks["discriminator"]
        fake = generator(context.draw_latents(generator, len(batch.samples)), batch.labels)
        values = {
            name: likelihood(mediator, Batch(samples, batch.labels), context)
            for name, samples in (("real", batch.samples), ("fake", fake))
        }
        return Loss(
            {name: 0.5 * value for name, value in values.items()}, {f"nll_{k}": v.detach() for k, v in values.items()}
        )

    def generator_loss(self, networks: Networks, batch: Batch, context: StepContext) -> Loss:
        generator, mediator = networks["generator"], networks["discriminator"]
        tokens = generator(context.draw_latents(generator, len(batch.samples)), batch.labels)
        real = round(self.config.real_prefixes * len(tokens))
        tokens = torch.cat([split_prompts(batch.samples, generator.config).tokens[:real], tokens[real:]])
        mask = token_mask(tokens, generator.config)
        # Compared as they are: dropout is for learning from data.
        with context.autocast(), undropped(generator):
            own = generator.predict_where(mask, tokens, batch.labels)
            with undisturbed(mediator):
                mediated = mediator.predict_where(mask, tokens, batch.labels)
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
