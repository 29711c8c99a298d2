"""The sections of a recipe: every value that a run depends on, with its bounds and what it means. No torch here."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from ganzoo.errors import did_you_mean
from ganzoo.recipe.licences import LICENSES
from ganzoo.recipe.objective import AnyObjective
from ganzoo.recipe.section import Positive, Section


class ScheduleConfig(Section):
    """How a learning rate changes over the run; a pure function of the step."""

    type: Literal["constant", "linear", "cosine", "exponential"] = Field("constant", description="Shape of the decay.")
    final: float = Field(0.0, ge=0, le=1, description="Factor at the end of the run (exponential: must be over 0).")
    start: float = Field(0.0, ge=0, lt=1, description="Share of the run before the decay begins.")
    warmup: int = Field(0, ge=0, le=10**9, description="Steps of linear increase from 0 at the beginning.")

    @model_validator(mode="after")
    def _reachable(self) -> ScheduleConfig:
        if self.type == "exponential" and self.final == 0:
            raise ValueError("an exponential schedule never reaches 0; set final to a positive factor such as 0.01")
        return self


class OptimizerConfig(Section):
    """One network's optimiser."""

    type: Literal["adam", "adamw", "rmsprop", "sgd"] = Field("adam", description="Algorithm.")
    learning_rate: float = Field(2e-4, gt=0, le=10, description="Step size.")
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = Field(
        (0.5, 0.999), description="Adam's decay rates of the first and second moment."
    )
    final_beta2: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="Decay rate of the second moment at the end of the run, reached along half a cosine; null for a constant "
        "one.",
    )
    eps: float = Field(1e-8, gt=0, le=1, description="Adam's and RMSprop's divisor floor.")
    momentum: float = Field(0.0, ge=0, lt=1, description="Momentum of sgd and rmsprop.")
    nesterov: bool = Field(False, description="Of sgd: look one step of the momentum ahead.")
    weight_decay: float = Field(
        0.0, ge=0, le=10, description="L2 penalty (adam, sgd, rmsprop) or decoupled decay (adamw)."
    )
    schedule: ScheduleConfig = Field(ScheduleConfig(), description="How the learning rate changes over the run.")
    clip_norm: float | None = Field(None, gt=0, description="Largest global norm of the gradient; null for none.")
    clip_weights: float | None = Field(
        None, gt=0, description="Clamp every weight to +-this after each step (WGAN: 0.01); null for none."
    )

    @model_validator(mode="after")
    def _has_moments(self) -> OptimizerConfig:
        if self.final_beta2 is not None and self.type not in ("adam", "adamw"):
            raise ValueError(f"final_beta2 is Adam's; {self.type} has no second moment of that kind")
        if self.nesterov and not (self.type == "sgd" and self.momentum):
            raise ValueError(
                "nesterov is sgd's, and looks ahead along its momentum; set type to sgd and momentum to 0.9"
            )
        return self


class StopConfig(Section):
    """Early stopping: a phase ends when held-out data says so, with the weights that were best there."""

    split: str = Field(
        "holdout", pattern=r"^[\w.-]+$", max_length=100, description="Split to validate on; see data.holdout."
    )
    every: Positive = Field(description="Steps between two validations.")
    patience: int = Field(3, ge=1, le=100_000, description="Validations without a better one that end the phase.")
    num_samples: Positive | None = Field(None, description="Use only the first so many held-out samples.")


class PhaseConfig(Section):
    """A stretch of the run in which the same networks are updated, equally often, by one objective."""

    name: str = Field(min_length=1, max_length=60, description="Shown in the log.")
    steps: Positive | None = Field(None, description="Length; one phase may leave it out and takes the rest.")
    updates: dict[str, Annotated[int, Field(ge=1, le=100_000)]] = Field(
        description="Network -> updates a step, in order, e.g. {discriminator: 5, generator: 1}."
    )
    objective: AnyObjective | None = Field(None, description="Another objective than the recipe's; with its type.")
    optimizers: dict[str, OptimizerConfig] = Field(
        {}, description="Network -> optimiser that begins anew with this phase; its schedule is the phase's."
    )
    copies: dict[str, str] = Field(
        {}, description="Network -> the one whose weights it begins this phase with, e.g. {discriminator: generator}."
    )
    stop: StopConfig | None = Field(None, description="Early stopping; null for none.")
    level: int | None = Field(
        None, ge=0, le=30, description="Of networks that grow: the level they have in this phase; 0 is the smallest."
    )
    fade_in: float = Field(
        0.0, ge=0, le=1, description="Share of the phase over which the level is faded in from the one below."
    )

    @model_validator(mode="after")
    def _fades_to_a_level(self) -> PhaseConfig:
        if self.fade_in and not self.level:
            raise ValueError("fade_in needs a level above 0 to fade in")
        return self

    def level_at(self, progress: float) -> float | None:
        """The level at a share of the phase: from `level - 1` up to `level` while it is faded in."""
        if self.level is None:
            return None
        return float(self.level) if progress >= self.fade_in else self.level - 1 + progress / self.fade_in


class TrainingConfig(Section):
    """How long and how the run trains."""

    steps: Positive = Field(
        description="Steps in all. A step updates each network as often as its phase says; without phases a GAN's generator once "
        "and its discriminator n_critic times, a classifier once."
    )
    batch_size: int = Field(64, ge=1, le=65_536, description="Samples a network sees at once, in each process.")
    seed: int = Field(0, ge=0, lt=2**63, description="Decides everything random.")
    precision: Literal["fp32", "bf16", "fp16", "auto"] = Field(
        "auto", description="Arithmetic of the networks; auto = bf16 where the machine has it in hardware, else fp32."
    )
    n_critic: int = Field(1, ge=1, le=1000, description="Discriminator updates a step.")
    accumulation: int = Field(1, ge=1, le=4096, description="Batches whose gradients are averaged for one update.")
    ema_half_life: float | None = Field(
        10_000,
        gt=0,
        le=1e12,
        description="Samples after which an old weight counts half in the average; null for no average.",
    )
    ema_rampup: float = Field(
        0.05,
        gt=0,
        le=1,
        description="The half-life is at most this share of the samples seen so far (short at first).",
    )
    device: str = Field("auto", description="auto, cpu, cuda or cuda:N.")
    compile: bool = Field(False, description="Compile the generator with torch.compile (pays on a GPU).")
    log_every: Positive = Field(50, description="Steps between two rows of metrics.jsonl.")
    sample_every: Positive | None = Field(500, description="Steps between two sheets of samples; null for none.")
    num_preview_samples: int = Field(64, ge=1, le=1024, description="Samples on a sheet.")
    checkpoint_every: Positive = Field(500, description="Steps between two checkpoints.")
    keep_checkpoints: int = Field(3, ge=1, le=1000, description="How many of the newest are kept.")


class EvaluationConfig(Section):
    """What is measured at the end of the run, and by `ganzoo evaluate`."""

    metrics: tuple[str, ...] = Field((), description="Names of metrics; empty for none.")
    embedder: str | None = Field(
        None,
        max_length=4096,
        description="Of pictures 'pixels' (the default), 'inception', 'channels:NAME' (a classifier that sees each channel alone); "
        "of sound 'log-mel' (the default), 'clap'; or a classifier checkpoint such as 'digit-classifier'.",
    )
    num_samples: int = Field(10_000, ge=2, le=10_000_000, description="Generated samples.")
    split: str | None = Field(
        None,
        description="Split of the data to compare with; null for the test split, else what data.holdout keeps back, else (there "
        "being no other) the training split.",
    )
    seed: int = Field(0, ge=0, lt=2**63, description="Seed of the generated samples.")
    every: Positive | None = Field(None, description="Also measure during the run, every so many steps; null for no.")
    temperature: float = Field(
        1.0,
        gt=0,
        le=100,
        description="Of text: divides the logits, in the samples that are measured and by default in use.",
    )


class CardConfig(Section):
    """What the model card says beyond what is measured."""

    summary: str = Field("", max_length=300, description="One sentence on the model.")
    license: str = Field("apache-2.0", description="The Hub's identifier of the weights' licence.")
    limitations: str = Field("", max_length=4000, description="What it should not be used for, what it does badly.")
    budget: str = Field("", max_length=500, description="Steps and minutes on a named machine.")
    expected: str = Field("", max_length=500, description="Metric that a run of this recipe reaches.")

    @field_validator("license")
    @classmethod
    def _known_license(cls, value: str) -> str:
        if value not in LICENSES:
            raise ValueError(f"not one of the Hub's licence identifiers.{did_you_mean(value, LICENSES)}")
        return value
