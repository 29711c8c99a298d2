"""What a built-in data set is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ganzoo.data.source import Source
from ganzoo.utils.finding import Kind

DATASETS = Kind("built-in data set", "ganzoo.data.sets", "DATASET")


@dataclass(frozen=True)
class DataSet:
    """A data set known by name.

    Attributes:
        open: `(config, split)` -> its samples; of a set that is made of another `(config, split, open_base)`.
        base: The data set that it is made of, of which `data.path` is a local copy; `open_base()` gives the same split of it.
    """

    open: Callable[..., Source]
    base: str | None = None
