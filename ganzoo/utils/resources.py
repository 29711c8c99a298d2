"""Where the recipes and the hub's catalogue lie: inside an installed wheel, or at the top of a checkout."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).parent.parent


def resource(name: str) -> Path:
    """Returns the folder `name` ("recipes" or "hub"); see the wheel's force-include in pyproject.toml."""
    packaged = _PACKAGE / f"_{name}"
    return packaged if packaged.is_dir() else _PACKAGE.parent / name
