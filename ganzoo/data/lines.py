"""Lines of text files: packed by gzip or not, in UTF-8, or in UTF-16 or UTF-32 where they say so by a byte order mark."""

from __future__ import annotations

import codecs
import contextlib
import gzip
import io
import re
import zlib
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path

from ganzoo.errors import UserError

# A longer line is no sentence, and perhaps no text; a shorter one may still be cut by the processor.
MAX_LINE = 16 << 20
_GZIP = b"\x1f\x8b"
# The longer marks first: one of UTF-32 begins as one of UTF-16 does.
_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_SNIFFED = 1 << 16  # bytes
_CONTROL = re.compile(r"[\x00-\x07\x0e-\x1a\x1c-\x1f]")  # what no text has; tabs, breaks and escape sequences it may


def lines(file: Path, longest: int = MAX_LINE) -> Iterator[tuple[int, str]]:
    """Lines with their breaks, and their numbers from 1.

    Raises:
        UserError: It is no text, damaged, or a line has more than `longest` characters; names the file and the line.
    """
    number = 0
    try:
        with _unpacked(file) as stream:
            encoding = _encoding(stream.peek(4))
            # Of UTF-8 wrong bytes come through as surrogates, so that the line is known in which they are.
            errors = "surrogateescape" if encoding == "utf-8-sig" else "strict"
            text = io.TextIOWrapper(stream, encoding, errors=errors, newline="\n")
            while line := text.readline(longest + 1):
                number += 1
                if fault := _fault(line, longest):
                    raise UserError(f"{file}, line {number}: {fault}.")
                yield number, line
    except UnicodeDecodeError as error:
        raise UserError(
            f"{file}, after line {number}: not {encoding.upper()} text ({error.reason}); save it as UTF-8."
        ) from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"{file}, after line {number}: damaged or cut off ({error}); pack it again.") from None


def is_text(file: Path) -> bool:
    """Whether a file begins as text does, whatever its name; an empty one is text."""
    try:
        with _unpacked(file) as stream:
            head = stream.read(_SNIFFED)
        text = codecs.getincrementaldecoder(_encoding(head))().decode(head)  # the last character may be cut in two
    except (UnicodeDecodeError, EOFError, zlib.error, gzip.BadGzipFile):
        return False
    return _CONTROL.search(text) is None


@contextlib.contextmanager
def _unpacked(file: Path) -> Iterator[BufferedReader | gzip.GzipFile]:
    """The content of a file: packed or not by what it begins with, not by its name."""
    with open(file, "rb") as stream:
        if stream.peek(2)[:2] != _GZIP:
            yield stream
            return
        with gzip.open(stream) as unpacked:
            yield unpacked


def _encoding(head: bytes) -> str:
    return next((name for mark, name in _MARKS.items() if head.startswith(mark)), "utf-8-sig")


def _fault(line: str, longest: int) -> str | None:
    """What is wrong with a line, if anything is."""
    if len(line) > longest:
        return f"longer than {longest:,} characters; put one sample on a line"
    if "\0" in line:
        return "a null byte, so it is no UTF-8 text; save it as UTF-8"
    if not line.isascii():
        try:
            line.encode("utf-8", "surrogateescape").decode("utf-8")
        except UnicodeDecodeError as error:
            return f"not UTF-8 text ({error.reason}); save it as UTF-8"
    return None
