"""A package's public names, imported when they are first touched (PEP 562).

They are written once, in the stub `__init__.pyi` beside the package's `__init__.py`, where type checkers look:

    from ganzoo.pipelines import from_pretrained as from_pretrained
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def public_names(stub: Path) -> dict[str, str]:
    """Name -> the module that defines it, in the order of the stub, which holds only lines like the one above."""
    lines = (line.split() for line in stub.read_text(encoding="utf-8").splitlines() if line.startswith("from "))
    return {name: module for _, module, _, name, _, _ in lines}


def lazy_package(package: str, file: str) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """The `__getattr__`, `__dir__` and `__all__` of a package.

    Args:
        package: Its `__name__`.
        file: Its `__file__`.
    """
    names = public_names(Path(file).with_suffix(".pyi"))

    def get(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(names[name]), name)
        setattr(sys.modules[package], name, value)
        return value

    return get, lambda: sorted(names), list(names)
