"""Folders of files, one sample each, optionally in one sub-folder a class: pictures here, recordings in `data.audio`."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from ganzoo.data.source import SPLIT_NAMES, Source, hash_files, no_split, visible_files
from ganzoo.errors import UserError
from ganzoo.recipe.data import DataConfig


def files_of_split(
    config: DataConfig, path: Path, split: str, suffixes: Collection[str], missing: str
) -> tuple[Path, list[Path]]:
    """The folder of a split, and the visible files of a kind anywhere under it.

    Args:
        path: The data: the folder of the only split, "train", or one that holds nothing but folders named as splits are.
        suffixes: Endings of the files, in lower case.
        missing: What the message says that a folder without such files holds.
    """
    folders = [entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith(".")]
    splits = {folder.name: folder for folder in folders}
    if not splits or not SPLIT_NAMES.issuperset(splits):  # {car, plane, train} are classes
        splits = {"train": path}
    if split not in splits:
        raise no_split(f"data.path={config.path}", split, splits)
    root = splits[split]
    everything = list(visible_files(root))
    files = [file for file in everything if file.suffix.lower() in suffixes]
    if not files:
        deeper = sorted({str(file.parent) for file in everything if file.suffix.lower() == ".parquet"})
        found = sorted({file.suffix.lower() or "files without a suffix" for file in everything})
        hint = (
            f"name one with parquet files: {', '.join(deeper)}" if deeper else f"found {', '.join(found) or 'nothing'}"
        )
        raise UserError(f"The folder {root} holds {missing} ({', '.join(sorted(suffixes))}); {hint}.")
    return root, files


def folder_source(
    description: str, split: str, root: Path, files: list[Path], class_names: tuple[str, ...] | None
) -> Source:
    """Files as samples; the first folder on the way from `root` is the class, if there are classes."""
    numbers = {name: label for label, name in enumerate(class_names or ())}
    labels = [numbers.get(names[0]) if len(names := file.relative_to(root).parts) > 1 else None for file in files]
    return Source(
        description=description,
        split=split,
        fingerprint=hash_files(root, files),
        length=len(files),
        iterate=lambda: iter(zip(files, labels, strict=True)),
        class_names=class_names,
    )
