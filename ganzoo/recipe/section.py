"""The bases of a recipe's sections."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field, ValidationError
from pydantic.functional_validators import AfterValidator
from pydantic_core import InitErrorDetails, PydanticCustomError, SchemaValidator, core_schema

from ganzoo.errors import NotFoundError
from ganzoo.utils.exact import Exact
from ganzoo.utils.finding import Kind

if TYPE_CHECKING:
    from typing_extensions import Self

Positive = Annotated[int, Field(ge=1, le=10**12)]


class Section(Exact):
    """A part of a recipe."""


class TypedSection(Section):
    """A section of which there are several: `type` names what it is for, and that says the section's class.

    A subclass that is annotated as `Annotated[SerializeAsAny[X], PlainValidator(X.read)]` has:

    Attributes:
        kind: What `type` names: things with a `config_class`, a subclass of it.
    """

    kind: ClassVar[Kind]

    type: str

    @classmethod
    def tagged(cls, type: Any) -> type[Self]:
        """The class of a section of this `type`.

        Raises:
            NotFoundError: There is none; says which there are.
        """
        return cls.kind.get(type).config_class

    @classmethod
    def read(cls, values: Any) -> Self:
        """Validates a section by the class of its type.

        Raises:
            ValueError: It is no mapping, its type is unknown, or (a ValidationError) its values are wrong.
        """
        if isinstance(values, cls):
            return values
        names = cls.kind.names()
        if not isinstance(values, Mapping):
            raise ValueError(f"must be a section with a type, such as {{type: {names[0]}}}")
        if not isinstance(name := values.get("type"), str):
            raise ValueError(f"must say its type, one of {', '.join(names)}")
        try:
            validator = _validator(cls, name)
        except NotFoundError as error:
            wrong = PydanticCustomError("unknown_type", "{message}", {"message": str(error)})
            details = InitErrorDetails(type=wrong, loc=("type",), input=name)
            raise ValidationError.from_exception_data(cls.__name__, [details]) from None
        return validator.validate_python(values)


@cache
def _validator(base: type[TypedSection], name: str) -> SchemaValidator:
    """A union of one, so that the location of an error names the type and `ganzoo.utils.validation` finds the class."""
    section = base.tagged(name)
    return SchemaValidator(
        core_schema.tagged_union_schema({name: section.__pydantic_core_schema__}, discriminator="type")
    )


@dataclass(frozen=True)
class NameOf:
    """Lets a name of a kind of thing through, and tells the close ones of another."""

    kind: Kind

    def __call__(self, name: str) -> str:
        self.kind.module(name)
        return name


def name_of(kind: Kind) -> Any:
    """The annotation of a field that names a thing of a kind."""
    return Annotated[str, AfterValidator(NameOf(kind))]
