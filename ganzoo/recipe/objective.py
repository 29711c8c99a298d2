"""The `objective` section of a recipe: of each objective its own class, found by the section's `type`."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field, SerializeAsAny
from pydantic.functional_validators import PlainValidator

from ganzoo.recipe.section import TypedSection
from ganzoo.utils.finding import Kind

OBJECTIVES = Kind("objective", "ganzoo.objectives", "OBJECTIVE")


class ObjectiveConfig(TypedSection):
    """Base of an objective's section."""

    kind: ClassVar[Kind] = OBJECTIVES

    type: str = Field(description="Which objective.")

    @property
    def samples_together(self) -> int | None:
        """Samples that the discriminator judges together; None of an objective that leaves that open."""
        return None


AnyObjective = Annotated[SerializeAsAny[ObjectiveConfig], PlainValidator(ObjectiveConfig.read)]
