"""Folders of recordings, optionally in one sub-folder a class.

Read as folders of pictures are (`data.folders`), with one difference: a set of recordings is rarely clean, so a file that
lies beside the folders of the classes is one without a label, which the cache leaves out and counts.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ganzoo.data.readers.base import Column, Reader
from ganzoo.data.readers.folders import files_of_split, folder_source
from ganzoo.data.source import Source, named_split, no_split
from ganzoo.recipe.data import DataConfig

AUDIO_SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".mp3"})


def open_audio_folder(config: DataConfig, description: str, path: Path, split: str) -> Source:
    """The recordings of one split.

    Sub-folders mean classes if there are at least two, or if every recording lies in one.
    """
    root, files = files_of_split(config, path, split, AUDIO_SUFFIXES, "no recordings")
    parts = [file.relative_to(root).parts for file in files]
    folders = sorted({names[0] for names in parts if len(names) > 1})
    are_classes = len(folders) > 1 or all(len(names) > 1 for names in parts)
    return folder_source(description, split, root, files, tuple(folders) if are_classes else None)


def open_recording(config: DataConfig, description: str, file: Path, split: str) -> Source:
    """One long recording, to be cut by data.processor.slices."""
    if split != named_split(file):
        raise no_split(f"data.path={config.path}", split, [named_split(file)])
    return folder_source(description, split, file.parent, [file], None)


def _holds_files(feature: dict[str, Any]) -> bool:
    """Bytes, or records with them and a path, as `datasets` stores files; without its own metadata, or with metadata that
    does not say what they are."""
    return "bytes" in feature or re.match(r"struct<.*\bbytes: |(large_)?binary", str(feature.get("dtype"))) is not None


READER = Reader(
    files=f"recordings ({', '.join(sorted(AUDIO_SUFFIXES))})",
    knows=lambda file: file.suffix.lower() in AUDIO_SUFFIXES,
    open_file=open_recording,
    open_folder=open_audio_folder,
    column=Column(("audio", "recording", "speech"), type="Audio", holds=_holds_files),
    count=lambda folder, endings: sum(endings[ending] for ending in AUDIO_SUFFIXES),
)
