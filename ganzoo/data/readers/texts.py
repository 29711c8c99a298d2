"""Text files: one sample a line, blanks at both ends stripped, blank lines left out. Where such blanks mean something, a column of
a parquet file keeps them.

Plain text, Markdown, or a file without an ending that holds text; packed by gzip or not. A `.tsv` holds a prompt, a tab and a
text on each line, or is a table (`readers.records`). A folder has one file a split (`train.txt`, `test.txt`, shards
`train-0.txt`), or such a folder for each class.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ganzoo.data.lines import is_text, lines
from ganzoo.data.readers.base import Column, Reader
from ganzoo.data.readers.records import TEXT_COLUMNS, has_names, open_records
from ganzoo.data.source import Source, ending, files_by_split, hash_files, named_split, no_split
from ganzoo.errors import UserError
from ganzoo.recipe.data import DataConfig

logger = logging.getLogger(__name__)

TEXT_SUFFIXES = frozenset({".txt", ".md", ".tsv"})

# Split -> its files, each with its class or None.
Files = dict[str, list[tuple[Path, int | None]]]


def is_lines(file: Path) -> bool:
    """Whether a file is one of texts: by its ending, or by its content if it has none."""
    return ending(file) in TEXT_SUFFIXES or (not ending(file) and is_text(file))


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
    splits = files_by_split(folder, is_lines)
    return {split: [(file, label) for file in files] for split, files in splits.items()}


def open_texts(
    config: DataConfig, description: str, files: Files, split: str, class_names: tuple[str, ...] | None = None
) -> Source:
    """The lines of one split.

    Raises:
        UserError: A file that is no text, names the file and the line; or no sample at all.
    """
    if class_names is None and _are_tables(config, files):
        return open_records(
            config, description, {name: [file for file, _ in members] for name, members in files.items()}, split
        )
    if config.prompt_column is not None or config.sample_column is not None or config.label_column is not None:
        raise UserError("Lines of text have no columns; leave out data.sample_column, label_column and prompt_column.")
    if split not in files:
        raise no_split(f"data.path={config.path}", split, files)
    members = files[split]
    if len({ending(file) == ".tsv" for file, _ in members}) > 1:
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


def _are_tables(config: DataConfig, files: Files) -> bool:
    members = [file for split in files.values() for file, _ in split]
    return all(ending(file) == ".tsv" for file in members) and has_names(config, members[0])


def _samples(file: Path) -> Iterator[str | tuple[str, str] | None]:
    """The samples of a file: its texts, or its (prompt, text) pairs; None for a blank line."""
    are_pairs = ending(file) == ".tsv"
    for number, line in lines(file):
        text = line.strip()
        if not text:
            yield None
        elif not are_pairs:
            yield text
        else:
            parts = [part.strip() for part in line.split("\t")]
            if len(parts) != 2 or not all(parts):
                raise UserError(f"{file}, line {number}: not a prompt, one tab and a text.")
            yield parts[0], parts[1]


def _open_folder(config: DataConfig, description: str, folder: Path, split: str) -> Source:
    files, class_names = text_files(folder)
    return open_texts(config, description, files, split, class_names)


def _holds_text(feature: dict[str, Any]) -> bool:
    return str(feature.get("dtype")) in ("string", "large_string", "string_view")


READER = Reader(
    files="text (.txt, .md, .tsv or without an ending, each also as .gz)",
    knows=is_lines,
    open_file=lambda config, description, file, split: open_texts(
        config, description, {named_split(file): [(file, None)]}, split
    ),
    open_folder=_open_folder,
    count=lambda folder, endings: sum(map(len, text_files(folder)[0].values())),
    rank=0,
    column=Column(TEXT_COLUMNS, holds=_holds_text),
)
