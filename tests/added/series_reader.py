"""Folders of .series files, a series of numbers in each."""

from __future__ import annotations

from pathlib import Path

from ganzoo.data.readers.base import Reader
from ganzoo.data.readers.folders import files_of_split, folder_source
from ganzoo.data.source import Source
from ganzoo.recipe.data import DataConfig

SUFFIXES = frozenset({".series"})


def open_series(config: DataConfig, description: str, folder: Path, split: str) -> Source:
    """The series of one split."""
    root, files = files_of_split(config, folder, split, SUFFIXES, "no series")
    return folder_source(description, split, root, files, None)


READER = Reader(
    files="series (.series)",
    knows=lambda file: file.suffix == ".series",
    open_folder=open_series,
    count=lambda folder, endings: endings[".series"],
)
