"""Where modules went that packages of others import: the old path warns, and gives what the new one has, for one version."""

from __future__ import annotations

import importlib
import sys
import warnings
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

# Old module -> where its names are now. What others use is documented: the bases, and losses.
MOVED = {
    "ganzoo.config": ("ganzoo.networks.config", "ganzoo.networks.image", "ganzoo.networks.audio"),
    "ganzoo.modeling": ("ganzoo.networks.base", "ganzoo.networks.audio"),
    "ganzoo.language": ("ganzoo.networks.text",),
    "ganzoo.sampling": ("ganzoo.networks.sequences", "ganzoo.nn.draws"),
    "ganzoo.penalties": ("ganzoo.losses.penalties", "ganzoo.losses.matching"),
    "ganzoo.spectral": ("ganzoo.sound.spectral",),
}


class MovedModules(MetaPathFinder, Loader):
    """Finds the modules of `MOVED`."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        return ModuleSpec(name, self) if name in MOVED else None

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        old, places = module.__name__, MOVED[module.__name__]
        warnings.warn(
            f"{old} has moved to {' and '.join(places)}; import from there, the old path goes with the next version",
            FutureWarning,
            stacklevel=2,
        )

        def get(name: str) -> Any:
            for place in places:
                try:
                    return getattr(importlib.import_module(place), name)
                except AttributeError:
                    continue
            raise AttributeError(f"module {old!r} has no attribute {name!r}; see {' and '.join(places)}")

        module.__getattr__ = get


def install() -> None:
    """Makes the old paths known to the import system, once; they come after everything that is found otherwise."""
    if not any(isinstance(finder, MovedModules) for finder in sys.meta_path):
        sys.meta_path.append(MovedModules())
