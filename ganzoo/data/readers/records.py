"""Tables in text files, a sample a row: CSV, JSON lines, JSON arrays, and tab-separated values with a first line of names.

Columns are named by the first line, or by the keys of the objects; an object may be a plain string, which is its text.
The texts are in the column that `data.sample_column` names, else in that of text, sentence or caption; labels in that of
`data.label_column`, else in `label`: whole numbers, or the names of classes, which are numbered in their order.
"""

from __future__ import annotations

import csv
import json
import logging
import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

from ganzoo.data.lines import MAX_LINE, lines
from ganzoo.data.readers.base import Reader
from ganzoo.data.readers.tables import LABEL_COLUMNS, check_column
from ganzoo.data.source import Source, ending, files_by_split, hash_files, named_split, no_split
from ganzoo.errors import UserError, shorten
from ganzoo.recipe.data import DataConfig

logger = logging.getLogger(__name__)

TEXT_COLUMNS = ("text", "sentence", "caption", "captions")
MAX_CLASSES = 10_000
MAX_ARRAY = 256 << 20  # characters of a JSON array, which is read whole
KEYED = 1000  # objects whose keys are the known columns
DELIMITERS = ",;\t|"

# A row: the number of its line (of an array: its own), and its values by column; of a blank line, none.
Rows = Iterator[tuple[int, dict[str, Any]]]


def record_files(folder: Path) -> dict[str, list[Path]]:
    """The tables of a folder by split."""
    return files_by_split(folder, lambda file: ending(file) in ROW_READERS)


def has_names(config: DataConfig, file: Path) -> bool:
    """Whether the first line of tab-separated values holds the columns' names: one is asked for, or is known; else it is
    the first sample."""
    if any((config.sample_column, config.label_column, config.prompt_column)):
        return True
    _, first = next(lines(file), (1, ""))
    return _find(TEXT_COLUMNS, [name.strip() for name in first.split("\t")]) is not None


def open_records(config: DataConfig, description: str, splits: dict[str, list[Path]], split: str) -> Source:
    """The rows of one split.

    Raises:
        NotFoundError: A column or split that there is not; lists what there is.
        UserError: A file that is no such table names the file and the line; no text, or labels that are none.
    """
    if split not in splits:
        raise no_split(f"data.path={config.path}", split, splits)
    files = splits[split]
    names = _known_names(files)
    if not names:
        raise UserError(f"Split '{split}' of data.path={config.path} holds no rows.")
    chosen = _Columns(
        _sample_column(config, description, names),
        _named(config, "prompt_column", description, names),
        _named(config, "label_column", description, names) or _find(LABEL_COLUMNS, names),
    )
    class_names = None
    if chosen.label is not None:
        # Of all splits, so that a class has one number in each.
        everything = chain.from_iterable(splits.values())
        is_label, class_names = _classes(row.get(chosen.label) for file in everything for _, row in _rows(file))
        if not is_label and config.label_column is not None:
            raise UserError(
                f"The column '{chosen.label}' of {description} holds neither whole numbers nor up to {MAX_CLASSES:,} names "
                "of classes."
            )
        chosen = chosen if is_label else chosen._replace(label=None)
    label_of = _label_reader(class_names)

    def iterate() -> Iterator[tuple[Any, int | None]]:
        for file in files:
            for sample, label in _samples(file, chosen):
                if sample is not None:
                    yield sample, label_of(label)

    length = dropped = 0
    for file in files:
        for sample, _ in _samples(file, chosen):
            length, dropped = length + (sample is not None), dropped + (sample is None)
    if length == 0:
        raise UserError(f"Split '{split}' of data.path={config.path} holds no text in its column '{chosen.sample}'.")
    if dropped:
        logger.info("%s (%s): %d rows without text left out.", description, split, dropped)
    return Source(
        description=description,
        split=split,
        fingerprint=f"{hash_files(files[0].parent, files)}:{json.dumps([*chosen, class_names])}",
        length=length,
        iterate=iterate,
        class_names=class_names,
        dropped=dropped,
    )


class _Columns(NamedTuple):
    sample: str
    prompt: str | None
    label: str | None


def _known_names(files: list[Path]) -> list[str]:
    """The columns of the first file, in the order in which they come up; of the others, what they have besides."""
    names: dict[str, None] = {}
    for file in files:
        for _, row in islice(_rows(file), KEYED):
            names.update(dict.fromkeys(row))
    return list(names)


def _find(wanted: Iterable[str], names: list[str]) -> str | None:
    """The first of the wanted columns that there is, in any case of letters."""
    found = {name.lower(): name for name in reversed(names)}
    return next((found[name] for name in wanted if name in found), None)


def _named(config: DataConfig, option: str, description: str, names: list[str]) -> str | None:
    column = getattr(config, option)
    if column is not None:
        check_column(option, column, description, names)
    return column


def _sample_column(config: DataConfig, description: str, names: list[str]) -> str:
    column = _named(config, "sample_column", description, names) or _find(TEXT_COLUMNS, names)
    if column is None:
        raise UserError(
            f"{description} has no column {', '.join(TEXT_COLUMNS)}; name the one with the samples by data.sample_column "
            f"(there is {', '.join(names)})."
        )
    return column


def _samples(file: Path, columns: _Columns) -> Iterator[tuple[str | tuple[str, str] | None, Any]]:
    """The texts of a file, or its (prompt, text) pairs, with their labels as they stand there; None for a row without."""
    for number, row in _rows(file):
        text = _text(file, number, columns.sample, row)
        prompt = _text(file, number, columns.prompt, row) if columns.prompt else None
        if columns.prompt and text is not None:
            if prompt is None:
                raise UserError(f"{file}, line {number}: a text without a prompt in its column '{columns.prompt}'.")
            text = (prompt, text)
        yield text, row.get(columns.label)


def _text(file: Path, number: int, column: str, row: dict[str, Any]) -> str | None:
    value = row.get(column)
    if value is not None and not isinstance(value, str):
        raise UserError(f"{file}, line {number}: the column '{column}' holds {shorten(value)}, which is no text.")
    return (value or "").strip() or None


# Labels


def _classes(values: Iterable[Any]) -> tuple[bool, tuple[str, ...] | None]:
    """Whether values are labels, and the names of the classes where they are no numbers."""
    different = set()
    for value in values:
        if value is None or value == "":
            continue
        if not isinstance(value, (str, int, float)):
            return False, None
        different.add(str(value).strip())
        if len(different) > MAX_CLASSES:
            break
    if all(_whole(value) is not None for value in different):
        return bool(different), None
    if len(different) > MAX_CLASSES or any(_is_number(value) and _whole(value) is None for value in different):
        return False, None
    return True, tuple(sorted(different))


def _label_reader(class_names: tuple[str, ...] | None) -> Callable[[Any], int | None]:
    if class_names is None:
        return lambda value: None if value is None or value == "" else _whole(str(value))
    numbers = {name: number for number, name in enumerate(class_names)}
    return lambda value: numbers.get(str(value).strip())


def _whole(value: str) -> int | None:
    """A label, which fits into 64 bits; None of other text."""
    return int(match[1]) if (match := re.fullmatch(r"\s*([+-]?\d{1,18})(\.0*)?\s*", value)) else None


def _is_number(value: str) -> bool:
    try:
        return bool(float(value)) or True
    except ValueError:
        return False


# Files


def _rows(file: Path) -> Rows:
    return ROW_READERS.get(ending(file), _tabbed)(file)


def _delimited(file: Path, delimiters: str = DELIMITERS, **options: Any) -> Rows:
    """CSV (RFC 4180), by whatever of `delimiters` makes most columns of the first line."""
    stream = (line for _, line in lines(file))
    first = next(stream, "")
    delimiter = max(delimiters, key=lambda one: len(next(csv.reader([first], delimiter=one, **options), [])))
    reader = csv.reader(chain([first], stream), delimiter=delimiter, strict=True, **options)
    number = 1
    try:
        names = [name.strip() for name in next(reader, [])]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise UserError(f"{file}: two columns have the name '{twice[0]}'.")
        number = reader.line_num + 1
        for row in reader:
            if row and len(row) != len(names):
                raise UserError(
                    f"{file}, line {number}: {len(row)} columns where the first line has {len(names)}; a text that holds "
                    f"{delimiter!r} stands in quotation marks."
                )
            yield number, dict(zip(names, row or [""] * len(names), strict=True))
            number = reader.line_num + 1
    except csv.Error as error:
        raise UserError(
            f"{file}, line {number}: no CSV ({error}); a text that holds quotation marks stands in such, and they are "
            "doubled within it."
        ) from None


def _objects(file: Path, longest: int = MAX_LINE) -> Rows:
    """JSON lines."""
    for number, line in lines(file, longest):
        yield number, _values(file, number, _parsed(file, number, line.rstrip())) if line.strip() else {}


def _array(file: Path) -> Rows:
    """A JSON array, or JSON lines under the ending .json."""
    first = next((line for _, line in lines(file, MAX_ARRAY) if line.strip()), "")
    if not first.lstrip().startswith("["):
        yield from _objects(file, MAX_ARRAY)
        return
    parts, size = [], 0
    for _, line in lines(file, MAX_ARRAY):
        parts.append(line)
        size += len(line)
        if size > MAX_ARRAY:
            raise UserError(f"{file}: longer than {MAX_ARRAY:,} characters; write an object a line (.jsonl).")
    for number, value in enumerate(_parsed(file, 1, "".join(parts)), 1):
        yield number, _values(file, number, value)


def _parsed(file: Path, number: int, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        place = number - 1 + getattr(error, "lineno", 1)
        reason = getattr(error, "msg", None) or "nested too deeply"
        raise UserError(
            f"{file}, line {place}: no JSON ({reason}); an object or a string a line, or one array."
        ) from None


def _values(file: Path, number: int, value: Any) -> dict[str, Any]:
    if isinstance(value, str):
        return {TEXT_COLUMNS[0]: value}
    if not isinstance(value, dict):
        raise UserError(f"{file}, line {number}: {shorten(value)} is neither an object nor a string.")
    return value


# Tabs need no quotation marks, and what looks like one is part of a text.
_tabbed = partial(_delimited, delimiters="\t", quoting=csv.QUOTE_NONE)
# Ending -> how its rows are read.
ROW_READERS: dict[str, Callable[[Path], Rows]] = {
    ".csv": _delimited,
    ".jsonl": _objects,
    ".ndjson": _objects,
    ".json": _array,
}


READER = Reader(
    files=f"rows ({', '.join(ROW_READERS)}, each also as .gz)",
    knows=lambda file: ending(file) in ROW_READERS,
    open_file=lambda config, description, file, split: open_records(
        config, description, {named_split(file): [file]}, split
    ),
    open_folder=lambda config, description, folder, split: open_records(
        config, description, record_files(folder), split
    ),
    count=lambda folder, endings: sum(map(len, record_files(folder).values())),
    rank=0,
)
