"""A built-in set of code: one-line statements of Python's standard library."""

from __future__ import annotations

import ast
import functools
import warnings
from collections.abc import Iterator

from ganzoo.data.python_library import library_files, open_shared, read_library
from ganzoo.data.sets.base import DataSet
from ganzoo.data.source import Source
from ganzoo.recipe.data import DataConfig

_SHORTEST, _LONGEST = 8, 60
_STATEMENTS = (ast.Assign, ast.AnnAssign, ast.Assert, ast.AugAssign, ast.Delete, ast.Expr, ast.Raise, ast.Return)


def open_python_lines(config: DataConfig, split: str) -> Source:
    """Statements that fit on a line of 8 to 60 characters, each once, without indentation and comments:
    `x = self.rows[3]`. About 41,000, by the version of Python; a tenth of them, chosen by their hash, is the test set."""
    return open_shared("python-lines", split, _statements(), key=str)


@functools.cache
def _statements() -> tuple[str, ...]:
    lines = (line for _, file in library_files() for line in _of_file(read_library(file)))
    return tuple(dict.fromkeys(line for line in lines if _SHORTEST <= len(line) <= _LONGEST))


def _of_file(text: str) -> Iterator[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # old escapes in old modules
        tree = ast.parse(text)
    lines = text.encode().split(b"\n")  # columns are counted in bytes
    for node in ast.walk(tree):
        is_one_line = isinstance(node, _STATEMENTS) and node.lineno == node.end_lineno
        if is_one_line and not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):  # a docstring
            yield lines[node.lineno - 1][node.col_offset : node.end_col_offset].decode()


DATASET = DataSet(open_python_lines)
