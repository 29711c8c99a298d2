"""Data sets known by name: they come with Python or a dependency, are computed, or are files on the web."""

from __future__ import annotations

import functools
import hashlib
import re
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from ganzoo.data.sets.base import DataSet
from ganzoo.data.sets.python_docstrings import LEFT_OUT, TEST_SHARE
from ganzoo.data.source import Source, no_split
from ganzoo.errors import UserError
from ganzoo.recipe.data import DataConfig

_DOCSTRING = re.compile(r'^[ \t]+[rR]?"""\s*(.*?)"""', re.DOTALL | re.MULTILINE)
_SENTENCE_END = re.compile(r'(?<=[.!?])\s+(?=[A-Z("])')
_SENTENCE = re.compile(r"(?!.*(?:\(\)|XXX|\B-|-\B))[A-Z][A-Za-z',;: ()-]*[a-z)][.?!]")


def open_python_docs(config: DataConfig, split: str) -> Source:
    """Sentences of 3 to 20 words from Python's own documentation: the language reference and the docstrings of the standard
    library, as they come with the interpreter (PSF licence). About six thousand, by the version of Python; a tenth of them,
    chosen by their hash, is the test set."""
    splits: dict[str, list[str]] = {"train": [], "test": []}
    for sentence in _python_sentences():
        share = int.from_bytes(hashlib.blake2b(sentence.lower().encode(), digest_size=4).digest(), "big") / 2**32
        splits["test" if share < TEST_SHARE else "train"].append(sentence)
    if split not in splits:
        raise no_split("The built-in data set 'python-docs'", split, splits)
    sentences = splits[split]
    if not sentences:
        raise UserError("This Python comes without its documentation; the built-in data set 'python-docs' needs it.")
    return Source(
        description="python-docs",
        split=split,
        fingerprint=f"python-docs:{split}:{hashlib.blake2b(chr(10).join(sentences).encode(), digest_size=16).hexdigest()}",
        length=len(sentences),
        iterate=lambda: ((sentence, None) for sentence in sentences),
    )


@functools.cache
def _python_sentences() -> tuple[str, ...]:
    """Distinct sentences in a fixed order."""
    found: dict[str, str] = {}
    for paragraph in _python_paragraphs():
        for sentence in _SENTENCE_END.split(paragraph):
            sentence = re.sub(r'[*"](\w+)[*"]', r"\1", sentence)  # emphasis and quoted names
            balanced = sentence.count("(") == sentence.count(")")
            if balanced and 3 <= len(sentence.split()) <= 20 and _SENTENCE.fullmatch(sentence):
                found.setdefault(sentence.lower(), sentence)
    return tuple(found.values())


def _python_paragraphs() -> Iterator[str]:
    try:
        from pydoc_data.topics import topics
    except ImportError:  # some distributions leave it out
        topics = {}
    for name in sorted(topics):
        yield from _paragraphs(topics[name])
    library = Path(sysconfig.get_path("stdlib"))
    for name in sorted(sys.stdlib_module_names - LEFT_OUT):
        module = library / f"{name}.py"
        for file in [module] if module.is_file() else sorted((library / name).rglob("*.py")):
            if {"test", "tests"}.isdisjoint(file.relative_to(library).parts):
                for docstring in _DOCSTRING.findall(file.read_text(encoding="utf-8", errors="replace")):
                    yield from _paragraphs(docstring)


def _paragraphs(text: str) -> Iterator[str]:
    """Runs of lines without a blank line or a change of indentation between them, each as one line."""
    paragraph: list[str] = []
    indentation = None  # of the line before; a docstring's first line has none of its own
    for number, line in enumerate([*text.splitlines(), ""]):
        content = line.strip()
        own = len(line) - len(line.lstrip())
        if paragraph and (not content or (own != indentation and number != 1)):
            yield " ".join(paragraph)
            paragraph = []
        if content:
            paragraph.append(content.removeprefix("* "))
        indentation = own


DATASET = DataSet(open_python_docs)
