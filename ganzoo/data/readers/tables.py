"""Tables: parquet files and data sets of the Hugging Face Hub.

Both share one reader, because both are Arrow tables whose schema carries the features that `datasets` knows (images,
recordings, class names); local files need no `datasets`, and no second copy in its cache. Pictures and recordings stay the
bytes of their files, so `datasets` decodes nothing and needs no codec of its own.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ganzoo.data.readers.base import Reader, sample_column
from ganzoo.data.source import Source, first_line, hash_files, is_visible_file, named_split, no_split, split_of
from ganzoo.errors import GanzooError, NotFoundError, UserError, did_you_mean, require
from ganzoo.recipe.data import DataConfig

if TYPE_CHECKING:
    import pyarrow

LABEL_COLUMNS = ("label", "labels", "fine_label")
LOCAL_COPY = "name a local copy: data.path=LOCAL_COPY (sample and evaluate: --data LOCAL_COPY)"
ROWS_AT_A_TIME = 64  # bounds the memory of reading: 64 large photographs are about 100 MB


def open_parquet(config: DataConfig, description: str, splits: dict[str, list[Path]], split: str) -> Source:
    """The files of one split, as one table."""
    if split not in splits:
        raise no_split(f"data.path={config.path}", split, splits)
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
        config, description, split, schemas[0], batches, length, lambda: hash_files(files[0].parent, files)
    )


@contextlib.contextmanager
def _readable_parquet(file: Path) -> Iterator[None]:
    try:
        yield
    except GanzooError:
        raise
    except (OSError, ValueError) as error:  # pyarrow's ArrowInvalid is a ValueError
        raise UserError(f"The parquet file {file} cannot be read ({first_line(error)}).") from error


def open_hub(config: DataConfig, split: str) -> Source:
    """A data set of the Hub, through `datasets`."""
    datasets = require("datasets", extra="train", purpose="Reading data sets of the Hugging Face Hub")
    revision = _resolve_revision(config)
    try:
        splits = datasets.load_dataset(config.dataset, config.name, revision=revision)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise NotFoundError(
            f"The Hub data set '{config.dataset}' cannot be loaded ({first_line(error)}); check data.dataset, "
            f"data.name and data.revision, or {LOCAL_COPY}."
        ) from error
    if split not in splits:
        raise no_split(f"The Hub data set '{config.dataset}'", split, splits)
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
            f"data.dataset, or {LOCAL_COPY}."
        ) from error
    except Exception as error:  # the client's connection errors come from another HTTP package in each of its versions
        raise NotFoundError(
            f"The data set '{config.dataset}' cannot be looked up on the Hub ({first_line(error)}); {LOCAL_COPY}, "
            f"or set HF_HUB_OFFLINE=1 if this machine has loaded it before."
        ) from error


def _table_source(
    config: DataConfig,
    description: str,
    split: str,
    schema: pyarrow.Schema,
    batches: Callable[[list[str]], Iterable[pyarrow.RecordBatch]],
    length: int,
    fingerprint: Callable[[], str],
) -> Source:
    """A source over the named columns of an Arrow table; `fingerprint` is of the whole table, and taken after the checks."""
    features = _features(schema)
    sample_column = _sample_column(config, description, features)
    label_column = _label_column(config, description, features)
    if config.prompt_column is not None:
        check_column("prompt_column", config.prompt_column, description, features)
    if config.condition_column is not None:
        check_column("condition_column", config.condition_column, description, features)
    if length == 0:
        raise UserError(f"Split '{split}' of {description} holds no samples.")
    whole = fingerprint()

    def source(sample_column: str, label_column: str | None = None, prompt_column: str | None = None) -> Source:
        columns = [name for name in (sample_column, label_column, prompt_column) if name is not None]

        def iterate() -> Iterator[tuple[Any, int | None]]:
            for batch in batches(columns):
                samples = batch.column(sample_column).to_pylist()
                if prompt_column is not None:
                    samples = list(zip(batch.column(prompt_column).to_pylist(), samples, strict=True))
                labels = batch.column(label_column).to_pylist() if label_column else [None] * len(samples)
                rows = zip(samples, labels, strict=True)
                yield from (row for row in rows if row[0] is not None) if config.unaligned else rows

        number, kind = length, json.dumps(columns)
        if config.unaligned:
            number -= sum(batch.column(sample_column).null_count for batch in batches([sample_column]))
            kind += ":without nulls"
            if number == 0:
                raise UserError(f"The column '{sample_column}' of {description} ({split}) holds nothing but nulls.")
        names = features[label_column].get("names") if label_column else None
        return Source(
            description=description,
            split=split,
            fingerprint=f"{whole}:{kind}",
            length=number,
            iterate=iterate,
            class_names=tuple(names) if names else None,
        )

    samples = source(sample_column, label_column, config.prompt_column)
    if config.condition_column is None:
        return samples
    return dataclasses.replace(samples, conditions=source(config.condition_column))


def _features(schema: pyarrow.Schema) -> dict[str, dict[str, Any]]:
    """Column -> feature, as `datasets` writes them into a schema's metadata ({"_type": "Image"}, {"_type":
    "ClassLabel", "names": [...]}), and read off the Arrow types where a file has no such metadata."""
    metadata = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    known = metadata.get("info", {}).get("features", {})
    known = {name: feature for name, feature in known.items() if isinstance(feature, dict)}  # a list is a sequence
    return {field.name: known.get(field.name, {"_type": "Value", "dtype": str(field.type)}) for field in schema}


def _sample_column(config: DataConfig, description: str, features: dict[str, dict[str, Any]]) -> str:
    if config.sample_column is not None:
        check_column("sample_column", config.sample_column, description, features)
        return config.sample_column
    found = sample_column(features)
    if found is None:
        raise UserError(
            f"{description} holds no recordings and has no image or text column; name the one with the samples by "
            f"data.sample_column (there is {', '.join(features)})."
        )
    return found


def _label_column(config: DataConfig, description: str, features: dict[str, dict[str, Any]]) -> str | None:
    if config.label_column is not None:
        check_column("label_column", config.label_column, description, features)
        if not _holds_labels(features[config.label_column]):
            raise UserError(f"The column '{config.label_column}' of {description} does not hold integer labels.")
        return config.label_column
    classes = [name for name, feature in features.items() if feature.get("_type") == "ClassLabel"]
    integers = [name for name in LABEL_COLUMNS if name in features and _holds_labels(features[name])]
    return next(iter(classes + integers), None)


def _holds_labels(feature: dict[str, Any]) -> bool:
    return feature.get("_type") == "ClassLabel" or re.match(r"u?int\d+$", str(feature.get("dtype"))) is not None


def check_column(option: str, column: str, description: str, known: Collection[str]) -> None:
    """Raises a NotFoundError if there is no column of the name that `data.<option>` says."""
    if column not in known:
        raise NotFoundError(
            f"{description} has no column '{column}' (data.{option}); there is {', '.join(known)}."
            f"{did_you_mean(column, known)}"
        )


def _parquet_files(folder: Path) -> dict[str, list[Path]]:
    """The parquet files right in a folder, by split."""
    splits: dict[str, list[Path]] = {}
    for file in sorted(folder.glob("*.parquet")):
        if is_visible_file(file):
            splits.setdefault(split_of(file), []).append(file)
    return splits


READER = Reader(
    files="tables (.parquet)",
    knows=lambda file: file.suffix.lower() == ".parquet",
    open_file=lambda config, description, file, split: open_parquet(
        config, description, {named_split(file): [file]}, split
    ),
    open_folder=lambda config, description, folder, split: open_parquet(
        config, description, _parquet_files(folder), split
    ),
    count=lambda folder, endings: sum(map(len, _parquet_files(folder).values())),
    rank=2,
)
