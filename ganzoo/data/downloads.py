"""Data sets that are files on the web and nowhere on the Hub: fetched once, checked by checksum, kept in the cache."""

from __future__ import annotations

import hashlib
import urllib.error
import urllib.request
from functools import partial
from pathlib import Path
from typing import NamedTuple

from ganzoo.data.cache import cache_root
from ganzoo.data.config import DataConfig
from ganzoo.data.source import Source, no_split
from ganzoo.data.texts import open_texts
from ganzoo.errors import GanzooError, NotFoundError
from ganzoo.files import write_bytes

TIMEOUT = 30  # seconds without an answer
_TEXYGEN = "https://raw.githubusercontent.com/geek-ai/Texygen/3104e22ac75f3cc2070da2bf5e2da6d2bef149ad"


class Download(NamedTuple):
    """A file, pinned: its address, and what must come from there."""

    url: str
    sha256: str
    size: int


# Data set -> split -> file. A new one is one entry here and one in `builtin.BUILTIN`.
DOWNLOADS: dict[str, dict[str, Download]] = {
    # 10,000 + 10,000 captions of COCO photographs: the benchmark of the text-GAN papers (Zhu et al., 2018). CC BY 4.0.
    "coco-captions": {
        "train": Download(
            f"{_TEXYGEN}/data/image_coco.txt",
            "2c0fd1f0f43aac6a9dc3926a535516ccf395de535e15ac1fd17cd569420736f5",
            546_442,
        ),
        "test": Download(
            f"{_TEXYGEN}/data/testdata/test_coco.txt",
            "72e25c9fb4d2cd43182ac602c92f6ffc377762147f9709572943b0b09174bcae",
            536_184,
        ),
    },
}


def open_download(name: str, config: DataConfig, split: str) -> Source:
    """Opens a split of a data set of `DOWNLOADS`, fetching it the first time.

    Raises:
        NotFoundError: No such split, or the file cannot be fetched.
        GanzooError: What came is not the file that was expected, or the cache cannot be written.
    """
    splits = DOWNLOADS[name]
    if split not in splits:
        raise no_split(f"The data set '{name}'", split, splits)
    file = fetch(splits[split], hint=f"data.path=FOLDER_WITH_{split}.txt")
    return open_texts(config, name, {split: [(file, None)]}, split)


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


open_coco_captions = partial(open_download, "coco-captions")
