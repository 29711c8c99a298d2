"""Readers: whatever a recipe's `data` section names, as one stream of (raw sample, label) pairs.

Nothing here decodes: a sample stays the bytes, path, text or array it was stored as, and the processor turns it into an
array once, when the cache is built.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ganzoo.data.readers.base import known_files, reader_of_file, reader_of_folder
from ganzoo.data.readers.tables import LOCAL_COPY, open_hub
from ganzoo.data.sets.base import DATASETS, DataSet
from ganzoo.data.source import Source, visible_files
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
        source = _open(config, config.split)
        _check_conditions(source, config)
        return _hold_out(source, config, held=split == HOLDOUT and split != config.split)
    source = _open(config, split)
    _check_conditions(source, config)
    return source


def _check_conditions(source: Source, config: DataConfig) -> None:
    """Refuses what the reader of a source did not look at."""
    if source.conditions is None and config.condition_column is not None:
        raise UserError(
            f"data.condition_column is for tables (parquet files and data sets of the Hub); {source.description} is none."
        )
    if source.conditions is None and config.unaligned:
        raise UserError(f"data.unaligned is about conditions, and {source.description} has none; name their column.")


def _open(config: DataConfig, split: str) -> Source:
    builtin = DATASETS.get(config.dataset) if config.dataset in DATASETS.names() else None
    if config.path is not None and (builtin is None or builtin.base is None):
        try:
            # A built-in name is only the default of `dataset` here: it says nothing about the files.
            return _open_path(config, split, None if builtin else config.dataset)
        except OSError as error:
            raise UserError(f"data.path={config.path} cannot be read ({error}).") from error
    if builtin is not None:
        return _open_builtin(builtin, config, split)
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", config.dataset):
        known, own = DATASETS.names(), f" Of data of your own, {LOCAL_COPY}."
        hint = f" A local copy is named by data.path={config.dataset}." if Path(config.dataset).exists() else ""
        raise NotFoundError(
            f"There is no built-in data set '{config.dataset}' (there is {', '.join(known)}), and a Hub data set is "
            f"written owner/name.{did_you_mean(config.dataset, known)}{hint or own}"
        )
    return open_hub(config, split)


def _open_builtin(builtin: DataSet, config: DataConfig, split: str) -> Source:
    if builtin.base is None:
        return builtin.open(config, split)
    base = DataConfig(dataset=builtin.base, path=config.path)
    return builtin.open(config, split, lambda: _open(base, split))


def _open_path(config: DataConfig, split: str, name: str | None) -> Source:
    path = Path(config.path).expanduser()
    # Of the path only the last part is told, because descriptions are published with the numbers.
    description = name or path.resolve().name
    if path.is_file():
        reader = reader_of_file(path)
        if reader is None:
            raise UserError(
                f"data.path={config.path} is neither a folder nor a file of a kind that is read here: {known_files()}."
            )
        return reader.open_file(config, description, path, split)
    if not path.is_dir():
        raise NotFoundError(f"data.path={config.path} does not exist (looked for {path.absolute()}).")
    endings = Counter(file.suffix.lower() for file in visible_files(path))
    reader = reader_of_folder(path, endings)
    if reader is None:
        raise _nothing(path, config)
    return reader.open_folder(config, description, path, split)


def _nothing(folder: Path, config: DataConfig) -> UserError:
    """What a folder holds in which no reader sees anything, and what would be read."""
    everything = list(visible_files(folder))
    deeper = sorted({str(file.parent) for file in everything if file.suffix.lower() == ".parquet"})
    found = sorted({file.suffix.lower() or "files without a suffix" for file in everything})
    hint = f"name one with parquet files: {', '.join(deeper)}" if deeper else f"found {', '.join(found) or 'nothing'}"
    return UserError(f"The folder {folder} holds none of what is read here: {known_files(in_folders=True)}; {hint}.")


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

    conditions = source.conditions
    return dataclasses.replace(
        source,
        # Of as many conditions as samples the same ones are chosen.
        conditions=None if conditions is None else _hold_out(conditions, config, held=held),
        split=HOLDOUT if held else source.split,
        fingerprint=f"{source.fingerprint}:holdout-{count}-of-{length}:{held}",
        length=int(chosen.sum()),
        iterate=iterate,
    )
