"""Recipes: one YAML file a training run, validated to the last key before anything is built.

A recipe is found by name (`"dcgan-digits"`, in `recipes/<modality>/`) or by path; `base: other-recipe` starts from another
one. Overrides are `section.key=value`, on the command line and in `ganzoo.train`. No torch is imported here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ganzoo.errors import NotFoundError, UserError, did_you_mean, shorten
from ganzoo.recipe.recipe import _NAME, Recipe
from ganzoo.utils.resources import resource
from ganzoo.utils.safe_yaml import MAX_YAML_CHARACTERS, load_yaml


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
        # A section of another type has other keys: nothing of the base's fits.
        other = both and "type" in value and value["type"] != merged[key].get("type", value["type"])
        merged[key] = _merge(merged[key], value) if both and not other else value
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
    if not isinstance(family, str) or not isinstance(stated, Mapping):
        return values
    from ganzoo.registry import get_family

    try:
        objective = {"type": "adversarial", **get_family(family).objective}
    except NotFoundError as error:
        raise NotFoundError(f"{where}: {error}") from None
    if stated.get("type", objective["type"]) != objective["type"]:
        return values
    if "loss" in stated:  # the rest was chosen for another loss
        objective = {"type": objective["type"]}
    return {**values, "objective": {**objective, **stated}}
