"""The decode-once cache: every sample as the processor stores it, in one memory-mapped array.

    $GANZOO_CACHE/data/KEY/samples.npy  labels.npy  meta.json

Decoding pictures costs thirty times what gathering them from such an array does, so it is paid once per (data, limit,
processor). KEY is a hash of exactly these, so nothing ever has to be invalidated; a folder may be deleted at any time.

A picture or a text that cannot be used is an error. Sets of recordings are known to have some: those are left out, counted
and named in `meta.json`. A long recording may become several samples, so their number is known only at the end.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import logging
import math
import os
import re
import shutil
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np

from ganzoo.data.left_out import LeftOut, Tally
from ganzoo.data.source import Source
from ganzoo.errors import MAX_MESSAGE, GanzooError, UnusableSample, UserError, one_line
from ganzoo.utils.files import new_folder, remove_leftovers
from ganzoo.utils.terminal import bar

if TYPE_CHECKING:
    from ganzoo.processors import Processor

logger = logging.getLogger(__name__)

FORMAT = 1  # part of every key: a new layout is a new cache
NO_LABEL = "no label (null, negative, or a file beside the folders of the classes)"


def cache_root() -> Path:
    """Where the caches lie: `data` under $GANZOO_CACHE, by default $XDG_CACHE_HOME/ganzoo or ~/.cache/ganzoo."""
    folder = os.environ.get("GANZOO_CACHE")
    if not folder:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "ganzoo"
    return Path(folder).expanduser().absolute() / "data"


def build_cache(
    source: Source, processor: Processor, limit: int | None = None, *, progress: bool | None = None
) -> Path:
    """Decodes a source into the cache, unless it is there already.

    Processes that ask at the same time build it once: the others wait for the lock. The folder appears under its name
    only when it is complete and on disk.

    Args:
        source: What to decode.
        processor: How; its `encode_all` is called once per raw sample, and gives any number of samples.
        limit: Decode only the first so many raw samples.
        progress: Show a progress bar on stderr; by default only if stderr is a terminal.

    Returns:
        The folder, for `read_cache`.

    Raises:
        UserError: A sample cannot be read, or only some samples have labels; the message names the sample. Of recordings,
            which are left out then: not one is left.
        GanzooError: The cache cannot be written: the disk is full or the folder is not writable.
    """
    from filelock import FileLock

    length = min(limit or source.length, source.length)
    key = _key(source, processor, length)
    root = cache_root()
    folder = root / key
    if read_cache(folder) is not None:
        return folder
    with _explained_os_errors(root):
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / f"{key}.lock"):
            if read_cache(folder) is not None:  # another process was faster
                return folder
            if folder.exists():
                logger.warning("The data cache %s is damaged; it is built again.", folder)
            remove_leftovers(folder)  # of a killed process: only the lock's owner writes here
            with new_folder(folder) as temporary, _explained_os_errors(root):
                _write(temporary, source, processor, length, progress)
    return folder


class CacheContent(NamedTuple):
    """A cache, opened.

    Attributes:
        samples: (N, *sample_shape), memory-mapped.
        labels: (N,) int64, or None.
        left_out: The recordings that are not among them, or None.
    """

    samples: np.ndarray
    labels: np.ndarray | None
    left_out: LeftOut | None


def read_cache(folder: Path) -> CacheContent | None:
    """Opens a cache.

    Returns:
        None if the folder is not there or is not whole (a file missing or cut short, unreadable or contradictory
        `meta.json`).
    """
    try:
        meta = json.loads((folder / "meta.json").read_text())
        samples = np.load(folder / "samples.npy", mmap_mode="r")  # refuses a file shorter than its header says
        labels = np.load(folder / "labels.npy") if meta["labels"] else None
        left_out = LeftOut.from_json(meta["left_out"]) if "left_out" in meta else None
        whole = samples.shape == (meta["length"], *meta["sample_shape"]) and samples.dtype.name == meta["dtype"]
    except (OSError, ValueError, KeyError, TypeError, EOFError, OverflowError):
        return None
    if labels is not None:
        whole = whole and labels.shape == samples.shape[:1] and labels.dtype == np.int64
    return CacheContent(samples, labels, left_out) if whole else None


def open_cache(folder: Path) -> tuple[np.ndarray, np.ndarray | None] | None:
    """Samples and labels of a cache, as `read_cache` opens it."""
    content = read_cache(folder)
    return content and (content.samples, content.labels)


def _key(source: Source, processor: Processor, length: int) -> str:
    parts = [FORMAT, source.fingerprint, source.split, length, processor.fingerprint()]
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()


@contextlib.contextmanager
def _explained_os_errors(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise GanzooError(
            f"The data cache cannot be written to {root} ({error.strerror or error}); make room there, or name "
            f"another folder by the environment variable GANZOO_CACHE."
        ) from error


def _write(folder: Path, source: Source, processor: Processor, length: int, progress: bool | None) -> None:
    shape, dtype = tuple(processor.sample_shape), np.dtype(processor.storage_dtype)
    size = math.prod(shape) * dtype.itemsize
    if length * size > shutil.disk_usage(folder).free:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # now rather than in an hour
    labels: list[int | None] = []  # of the samples
    read, is_labelled = 0, False
    unusable, unlabelled = Tally(), Tally()
    # Plain writes, not a writable memory map: a disk that fills up is then an error instead of a SIGBUS.
    with _synced(folder / "samples.npy") as file:
        start = _write_header(file, dtype, (length, *shape))
        for name, label, samples in _encoded(source, processor, length, unusable, progress):
            read, is_labelled = read + 1, is_labelled or label is not None
            if label is None and samples:
                unlabelled.add(NO_LABEL, name)
            for sample in samples:
                file.write(sample.data)
                labels.append(label)
        if read != length:
            raise UserError(f"{_where(source)} ended after {read} of {length} samples; is a file cut short?")
        if is_labelled and None in labels:
            _check_labels(source, processor, labels)
            labels = _drop_unlabelled(file, start, size, labels)
            unusable.take(unlabelled)
        left_out = unusable.result(length)
        if not labels:
            raise UserError(f"Nothing is left to use: {left_out.sentence(_where(source))}.")
        if len(labels) != length:
            file.seek(0)
            _write_header(file, dtype, (len(labels), *shape))
    if is_labelled:
        with _synced(folder / "labels.npy") as file:
            np.save(file, np.array(labels, dtype=np.int64))
    meta = {
        "length": len(labels),
        "sample_shape": shape,
        "dtype": dtype.name,
        "labels": is_labelled,
        "description": source.description,
        "split": source.split,
        "fingerprint": source.fingerprint,
        "processor": processor.fingerprint(),
    }
    if left_out:
        meta["left_out"] = left_out.to_json()
    with _synced(folder / "meta.json") as file:
        file.write(json.dumps(meta, indent=2).encode())


def _write_header(file: BinaryIO, dtype: np.dtype, shape: tuple[int, ...]) -> int:
    """Writes the head of a .npy file and returns its length, which is the same for every number of samples: NumPy leaves
    room for 21 digits."""
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    return file.tell()


def _drop_unlabelled(file: BinaryIO, start: int, size: int, labels: list[int | None]) -> list[int]:
    """Moves the samples that have a label up in the file, over those that have none, and returns their labels."""
    kept = [index for index, label in enumerate(labels) if label is not None]
    for target, index in enumerate(kept):
        if target != index:
            file.seek(start + index * size)
            sample = file.read(size)
            file.seek(start + target * size)
            file.write(sample)
    file.truncate(start + len(kept) * size)
    return [labels[index] for index in kept]


@contextlib.contextmanager
def _synced(path: Path) -> Iterator[BinaryIO]:
    with open(path, "w+b") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def _encoded(
    source: Source, processor: Processor, length: int, unusable: Tally, progress: bool | None
) -> Iterator[tuple[str, int | None, list[np.ndarray]]]:
    """The first raw samples: name, label (None: unlabelled), and contiguous arrays of the stored type. One that cannot be
    used has no arrays, and is counted."""
    shape, dtype = tuple(processor.sample_shape), np.dtype(processor.storage_dtype)
    raws = islice(source.iterate(), length)
    pairs = bar(raws, total=length, desc=f"Decoding {_where(source)}", unit=" samples", shown=progress, leave=True)
    for index, (raw, label) in enumerate(pairs):
        file = _file_of(raw)
        name = f"Sample {index}{f', {file},' if file else ''} of {_where(source)}"
        short = "/".join(Path(file).parts[-2:]) if file else f"sample {index}"
        try:
            samples = processor.encode_all(raw)
            if not samples:
                raise UnusableSample("no sample comes of it")
        except UnusableSample as error:
            unusable.add(_unnamed(str(error), file), short)
            samples = []
        except (OSError, ValueError) as error:
            raise UserError(f"{name} cannot be used: {error}") from error
        for sample in samples:
            if sample.shape != shape or sample.dtype != dtype:
                raise GanzooError(
                    f"{name} became {sample.dtype} {sample.shape}, not {dtype} {shape}: the processor is wrong."
                )
        # Data sets without labels for a split (the test set of a competition) say -1 or null.
        label = None if label is None or label < 0 else label
        yield short, label, [np.ascontiguousarray(sample) for sample in samples]


def _check_labels(source: Source, processor: Processor, labels: list[int | None]) -> None:
    """Refuses samples of which only some have labels, where the processor does not allow that."""
    if processor.may_lack_labels:
        return
    missing = [index for index, label in enumerate(labels) if label is None]
    raise UserError(
        f"{len(missing)} of {len(labels)} samples of {_where(source)} have no label (null or negative), the first "
        f"is sample {missing[0]}; name another column by data.label_column."
    )


def _where(source: Source) -> str:
    return f"{source.description} ({source.split})"


def _file_of(raw: Any) -> str:
    """The file a sample came from, where it is known."""
    path = raw.get("path") if isinstance(raw, dict) else raw if isinstance(raw, Path) else None
    return str(path) if path else ""


def _unnamed(message: str, file: str) -> str:
    """A message without the name of the file that it begins with, so that equal ones can be counted."""
    for name in (file, Path(file).name) if file else ():
        message = re.sub(rf"^(cannot read )?{re.escape(one_line(name, limit=MAX_MESSAGE))}", r"\1the file", message)
    return message
