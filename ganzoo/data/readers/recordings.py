"""Folders of recordings, optionally in one sub-folder a class.

Read as folders of pictures are (`data.folders`), with one difference: a set of recordings is rarely clean, so a file that
lies beside the folders of the classes is one without a label, which the cache leaves out and counts.
"""

from __future__ import annotations

from pathlib import Path

from ganzoo.data.readers.folders import files_of_split, folder_source
from ganzoo.data.source import Source
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
