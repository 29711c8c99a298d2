"""Folders of pictures, optionally in one sub-folder a class."""

from __future__ import annotations

from pathlib import Path

from ganzoo.data.config import DataConfig
from ganzoo.data.source import SPLIT_NAMES, Source, hash_files, no_split, visible_files
from ganzoo.errors import UserError

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif"})


def holds_images(path: Path) -> bool:
    """Whether a picture lies anywhere under a folder."""
    return any(file.suffix.lower() in IMAGE_SUFFIXES for file in visible_files(path))


def open_image_folder(config: DataConfig, description: str, path: Path, split: str) -> Source:
    """The pictures of one split."""
    folders = [entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith(".")]
    splits = {folder.name: folder for folder in folders}
    if not splits or not SPLIT_NAMES.issuperset(splits):  # {car, plane, train} are classes
        splits = {"train": path}
    if split not in splits:
        raise no_split(f"data.path={config.path}", split, splits)
    root = splits[split]
    everything = list(visible_files(root))
    files = [file for file in everything if file.suffix.lower() in IMAGE_SUFFIXES]
    if not files:
        deeper = sorted({str(file.parent) for file in everything if file.suffix.lower() == ".parquet"})
        found = sorted({file.suffix.lower() or "files without a suffix" for file in everything})
        hint = (
            f"name one with parquet files: {', '.join(deeper)}" if deeper else f"found {', '.join(found) or 'nothing'}"
        )
        raise UserError(
            f"The folder {root} holds neither parquet files nor images ({', '.join(sorted(IMAGE_SUFFIXES))}); {hint}."
        )
    # Only if every image lies in a sub-folder do the sub-folders mean classes.
    parts = [file.relative_to(root).parts for file in files]
    class_names = tuple(sorted({names[0] for names in parts})) if all(len(names) > 1 for names in parts) else None
    numbers = {name: label for label, name in enumerate(class_names or ())}
    labels = [numbers[names[0]] if numbers else None for names in parts]
    return Source(
        description=description,
        split=split,
        fingerprint=hash_files(root, files),
        length=len(files),
        iterate=lambda: iter(zip(files, labels, strict=True)),
        class_names=class_names,
    )
