"""pydantic's reports as one readable sentence: dotted keys, suggestions for unknown ones, allowed values."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ValidationError

from ganzoo.errors import did_you_mean, shorten

MAX_PROBLEMS = 6
# pydantic's word for what is wrong -> ours, where ours says more.
_WORDS = {
    "int_type": "must be a whole number, in decimal digits (1000, or 1e3)",
    "float_type": "must be a number, in decimal digits (0.001, or 1e-3)",
    "bool_type": "must be true or false",
}


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """Turns pydantic's report into one readable line: dotted keys, suggestions for unknown ones, allowed values."""
    items = error.errors(include_url=False)
    problems = [_explain_one(item, model) for item in items[:MAX_PROBLEMS]]
    return "; ".join([*problems, f"and {len(items) - MAX_PROBLEMS} more"] if len(items) > MAX_PROBLEMS else problems)


def _explain_one(item: Any, model: type[BaseModel]) -> str:
    location, fields = _walk(model, item["loc"])
    path = ".".join(location)
    if item["type"] == "extra_forbidden":
        allowed = f" Allowed keys: {', '.join(fields)}." if fields else ""
        return f"unknown key {shorten(path)}.{did_you_mean(location[-1], fields)}{allowed}"
    if item["type"] == "missing":
        return f"missing key '{path}'"
    message = _WORDS.get(item["type"], item["msg"].removeprefix("Value error, "))
    message = f"{message[:1].lower()}{message[1:]}"
    return f"{path}={shorten(item.get('input'))}: {message}" if path else message


def _walk(model: type[BaseModel], location: tuple[int | str, ...]) -> tuple[list[str], list[str]]:
    """Follows pydantic's location through nested models, lists and unions whose member a tag names.

    Returns:
        The path as a person would write it (without the tags of unions), and the fields beside its last key.
    """
    path: list[str] = []
    fields: list[str] = []
    models: list[type[BaseModel]] = [model]
    for part in location:
        if tagged := [m.tagged(part) for m in models if "kind" in vars(m) and part in m.kind.names()]:
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
