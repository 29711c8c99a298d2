"""What every reader gives: a `Source`; and what readers share."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from ganzoo.errors import NotFoundError

SPLIT_NAMES = frozenset({"train", "training", "validation", "valid", "val", "dev", "test", "testing"})


@dataclass(frozen=True)
class Source:
    """Samples as they are stored, before any processing.

    Attributes:
        description: The data set's public name, or the path where it has none.
        split: The split it is.
        fingerprint: Changes whenever the samples, their order or their labels may have changed.
        length: Number of raw samples, at least 1; a recording may become several stored ones, or none.
        iterate: Starts a fresh pass over (raw sample, label or None), in a fixed order.
        class_names: The classes by label, where the data names them.
        vocab_size: Of data that are token ids already, the number of different ones; None of all other data.
        dropped: Blank lines of a text that are no samples and were left out.
        conditions: What else steers the networks, as a stream of its own: one a sample in the same order, or any number where
            `data.unaligned` says so; None of most data.
    """

    description: str
    split: str
    fingerprint: str
    length: int
    iterate: Callable[[], Iterator[tuple[Any, int | None]]]
    class_names: tuple[str, ...] | None = None
    vocab_size: int | None = None
    dropped: int = 0
    conditions: Source | None = None

    def first(self, limit: int | None) -> Iterator[tuple[Any, int | None]]:
        """A pass over the first `limit` samples, or over all."""
        return islice(self.iterate(), limit)

    def first_length(self, limit: int | None) -> int:
        """How many raw samples `first` gives."""
        return min(limit or self.length, self.length)


def split_of(file: Path) -> str:
    """The split a file belongs to: its name without the shard number (train-00000-of-00002, train_1, 0000)."""
    return re.sub(r"(^|[-_.])\d+([-_]of[-_]\d+)?$", "", Path(_unpacked_name(file)).stem) or "train"


def named_split(file: Path) -> str:
    """The split of a file that is a whole data set: one whose name says that it is a test set is never taken for training."""
    return split_of(file) if split_of(file) in SPLIT_NAMES else "train"


def ending(file: Path) -> str:
    """A file's ending in lower case, with its dot: of what is packed by gzip, the one before .gz."""
    return Path(_unpacked_name(file)).suffix.lower()


def _unpacked_name(file: Path) -> str:
    return file.name[: -len(".gz")] if file.name.lower().endswith(".gz") else file.name


def files_by_split(folder: Path, belongs: Callable[[Path], bool]) -> dict[str, list[Path]]:
    """The files right in a folder that are named as splits are, by split."""
    splits: dict[str, list[Path]] = {}
    for file in sorted(folder.iterdir()):
        if split_of(file) in SPLIT_NAMES and is_visible_file(file) and belongs(file):
            splits.setdefault(split_of(file), []).append(file)
    return splits


def visible_files(root: Path) -> Iterator[Path]:
    """Files under a folder in a sorted order that is the same everywhere. Hidden entries are skipped; links to files
    count (a snapshot of the Hub's cache is made of them), links to folders do not (they may lead back up)."""
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        yield from (file for name in sorted(names) if is_visible_file(file := Path(folder, name)))


def is_visible_file(file: Path) -> bool:
    return not file.name.startswith(".") and file.is_file()


def hash_files(root: Path, files: Iterable[Path]) -> str:
    """blake2b over relative names and bytes: a renamed, added, changed or relabelled file is another data set."""
    digest = hashlib.blake2b(digest_size=16)
    for file in files:
        digest.update(json.dumps([file.relative_to(root).as_posix(), file.stat().st_size]).encode())
        with open(file, "rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return f"files:{digest.hexdigest()}"


def first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


def no_split(owner: str, split: str, splits: Iterable[str]) -> NotFoundError:
    return NotFoundError(f"{owner} has no split '{split}'; there is {', '.join(sorted(splits))}.")
