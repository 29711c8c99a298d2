"""Which recipes there are: from file names alone, without reading one."""

from __future__ import annotations

from pathlib import Path

from ganzoo.errors import NotFoundError, did_you_mean
from ganzoo.utils.modalities import check_modality
from ganzoo.utils.resources import resource


def find_recipe(source: str | Path) -> Path:
    """The file of a recipe, by path or by name."""
    path = Path(source)
    if path.suffix in (".yaml", ".yml"):
        if path.is_file():
            return path
        raise NotFoundError(f"there is no recipe file {path}")
    known = recipe_files()
    if str(source) not in known:
        raise NotFoundError(
            f"unknown recipe {str(source)!r}.{did_you_mean(str(source), known)} "
            f"Recipes: {', '.join(sorted(known))}; or give the path of a .yaml file"
        )
    return known[str(source)]


def list_recipes(*, modality: str | None = None) -> list[str]:
    """Names of the recipes that come with ganzoo, sorted.

    Raises:
        UserError: There is no such modality.
    """
    return sorted(recipe_files(modality))


def recipe_files(modality: str | None = None) -> dict[str, Path]:
    """Name -> file, in its modality's folder, of the recipes that come with ganzoo; all, or those of a modality.

    Raises:
        UserError: There is no such modality.
    """
    if modality is not None:
        check_modality(modality)
    files = sorted(resource("recipes").rglob("*.yaml"))
    return {file.stem: file for file in files if modality in (None, file.parent.name)}
