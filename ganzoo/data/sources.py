"""Readers: whatever a recipe's `data` section names, as one stream of (raw sample, label) pairs.

Nothing here decodes: a sample stays the bytes, path, text or array it was stored as, and the processor turns it into an
array once, when the cache is built.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from ganzoo.data.readers.folders import folder_source
from ganzoo.data.readers.pictures import IMAGE_SUFFIXES, open_image_folder
from ganzoo.data.readers.recordings import AUDIO_SUFFIXES, open_audio_folder
from ganzoo.data.readers.records import READERS, open_records, record_files
from ganzoo.data.readers.tables import open_hub, open_parquet
from ganzoo.data.readers.texts import is_lines, open_texts, text_files
from ganzoo.data.sets.coco_captions import open_coco_captions
from ganzoo.data.sets.digits import open_digits
from ganzoo.data.sets.docstrings import open_docstrings
from ganzoo.data.sets.drums import open_drums
from ganzoo.data.sets.mixtures import open_mixture
from ganzoo.data.sets.python_docs import open_python_docs
from ganzoo.data.sets.stacked import open_stacked_mnist
from ganzoo.data.source import SPLIT_NAMES, Source, ending, is_visible_file, no_split, split_of, visible_files
from ganzoo.errors import NotFoundError, UserError, did_you_mean
from ganzoo.recipe.data import DataConfig

__all__ = ["HOLDOUT", "Source", "open_source"]

HOLDOUT = "holdout"


def open_source(config: DataConfig, split: str | None = None) -> Source:
    """Opens the data that a recipe names.

    Args:
        config: The `data` section.
        split: Another split than `config.split`; `"holdout"` is the part of that one which `config.holdout` keeps from
            training.

    Raises:
        NotFoundError: No such data set, path, split or column; the message lists what there is.
        UserError: The data cannot be read, or holds no samples.
        MissingPackageError: The package that reads it (`datasets`, `pyarrow`, `scikit-learn`) is not installed.
    """
    split = split or config.split
    if config.holdout and split in (config.split, HOLDOUT):
        return _hold_out(_open(config, config.split), config, held=split == HOLDOUT and split != config.split)
    return _open(config, split)


def _open(config: DataConfig, split: str) -> Source:
    if config.path is not None and config.dataset not in DERIVED:
        try:
            return _open_path(config, split)
        except OSError as error:
            raise UserError(f"data.path={config.path} cannot be read ({error}).") from error
    if config.dataset in BUILTIN:
        return BUILTIN[config.dataset](config, split)
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", config.dataset):
        hint = f" A local copy is named by data.path={config.dataset}." if Path(config.dataset).exists() else ""
        raise NotFoundError(
            f"There is no built-in data set '{config.dataset}' (there is {', '.join(BUILTIN)}), and a Hub data set is "
            f"written owner/name.{did_you_mean(config.dataset, BUILTIN)}{hint}"
        )
    return open_hub(config, split)


def _open_path(config: DataConfig, split: str) -> Source:
    path = Path(config.path).expanduser()
    # A built-in name is only the default of `dataset` here: it says nothing about the files. Of the path only the last
    # part is told, because descriptions are published with the numbers.
    description = path.resolve().name if config.dataset in BUILTIN else config.dataset
    if path.is_file():
        return _open_file(config, description, path, split)
    if not path.is_dir():
        raise NotFoundError(f"data.path={config.path} does not exist (looked for {path.absolute()}).")
    splits: dict[str, list[Path]] = {}
    for file in sorted(path.glob("*.parquet")):
        if is_visible_file(file):
            splits.setdefault(split_of(file), []).append(file)
    if splits:
        return open_parquet(config, description, splits, split)
    suffixes = Counter(file.suffix.lower() for file in visible_files(path))
    images, recordings = (sum(suffixes[suffix] for suffix in kind) for kind in (IMAGE_SUFFIXES, AUDIO_SUFFIXES))
    # Of a folder with both, what there is more of are the samples: pictures with a jingle, or songs with their covers.
    if recordings > images:
        return open_audio_folder(config, description, path, split)
    texts, class_names = text_files(path)
    if texts and not images:  # beside pictures or recordings, train.txt is a list of them
        return open_texts(config, description, texts, split, class_names)
    if (records := record_files(path)) and not images:
        return open_records(config, description, records, split)
    return open_image_folder(config, description, path, split)


def _open_file(config: DataConfig, description: str, path: Path, split: str) -> Source:
    suffix = path.suffix.lower()
    if suffix == ".safetensors":
        return _oracles().open_oracle_file(config, description, path, split)
    # A file that says that it is a test set is never taken for the training set.
    name = split_of(path) if split_of(path) in SPLIT_NAMES else "train"
    if suffix == ".parquet":
        return open_parquet(config, description, {name: [path]}, split)
    if ending(path) in READERS:
        return open_records(config, description, {name: [path]}, split)
    if is_lines(path):
        return open_texts(config, description, {name: [(path, None)]}, split)
    if suffix in AUDIO_SUFFIXES:  # one long recording, to be cut by data.processor.slices
        if split != name:
            raise no_split(f"data.path={config.path}", split, [name])
        return folder_source(description, split, path.parent, [path], None)
    raise UserError(
        f"data.path={config.path} is neither a folder nor a file of a kind that is read here (.parquet, .csv, .tsv, "
        f".jsonl, .json, text in .txt, .md or without an ending, each of these also as .gz, a recording, or the .safetensors "
        f"of an oracle)."
    )


def _hold_out(source: Source, config: DataConfig, *, held: bool) -> Source:
    """The samples of a split that are held out, or those that are left to train on; the order is kept.

    The choice depends on the number of samples and on nothing else. Equal samples may come to lie on both sides.
    """
    length = min(source.length, config.limit or source.length)
    count = max(1, round(length * config.holdout))
    if count >= length:
        raise UserError(
            f"data.holdout={config.holdout} leaves nothing of {length} sample of {source.description} to train on."
        )
    chosen = np.zeros(length, dtype=bool)
    # RandomState: the one NumPy stream that is frozen for ever.
    chosen[np.random.RandomState(0).permutation(length)[:count]] = True
    if not held:
        chosen = ~chosen

    def iterate() -> Iterator[tuple[Any, int | None]]:
        return (pair for pair, is_chosen in zip(source.iterate(), chosen, strict=False) if is_chosen)

    return dataclasses.replace(
        source,
        split=HOLDOUT if held else source.split,
        fingerprint=f"{source.fingerprint}:holdout-{count}-of-{length}:{held}",
        length=int(chosen.sum()),
        iterate=iterate,
    )


def _oracles() -> ModuleType:
    """Imported when it is used: an oracle is a network, and needs torch."""
    from ganzoo.data.sets import oracle

    return oracle


# Name -> reader of a split. A new built-in set is one entry.
BUILTIN: dict[str, Callable[[DataConfig, str], Source]] = {
    "digits": open_digits,
    "drums": open_drums,
    "ring": open_mixture,
    "grid": open_mixture,
    "python-docs": open_python_docs,
    "python-docstrings": open_docstrings,
    "coco-captions": open_coco_captions,
    "oracle": lambda config, split: _oracles().open_oracle(config, split),
    "stacked-mnist": lambda config, split: open_stacked_mnist(config, split, open_source),
}


# Those that are made of another data set, of which `path` is a local copy.
DERIVED = {"stacked-mnist"}
