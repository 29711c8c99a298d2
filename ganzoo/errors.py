"""The errors that ganzoo raises on purpose: each is one sentence that names the thing and the way out.

`exit_code` is what the command line ends with: 2 when the caller can fix it by saying something else, 1 for a failure.
"""

from __future__ import annotations

import difflib
import importlib
import reprlib
from collections.abc import Iterable
from types import ModuleType
from typing import Any

from ganzoo.version import install_command

MAX_MESSAGE = 4000


class GanzooError(Exception):
    """A failure that ganzoo understands and explains.

    Its message is one line of printable characters, whatever a hostile file put into it.
    """

    exit_code = 1

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message, limit=MAX_MESSAGE))


class UserError(GanzooError, ValueError):
    """The caller's mistake: a wrong name, key, value, file or combination."""

    exit_code = 2


class UnusableSample(UserError):
    """One sample of a data set cannot be used. Where data sets are known to have such (recordings), it is left out, counted
    and named."""


class NotFoundError(UserError):
    """A name, folder, repository, revision or file that does not exist."""


class NotCachedError(NotFoundError):
    """A file that is not on this machine, while the Hub cannot be asked."""


class CheckpointError(GanzooError):
    """A checkpoint that is damaged, hostile, or not one of ganzoo's."""


class TrainingError(GanzooError):
    """A training run that cannot go on."""


class MissingPackageError(GanzooError, ImportError):
    """An optional package that is not installed, or does not load."""


def one_line(text: str, *, limit: int) -> str:
    """Replaces line breaks by spaces, escapes control characters, and cuts what is longer than `limit`."""
    shown = "".join(c if c.isprintable() else " " if c.isspace() else ascii(c)[1:-1] for c in text[:limit])
    return shown if len(text) <= limit and len(shown) <= limit else f"{shown[: limit - 3]}..."


def shorten(value: Any) -> str:
    """The `repr` of a value for a message, whatever its size or depth: at most about 60 characters of a text."""
    try:
        return one_line(_SHORT.repr(value), limit=200)
    except ValueError:  # an integer of thousands of digits
        return f"a very large {type(value).__name__}"


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 60


def did_you_mean(name: str, options: Iterable[str]) -> str:
    """Returns " Did you mean 'x'?" for the closest of `options`, or an empty string."""
    matches = difflib.get_close_matches(str(name)[:100], [str(option) for option in options], n=2, cutoff=0.6)
    return f" Did you mean {' or '.join(repr(match) for match in matches)}?" if matches else ""


def require(module: str, *, extra: str, purpose: str) -> ModuleType:
    """Imports an optional package.

    Args:
        module: Its import name, e.g. `"datasets"`.
        extra: The extra of ganzoo that installs it.
        purpose: What it is needed for, as in "reading Hub data sets".

    Raises:
        MissingPackageError: It is not installed, or installed but broken (a binary wheel built for another torch raises
            OSError or RuntimeError on import, not ImportError).
    """
    try:
        return importlib.import_module(module)
    except (ImportError, OSError, RuntimeError) as error:
        package = module.partition(".")[0]
        state = "is not installed" if isinstance(error, ModuleNotFoundError) else f"does not load ({error})"
        raise MissingPackageError(
            f"{purpose} needs the package '{package}', which {state}; install it with: {install_command(extra)}"
        ) from error
