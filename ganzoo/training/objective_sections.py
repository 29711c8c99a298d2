"""The `objective` section of a recipe, one class for each objective. No torch here."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Augmentation = Literal["color", "gain", "translation", "cutout"]
AdaOperation = Literal["flip", "rotate", "translate", "geometric", "color"]
LOSSES = ("minimax", "non-saturating", "least-squares", "hinge", "wasserstein", "relativistic")
Positive = Annotated[int, Field(ge=1, le=10**12)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class PenaltyConfig(Section):
    """A term added to the discriminator's loss."""

    type: Literal["gradient-penalty", "dragan", "r1", "r2", "drift"] = Field(
        description="gradient-penalty: to a norm on the line between real and generated; dragan: to a norm around real samples; "
        "r1, r2: to zero at real, generated samples; drift: to small logits."
    )
    weight: float = Field(gt=0, le=1e6, description="Factor (lambda; gamma of r1 and r2, whose formula has the 1/2).")
    interval: Positive = Field(
        1, description="Compute it every so many steps, with weight x interval (lazy regularisation)."
    )
    target: float = Field(1.0, gt=0, description="Target norm of gradient-penalty and dragan.")
    final_weight: float | None = Field(
        None,
        gt=0,
        le=1e6,
        description="Factor at the end of the run, reached along half a cosine; null for a constant one.",
    )
    precision: Literal["fp32", "training"] = Field(
        "fp32",
        description="Arithmetic of its gradients: fp32, or what the training uses, which in bf16 is rougher and much faster.",
    )

    def weight_at(self, progress: float) -> float:
        """The factor at a share of the run."""
        if self.final_weight is None:
            return self.weight
        return self.final_weight + (self.weight - self.final_weight) * 0.5 * (1 + math.cos(math.pi * progress))


class AdaConfig(Section):
    """Adaptive augmentation of pictures (Karras et al., 2020): as much of it as keeps the discriminator from overfitting."""

    target: float | None = Field(
        0.6,
        gt=0,
        lt=1,
        description="Mean sign of real samples' logits above which more is augmented, below which less; null for a fixed "
        "probability.",
    )
    speed: Positive = Field(
        500_000, description="Real samples the discriminator judges while the probability could go from 0 to 1."
    )
    interval: Positive = Field(4, description="Steps between two changes of the probability.")
    policy: tuple[AdaOperation, ...] = Field(
        ("flip", "rotate", "translate", "geometric", "color"),
        min_length=1,
        description="What is done to a sample, each with the probability.",
    )
    probability: float = Field(0.0, ge=0, le=1, description="At the start; without a target, from `rise` on.")
    rise: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Without a target: share of the run in which the probability rises from 0, as half a cosine.",
    )

    @model_validator(mode="after")
    def _possible(self) -> AdaConfig:
        if self.target is not None and self.rise:
            raise ValueError("rise is for a probability without a target; set target to null, or leave rise out")
        if self.target is None and not self.probability:
            raise ValueError("without a target nothing would ever be augmented; set probability")
        return self


class PathLengthConfig(Section):
    """A term of the generator's loss: a step of one size among the styles changes all pictures equally (Karras et al., 2020b)."""

    weight: float = Field(2.0, gt=0, le=1e6, description="Factor.")
    interval: Positive = Field(
        4, description="Compute it every so many steps, with weight x interval (lazy regularisation)."
    )
    decay: float = Field(
        0.01, gt=0, le=1, description="Share of its distance from a batch's mean by which the running mean moves."
    )
    batch_share: float = Field(0.5, gt=0, le=1, description="Share of the batch that it is computed on.")


class AdversarialConfig(Section):
    """Objective of a GAN: one adversarial loss, and what is added to it."""

    type: Literal["adversarial"] = Field("adversarial", description="Which objective.")
    loss: Literal[LOSSES] = Field("non-saturating", description="Adversarial loss.")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="One-sided: how far the real target lies below 1.")
    penalties: tuple[PenaltyConfig, ...] = Field((), description="Penalties on the discriminator.")
    path_length: PathLengthConfig | None = Field(
        None, description="Path-length regularisation of the generator; null for none."
    )
    feature_matching: float = Field(
        0.0, ge=0, le=1e6, description="Weight of the distance between discriminator features in the generator's loss."
    )
    feature_matching_of: Literal["pairs", "means"] = Field(
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
    augment: tuple[Augmentation, ...] = Field(
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

    @model_validator(mode="after")
    def _possible(self) -> AdversarialConfig:
        if self.label_smoothing and self.loss not in ("minimax", "non-saturating", "least-squares"):
            raise ValueError(f"label_smoothing has no meaning for the {self.loss} loss, which has no target")
        if self.top_k < 1 and self.loss == "relativistic":
            raise ValueError(
                "top_k leaves generated samples out, but the relativistic loss needs them in pairs with real ones"
            )
        if self.ada is not None and self.augment:
            raise ValueError("augment and ada do the same; set one of them")
        if self.ada is not None and self.ada.target is not None and self.loss in ("wasserstein", "relativistic"):
            raise ValueError(
                f"ada adapts to the sign of real logits, which the {self.loss} loss leaves free; set ada.target to null and "
                "ada.probability"
            )
        return self


class ClassificationConfig(Section):
    """Objective of a classifier: cross-entropy against the labels of the data."""

    type: Literal["classification"] = Field("classification", description="Which objective.")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="Share of the target spread over all classes.")
    noise: float = Field(0.0, ge=0, le=1, description="Standard deviation of Gaussian noise on the samples.")
    augment: tuple[Augmentation, ...] = Field((), description="Random changes of the samples.")


class LikelihoodConfig(Section):
    """Maximum likelihood of a language model: the mean negative log-likelihood of a token, given those before it."""

    type: Literal["likelihood"] = Field("likelihood", description="Which objective.")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="Share of the target spread over all tokens.")


class PolicyGradientConfig(Section):
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


class GumbelConfig(AdversarialConfig):
    """Adversarial text through relaxed samples: softmax of perturbed logits, ever sharper (Jang et al., 2017)."""

    type: Literal["gumbel"] = Field("gumbel", description="Which objective.")
    loss: Literal[LOSSES] = Field("relativistic", description="Adversarial loss.")
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
        if any(penalty.type != "drift" for penalty in self.penalties):
            raise ValueError("real text is not differentiable: of the penalties only drift can be used")
        return self


class CooperativeConfig(Section):
    """Cooperative training (Lu et al., 2018): a mediator learns the mixture of real and own text, the generator follows."""

    type: Literal["cooperative"] = Field("cooperative", description="Which objective.")
    divergence_weight: float = Field(1.0, gt=0, le=1e6, description="Weight of the divergence from the mediator.")
    likelihood_weight: float = Field(0.0, ge=0, le=1e6, description="Weight of the likelihood of real text.")
    real_prefixes: float = Field(
        0.0, ge=0, le=1, description="Share of the batch whose prefixes are real text instead of own samples."
    )


class VocoderConfig(Section):
    """Objective of a mel vocoder (Kong et al., 2020): least squares, feature matching, distance of the spectrograms."""

    type: Literal["vocoder"] = Field("vocoder", description="Which objective.")
    adversarial: bool = Field(
        True, description="With the discriminator; false for the spectrograms' distance alone, as a first phase."
    )
    feature_matching: float = Field(2.0, ge=0, le=1e6, description="Weight of the discriminators' features' distance.")
    mel_weight: float = Field(45.0, gt=0, le=1e6, description="Weight of the log-mel spectrograms' distance.")


ObjectiveConfig = Annotated[
    AdversarialConfig
    | ClassificationConfig
    | LikelihoodConfig
    | PolicyGradientConfig
    | GumbelConfig
    | CooperativeConfig
    | VocoderConfig,
    Field(discriminator="type"),
]
