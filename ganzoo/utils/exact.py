"""Values of a recipe, a config or a processor: unknown keys are refused, and a number is a number.

pydantic by itself takes true for 1, 1 for true, and "010" for 10.
"""

from __future__ import annotations

import numbers
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict
from pydantic_core import core_schema

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler

# What YAML 1.1 read as true and false, and people go on writing.
_WORDS = {"yes": True, "on": True, "no": False, "off": False}


def _whole(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or isinstance(value, int):
        return value
    return int(value) if float(value).is_integer() else value


def _decimal(value: Any) -> Any:
    return value if isinstance(value, int) or not isinstance(value, numbers.Real) else float(value)


def _truth(value: Any) -> Any:
    return _WORDS.get(value.lower(), value) if isinstance(value, str) else value


# Keys of a core schema below which there is none, and those whose keys are names.
_NO_SCHEMAS = {
    "default",
    "default_factory",
    "function",
    "metadata",
    "serialization",
    "expected",
    "ref",
    "config",
    "cls",
}
_NAMED = {"fields", "choices"}
_FIRST = {"int": _whole, "float": _decimal, "bool": _truth}


def _exact(schema: Any) -> Any:
    """The schema with every number and truth value in it strict."""
    if isinstance(schema, list | tuple):
        return type(schema)(_exact(part) for part in schema)
    if not isinstance(schema, dict):
        return schema
    kind = schema.get("type")
    if kind in _FIRST and not schema.get("strict"):  # of another model inside, it is already
        return core_schema.no_info_before_validator_function(_FIRST[kind], {**schema, "strict": True})
    return {key: value if key in _NO_SCHEMAS else _inside(key, value) for key, value in schema.items()}


def _inside(key: str, value: Any) -> Any:
    if key in _NAMED and isinstance(value, dict):
        return {name: _exact(schema) for name, schema in value.items()}
    return _exact(value)


class Exact(BaseModel):
    """A model that never changes. Its whole numbers may be written as 1e3, its truth values as yes, no, on and off; neither is
    taken for the other, no text for either, and NaN and infinity for nothing."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return _exact(handler(source))
