"""Recipes: one YAML file a training run, validated to the last key before anything is built.

A recipe is found by name (`"dcgan-digits"`, in `recipes/<modality>/`) or by path; `base: other-recipe` starts from another
one. Overrides are `section.key=value`, on the command line and in `ganzoo.train`. No torch is imported here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from ganzoo.errors import NotFoundError, UserError, shorten
from ganzoo.recipe.fitting import check_fit
from ganzoo.recipe.names import find_recipe
from ganzoo.recipe.recipe import _NAME, Recipe
from ganzoo.utils.safe_yaml import MAX_YAML_CHARACTERS, load_yaml
from ganzoo.utils.validation import models_in


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
    values = _with_stated_type(values)
    for key, value in sorted((overrides or {}).items(), key=_rank):
        _set(values, key, value)
    values = _with_family_objective(values, where)
    recipe = Recipe.from_dict(values, where=where)
    check_fit(recipe, where=where)
    return recipe


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
    below = _with_stated_type(_with_base(_read_yaml(base_path), base_path, seen=(*seen, base_path)))
    return _merge(below, values)


def _merge(base: dict[str, Any], values: dict[str, Any], path: tuple[str, ...] = ()) -> dict[str, Any]:
    merged = dict(base)
    for key, value in values.items():
        inner = (*path, key)
        if isinstance(value, dict) and isinstance(merged.get(key), dict):
            value = _merge(_begun(merged[key], value, inner), value, inner)
        merged[key] = value
    return merged


def _begun(section: dict[str, Any], values: Mapping[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    """What `values` are laid over: the section; nothing, if their `type` is another than its own, whose keys are others."""
    if "type" not in values:
        return section
    return section if values["type"] == section.get("type", _default_type(path, values["type"])) else {}


def _default_type(path: tuple[str, ...], otherwise: Any) -> Any:
    """The type of a section that does not say it."""
    models: list[type[BaseModel]] = [Recipe]
    for part in path:
        fields = [model.model_fields[part] for model in models if part in model.model_fields]
        models = [inner for field in fields for inner in models_in(field.annotation)] if fields else models
    defaults = [model.model_fields["type"].default for model in models if "type" in model.model_fields]
    return defaults[0] if len(defaults) == 1 and isinstance(defaults[0], str) else otherwise


def _rank(override: tuple[str, Any]) -> tuple[int, bool]:
    """Whole sections before what is in them, and of that the `type` first: the order of overrides does not matter."""
    *sections, last = override[0].split(".")
    return len(sections), last != "type"


def _set(values: dict[str, Any], key: str, value: Any) -> None:
    *sections, last = key.split(".")
    holder: Any = values
    place: Any = None
    for position, section in enumerate(sections):
        if isinstance(holder, list):
            place = _index(holder, section, key)
        else:
            place = section
            if holder.get(section) is None:
                holder[section] = {}
        # Copied on the way down: the caller's mapping is not ours to change.
        inner = holder[place]
        if not isinstance(inner, Mapping | list | tuple):
            raise UserError(f"cannot set {key}: {'.'.join(sections[: position + 1])} is a value, not a section")
        holder[place] = dict(inner) if isinstance(inner, Mapping) else list(inner)
        above, holder = holder, holder[place]
    if isinstance(holder, list):
        raise UserError(
            f"cannot set {key}: name a key of one of the list's items, as in objective.penalties.0.weight=10"
        )
    if last == "type" and sections:
        holder = above[place] = dict(_begun(holder, {"type": value}, tuple(sections)))
    holder[last] = value


def _index(items: list[Any], index: str, key: str) -> int:
    if not index.isdigit() or int(index) >= len(items):
        raise UserError(f"cannot set {key}: the list has {len(items)} items, {index!r} is none of them")
    return int(index)


def _with_stated_type(values: dict[str, Any]) -> dict[str, Any]:
    """Says the type of an objective that is stated without one, the family's: another `type` then starts it anew."""
    stated = values.get("objective")
    if not isinstance(stated, Mapping) or not stated:
        return values
    try:
        own = _family_objective(values)
    except NotFoundError:  # an override may name another family
        return values
    return {**values, "objective": {"type": own["type"], **stated}} if own else values


def _with_family_objective(values: dict[str, Any], where: str) -> dict[str, Any]:
    """Puts the family's own objective under the recipe's, if the recipe's `type` is the same or left out."""
    try:
        objective = _family_objective(values)
    except NotFoundError as error:
        raise NotFoundError(f"{where}: {error}") from None
    stated = values.get("objective") or {}
    if not objective or not isinstance(stated, Mapping) or stated.get("type", objective["type"]) != objective["type"]:
        return values
    if "loss" in stated:  # the rest was chosen for another loss
        objective = {"type": objective["type"]}
    return {**values, "objective": {**objective, **stated}}


def _family_objective(values: Mapping[str, Any]) -> dict[str, Any] | None:
    """The objective that the recipe's family comes with; None if the recipe names none."""
    from ganzoo.registry import get_family

    model = values.get("model")
    family = model.get("family") if isinstance(model, Mapping) else None
    return {"type": "adversarial", **get_family(family).objective} if isinstance(family, str) else None
