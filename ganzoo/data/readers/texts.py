"""Text files: one sample a line, UTF-8, blanks at both ends stripped, blank lines left out.

A `.tsv` holds a prompt, a tab and a text on each line. A folder has one file a split (`train.txt`, `test.txt`, shards
`train-0.txt`), or such a folder for each class.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ganzoo.data.source import SPLIT_NAMES, Source, hash_files, is_visible_file, no_split, split_of
from ganzoo.errors import UserError
from ganzoo.recipe.data import DataConfig

logger = logging.getLogger(__name__)

TEXT_SUFFIXES = frozenset({".txt", ".tsv"})
# A longer line is no sentence, and perhaps no text; a shorter one may still be cut by the processor.
MAX_LINE_BYTES = 16 << 20

# Split -> its files, each with its class or None.
Files = dict[str, list[tuple[Path, int | None]]]


def text_files(folder: Path) -> tuple[Files, tuple[str, ...] | None]:
    """The text files of a folder by split, and the classes, if it has a sub-folder for each; nothing if it has none."""
    files = _named_by_split(folder, None)
    if files:
        return files, None
    folders = sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if len(folders) < 2:
        return {}, None
    for label, subfolder in enumerate(folders):
        found = _named_by_split(subfolder, label)
        if not found:
            return {}, None
        for split, members in found.items():
            files.setdefault(split, []).extend(members)
    return files, tuple(entry.name for entry in folders)


def _named_by_split(folder: Path, label: int | None) -> Files:
    files: Files = {}
    for file in sorted(folder.iterdir()):
        if file.suffix.lower() in TEXT_SUFFIXES and split_of(file) in SPLIT_NAMES and is_visible_file(file):
            files.setdefault(split_of(file), []).append((file, label))
    return files


def open_texts(
    config: DataConfig, description: str, files: Files, split: str, class_names: tuple[str, ...] | None = None
) -> Source:
    """The lines of one split.

    Raises:
        UserError: A file that is no text, names the file and the line; or no sample at all.
    """
    if config.prompt_column is not None or config.sample_column is not None or config.label_column is not None:
        raise UserError("Lines of text have no columns; leave out data.sample_column, label_column and prompt_column.")
    if split not in files:
        raise no_split(f"data.path={config.path}", split, files)
    members = files[split]
    if len({file.suffix.lower() for file, _ in members}) > 1:
        raise UserError(f"Split '{split}' of data.path={config.path} has .txt and .tsv files; keep one kind.")
    length = dropped = 0
    for file, _ in members:
        for sample in _samples(file):
            length, dropped = length + (sample is not None), dropped + (sample is None)
    if length == 0:
        raise UserError(f"Split '{split}' of data.path={config.path} holds no text: its files are empty.")
    if dropped:
        logger.info("%s (%s): %d blank lines left out.", description, split, dropped)

    def iterate() -> Iterator[tuple[Any, int | None]]:
        return ((sample, label) for file, label in members for sample in _samples(file) if sample is not None)

    paths = [file for file, _ in members]
    root = paths[0].parent if class_names is None else paths[0].parent.parent
    return Source(
        description=description,
        split=split,
        fingerprint=hash_files(root, paths),
        length=length,
        iterate=iterate,
        class_names=class_names,
        dropped=dropped,
    )


def _samples(file: Path) -> Iterator[str | tuple[str, str] | None]:
    """The samples of a file: its texts, or its (prompt, text) pairs; None for a blank line."""
    for number, line in _lines(file):
        text = line.strip()
        if not text:
            yield None
        elif file.suffix.lower() != ".tsv":
            yield text
        else:
            parts = [part.strip() for part in line.split("\t")]
            if len(parts) != 2 or not all(parts):
                raise UserError(f"{file}, line {number}: not a prompt, one tab and a text.")
            yield parts[0], parts[1]


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    """Lines with their numbers from 1."""
    with open(file, "rb") as stream:
        number = 0
        while line := stream.readline(MAX_LINE_BYTES + 1):
            number += 1
            if len(line) > MAX_LINE_BYTES:
                raise UserError(
                    f"{file}, line {number}: longer than {MAX_LINE_BYTES:,} bytes; put one sample on a line."
                )
            if b"\0" in line:
                raise UserError(f"{file}, line {number}: a null byte, so it is no UTF-8 text; save it as UTF-8.")
            try:
                # A byte order mark is no part of the first line.
                yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise UserError(f"{file}, line {number}: not UTF-8 text ({error.reason}); save it as UTF-8.") from None
