"""A built-in set of names: the functions and classes of Python's standard library."""

from __future__ import annotations

import functools
import re

from ganzoo.data.python_library import library_files, open_shared, read_library
from ganzoo.data.sets.base import DataSet
from ganzoo.data.source import Source
from ganzoo.recipe.data import DataConfig

_DEFINED = re.compile(r"^[ \t]*(?:async[ \t]+)?(?:def|class)[ \t]+([A-Za-z]\w{2,39})[ \t]*[(:]", re.MULTILINE)


def open_python_names(config: DataConfig, split: str) -> Source:
    """Names of public functions, methods and classes, each once: `get_protocol`, `BaseHTTPRequestHandler`. About 5,400, by
    the version of Python; a tenth of them, chosen by their hash, is the test set."""
    return open_shared("python-names", split, _names(), key=str.lower)


@functools.cache
def _names() -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for _, file in library_files() for name in _DEFINED.findall(read_library(file))))


DATASET = DataSet(open_python_names)
