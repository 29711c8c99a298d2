"""The adversarial objective: a generator against a discriminator."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import partial
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, SerializeAsAny, model_validator
from pydantic.functional_validators import PlainValidator
from torch import Tensor

from ganzoo import losses
from ganzoo.augmentation.ada import AdaConfig, AugmentProbability, ada_augment, check_pictures
from ganzoo.augmentation.diffaugment import DIFF_AUGMENTATIONS, changes_of, diff_augment, instance_noise
from ganzoo.losses import ADVERSARIAL_LOSSES, MATCHINGS, PENALTIES, Penalty, PenaltyConfig
from ganzoo.networks.audio import Vocoder
from ganzoo.networks.base import Discriminator, Generator
from ganzoo.networks.text import TextGenerator
from ganzoo.nn.layers import pack
from ganzoo.objectives.base import Batch, Loss, Networks, Objective, StepContext, Trained, generate, judge
from ganzoo.objectives.diversity import diversity_stats
from ganzoo.objectives.path_length import PathLength, PathLengthConfig
from ganzoo.recipe.objective import ObjectiveConfig
from ganzoo.recipe.section import name_of
from ganzoo.recipe.sections import TrainingConfig
from ganzoo.utils.precision import widen

AnyPenalty = Annotated[SerializeAsAny[PenaltyConfig], PlainValidator(PenaltyConfig.read)]


class AdversarialConfig(ObjectiveConfig):
    """Objective of a GAN: one adversarial loss, and what is added to it."""

    type: Literal["adversarial"] = Field("adversarial", description="Which objective.")
    loss: name_of(ADVERSARIAL_LOSSES) = Field("non-saturating", description="Adversarial loss.")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="One-sided: how far the real target lies below 1.")
    penalties: tuple[AnyPenalty, ...] = Field((), description="Penalties on the discriminator.")
    path_length: PathLengthConfig | None = Field(
        None, description="Path-length regularisation of the generator; null for none."
    )
    feature_matching: float = Field(
        0.0, ge=0, le=1e6, description="Weight of the distance between discriminator features in the generator's loss."
    )
    feature_matching_of: name_of(MATCHINGS) = Field(
        "pairs",
        description="What is compared: each real sample with a generated one, or the means over the batch (Salimans et al., "
        "2016).",
    )
    packing: int = Field(
        1,
        ge=1,
        le=64,
        description="Samples that the discriminator judges together (PacGAN, Lin et al., 2018): a batch that lacks variety gives "
        "itself away.",
    )
    top_k: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Share of the generated samples, those judged best, that the generator learns from at the end of the run; "
        "it falls linearly from 1.",
    )
    class_weight: float = Field(
        1.0,
        ge=0,
        le=1e6,
        description="Weight of the classification error, where the discriminator also classifies (AC-GAN).",
    )
    augment: tuple[name_of(DIFF_AUGMENTATIONS), ...] = Field(
        (), description="DiffAugment of everything the discriminator sees; empty for none."
    )
    ada: AdaConfig | None = Field(
        None, description="Adaptive augmentation of what the discriminator sees; null for none."
    )
    instance_noise: float = Field(
        0.0,
        ge=0,
        le=10,
        description="Standard deviation of the noise on everything the discriminator sees, at step 0.",
    )
    instance_noise_until: float = Field(
        0.5, gt=0, le=1, description="Share of the run over which the instance noise falls linearly to 0."
    )

    @property
    def samples_together(self) -> int:
        return self.packing

    @model_validator(mode="after")
    def _possible(self) -> AdversarialConfig:
        loss = ADVERSARIAL_LOSSES.get(self.loss)
        if self.label_smoothing and not loss.has_target:
            raise ValueError(f"label_smoothing has no meaning for the {self.loss} loss, which has no target")
        if self.top_k < 1 and loss.needs_real:
            raise ValueError(
                f"top_k leaves generated samples out, but the {self.loss} loss needs them in pairs with real ones"
            )
        if self.ada is not None and self.augment:
            raise ValueError("augment and ada do the same; set one of them")
        if self.ada is not None and self.ada.target is not None and loss.boundary is None:
            raise ValueError(
                f"ada adapts to the sign of real logits, which the {self.loss} loss leaves free; set ada.target to null and "
                "ada.probability"
            )
        return self


class AdversarialObjective(Objective):
    """A generator against a discriminator: one adversarial loss, penalties, feature matching, augmentation, noise."""

    config_class = AdversarialConfig
    trains = {
        "generator": Trained(
            Generator, "a generator that draws pictures, sound or points", but=(TextGenerator, Vocoder)
        ),
        "discriminator": Trained(Discriminator, "a discriminator"),
    }

    def __init__(self, config: AdversarialConfig) -> None:
        super().__init__(config)
        self.loss = losses.adversarial_loss(config.loss)
        self.boundary = self.loss.boundary
        self.penalties = [(section, PENALTIES.get(section.type)) for section in config.penalties]

    def updates(self, training: TrainingConfig) -> dict[str, int]:
        return {"discriminator": training.n_critic, "generator": 1}

    def prepare(self, networks: Networks) -> None:
        shape = networks["discriminator"].config.processor().network_shape
        changes_of(shape, self.config.augment)  # refused now, not in the first step
        if self.config.ada is not None:
            check_pictures(shape)
            self.modules["discriminator"] = AugmentProbability(self.config.ada)
        if self.config.path_length is not None:
            self.modules["generator"] = PathLength(self.config.path_length)

    def discriminator_loss(self, networks: Networks, batch: Batch, context: StepContext) -> Loss:
        self._begin_step(context)
        fake = self._generate(networks, batch, context, with_graph=context.keep_graph)
        if context.keep_graph:
            # The generator's step reuses these samples, as in the DCGAN reference code: one generator pass saved.
            context.shared["fake"] = fake
        due = [(section, penalty) for section, penalty in self.penalties if context.step % section.interval == 0]
        judged = {"real": batch.samples, "fake": fake.detach()}
        # What a penalty looks at and the losses as well passes the discriminator once.
        shared = {section.type for section, penalty in due if penalty.at and self._is_shared(section, batch, context)}
        for name in {penalty.at for section, penalty in due if section.type in shared}:
            judged[name] = widen(judged[name].detach()).requires_grad_()
        discriminator = partial(self._judge, networks["discriminator"], batch=batch, context=context)
        with context.autocast():
            outputs = {name: discriminator(samples) for name, samples in judged.items()}
        smoothed = partial(self.loss.discriminator, label_smoothing=self.config.label_smoothing)
        terms = losses.average_over_outputs(smoothed, outputs["real"], outputs["fake"])
        terms |= self._classification(outputs["real"], batch.labels)
        for section, penalty in due:
            if section.type in shared:
                # Its mean is over the samples; several of them are one pack.
                value = self.config.packing * penalty.of_outputs(outputs[penalty.at], judged[penalty.at])
            else:
                value = self._penalty(
                    section, penalty, networks["discriminator"], batch, fake.detach(), outputs, context
                )
            terms[section.type] = value * (section.weight_at(context.progress) * section.interval)
        boundary = self.boundary or 0.0
        stats = {
            "real_accuracy": share_of_outputs(outputs["real"], lambda logits: logits > boundary),
            "fake_accuracy": share_of_outputs(outputs["fake"], lambda logits: logits < boundary),
        }
        if self.config.ada is not None:
            augmented = self.modules["discriminator"]
            augmented.observe([output.logits for output in outputs["real"]], len(batch.samples), boundary)
            stats["augment_probability"] = augmented.probability.clone()
        return Loss(terms, stats)

    def generator_loss(self, networks: Networks, batch: Batch, context: StepContext) -> Loss:
        fake = context.shared.pop("fake", None)
        if fake is None:
            fake = self._generate(networks, batch, context, with_graph=True)
        needs_real = self.loss.needs_real or self.config.feature_matching > 0
        discriminator = partial(self._judge, networks["discriminator"], batch=batch, context=context)
        with context.autocast():
            fake_outputs = discriminator(fake)
            real_outputs = discriminator(batch.samples) if needs_real else None
        terms = {"adversarial": self._adversarial(fake_outputs, real_outputs, context)}
        if self.config.feature_matching:
            match = MATCHINGS.get(self.config.feature_matching_of)
            terms["feature_matching"] = self.config.feature_matching * match(real_outputs, fake_outputs)
        terms |= self._classification(fake_outputs, batch.labels)
        lengths = self.config.path_length
        if lengths is not None and context.step % lengths.interval == 0:
            latents = context.draw_latents(networks["generator"], len(batch.samples))
            penalty = self.modules["generator"](networks["generator"], latents, batch.labels, batch.condition)
            terms["path_length"] = lengths.weight * lengths.interval * penalty
        stats = {}
        if context.is_logged:
            stats = self._diversities(fake.detach(), batch)
        return Loss(terms, stats)

    def _adversarial(self, fake_outputs: Any, real_outputs: Any, context: StepContext) -> Tensor:
        if self.loss.needs_real:
            return losses.average_over_outputs(self.loss.generator, fake_outputs, real_outputs)
        share = 1.0 - (1.0 - self.config.top_k) * context.progress
        return losses.average_over_outputs(
            lambda logits: self.loss.generator(losses.top_logits(logits, share)), fake_outputs
        )

    def _begin_step(self, context: StepContext) -> None:
        """Once a step, also where its batches are accumulated, and not again where it is resumed between two updates."""
        if self.config.ada is not None and context.repeat == 0 and "ada" not in context.shared:
            context.shared["ada"] = True
            self.modules["discriminator"].begin_step(context.step, context.progress, context.num_processes)

    def _diversities(self, fake: Tensor, batch: Batch) -> dict[str, Tensor]:
        return diversity_stats(fake, batch.samples, batch.labels)

    def _generate(self, networks: Networks, batch: Batch, context: StepContext, *, with_graph: bool) -> Tensor:
        with nullcontext() if with_graph else torch.no_grad(), context.autocast():
            return generate(networks["generator"], batch, context)

    def _classification(self, outputs: Any, labels: Tensor | None) -> dict[str, Tensor]:
        """Of a discriminator that also classifies: real samples in its own loss, generated ones in the generator's."""
        logits = [output.class_logits for output in outputs if output.class_logits is not None]
        if not logits or labels is None:
            return {}
        errors = [torch.nn.functional.cross_entropy(values.float(), labels) for values in logits]
        return {"class": self.config.class_weight * torch.stack(errors).mean()}

    def _judge(self, discriminator: Any, samples: Tensor, *, batch: Batch, context: StepContext) -> Any:
        config = self.config
        if config.augment:
            samples = diff_augment(samples, ",".join(config.augment))
        if config.ada is not None:
            samples = ada_augment(samples, self.modules["discriminator"].probability, config.ada.policy)
        if config.instance_noise and context.progress < config.instance_noise_until:
            std = config.instance_noise * (1.0 - context.progress / config.instance_noise_until)
            samples = instance_noise(samples, std)
        return judge(discriminator, pack(samples, config.packing), batch.labels, self._packed_condition(batch))

    def _packed_condition(self, batch: Batch) -> Tensor | None:
        return None if batch.condition is None else pack(batch.condition, self.config.packing)

    def _is_shared(self, penalty: PenaltyConfig, batch: Batch, context: StepContext) -> bool:
        """Whether the losses judge the penalty's samples as they are, in the precision that it asks for."""
        config = self.config
        with context.autocast():
            exact = not torch.is_autocast_enabled(batch.samples.device.type)
        changed = config.augment or config.ada is not None or config.instance_noise
        return (exact or penalty.precision == "training") and not changed

    def _penalty(
        self,
        section: PenaltyConfig,
        penalty: Penalty,
        discriminator: Any,
        batch: Batch,
        fake: Tensor,
        outputs: Mapping[str, Any],
        context: StepContext,
    ) -> Tensor:
        discriminator = partial(judge, discriminator, condition=self._packed_condition(batch))
        if section.precision == "training":
            discriminator = partial(_in_context, discriminator, context.autocast)
        seen = {
            "discriminator": discriminator,
            "real": pack(batch.samples, self.config.packing),
            "fake": pack(fake, self.config.packing),
            "labels": batch.labels,
            "real_outputs": outputs["real"],
            "fake_outputs": outputs["fake"],
        }
        return penalty.compute(**{name: seen[name] for name in penalty.needs}, **section.own)


def _in_context(discriminator: Any, make_context: Callable[[], Any], samples: Tensor, labels: Tensor | None) -> Any:
    with make_context():
        return discriminator(samples, labels)


def share_of_outputs(outputs: Any, condition: Callable[[Tensor], Tensor]) -> Tensor:
    """Share of logits that fulfil a condition, averaged over the outputs."""
    shares = [condition(output.logits.detach()).float().mean() for output in outputs]
    return shares[0] if len(shares) == 1 else torch.stack(shares).mean()


OBJECTIVE = AdversarialObjective
