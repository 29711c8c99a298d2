"""A built-in set of prompts and replies: functions of Python's standard library, by name, and what they do, by docstring."""

from __future__ import annotations

import ast
import functools
import re
import warnings
from collections.abc import Iterator
from pathlib import Path

from ganzoo.data.python_library import library_files, open_shared, read_library
from ganzoo.data.sets.base import DataSet
from ganzoo.data.source import Source
from ganzoo.recipe.data import DataConfig

_FIRST_SENTENCE = re.compile(r"[A-Z][A-Za-z0-9',;:/ ()\-]*[a-z0-9)]\.?(?=\s|$)")
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")


def open_docstrings(config: DataConfig, split: str) -> Source:
    """Pairs (name, first sentence of the docstring): "os path join" -> "Join two or more pathname components." A tenth of
    the names, chosen by their hash, is the test set."""
    return open_shared(
        "python-docstrings", split, _pairs(), key=lambda pair: pair[0], line=lambda pair: "\t".join(pair)
    )


@functools.cache
def _pairs() -> tuple[tuple[str, str], ...]:
    found: dict[str, str] = {}
    for name, file in library_files():
        for path, docstring in _documented(file):
            reply = _first_sentence(docstring)
            if reply:
                found.setdefault(" ".join(_words(f"{name} {path}")[:8]), reply)
    return tuple(found.items())


def _documented(file: Path) -> Iterator[tuple[str, str]]:
    """(class and function name, docstring) of everything that has one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # old escapes in old modules
        tree = ast.parse(read_library(file))
    yield from _walk(tree, "")


def _walk(node: ast.AST, above: str) -> Iterator[tuple[str, str]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            path = f"{above} {child.name}"
            docstring = ast.get_docstring(child)
            if docstring:
                yield path, docstring
            yield from _walk(child, path)


def _first_sentence(docstring: str) -> str | None:
    paragraph = " ".join(docstring.strip().split("\n\n")[0].split())
    match = _FIRST_SENTENCE.match(paragraph)
    if match is None:
        return None
    sentence = match.group().rstrip(".")
    fits = 3 <= len(sentence.split()) <= 16 and sentence.count("(") == sentence.count(")")
    return f"{sentence}." if fits else None


def _words(path: str) -> list[str]:
    """The words in names: getHTTPHeader, get_http_header -> get http header."""
    words = [word.lower() for word in _WORD.findall(path)]
    return [word for number, word in enumerate(words) if number == 0 or word != words[number - 1]]


DATASET = DataSet(open_docstrings)
