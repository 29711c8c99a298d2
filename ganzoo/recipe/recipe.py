"""A whole training run as one value, validated to the last key before anything is built."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, model_validator

from ganzoo.errors import UserError
from ganzoo.recipe.data import DataConfig
from ganzoo.recipe.objective import AnyObjective, ObjectiveConfig
from ganzoo.recipe.section import Section
from ganzoo.recipe.sections import CardConfig, EvaluationConfig, OptimizerConfig, PhaseConfig, TrainingConfig
from ganzoo.utils.safe_yaml import dump_yaml
from ganzoo.utils.validation import explain

_NAME = r"^[a-zA-Z0-9][a-zA-Z0-9._-]*$"


class Recipe(Section):
    """A whole training run."""

    name: str = Field(pattern=_NAME, max_length=100, description="Name of the run and its model.")
    model: dict[str, Any] = Field(description="`family`, and fields of the family's config.")
    init: str | None = Field(
        None,
        min_length=1,
        max_length=4096,
        description="Checkpoint whose weights the networks begin with (fine-tuning): folder, name or org/name; "
        "null for new ones. The model's other keys may then be left out.",
    )
    data: DataConfig = Field(DataConfig(), description="What to learn from.")
    objective: AnyObjective = Field(
        default_factory=lambda: ObjectiveConfig.read({"type": "adversarial"}), description="What is minimised."
    )
    generator_optimizer: OptimizerConfig = Field(OptimizerConfig(), description="Optimiser of the generator.")
    discriminator_optimizer: OptimizerConfig = Field(OptimizerConfig(), description="Optimiser of the discriminator.")
    classifier_optimizer: OptimizerConfig = Field(OptimizerConfig(), description="Optimiser of a classifier.")
    training: TrainingConfig = Field(description="How long and how.")
    phases: tuple[PhaseConfig, ...] = Field((), description="Stretches of the run; by default one with all networks.")
    evaluation: EvaluationConfig = Field(EvaluationConfig(), description="What is measured.")
    card: CardConfig = Field(CardConfig(), description="What the model card says.")

    @model_validator(mode="after")
    def _packs_fit(self) -> Recipe:
        if len(sizes := self._packings()) > 1:
            raise ValueError(
                f"objective.packing must be the same in all phases, not {' and '.join(map(str, sorted(sizes)))}"
            )
        if self.training.batch_size % self.packing:
            raise ValueError(
                f"training.batch_size={self.training.batch_size} must be a multiple of objective.packing={self.packing}"
            )
        return self

    @property
    def optimizers(self) -> dict[str, OptimizerConfig]:
        """By the role of the network."""
        return {
            "generator": self.generator_optimizer,
            "discriminator": self.discriminator_optimizer,
            "classifier": self.classifier_optimizer,
        }

    @property
    def packing(self) -> int:
        """Samples that the discriminator judges together."""
        return next(iter(self._packings()), 1)

    def _packings(self) -> set[int]:
        objectives = (self.objective, *(phase.objective for phase in self.phases))
        return {objective.samples_together for objective in objectives if objective is not None} - {None}

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
        recipe = self
        if self.init is not None and Path(self.init).expanduser().is_dir():
            recipe = self.model_copy(update={"init": Path(self.init).expanduser().resolve().name})
        path = self.data.path
        if path is None:
            return recipe
        name = self.data.dataset if "/" in self.data.dataset else Path(path).expanduser().resolve().name
        return recipe.model_copy(update={"data": self.data.model_copy(update={"path": None, "dataset": name})})

    def to_yaml(self) -> str:
        """The recipe with every value written out, as it is saved with a run and a checkpoint."""
        return dump_yaml(self.model_dump(mode="json"))
