"""Adversarial text by policy gradient: SeqGAN (Yu et al., 2017), and its relatives by reward and baseline."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor

from ganzoo.networks.text import token_mask
from ganzoo.objectives.base import Batch, Loss, Networks, Objective, StepContext, generate, judge
from ganzoo.objectives.diversity import diversity_stats
from ganzoo.objectives.likelihood import LANGUAGE_MODEL, TEXT_DISCRIMINATOR, likelihood
from ganzoo.objectives.rewards import Critic, MovingAverage, masked_mean, mean_logits, token_rewards
from ganzoo.recipe.objective import ObjectiveConfig
from ganzoo.recipe.sections import TrainingConfig


class PolicyGradientConfig(ObjectiveConfig):
    """Adversarial text by REINFORCE: the generator's tokens are actions, the discriminator rewards them."""

    type: Literal["policy-gradient"] = Field("policy-gradient", description="Which objective.")
    reward: Literal["rollout", "token", "sentence", "constant"] = Field(
        "rollout",
        description="What a token earns: rollout = mean judgement of completed sentences (Yu et al., 2017); token = the "
        "judgement of a discriminator with a logit a token; sentence = that of its sentence; constant = 0.5, the control.",
    )
    scale: Literal["probability", "centred", "logit"] = Field(
        "probability", description="Of a judgement D in (0, 1): D; 2D - 1; or log D/(1 - D)."
    )
    num_rollouts: int = Field(16, ge=1, le=1024, description="Completions of every prefix.")
    discount: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Of later tokens' rewards in a token's return (reward: token); 0 for its own only.",
    )
    baseline: Literal["none", "batch", "ewma", "critic"] = Field(
        "none",
        description="Subtracted from the reward: nothing; the batch's mean at that position; a moving average; a "
        "linear critic of the generator's state.",
    )
    baseline_decay: float = Field(0.99, ge=0, lt=1, description="Of the moving average.")
    normalise: bool = Field(False, description="Divide what is left by its standard deviation in the batch.")
    reduction: Literal["mean", "sum"] = Field(
        "mean", description="Over the batch's tokens; sum is SeqGAN's, whose gradient clipping depends on it."
    )
    likelihood_weight: float = Field(
        0.0, ge=0, le=1e6, description="Weight of the likelihood of real text, added to every step (Li et al., 2017)."
    )
    entropy_weight: float = Field(
        0.0, ge=0, le=1e6, description="Weight of the entropy of the generator's predictions, to be kept high."
    )
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="One-sided, of the discriminator's real target.")
    output_l2: float = Field(
        0.0,
        ge=0,
        le=1e6,
        description="Weight of half the squared norm of the discriminator's output layer (SeqGAN: 0.2).",
    )
    negatives_every: int = Field(
        1, ge=1, le=100_000, description="Discriminator updates of a step that one pool of generated text serves."
    )
    negatives_pool: int = Field(1, ge=1, le=100_000, description="Batches in the pool, gone round in turn.")

    @model_validator(mode="after")
    def _possible(self) -> PolicyGradientConfig:
        if self.discount and self.reward != "token":
            raise ValueError(f"discount adds up rewards of tokens; reward={self.reward} has none")
        if self.negatives_pool > self.negatives_every:
            raise ValueError("negatives_pool must not exceed negatives_every: the rest would never be used")
        return self


class PolicyGradientObjective(Objective):
    """The generator draws sentences, tokens that the discriminator rewards become more likely (REINFORCE).

    The discriminator judges whole sentences (logits (B,)) or, for `reward: token`, every token (logits (B, T)).
    """

    config_class = PolicyGradientConfig
    trains = {"generator": LANGUAGE_MODEL, "discriminator": TEXT_DISCRIMINATOR}

    config: PolicyGradientConfig

    boundary = 0.0

    def updates(self, training: TrainingConfig) -> dict[str, int]:
        # The generator first: the texts that the discriminator then learns from are those of one generator.
        return {"generator": 1, "discriminator": training.n_critic}

    def prepare(self, networks: Networks) -> None:
        if self.config.baseline == "ewma":
            self.modules["generator"] = MovingAverage(self.config.baseline_decay)
        if self.config.baseline == "critic":
            self.modules["generator"] = Critic(networks["generator"].config.max_length)

    def discriminator_loss(self, networks: Networks, batch: Batch, context: StepContext) -> Loss:
        discriminator, config = networks["discriminator"], networks["generator"].config
        fake = self._negatives(networks["generator"], batch, context)
        with context.autocast():
            real_logits = mean_logits(judge(discriminator, *batch))
            fake_logits = mean_logits(judge(discriminator, *fake))
        real_mask, fake_mask = _mask_like(real_logits, batch, config), _mask_like(fake_logits, fake, config)
        target = 1.0 - self.config.label_smoothing
        terms = {
            "real": _cross_entropy(real_logits, target, real_mask),
            "fake": _cross_entropy(fake_logits, 0.0, fake_mask),
        }
        if self.config.output_l2:
            squares = sum(parameter.square().sum() for parameter in discriminator.output.parameters())
            terms["output_l2"] = 0.5 * self.config.output_l2 * squares
        return Loss(terms, _accuracies(real_logits.detach(), fake_logits.detach(), real_mask, fake_mask))

    def validation_stats(self, networks: Networks, batch: Batch, context: StepContext) -> dict[str, Tensor]:
        """How much of text that it never learned from the discriminator judges right: of held-out real text, and of fresh.

        One that falls behind its accuracies in training knows the training text by heart.
        """
        config, texts = networks["generator"].config, (batch, self._draw(networks["generator"], batch, context))
        with context.autocast():
            logits = [mean_logits(judge(networks["discriminator"], *text)) for text in texts]
        return _accuracies(*logits, *map(partial(_mask_like, config=config), logits, texts))

    def generator_loss(self, networks: Networks, batch: Batch, context: StepContext) -> Loss:
        generator, config = networks["generator"], self.config
        fake = self._draw(generator, batch, context)
        mask = token_mask(fake.samples, generator.config)
        rewards = token_rewards(
            config,
            generator,
            networks["discriminator"],
            fake,
            mask,
            draw_uniforms=lambda count: context.draw_latents(generator, count),
        )
        # Whole distributions (N, V) are only made where something reads them.
        distribution = None
        if config.entropy_weight or config.baseline == "critic":
            with context.autocast():
                logits = generator.predict_where(mask, *fake)
            distribution = logits.float().log_softmax(dim=1)
        terms: dict[str, Tensor] = {}
        advantages = rewards - self._baseline(rewards, mask, distribution, terms)
        if config.normalise:
            advantages = advantages / (masked_mean(advantages.square(), mask).sqrt() + 1e-6)
        weights = advantages.detach()[mask] / (1 if config.reduction == "sum" else mask.sum())
        if distribution is None:
            with context.autocast():
                terms["policy"], nll = generator.weighted_nll(mask, fake.samples, weights, fake.labels, fake.condition)
        else:
            nll = -distribution.gather(1, fake.samples[mask][:, None])[:, 0]
            terms["policy"] = (nll * weights).sum()
        if config.entropy_weight:
            entropy = -(distribution.exp() * distribution).sum(dim=1).mean()
            terms["entropy"] = -config.entropy_weight * entropy
        if config.likelihood_weight:
            terms["likelihood"] = config.likelihood_weight * likelihood(generator, batch, context)
        stats = {"reward": masked_mean(rewards, mask), "nll_own": nll.detach().mean()}
        if context.is_logged:
            real_mask = token_mask(batch.samples, generator.config)
            stats |= diversity_stats(fake.samples, batch.samples, generated_mask=mask, real_mask=real_mask)
        return Loss(terms, stats)

    def _draw(self, generator: Any, batch: Batch, context: StepContext) -> Batch:
        return batch._replace(samples=generate(generator, batch, context))

    def _negatives(self, generator: Any, batch: Batch, context: StepContext) -> Batch:
        """Generated texts for this update, from a pool that several updates share.

        A pool is a function of the step and the generator, so that a run which is resumed inside a step draws it again.
        Prompts and labels belong to the real batch, so texts that depend on them are drawn for each update.
        """
        config, fresh = self.config, self.config.negatives_pool == 1 and self.config.negatives_every == 1
        if fresh or batch.labels is not None or batch.condition is not None:
            return self._draw(generator, batch, context)
        size, (number, item) = len(batch.samples), divmod(context.repeat, config.negatives_every)
        key = ("negatives", number)
        if key not in context.shared:
            context.shared[key] = generator(context.draw_latents(generator, size * config.negatives_pool, *key))
        first = item % config.negatives_pool * size
        return Batch(context.shared[key][first : first + size], None)

    def _baseline(
        self, rewards: Tensor, mask: Tensor, distribution: Tensor | None, terms: dict[str, Tensor]
    ) -> Tensor | float:
        if self.config.baseline == "none":
            return 0.0
        if self.config.baseline == "batch":
            return masked_mean(rewards, mask, dim=0)
        module = self.modules["generator"]
        if self.config.baseline == "ewma":
            return module.baseline(rewards, mask)
        predicted = module(distribution, mask)
        terms["critic"] = module.loss(predicted, rewards, mask)
        return predicted.detach()


def _mask_like(logits: Tensor, text: Batch, config: Any) -> Tensor:
    """Which logits count: all of whole sentences; of tokens, those up to the end."""
    return torch.ones_like(logits, dtype=torch.bool) if logits.ndim == 1 else token_mask(text.samples, config)


def _accuracies(real: Tensor, fake: Tensor, real_mask: Tensor, fake_mask: Tensor) -> dict[str, Tensor]:
    """Shares of the logits that count which are on the right side of 0."""
    return {
        "real_accuracy": masked_mean((real > 0).float(), real_mask),
        "fake_accuracy": masked_mean((fake < 0).float(), fake_mask),
    }


def _cross_entropy(logits: Tensor, target: float, mask: Tensor) -> Tensor:
    values = F.binary_cross_entropy_with_logits(
        logits.float(), torch.full_like(logits, target, dtype=torch.float32), reduction="none"
    )
    return masked_mean(values, mask)


OBJECTIVE = PolicyGradientObjective
