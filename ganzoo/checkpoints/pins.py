"""The content that the catalogue promises: whoever owns a name on the Hub, a published file is these bytes or refused."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ganzoo.utils.layout import CARD_FILE


@dataclass(frozen=True)
class Pin:
    """One file's size in bytes, and the SHA-256 of its content as 64 hexadecimal digits."""

    size: int
    sha256: str

    def fits(self, path: Path) -> bool:
        """Whether a file has this content. Each file is read once a process, unless it changes (12 MB: 25 ms)."""
        status = path.stat()
        return status.st_size == self.size and _digest(path, status.st_size, status.st_mtime_ns) == self.sha256


@lru_cache(maxsize=1024)
def _digest(path: Path, size: int, modified: int) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def pins_of(folder: Path) -> dict[str, Pin]:
    """Pins every file of a checkpoint folder by its path in it, in order.

    The card is left out: it is prose that nothing is computed from, names its own repository, and may be corrected there.
    """
    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    contents = {name: path.read_bytes() for name, path in files.items() if name != CARD_FILE}
    return {name: Pin(len(data), hashlib.sha256(data).hexdigest()) for name, data in contents.items()}
