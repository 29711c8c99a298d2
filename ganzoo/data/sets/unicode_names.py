"""A built-in set of names: those of the characters of Unicode."""

from __future__ import annotations

import functools
import sys
import unicodedata

from ganzoo.data.python_library import open_shared
from ganzoo.data.sets.base import DataSet
from ganzoo.data.source import Source
from ganzoo.recipe.data import DataConfig


def open_unicode_names(config: DataConfig, split: str) -> Source:
    """Names of characters, in the capitals in which they are defined: `GREEK SMALL LETTER ALPHA WITH TONOS`. Without those that
    hold digits and the 11,172 Hangul syllables about 27,000, by the version of Unicode that Python knows; a tenth of them,
    chosen by their hash, is the test set."""
    return open_shared("unicode-names", split, _names(), key=str)


@functools.cache
def _names() -> tuple[str, ...]:
    names = (unicodedata.name(chr(point), "") for point in range(sys.maxunicode + 1))
    return tuple(name for name in names if name and name.isascii() and not _is_numbered(name))


def _is_numbered(name: str) -> bool:
    return name.startswith("HANGUL SYLLABLE") or any(map(str.isdigit, name))


DATASET = DataSet(open_unicode_names)
