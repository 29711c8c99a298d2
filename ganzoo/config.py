"""GANConfig: the validated, JSON-able description of a family's networks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from ganzoo.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from ganzoo.processors import Processor

CONFIG_FILE = "config.json"
MODEL_TYPE = "ganzoo"


class GANConfig(BaseModel):
    """Base of every family's config. Unknown keys, wrong types and values out of bounds are errors.

    A subclass declares one field for each thing that a person may want to change, with a bound on every number: the
    bounds are what keeps a hostile `config.json` from allocating more than a real model would.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    family: ClassVar[str] = ""

    num_classes: int | None = Field(
        None, ge=2, le=100_000, description="Number of classes of a conditional model; null for an unconditional one."
    )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], *, where: str = "config") -> GANConfig:
        """Validates `values`.

        Raises:
            UserError: One sentence that lists every wrong key of `where` with the allowed values.
        """
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            raise UserError(f"{where}: {explain(error, cls)}") from None

    def processor(self, **overrides: Any) -> Processor:
        """The processor of the space in which this model's samples live.

        Args:
            **overrides: Fields of the processor that a recipe's `data.processor` sets, e.g. `fit="pad"`.
        """
        raise NotImplementedError(f"{type(self).__name__} must say which processor its samples need")

    def to_json(self, *, role: str) -> str:
        """The content of `config.json` for the network that plays `role`."""
        from ganzoo import __version__

        head = {"model_type": MODEL_TYPE, "family": self.family, "role": role, "ganzoo_version": __version__}
        return json.dumps({**head, **self.model_dump(mode="json")}, indent=2) + "\n"


class ImageGANConfig(GANConfig):
    """What every image family has: a square picture of `channels` channels in [-1, 1]."""

    resolution: int = Field(
        64, ge=4, le=1024, description="Height and width of the pictures, in pixels; a power of two."
    )
    channels: int = Field(
        3, ge=1, le=64, description="Channels of the pictures: 1 for grey, 3 for RGB, or any other number."
    )
    latent_dim: int = Field(100, ge=1, le=4096, description="Numbers in a latent vector.")

    @field_validator("resolution")
    @classmethod
    def _power_of_two(cls, value: int) -> int:
        if value & (value - 1):
            raise ValueError(f"must be a power of two, not {value}")
        return value

    def processor(self, **overrides: Any) -> Processor:
        from ganzoo.processors import ImageProcessor

        return ImageProcessor.from_dict({"resolution": self.resolution, "channels": self.channels, **overrides})


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """Turns pydantic's report into one readable line: dotted keys, suggestions for unknown ones, allowed values."""
    return "; ".join(_explain_one(item, model) for item in error.errors(include_url=False))


def _explain_one(item: Any, model: type[BaseModel]) -> str:
    location, fields = _walk(model, item["loc"])
    path = ".".join(location)
    if item["type"] == "extra_forbidden":
        allowed = f" Allowed keys: {', '.join(fields)}." if fields else ""
        return f"unknown key '{path}'.{did_you_mean(location[-1], fields)}{allowed}"
    if item["type"] == "missing":
        return f"missing key '{path}'"
    message = item["msg"].removeprefix("Value error, ")
    message = f"{message[:1].lower()}{message[1:]}"
    return f"{path}={_shorten(item.get('input'))}: {message}" if path else message


def _walk(model: type[BaseModel], location: tuple[int | str, ...]) -> tuple[list[str], list[str]]:
    """Follows pydantic's location through nested models, lists and tagged unions.

    Returns:
        The path as a person would write it (without the tags of unions), and the fields beside its last key.
    """
    path: list[str] = []
    fields: list[str] = []
    models: list[type[BaseModel]] = [model]
    for part in location:
        tagged = [m for m in models if "type" in m.model_fields and m.model_fields["type"].default == part]
        if len(models) > 1 and tagged:
            models = tagged
            continue
        path.append(str(part))
        if isinstance(part, int):
            continue
        fields = [name for m in models for name in m.model_fields]
        models = [
            found for m in models if part in m.model_fields for found in models_in(m.model_fields[part].annotation)
        ]
    return path, fields


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """The pydantic models inside a field's annotation."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in getattr(annotation, "__args__", ()) for model in models_in(argument)]


def _shorten(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
