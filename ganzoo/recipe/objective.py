"""The `objective` section of a recipe: of each objective its own class, found by the section's `type`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any

from pydantic import Field, SerializeAsAny
from pydantic.functional_validators import PlainValidator
from pydantic_core import SchemaValidator, core_schema

from ganzoo.errors import NotFoundError
from ganzoo.recipe.section import Section
from ganzoo.utils.finding import Kind

OBJECTIVES = Kind("objective", "ganzoo.objectives", "OBJECTIVE")


class ObjectiveConfig(Section):
    """Base of an objective's section."""

    type: str = Field(description="Which objective.")

    @property
    def samples_together(self) -> int | None:
        """Samples that the discriminator judges together; None of an objective that leaves that open."""
        return None

    @classmethod
    def tagged(cls, type: Any) -> type[ObjectiveConfig]:
        """The class of a section of this `type`.

        Raises:
            NotFoundError: There is no such objective; says which there are.
        """
        return OBJECTIVES.get(type).config_class


def read_objective(values: Any) -> ObjectiveConfig:
    """Validates a section by the class of its type.

    Raises:
        ValueError: It is no mapping, its type is unknown, or (a ValidationError) its values are wrong.
    """
    if isinstance(values, ObjectiveConfig):
        return values
    if not isinstance(values, Mapping):
        raise ValueError("must be a section with a type, such as {type: adversarial}")
    name = values.get("type")
    if not isinstance(name, str):
        raise ValueError(f"must say its type, one of {', '.join(OBJECTIVES.names())}")
    try:
        return _validator(name).validate_python(values)
    except NotFoundError as error:
        raise ValueError(str(error)) from None


@cache
def _validator(name: str) -> SchemaValidator:
    """A union of one, so that the location of an error names the type and `ganzoo.utils.validation` finds the class."""
    section = ObjectiveConfig.tagged(name)
    return SchemaValidator(
        core_schema.tagged_union_schema({name: section.__pydantic_core_schema__}, discriminator="type")
    )


AnyObjective = Annotated[SerializeAsAny[ObjectiveConfig], PlainValidator(read_objective)]
