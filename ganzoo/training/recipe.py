"""Recipes: one YAML file a training run, validated to the last key before anything is built.

A recipe is found by name (`"dcgan-digits"`, in `recipes/<modality>/`) or by path; `base: other-recipe` starts from another
one. Overrides are `section.key=value`, on the command line and in `ganzoo.train`. No torch is imported here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from ganzoo.card_tables import LICENSES
from ganzoo.data.config import DataConfig
from ganzoo.errors import NotFoundError, UserError, did_you_mean, shorten
from ganzoo.resources import resource
from ganzoo.safe_yaml import MAX_YAML_CHARACTERS, load_yaml
from ganzoo.validation import explain

_NAME = r"^[a-zA-Z0-9][a-zA-Z0-9._-]*$"
Positive = Annotated[int, Field(ge=1, le=10**12)]
Augmentation = Literal["color", "translation", "cutout"]
LOSSES = ("minimax", "non-saturating", "least-squares", "hinge", "wasserstein", "relativistic")


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


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
    eps: float = Field(1e-8, gt=0, le=1, description="Adam's and RMSprop's divisor floor.")
    momentum: float = Field(0.0, ge=0, lt=1, description="Momentum of sgd and rmsprop.")
    weight_decay: float = Field(
        0.0, ge=0, le=10, description="L2 penalty (adam, sgd, rmsprop) or decoupled decay (adamw)."
    )
    schedule: ScheduleConfig = Field(ScheduleConfig(), description="How the learning rate changes over the run.")
    clip_norm: float | None = Field(None, gt=0, description="Largest global norm of the gradient; null for none.")
    clip_weights: float | None = Field(
        None, gt=0, description="Clamp every weight to +-this after each step (WGAN: 0.01); null for none."
    )


class PenaltyConfig(Section):
    """A term added to the discriminator's loss."""

    type: Literal["gradient-penalty", "r1", "r2", "drift"] = Field(
        description="gradient-penalty: to a norm on the line between real and generated; r1, r2: to zero at real, generated "
        "samples; drift: to small logits."
    )
    weight: float = Field(gt=0, le=1e6, description="Factor (lambda; gamma of r1 and r2, whose formula has the 1/2).")
    interval: Positive = Field(
        1, description="Compute it every so many steps, with weight x interval (lazy regularisation)."
    )
    target: float = Field(1.0, gt=0, description="Target norm of the gradient penalty.")


class AdversarialConfig(Section):
    """Objective of a GAN: one adversarial loss, and what is added to it."""

    type: Literal["adversarial"] = Field("adversarial", description="Which objective.")
    loss: Literal[LOSSES] = Field("non-saturating", description="Adversarial loss.")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="One-sided: how far the real target lies below 1.")
    penalties: tuple[PenaltyConfig, ...] = Field((), description="Penalties on the discriminator.")
    feature_matching: float = Field(
        0.0, ge=0, le=1e6, description="Weight of the distance between discriminator features in the generator's loss."
    )
    augment: tuple[Augmentation, ...] = Field(
        (), description="DiffAugment of everything the discriminator sees; empty for none."
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
        return self


class ClassificationConfig(Section):
    """Objective of a classifier: cross-entropy against the labels of the data."""

    type: Literal["classification"] = Field("classification", description="Which objective.")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="Share of the target spread over all classes.")
    noise: float = Field(0.0, ge=0, le=1, description="Standard deviation of Gaussian noise on the samples.")
    augment: tuple[Augmentation, ...] = Field((), description="Random changes of the samples.")


ObjectiveConfig = Annotated[AdversarialConfig | ClassificationConfig, Field(discriminator="type")]


class PhaseConfig(Section):
    """A stretch of the run in which the same networks are updated, equally often."""

    name: str = Field(min_length=1, max_length=60, description="Shown in the log.")
    steps: Positive | None = Field(None, description="Length; one phase may leave it out and takes the rest.")
    updates: dict[str, Annotated[int, Field(ge=1, le=1000)]] = Field(
        description="Network -> updates a step, in order, e.g. {discriminator: 5, generator: 1}."
    )


class TrainingConfig(Section):
    """How long and how the run trains."""

    steps: Positive = Field(
        description="Steps in all; a step updates the generator once and the discriminator n_critic times."
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
    embedder: str = Field(
        "pixels", description="'pixels', 'inception', or a classifier checkpoint such as 'digit-classifier'."
    )
    num_samples: int = Field(10_000, ge=2, le=10_000_000, description="Generated samples.")
    split: str = Field("test", description="Split of the data to compare with.")
    seed: int = Field(0, ge=0, lt=2**63, description="Seed of the generated samples.")
    every: Positive | None = Field(None, description="Also measure during the run, every so many steps; null for no.")


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


class Recipe(Section):
    """A whole training run."""

    name: str = Field(pattern=_NAME, max_length=100, description="Name of the run and its model.")
    model: dict[str, Any] = Field(description="`family`, and fields of the family's config.")
    data: DataConfig = Field(DataConfig(), description="What to learn from.")
    objective: ObjectiveConfig = Field(AdversarialConfig(), description="What is minimised.")
    generator_optimizer: OptimizerConfig = Field(OptimizerConfig(), description="Optimiser of the generator.")
    discriminator_optimizer: OptimizerConfig = Field(OptimizerConfig(), description="Optimiser of the discriminator.")
    classifier_optimizer: OptimizerConfig = Field(OptimizerConfig(), description="Optimiser of a classifier.")
    training: TrainingConfig = Field(description="How long and how.")
    phases: tuple[PhaseConfig, ...] = Field((), description="Stretches of the run; by default one with all networks.")
    evaluation: EvaluationConfig = Field(EvaluationConfig(), description="What is measured.")
    card: CardConfig = Field(CardConfig(), description="What the model card says.")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], *, where: str = "recipe") -> Recipe:
        """Validates a recipe; the objective may be left to the family, and its `type` to the default.

        Raises:
            UserError: One sentence with every wrong key and its suggestion.
        """
        filled = dict(values)
        if isinstance(filled.get("objective", {}), Mapping):
            filled["objective"] = {"type": "adversarial", **(filled.get("objective") or {})}
        try:
            recipe = cls.model_validate(filled)
        except ValidationError as error:
            raise UserError(f"{where}: {explain(error, cls)}") from None
        if not isinstance(recipe.model.get("family"), str):
            raise UserError(f"{where}: missing key 'model.family'")
        return recipe

    def published(self) -> Recipe:
        """The recipe as it goes with a checkpoint: without the path of a local copy, which is nobody else's business.

        `data.dataset` says what it was a copy of; for data of one's own, the name of the file or folder is left.
        """
        path = self.data.path
        if path is None:
            return self
        name = self.data.dataset if "/" in self.data.dataset else Path(path).expanduser().resolve().name
        return self.model_copy(update={"data": self.data.model_copy(update={"path": None, "dataset": name})})

    def to_yaml(self) -> str:
        """The recipe with every value written out, as it is saved with a run and a checkpoint."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=100)


def load_recipe(source: str | Path | Mapping[str, Any], overrides: Mapping[str, Any] | None = None) -> Recipe:
    """Reads and validates a recipe.

    Args:
        source: A name (`"dcgan-digits"`), the path of a YAML file, or the values themselves.
        overrides: `{"training.steps": 500}`.

    Raises:
        NotFoundError: No such recipe.
        UserError: What is wrong with it.
    """
    if isinstance(source, Mapping):
        values, where = dict(source), "recipe"
    else:
        path = find_recipe(source)
        values, where = _read_yaml(path), str(source)
        values = _with_base(values, path, seen=(path,))
    for key, value in (overrides or {}).items():
        _set(values, key, value)
    values = _with_family_objective(values, where)
    return Recipe.from_dict(values, where=where)


def find_recipe(source: str | Path) -> Path:
    """The file of a recipe, by path or by name."""
    path = Path(source)
    if path.suffix in (".yaml", ".yml"):
        if path.is_file():
            return path
        raise NotFoundError(f"there is no recipe file {path}")
    known = {found.stem: found for found in sorted(resource("recipes").rglob("*.yaml"))}
    if str(source) not in known:
        raise NotFoundError(
            f"unknown recipe {str(source)!r}.{did_you_mean(str(source), known)} "
            f"Recipes: {', '.join(sorted(known))}; or give the path of a .yaml file"
        )
    return known[str(source)]


def list_recipes(*, modality: str | None = None) -> list[str]:
    """Names of the recipes that come with ganzoo, sorted."""
    folder = resource("recipes") / modality if modality else resource("recipes")
    return sorted(path.stem for path in folder.rglob("*.yaml"))


def parse_overrides(arguments: Iterable[str]) -> dict[str, Any]:
    """Turns `["training.steps=500"]` into `{"training.steps": 500}`; values are YAML.

    Raises:
        UserError: An argument without '=', or a value that is no YAML.
    """
    overrides = {}
    for argument in arguments:
        key, equals, text = argument.partition("=")
        if not equals or not key:
            raise UserError(f"{argument!r} is no override; write section.key=value, as in training.steps=500")
        try:
            overrides[key] = load_yaml(text)
        except ValueError:
            overrides[key] = text
    return overrides


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as file:
            values = load_yaml(file.read(MAX_YAML_CHARACTERS + 1))
    except OSError as error:
        raise UserError(f"cannot read recipe {path}: {error.strerror or error}") from None
    except ValueError as error:
        raise UserError(f"recipe {path} is not valid YAML: {error}") from None
    if not isinstance(values, dict):
        raise UserError(f"recipe {path} must be a mapping of sections, not a {type(values).__name__}")
    return values


def _with_base(values: dict[str, Any], path: Path, *, seen: tuple[Path, ...]) -> dict[str, Any]:
    base = values.pop("base", None)
    if base is None:
        return values
    if not isinstance(base, str) or not re.fullmatch(_NAME, base):
        raise UserError(f"recipe {path}: base={shorten(base)} is no recipe's name")
    neighbour = path.parent / f"{base}.yaml"
    base_path = neighbour if neighbour.is_file() else find_recipe(base)
    if base_path in seen:
        raise UserError(f"recipe {path}: 'base' goes round in a circle through {base_path}")
    return _merge(_with_base(_read_yaml(base_path), base_path, seen=(*seen, base_path)), values)


def _merge(base: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in values.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _set(values: dict[str, Any], key: str, value: Any) -> None:
    *sections, last = key.split(".")
    current: Any = values
    for position, section in enumerate(sections):
        if isinstance(current, list):
            current = _item(current, section, key)
            continue
        if current.get(section) is None:
            current[section] = {}
        # Copied on the way down: the caller's mapping is not ours to change.
        current[section] = list(current[section]) if isinstance(current[section], list | tuple) else current[section]
        if not isinstance(current[section], dict | list):
            raise UserError(f"cannot set {key}: {'.'.join(sections[: position + 1])} is a value, not a section")
        if isinstance(current[section], dict):
            current[section] = dict(current[section])
        current = current[section]
    if isinstance(current, list):
        raise UserError(
            f"cannot set {key}: name a key of one of the list's items, as in objective.penalties.0.weight=10"
        )
    current[last] = value


def _item(items: list[Any], index: str, key: str) -> Any:
    if not index.isdigit() or int(index) >= len(items):
        raise UserError(f"cannot set {key}: the list has {len(items)} items, {index!r} is none of them")
    items[int(index)] = dict(items[int(index)])
    return items[int(index)]


def _with_family_objective(values: dict[str, Any], where: str) -> dict[str, Any]:
    """Puts the family's own objective under the recipe's, if the recipe's `type` is the same or left out."""
    family = (values.get("model") or {}).get("family") if isinstance(values.get("model"), Mapping) else None
    stated = values.get("objective") or {}
    if not isinstance(family, str) or not isinstance(stated, Mapping) or "loss" in stated:
        return values
    from ganzoo.registry import get_family

    try:
        objective = get_family(family).objective
    except NotFoundError as error:
        raise NotFoundError(f"{where}: {error}") from None
    return {**values, "objective": {**objective, **stated}}
