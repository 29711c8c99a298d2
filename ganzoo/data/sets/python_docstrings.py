"""A built-in set of prompts and replies: functions of Python's standard library, by name, and what they do, by docstring."""

from __future__ import annotations

import ast
import functools
import hashlib
import re
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

from ganzoo.data.sets.base import DataSet
from ganzoo.data.source import Source, no_split
from ganzoo.errors import UserError
from ganzoo.recipe.data import DataConfig

# Texts that differ from one distribution of Python to the next, or that nobody reads.
LEFT_OUT = frozenset(
    "antigravity distutils ensurepip idlelib lib2to3 pydoc_data test this tkinter turtle turtledemo venv".split()
)
TEST_SHARE = 0.1
_FIRST_SENTENCE = re.compile(r"[A-Z][A-Za-z0-9',;:/ ()\-]*[a-z0-9)]\.?(?=\s|$)")
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")


def open_docstrings(config: DataConfig, split: str) -> Source:
    """Pairs (name, first sentence of the docstring): "os path join" -> "Join two or more pathname components." A tenth of
    the names, chosen by their hash, is the test set."""
    splits: dict[str, list[tuple[str, str]]] = {"train": [], "test": []}
    for prompt, reply in _pairs():
        share = int.from_bytes(hashlib.blake2b(prompt.encode(), digest_size=4).digest(), "big") / 2**32
        splits["test" if share < TEST_SHARE else "train"].append((prompt, reply))
    if split not in splits:
        raise no_split("The built-in data set 'python-docstrings'", split, splits)
    pairs = splits[split]
    if not pairs:
        raise UserError("This Python comes without its sources; the built-in data set 'python-docstrings' needs them.")
    content = "\n".join(f"{prompt}\t{reply}" for prompt, reply in pairs)
    return Source(
        description="python-docstrings",
        split=split,
        fingerprint=f"python-docstrings:{split}:{hashlib.blake2b(content.encode(), digest_size=16).hexdigest()}",
        length=len(pairs),
        iterate=lambda: ((pair, None) for pair in pairs),
    )


@functools.cache
def _pairs() -> tuple[tuple[str, str], ...]:
    found: dict[str, str] = {}
    library = Path(sysconfig.get_path("stdlib"))
    for name in sorted(sys.stdlib_module_names - LEFT_OUT):
        module = library / f"{name}.py"
        for file in [module] if module.is_file() else sorted((library / name).rglob("*.py")):
            if {"test", "tests"}.isdisjoint(file.relative_to(library).parts):
                for path, docstring in _documented(file):
                    reply = _first_sentence(docstring)
                    if reply:
                        found.setdefault(" ".join(_words(f"{name} {path}")[:8]), reply)
    return tuple(found.items())


def _documented(file: Path) -> Iterator[tuple[str, str]]:
    """(class and function name, docstring) of everything that has one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # old escapes in old modules
        tree = ast.parse(file.read_text(encoding="utf-8", errors="replace"))
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
