"""Objectives: what is minimised. They compute losses and nothing else; the trainer owns data, optimisers and the loop.

An objective has one method `<role>_loss(networks, batch, context)` for every network it trains. It returns the named terms of
the loss, already weighted (their sum is what is minimised), and named statistics for the log.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from ganzoo import losses
from ganzoo.training.augment import diff_augment, instance_noise
from ganzoo.training.diagnostics import diversity
from ganzoo.training.recipe import AdversarialConfig, ClassificationConfig, PenaltyConfig, TrainingConfig

Networks = Mapping[str, Any]


class Batch(NamedTuple):
    """Real data: samples in the networks' space, and labels where the data has them."""

    samples: Tensor
    labels: Tensor | None


class Loss(NamedTuple):
    """What an objective returns: `terms` are added up and minimised, `stats` are logged."""

    terms: dict[str, Tensor]
    stats: dict[str, Tensor]


@dataclass
class StepContext:
    """What the trainer tells an objective about the moment.

    Attributes:
        step: Step of the run, from 0.
        progress: Share of the run that is over, in [0, 1).
        draw_latents: `(generator, n) -> (n, latent_dim)`, the same whatever the number of processes.
        autocast: Makes the context in which the networks run in reduced precision.
        keep_graph: The next update of this step is another network's on the same batch: what this one computed with a
            graph may be left in `shared` for it.
        is_logged: The statistics of this step will be read, so costly ones are worth their time.
        shared: What the updates of one step leave for one another.
    """

    step: int
    progress: float
    draw_latents: Callable[[Any, int], Tensor]
    autocast: Callable[[], AbstractContextManager]
    keep_graph: bool = False
    is_logged: bool = False
    shared: dict[str, Any] = field(default_factory=dict)


class Objective(Protocol):
    """An objective; `config` is its section of the recipe."""

    config: Any

    def updates(self, training: TrainingConfig) -> dict[str, int]:
        """Updates of each network in a step of a phase that does not say otherwise, in order."""
        ...


class AdversarialObjective:
    """A generator against a discriminator: one adversarial loss, penalties, feature matching, augmentation, noise."""

    def __init__(self, config: AdversarialConfig) -> None:
        self.config = config
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
            "real_accuracy": _share(real_outputs, lambda logits: logits > self.boundary),
            "fake_accuracy": _share(fake_outputs, lambda logits: logits < self.boundary),
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
            stats = {"diversity": diversity(fake.detach()), "real/diversity": diversity(batch.samples)}
        return Loss(terms, stats)

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


class ClassificationObjective:
    """Cross-entropy of a classifier, with shifted and noisy samples: it must judge pictures that are not quite perfect."""

    def __init__(self, config: ClassificationConfig) -> None:
        self.config = config

    def updates(self, training: TrainingConfig) -> dict[str, int]:
        return {"classifier": 1}

    def classifier_loss(self, networks: Networks, batch: Batch, context: StepContext) -> Loss:
        samples = batch.samples
        if self.config.augment:
            samples = diff_augment(samples, ",".join(self.config.augment))
        if self.config.noise:
            samples = instance_noise(samples, self.config.noise)
        with context.autocast():
            logits = networks["classifier"](samples).logits
        loss = F.cross_entropy(logits.float(), batch.labels, label_smoothing=self.config.label_smoothing)
        accuracy = (logits.argmax(dim=1) == batch.labels).float().mean()
        return Loss({"cross_entropy": loss}, {"accuracy": accuracy})


OBJECTIVES: dict[str, Callable[[Any], Objective]] = {
    "adversarial": AdversarialObjective,
    "classification": ClassificationObjective,
}


def build_objective(config: AdversarialConfig | ClassificationConfig) -> Objective:
    """The objective of a recipe's section."""
    return OBJECTIVES[config.type](config)


def _share(outputs: Any, condition: Callable[[Tensor], Tensor]) -> Tensor:
    shares = [condition(output.logits.detach()).float().mean() for output in outputs]
    return shares[0] if len(shares) == 1 else torch.stack(shares).mean()
