"""Adversarial text by relaxed samples: RelGAN (Nie et al., 2019), any adversarial loss."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor

from ganzoo.losses import ADVERSARIAL_LOSSES, PENALTIES
from ganzoo.objectives.adversarial import AdversarialConfig, AdversarialObjective
from ganzoo.objectives.base import Batch, Loss, Networks, StepContext, judge
from ganzoo.objectives.diversity import diversity_stats
from ganzoo.objectives.likelihood import LANGUAGE_MODEL, TEXT_DISCRIMINATOR, likelihood
from ganzoo.recipe.section import name_of


class GumbelConfig(AdversarialConfig):
    """Adversarial text through relaxed samples: softmax of perturbed logits, ever sharper (Jang et al., 2017)."""

    type: Literal["gumbel"] = Field("gumbel", description="Which objective.")
    loss: name_of(ADVERSARIAL_LOSSES) = Field("relativistic", description="Adversarial loss.")
    inverse_temperature: float = Field(
        100.0, ge=1, le=1e6, description="At the end of the phase; it starts at 1 (RelGAN: 100 to 1000)."
    )
    growth: Literal["exponential", "linear", "constant"] = Field(
        "exponential", description="How the inverse temperature gets there."
    )
    likelihood_weight: float = Field(0.0, ge=0, le=1e6, description="Weight of the likelihood of real text.")

    @model_validator(mode="after")
    def _of_tokens(self) -> GumbelConfig:
        if self.augment or self.ada is not None or self.instance_noise:
            raise ValueError("augment, ada and instance_noise change pictures; text takes none of them")
        if self.path_length is not None:
            raise ValueError("path_length differentiates pictures by latents; tokens have no such derivative")
        usable = [name for name, penalty in PENALTIES.all().items() if not penalty.differentiates]
        if any(penalty.type not in usable for penalty in self.penalties):
            raise ValueError(f"real text is not differentiable: of the penalties only {', '.join(usable)} can be used")
        return self


class GumbelObjective(AdversarialObjective):
    """The adversarial objective on softened one-hot vectors, whose gradient reaches the generator (section 3.2)."""

    config_class = GumbelConfig
    trains = {"generator": LANGUAGE_MODEL, "discriminator": TEXT_DISCRIMINATOR}

    config: GumbelConfig

    def generator_loss(self, networks: Networks, batch: Batch, context: StepContext) -> Loss:
        loss = super().generator_loss(networks, batch, context)
        if self.config.likelihood_weight:
            value = likelihood(networks["generator"], batch, context)
            loss.terms["likelihood"] = self.config.likelihood_weight * value
        loss.stats["inverse_temperature"] = torch.tensor(self._inverse_temperature(context))
        return loss

    def _generate(self, networks: Networks, batch: Batch, context: StepContext, *, with_graph: bool) -> Tensor:
        with nullcontext() if with_graph else torch.no_grad(), context.autocast():
            return relaxed_sequences(
                networks["generator"],
                len(batch.samples),
                self._inverse_temperature(context),
                batch.labels,
                batch.condition,
            )

    def _judge(self, discriminator: Any, samples: Tensor, *, batch: Batch, context: StepContext) -> Any:
        return judge(discriminator, samples, batch.labels, batch.condition)

    def _diversities(self, fake: Tensor, batch: Batch) -> dict[str, Tensor]:
        return diversity_stats(fake.argmax(dim=2), batch.samples)

    def _inverse_temperature(self, context: StepContext) -> float:
        """From 1 to its end value over the phase (section 3.2 and appendix)."""
        end, progress = self.config.inverse_temperature, context.phase_progress
        return {"exponential": end**progress, "linear": 1 + (end - 1) * progress, "constant": end}[self.config.growth]


def relaxed_sequences(
    generator: Any,
    num_samples: int,
    inverse_temperature: float,
    labels: Tensor | None = None,
    condition: Tensor | None = None,
) -> Tensor:
    """Draws sequences as softened one-hot vectors; the noise is of the global generator, like dropout's.

    Each step takes the largest of the perturbed logits as its token (an exact draw, by the Gumbel trick), and passes
    softmax(inverse_temperature * perturbed logits) on, through which gradients flow (Jang et al., 2017, equation 2).

    Returns:
        (B, max_length, V); after EOS one-hot vectors of PAD.
    """
    config = generator.config
    state = generator.begin(num_samples, labels, condition)
    last = torch.full((num_samples,), config.bos_token_id, device=generator.device)
    ended = torch.zeros_like(last, dtype=torch.bool)
    relaxed = []
    for _ in range(config.max_length):
        logits, state = generator.step(last, state)
        noise = torch.empty_like(logits, dtype=torch.float32).exponential_().log_().neg_()
        perturbed = logits.float() + noise
        soft = torch.softmax(perturbed * inverse_temperature, dim=1)
        last = perturbed.detach().argmax(dim=1)
        if config.eos_token_id is not None:
            padding = F.one_hot(torch.full_like(last, config.pad_token_id), config.vocab_size).to(soft.dtype)
            soft = torch.where(ended[:, None], padding, soft)
            last = torch.where(ended, config.pad_token_id, last)
            ended = ended | (last == config.eos_token_id)
        relaxed.append(soft)
    return torch.stack(relaxed, dim=1)


OBJECTIVE = GumbelObjective
