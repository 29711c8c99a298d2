"""Data sets that are files on the web and nowhere on the Hub: fetched once, checked by checksum, kept in the cache."""

from __future__ import annotations

import hashlib
import urllib.error
import urllib.request
from pathlib import Path
from typing import NamedTuple

from ganzoo.data.cache import cache_root
from ganzoo.errors import GanzooError, NotFoundError
from ganzoo.utils.files import write_bytes

TIMEOUT = 30  # seconds without an answer


class Download(NamedTuple):
    """A file, pinned: its address, and what must come from there."""

    url: str
    sha256: str
    size: int


def fetch(download: Download, *, hint: str) -> Path:
    """The file in the cache, whole; downloaded if it is not there."""
    path = cache_root().parent / "downloads" / f"{download.sha256[:16]}{Path(download.url).suffix}"
    if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == download.sha256:
        return path
    try:
        with urllib.request.urlopen(download.url, timeout=TIMEOUT) as answer:
            content = answer.read(download.size + 1)
    except (OSError, urllib.error.URLError) as error:
        raise NotFoundError(
            f"{download.url} cannot be downloaded ({getattr(error, 'reason', error)}); name a local copy: {hint}"
        ) from error
    if hashlib.sha256(content).hexdigest() != download.sha256:
        raise GanzooError(f"{download.url} is not the file it was (its checksum differs); name a local copy: {hint}")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, content)
    return path
