"""The adversarial objective: a generator against a discriminator."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ganzoo import losses
from ganzoo.training.augment import diff_augment, instance_noise
from ganzoo.training.diagnostics import diversity_stats
from ganzoo.training.objective_sections import AdversarialConfig, PenaltyConfig
from ganzoo.training.objectives.base import Batch, Loss, Networks, Objective, StepContext
from ganzoo.training.sections import TrainingConfig


class AdversarialObjective(Objective):
    """A generator against a discriminator: one adversarial loss, penalties, feature matching, augmentation, noise."""

    def __init__(self, config: AdversarialConfig) -> None:
        super().__init__(config)
        self.loss = losses.adversarial_loss(config.loss)
        # Where a discriminator says "real": halfway between the targets 0 and 1 of least squares, 0 for logits.
        self.boundary = 0.5 if config.loss == "least-squares" else 0.0

    def updates(self, training: TrainingConfig) -> dict[str, int]:
        return {"discriminator": training.n_critic, "generator": 1}

    def discriminator_loss(self, networks: Networks, batch: Batch, context: StepContext) -> Loss:
        fake = self._generate(networks, batch, context, with_graph=context.keep_graph)
        if context.keep_graph:
            # The generator's step reuses these samples, as in the DCGAN reference code: one generator pass saved.
            context.shared["fake"] = fake
        fake = fake.detach()
        discriminator = partial(self._judge, networks["discriminator"], labels=batch.labels, context=context)
        with context.autocast():
            real_outputs = discriminator(batch.samples)
            fake_outputs = discriminator(fake)
        smoothed = partial(self.loss.discriminator, label_smoothing=self.config.label_smoothing)
        terms = losses.average_over_outputs(smoothed, real_outputs, fake_outputs)
        for penalty in self.config.penalties:
            if context.step % penalty.interval == 0:
                value = self._penalty(penalty, networks["discriminator"], batch, fake, real_outputs)
                terms[penalty.type] = value * (penalty.weight * penalty.interval)
        stats = {
            "real_accuracy": share_of_outputs(real_outputs, lambda logits: logits > self.boundary),
            "fake_accuracy": share_of_outputs(fake_outputs, lambda logits: logits < self.boundary),
        }
        return Loss(terms, stats)

    def generator_loss(self, networks: Networks, batch: Batch, context: StepContext) -> Loss:
        fake = context.shared.pop("fake", None)
        if fake is None:
            fake = self._generate(networks, batch, context, with_graph=True)
        needs_real = self.loss.needs_real or self.config.feature_matching > 0
        discriminator = partial(self._judge, networks["discriminator"], labels=batch.labels, context=context)
        with context.autocast():
            fake_outputs = discriminator(fake)
            real_outputs = discriminator(batch.samples) if needs_real else None
        outputs = (fake_outputs, real_outputs) if self.loss.needs_real else (fake_outputs,)
        terms = {"adversarial": losses.average_over_outputs(self.loss.generator, *outputs)}
        if self.config.feature_matching:
            terms["feature_matching"] = self.config.feature_matching * losses.feature_matching(
                real_outputs, fake_outputs
            )
        stats = {}
        if context.is_logged:
            stats = self._diversities(fake.detach(), batch)
        return Loss(terms, stats)

    def _diversities(self, fake: Tensor, batch: Batch) -> dict[str, Tensor]:
        return diversity_stats(fake, batch.samples)

    def _generate(self, networks: Networks, batch: Batch, context: StepContext, *, with_graph: bool) -> Tensor:
        generator = networks["generator"]
        latents = context.draw_latents(generator, len(batch.samples))
        with nullcontext() if with_graph else torch.no_grad(), context.autocast():
            return generator(latents, batch.labels)

    def _judge(self, discriminator: Any, samples: Tensor, *, labels: Tensor | None, context: StepContext) -> Any:
        config = self.config
        if config.augment:
            samples = diff_augment(samples, ",".join(config.augment))
        if config.instance_noise and context.progress < config.instance_noise_until:
            std = config.instance_noise * (1.0 - context.progress / config.instance_noise_until)
            samples = instance_noise(samples, std)
        return discriminator(samples, labels)

    def _penalty(
        self, penalty: PenaltyConfig, discriminator: Any, batch: Batch, fake: Tensor, real_outputs: Any
    ) -> Tensor:
        if penalty.type == "gradient-penalty":
            return losses.gradient_penalty(discriminator, batch.samples, fake, batch.labels, penalty.target)
        if penalty.type == "drift":
            return losses.average_over_outputs(losses.drift_penalty, real_outputs)
        samples = batch.samples if penalty.type == "r1" else fake
        return losses.zero_centred_penalty(discriminator, samples, batch.labels)


def share_of_outputs(outputs: Any, condition: Callable[[Tensor], Tensor]) -> Tensor:
    """Share of logits that fulfil a condition, averaged over the outputs."""
    shares = [condition(output.logits.detach()).float().mean() for output in outputs]
    return shares[0] if len(shares) == 1 else torch.stack(shares).mean()
