"""What several built-in sets are made of: the files of Python's standard library, and texts with a tenth of them set aside."""

from __future__ import annotations

import hashlib
import sys
import sysconfig
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ganzoo.data.source import Source, no_split
from ganzoo.errors import UserError

TEST_SHARE = 0.1
# Texts that differ from one distribution of Python to the next, or that nobody reads.
_LEFT_OUT = frozenset(
    "antigravity distutils ensurepip idlelib lib2to3 pydoc_data test this tkinter turtle turtledemo venv".split()
)


def library_files() -> Iterator[tuple[str, Path]]:
    """(module, file) of the standard library in a fixed order, without tests."""
    library = Path(sysconfig.get_path("stdlib"))
    for name in sorted(sys.stdlib_module_names - _LEFT_OUT):
        module = library / f"{name}.py"
        for file in [module] if module.is_file() else sorted((library / name).rglob("*.py")):
            if {"test", "tests"}.isdisjoint(file.relative_to(library).parts):
                yield name, file


def read_library(file: Path) -> str:
    return file.read_text(encoding="utf-8", errors="replace")


def open_shared(
    name: str, split: str, samples: Sequence[Any], *, key: Callable[[Any], str], line: Callable[[Any], str] = str
) -> Source:
    """A set whose splits are 'train' and, a tenth of the samples, chosen by a hash, 'test'.

    Args:
        name: The set's name.
        samples: All of them.
        key: What is hashed of a sample: those with one key are on one side.
        line: A sample as a line, for the fingerprint.

    Raises:
        UserError: There are no samples: some distributions leave out what they are made of.
        NotFoundError: Another split.
    """
    splits: dict[str, list[Any]] = {"train": [], "test": []}
    for sample in samples:
        share = int.from_bytes(hashlib.blake2b(key(sample).encode(), digest_size=4).digest(), "big") / 2**32
        splits["test" if share < TEST_SHARE else "train"].append(sample)
    if split not in splits:
        raise no_split(f"The built-in data set '{name}'", split, splits)
    chosen = splits[split]
    if not chosen:
        raise UserError(
            f"This Python comes without its sources or documentation, which the built-in data set '{name}' is of."
        )
    content = "\n".join(map(line, chosen))
    return Source(
        description=name,
        split=split,
        fingerprint=f"{name}:{split}:{hashlib.blake2b(content.encode(), digest_size=16).hexdigest()}",
        length=len(chosen),
        iterate=lambda: ((sample, None) for sample in chosen),
    )
