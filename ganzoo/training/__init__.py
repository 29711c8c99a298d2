"""Training: recipes, objectives, and the one trainer that every family and modality shares."""

from __future__ import annotations

import importlib
from typing import Any

_EXPORTS = {
    "Recipe": "ganzoo.training.recipe",
    "load_recipe": "ganzoo.training.recipe",
    "list_recipes": "ganzoo.training.recipe",
    "train": "ganzoo.training.run",
    "TrainingRun": "ganzoo.training.run",
}

__all__ = list(_EXPORTS)


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'ganzoo.training' has no attribute {name!r}")
    return getattr(importlib.import_module(_EXPORTS[name]), name)
