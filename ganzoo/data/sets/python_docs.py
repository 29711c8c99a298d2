"""Data sets known by name: they come with Python or a dependency, are computed, or are files on the web."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator

from ganzoo.data.python_library import library_files, open_shared, read_library
from ganzoo.data.sets.base import DataSet
from ganzoo.data.source import Source
from ganzoo.recipe.data import DataConfig

_DOCSTRING = re.compile(r'^[ \t]+[rR]?"""\s*(.*?)"""', re.DOTALL | re.MULTILINE)
_SENTENCE_END = re.compile(r'(?<=[.!?])\s+(?=[A-Z("])')
_SENTENCE = re.compile(r"(?!.*(?:\(\)|XXX|\B-|-\B))[A-Z][A-Za-z',;: ()-]*[a-z)][.?!]")


def open_python_docs(config: DataConfig, split: str) -> Source:
    """Sentences of 3 to 20 words from Python's own documentation: the language reference and the docstrings of the standard
    library, as they come with the interpreter (PSF licence). About six thousand, by the version of Python; a tenth of them,
    chosen by their hash, is the test set."""
    return open_shared("python-docs", split, _python_sentences(), key=str.lower)


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
    for _, file in library_files():
        for docstring in _DOCSTRING.findall(read_library(file)):
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
