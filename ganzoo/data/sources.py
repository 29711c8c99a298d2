"""Readers: whatever a recipe's `data` section names, as one stream of (raw sample, label) pairs.

Nothing here decodes: a sample stays the bytes, path or array it was stored as, and the processor turns it into an
array once, when the cache is built. Parquet files and Hub data sets share one reader, because both are Arrow tables
whose schema carries the features that `datasets` knows (images, class names); local files need no `datasets`, and no
second copy in its cache.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ganzoo.data.config import DataConfig
from ganzoo.errors import GanzooError, NotFoundError, UserError, did_you_mean, require

if TYPE_CHECKING:
    import pyarrow

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif"})
SPLIT_NAMES = frozenset({"train", "training", "validation", "valid", "val", "dev", "test", "testing"})
SAMPLE_COLUMNS = ("image", "img", "picture")
LABEL_COLUMNS = ("label", "labels", "fine_label")
ROWS_AT_A_TIME = 64  # bounds the memory of reading: 64 large photographs are about 100 MB


@dataclass(frozen=True)
class Source:
    """Samples as they are stored, before any processing.

    Attributes:
        description: The data set's public name, or the path where it has none.
        split: The split it is.
        fingerprint: Changes whenever the samples, their order or their labels may have changed.
        length: Number of samples, at least 1.
        iterate: Starts a fresh pass over (raw sample, label or None), in a fixed order.
        class_names: The classes by label, where the data names them.
    """

    description: str
    split: str
    fingerprint: str
    length: int
    iterate: Callable[[], Iterator[tuple[Any, int | None]]]
    class_names: tuple[str, ...] | None = None


def open_source(config: DataConfig, split: str | None = None) -> Source:
    """Opens the data that a recipe names.

    Args:
        config: The `data` section.
        split: Another split than `config.split`.

    Raises:
        NotFoundError: No such data set, path, split or column; the message lists what there is.
        UserError: The data cannot be read, or holds no samples.
        MissingPackageError: The package that reads it (`datasets`, `pyarrow`, `scikit-learn`) is not installed.
    """
    split = split or config.split
    if config.path is not None:
        try:
            return _open_path(config, split)
        except OSError as error:
            raise UserError(f"data.path={config.path} cannot be read ({error}).") from error
    if config.dataset in BUILTIN:
        return BUILTIN[config.dataset](split)
    return _open_hub(config, split)


# ---------------------------------------------------------------------------------------------------- built-in sets


def _open_digits(split: str) -> Source:
    """The 1,797 handwritten digits that come with scikit-learn (UCI optdigits test set, 8x8, 17 grey levels)."""
    needed = {"extra": "train", "purpose": "The built-in data set 'digits'"}
    try:
        version = importlib.metadata.version("scikit-learn")  # importing it takes over a second, the cache may do
    except importlib.metadata.PackageNotFoundError:
        version = require("sklearn", **needed).__version__
    order = np.random.RandomState(0).permutation(1797)  # RandomState: the one NumPy stream that is frozen for ever
    members = {"train": order[:1437], "test": order[1437:]}
    if split not in members:
        raise _no_split("The built-in data set 'digits'", split, members)

    def iterate() -> Iterator[tuple[np.ndarray, int]]:
        digits = require("sklearn.datasets", **needed).load_digits()
        images = np.rint(digits.images * (255 / 16)).astype(np.uint8)
        return ((images[index], int(digits.target[index])) for index in members[split])

    return Source(
        description="digits",
        split=split,
        fingerprint=f"digits:{split}:scikit-learn-{version}",
        length=len(members[split]),
        iterate=iterate,
        class_names=tuple("0123456789"),
    )


# Name -> reader of a split. A new built-in set is one entry.
BUILTIN: dict[str, Callable[[str], Source]] = {"digits": _open_digits}


# ------------------------------------------------------------------------------------------------------- local files


def _open_path(config: DataConfig, split: str) -> Source:
    path = Path(config.path).expanduser()
    # A built-in name is only the default of `dataset` here: it says nothing about the files. Of the path only the last
    # part is told, because descriptions are published with the numbers.
    description = path.resolve().name if config.dataset in BUILTIN else config.dataset
    if path.is_file():
        if path.suffix.lower() != ".parquet":
            raise UserError(f"data.path={config.path} is neither a folder nor a parquet file.")
        name = _split_of(path)
        return _open_parquet(config, description, {name if name in SPLIT_NAMES else "train": [path]}, split)
    if not path.is_dir():
        raise NotFoundError(f"data.path={config.path} does not exist (looked for {path.absolute()}).")
    splits: dict[str, list[Path]] = {}
    for file in sorted(path.glob("*.parquet")):
        if _is_visible_file(file):
            splits.setdefault(_split_of(file), []).append(file)
    if splits:
        return _open_parquet(config, description, splits, split)
    return _open_image_folder(config, description, path, split)


def _split_of(file: Path) -> str:
    """The split a parquet file belongs to: its name without the shard number (train-00000-of-00002, train_1, 0000)."""
    return re.sub(r"(^|[-_.])\d+([-_]of[-_]\d+)?$", "", file.stem) or "train"


def _open_parquet(config: DataConfig, description: str, splits: dict[str, list[Path]], split: str) -> Source:
    if split not in splits:
        raise _no_split(f"data.path={config.path}", split, splits)
    files = splits[split]
    parquet = require("pyarrow.parquet", extra="train", purpose="Reading parquet files")
    schemas, length = [], 0
    for file in files:
        with _readable_parquet(file), parquet.ParquetFile(file) as table:
            schemas.append(table.schema_arrow)
            length += table.metadata.num_rows
        if schemas[-1].names != schemas[0].names:
            raise UserError(f"The parquet files {files[0]} and {file} of split '{split}' have different columns.")

    def batches(columns: list[str]) -> Iterator[pyarrow.RecordBatch]:
        for file in files:
            with _readable_parquet(file), parquet.ParquetFile(file) as table:
                yield from table.iter_batches(ROWS_AT_A_TIME, columns=columns)

    return _table_source(
        config, description, split, schemas[0], batches, length, lambda: _hash_files(files[0].parent, files)
    )


@contextlib.contextmanager
def _readable_parquet(file: Path) -> Iterator[None]:
    try:
        yield
    except GanzooError:
        raise
    except (OSError, ValueError) as error:  # pyarrow's ArrowInvalid is a ValueError
        raise UserError(f"The parquet file {file} cannot be read ({_first_line(error)}).") from error


def _open_image_folder(config: DataConfig, description: str, path: Path, split: str) -> Source:
    folders = [entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith(".")]
    splits = {folder.name: folder for folder in folders}
    if not splits or not SPLIT_NAMES.issuperset(splits):  # {car, plane, train} are classes
        splits = {"train": path}
    if split not in splits:
        raise _no_split(f"data.path={config.path}", split, splits)
    root = splits[split]
    everything = list(_visible_files(root))
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
        fingerprint=_hash_files(root, files),
        length=len(files),
        iterate=lambda: iter(zip(files, labels, strict=True)),
        class_names=class_names,
    )


def _visible_files(root: Path) -> Iterator[Path]:
    """Files under a folder in a sorted order that is the same everywhere. Hidden entries are skipped; links to files
    count (a snapshot of the Hub's cache is made of them), links to folders do not (they may lead back up)."""
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        yield from (file for name in sorted(names) if _is_visible_file(file := Path(folder, name)))


def _is_visible_file(file: Path) -> bool:
    return not file.name.startswith(".") and file.is_file()


def _hash_files(root: Path, files: Iterable[Path]) -> str:
    """blake2b over relative names and bytes: a renamed, added, changed or relabelled file is another data set."""
    digest = hashlib.blake2b(digest_size=16)
    for file in files:
        digest.update(json.dumps([file.relative_to(root).as_posix(), file.stat().st_size]).encode())
        with open(file, "rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return f"files:{digest.hexdigest()}"


# ------------------------------------------------------------------------------------------------------ Hub data sets


def _open_hub(config: DataConfig, split: str) -> Source:
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", config.dataset):
        hint = f" A local copy is named by data.path={config.dataset}." if Path(config.dataset).exists() else ""
        raise NotFoundError(
            f"There is no built-in data set '{config.dataset}' (there is {', '.join(BUILTIN)}), and a Hub data set is "
            f"written owner/name.{did_you_mean(config.dataset, BUILTIN)}{hint}"
        )
    datasets = require("datasets", extra="train", purpose="Reading data sets of the Hugging Face Hub")
    revision = _resolve_revision(config)
    try:
        splits = datasets.load_dataset(config.dataset, config.name, revision=revision)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise NotFoundError(
            f"The Hub data set '{config.dataset}' cannot be loaded ({_first_line(error)}); check data.dataset, "
            f"data.name and data.revision, or name a local copy: data.path=LOCAL_COPY."
        ) from error
    if split not in splits:
        raise _no_split(f"The Hub data set '{config.dataset}'", split, splits)
    table = splits[split]

    def batches(columns: list[str]) -> Iterator[pyarrow.Table]:
        return table.select_columns(columns).with_format("arrow").iter(ROWS_AT_A_TIME)

    return _table_source(
        config,
        config.dataset,
        split,
        table.features.arrow_schema,
        batches,
        len(table),
        lambda: f"hub:{config.dataset}:{table._fingerprint}",
    )


def _resolve_revision(config: DataConfig) -> str | None:
    """Asks the Hub once which commit is meant; `datasets` alone would retry for half a minute before saying no."""
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    if constants.HF_HUB_OFFLINE:
        return config.revision
    try:
        return HfApi().dataset_info(config.dataset, revision=config.revision, timeout=20).sha
    except RevisionNotFoundError as error:
        raise NotFoundError(
            f"The Hub data set '{config.dataset}' has no revision '{config.revision}'; check data.revision."
        ) from error
    except RepositoryNotFoundError as error:
        raise NotFoundError(
            f"The Hub has no data set '{config.dataset}', or it is private and HF_TOKEN does not open it; check "
            f"data.dataset, or name a local copy: data.path=LOCAL_COPY."
        ) from error
    except Exception as error:  # the client's connection errors come from another HTTP package in each of its versions
        raise NotFoundError(
            f"The data set '{config.dataset}' cannot be looked up on the Hub ({_first_line(error)}); name a local "
            f"copy: data.path=LOCAL_COPY, or set HF_HUB_OFFLINE=1 if this machine has loaded it before."
        ) from error


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


# ------------------------------------------------------------------------------------------------------ Arrow tables


def _table_source(
    config: DataConfig,
    description: str,
    split: str,
    schema: pyarrow.Schema,
    batches: Callable[[list[str]], Iterable[pyarrow.RecordBatch]],
    length: int,
    fingerprint: Callable[[], str],
) -> Source:
    """A source over two columns of an Arrow table; `fingerprint` is of the whole table, and taken after the checks."""
    features = _features(schema)
    sample_column = _sample_column(config, description, features)
    label_column = _label_column(config, description, features)
    columns = [sample_column] if label_column is None else [sample_column, label_column]
    if length == 0:
        raise UserError(f"Split '{split}' of {description} holds no samples.")

    def iterate() -> Iterator[tuple[Any, int | None]]:
        for batch in batches(columns):
            samples = batch.column(sample_column).to_pylist()
            labels = batch.column(label_column).to_pylist() if label_column else [None] * len(samples)
            yield from zip(samples, labels, strict=True)

    names = features[label_column].get("names") if label_column else None
    return Source(
        description=description,
        split=split,
        fingerprint=f"{fingerprint()}:{json.dumps(columns)}",
        length=length,
        iterate=iterate,
        class_names=tuple(names) if names else None,
    )


def _features(schema: pyarrow.Schema) -> dict[str, dict[str, Any]]:
    """Column -> feature, as `datasets` writes them into a schema's metadata ({"_type": "Image"}, {"_type":
    "ClassLabel", "names": [...]}), and read off the Arrow types where a file has no such metadata."""
    metadata = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    known = metadata.get("info", {}).get("features", {})
    known = {name: feature for name, feature in known.items() if isinstance(feature, dict)}  # a list is a sequence
    return {field.name: known.get(field.name, {"_type": "Value", "dtype": str(field.type)}) for field in schema}


def _sample_column(config: DataConfig, description: str, features: dict[str, dict[str, Any]]) -> str:
    if config.sample_column is not None:
        _check_column("sample_column", config.sample_column, description, features)
        return config.sample_column
    images = [name for name, feature in features.items() if feature.get("_type") == "Image"]
    found = images + [name for name in SAMPLE_COLUMNS if name in features]
    if not found:
        raise UserError(
            f"{description} has no image column; name the one with the samples by data.sample_column "
            f"(there is {', '.join(features)})."
        )
    return found[0]


def _label_column(config: DataConfig, description: str, features: dict[str, dict[str, Any]]) -> str | None:
    if config.label_column is not None:
        _check_column("label_column", config.label_column, description, features)
        if not _holds_labels(features[config.label_column]):
            raise UserError(f"The column '{config.label_column}' of {description} does not hold integer labels.")
        return config.label_column
    classes = [name for name, feature in features.items() if feature.get("_type") == "ClassLabel"]
    integers = [name for name in LABEL_COLUMNS if name in features and _holds_labels(features[name])]
    return next(iter(classes + integers), None)


def _holds_labels(feature: dict[str, Any]) -> bool:
    return feature.get("_type") == "ClassLabel" or re.match(r"u?int\d+$", str(feature.get("dtype"))) is not None


def _check_column(option: str, column: str, description: str, features: dict[str, dict[str, Any]]) -> None:
    if column not in features:
        raise NotFoundError(
            f"{description} has no column '{column}' (data.{option}); there is {', '.join(features)}."
            f"{did_you_mean(column, features)}"
        )


def _no_split(owner: str, split: str, splits: Iterable[str]) -> NotFoundError:
    return NotFoundError(f"{owner} has no split '{split}'; there is {', '.join(sorted(splits))}.")
