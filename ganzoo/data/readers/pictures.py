"""Folders of pictures."""

from __future__ import annotations

from pathlib import Path

from ganzoo.data.readers.base import Column, Reader
from ganzoo.data.readers.folders import files_of_split, folder_source
from ganzoo.data.source import Source
from ganzoo.recipe.data import DataConfig

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif"})


def open_image_folder(config: DataConfig, description: str, path: Path, split: str) -> Source:
    """The pictures of one split."""
    root, files = files_of_split(
        config, path, split, IMAGE_SUFFIXES, "neither parquet files nor images nor recordings"
    )
    # Only if every image lies in a sub-folder do the sub-folders mean classes.
    parts = [file.relative_to(root).parts for file in files]
    class_names = tuple(sorted({names[0] for names in parts})) if all(len(names) > 1 for names in parts) else None
    return folder_source(description, split, root, files, class_names)


READER = Reader(
    files=f"pictures ({', '.join(sorted(IMAGE_SUFFIXES))})",
    knows=lambda file: file.suffix.lower() in IMAGE_SUFFIXES,
    open_folder=open_image_folder,
    column=Column(("image", "img", "picture"), type="Image"),
    count=lambda folder, endings: sum(endings[ending] for ending in IMAGE_SUFFIXES),
)
