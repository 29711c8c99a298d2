"""The decode-once cache: every sample as the processor stores it, in one memory-mapped array.

    $GANZOO_CACHE/data/KEY/samples.npy  labels.npy  meta.json

Decoding pictures costs thirty times what gathering them from such an array does, so it is paid once per (data, limit,
processor). KEY is a hash of exactly these, so nothing ever has to be invalidated; a folder may be deleted at any time.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import logging
import math
import os
import shutil
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from ganzoo.data.source import Source
from ganzoo.errors import GanzooError, UserError
from ganzoo.files import new_folder

if TYPE_CHECKING:
    from ganzoo.processors import Processor

logger = logging.getLogger(__name__)

FORMAT = 1  # part of every key: a new layout is a new cache


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
        processor: How; its `encode` is called once per sample.
        limit: Decode only the first so many samples.
        progress: Show a progress bar on stderr; by default only if stderr is a terminal.

    Returns:
        The folder, for `open_cache`.

    Raises:
        UserError: A sample cannot be read, or only some samples have labels; the message names the sample.
        GanzooError: The cache cannot be written: the disk is full or the folder is not writable.
    """
    from filelock import FileLock

    length = min(limit or source.length, source.length)
    key = _key(source, processor, length)
    root = cache_root()
    folder = root / key
    if open_cache(folder) is not None:
        return folder
    with _explained_os_errors(root):
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / f"{key}.lock"):
            if open_cache(folder) is not None:  # another process was faster
                return folder
            if folder.exists():
                logger.warning("The data cache %s is damaged; it is built again.", folder)
            for leftover in root.glob(f".tmp-*{key}-*"):  # of a killed process: only the lock's owner writes here
                shutil.rmtree(leftover, ignore_errors=True)
            with new_folder(folder) as temporary, _explained_os_errors(root):
                _write(temporary, source, processor, length, progress)
    return folder


def open_cache(folder: Path) -> tuple[np.ndarray, np.ndarray | None] | None:
    """Opens a cache: memory-mapped samples (N, *sample_shape) and labels (N,) int64 or None.

    Returns:
        None if the folder is not there or is not whole (a file missing or cut short, unreadable or contradictory
        `meta.json`).
    """
    try:
        meta = json.loads((folder / "meta.json").read_text())
        samples = np.load(folder / "samples.npy", mmap_mode="r")  # refuses a file shorter than its header says
        labels = np.load(folder / "labels.npy") if meta["labels"] else None
        whole = samples.shape == (meta["length"], *meta["sample_shape"]) and samples.dtype.name == meta["dtype"]
    except (OSError, ValueError, KeyError, TypeError, EOFError):
        return None
    if labels is not None:
        whole = whole and labels.shape == samples.shape[:1] and labels.dtype == np.int64
    return (samples, labels) if whole else None


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
    if length * math.prod(shape) * dtype.itemsize > shutil.disk_usage(folder).free:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # now rather than in an hour
    labels: list[int | None] = []
    # Plain writes, not a writable memory map: a disk that fills up is then an error instead of a SIGBUS.
    with _synced(folder / "samples.npy") as file:
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (length, *shape)}
        np.lib.format.write_array_header_1_0(file, header)
        for sample, label in _encoded(source, processor, length, progress):
            file.write(sample.data)
            labels.append(label)
    if len(labels) != length:
        raise UserError(f"{_where(source)} ended after {len(labels)} of {length} samples; is a file cut short?")
    labelled = _check_labels(source, labels)
    if labelled:
        with _synced(folder / "labels.npy") as file:
            np.save(file, np.array(labels, dtype=np.int64))
    meta = {
        "length": length,
        "sample_shape": shape,
        "dtype": dtype.name,
        "labels": labelled,
        "description": source.description,
        "split": source.split,
        "fingerprint": source.fingerprint,
        "processor": processor.fingerprint(),
    }
    with _synced(folder / "meta.json") as file:
        file.write(json.dumps(meta, indent=2).encode())


@contextlib.contextmanager
def _synced(path: Path) -> Iterator[BinaryIO]:
    with open(path, "wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def _encoded(
    source: Source, processor: Processor, length: int, progress: bool | None
) -> Iterator[tuple[np.ndarray, int | None]]:
    """The first samples as contiguous arrays of the stored type, with their labels (None: unlabelled)."""
    from tqdm import tqdm

    shape, dtype = tuple(processor.sample_shape), np.dtype(processor.storage_dtype)
    samples = tqdm(
        islice(source.iterate(), length),
        total=length,
        desc=f"Decoding {_where(source)}",
        unit=" samples",
        disable=None if progress is None else not progress,  # tqdm's None: only on a terminal
    )
    for index, (raw, label) in enumerate(samples):
        name = f"Sample {index}{_file_of(raw)} of {_where(source)}"
        try:
            sample = processor.encode(raw)
        except (OSError, ValueError) as error:
            raise UserError(f"{name} cannot be used: {error}") from error
        if sample.shape != shape or sample.dtype != dtype:
            raise GanzooError(
                f"{name} became {sample.dtype} {sample.shape}, not {dtype} {shape}: the processor is wrong."
            )
        # Data sets without labels for a split (the test set of a competition) say -1 or null.
        yield np.ascontiguousarray(sample), None if label is None or label < 0 else label


def _check_labels(source: Source, labels: list[int | None]) -> bool:
    """Whether the samples have labels: all of them or none."""
    missing = [index for index, label in enumerate(labels) if label is None]
    if missing and len(missing) < len(labels):
        raise UserError(
            f"{len(missing)} of {len(labels)} samples of {_where(source)} have no label (null or negative), the first "
            f"is sample {missing[0]}; name another column by data.label_column."
        )
    return not missing


def _where(source: Source) -> str:
    return f"{source.description} ({source.split})"


def _file_of(raw: Any) -> str:
    """The file a sample came from, where it is known, for an error message."""
    path = raw.get("path") if isinstance(raw, dict) else raw if isinstance(raw, Path) else None
    return f", {path}," if path else ""
