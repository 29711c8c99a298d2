"""The version of this library, and the name that package indexes know it by, each in one place."""

from __future__ import annotations

__version__ = "0.1.0"

# The package to import is `ganzoo`; on PyPI that name belongs to a stranger's.
DISTRIBUTION = "torch-ganzoo"


def install_command(extra: str | None = None, *, upgrade: bool = False) -> str:
    """Returns the line that installs ganzoo, with the optional packages of `extra`."""
    command = "pip install --upgrade" if upgrade else "pip install"
    return f"{command} {DISTRIBUTION}" if extra is None else f'{command} "{DISTRIBUTION}[{extra}]"'
