"""What a reader is: a kind of file that samples may be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ganzoo.data.source import Source
from ganzoo.recipe.data import DataConfig
from ganzoo.utils.finding import Kind

READERS = Kind("reader", "ganzoo.data.readers", "READER")


@dataclass(frozen=True)
class Column:
    """How samples of a kind are known among the columns of a table.

    Attributes:
        names: What such a column is usually called, the likeliest first.
        type: The feature of `datasets` that says it by itself, `"Image"`.
        holds: Whether a column of a usual name can be it, by its feature: `{"_type": "Value", "dtype": "string"}`.
    """

    names: tuple[str, ...]
    type: str | None = None
    holds: Callable[[dict[str, Any]], bool] = lambda feature: True

    def find(self, features: dict[str, dict[str, Any]]) -> str | None:
        """The likeliest column of a table, or None."""
        typed = [name for name, feature in features.items() if self.type and feature.get("_type") == self.type]
        named = [name for name in self.names if name in features and self.holds(features[name])]
        return next(iter(typed + named), None)


def sample_column(features: dict[str, dict[str, Any]]) -> str | None:
    """The column of a table that holds its samples, by the readers in their order; None where none knows one."""
    columns = (reader.column.find(features) for reader in READERS.all().values() if reader.column is not None)
    return next((name for name in columns if name is not None), None)


@dataclass(frozen=True)
class Reader:
    """A kind of file: how to know it, and how to open a folder of them, or one of them.

    Attributes:
        files: What they are in a sentence, `"pictures (.png, .jpg)"`.
        knows: Whether a file is one, by its ending or, where that says nothing, by its content.
        open_file: `(config, description, file, split)`: one file as the whole data set; None where one file is one sample.
        open_folder: `(config, description, folder, split)`; None where only a file can be read.
        count: `(folder, files by ending)`: how many samples, or files of them, this reader sees in a folder; it opens that
            in which it sees most.
        rank: Above the number: 2 of tables, which name everything beside them; 1 of files that are a sample each; 0 of
            lists, which beside such files may be a list of them.
        column: How such samples are known in a table; None of what never is in one.
    """

    files: str
    knows: Callable[[Path], bool]
    open_file: Callable[[DataConfig, str, Path, str], Source] | None = None
    open_folder: Callable[[DataConfig, str, Path, str], Source] | None = None
    count: Callable[[Path, Counter[str]], int] = lambda folder, endings: 0
    rank: int = 1
    column: Column | None = None


def reader_of_file(file: Path) -> Reader | None:
    """The reader of one file that is a whole data set, or None."""
    found = (reader for reader in READERS.all().values() if reader.open_file is not None and reader.knows(file))
    return max(found, key=lambda reader: reader.rank, default=None)


def reader_of_folder(folder: Path, endings: Counter[str]) -> Reader | None:
    """The reader that sees most in a folder, or None if all see nothing. Of two that see as much it is the first by name."""
    counted = [(reader, reader.count(folder, endings)) for reader in READERS.all().values()]
    seen = [(reader, count) for reader, count in counted if count]
    return max(seen, key=lambda pair: (pair[0].rank, pair[1]), default=(None, 0))[0]


def known_files(*, in_folders: bool = False) -> str:
    """What can be read, in folders or at all, for a sentence."""
    readers = READERS.all().values()
    return "; ".join(reader.files for reader in readers if reader.open_folder is not None or not in_folders)
