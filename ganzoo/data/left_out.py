"""What a data cache could not use and left out: counted, named, and told in one sentence."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from ganzoo.errors import one_line

NUM_EXAMPLES = 3
# Messages may quote what they found; of a set in which everything is wrong differently, the first reasons are told.
MAX_REASONS = 8
OTHER_REASONS = "other reasons"
_NUMBER = re.compile(r"(\d+(?:[.,]\d+)*(?:e[+-]?\d+)?|\.\.\.)")


class Reason(NamedTuple):
    """Recordings with one thing wrong: what it is, how many there are, and the names of the first few."""

    reason: str
    count: int
    examples: tuple[str, ...]


class LeftOut(NamedTuple):
    """Recordings of a data set that are not among its samples.

    Attributes:
        of: How many recordings the data has, the ones left out included.
        reasons: Why they were left out, in the order in which it was found.
    """

    of: int
    reasons: tuple[Reason, ...]

    @property
    def total(self) -> int:
        """How many were left out."""
        return sum(reason.count for reason in self.reasons)

    def sentence(self, where: str) -> str:
        """How many of how many recordings, why, and some of their names.

        Args:
            where: The data set in words.
        """
        told = "; ".join(f"{reason} ({count}: {_list(examples, count)})" for reason, count, examples in self.reasons)
        return f"{self.total:,} of {self.of:,} recordings of {where} had to be left out: {told}"

    def to_json(self) -> dict[str, Any]:
        return {"total": self.total, "of": self.of, "reasons": [reason._asdict() for reason in self.reasons]}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> LeftOut:
        """The inverse of `to_json`.

        Raises:
            TypeError, KeyError, ValueError: The values are no such thing.
        """
        reasons = tuple(
            Reason(str(row["reason"]), int(row["count"]), tuple(str(name) for name in row["examples"]))
            for row in values["reasons"]
        )
        return cls(int(values["of"]), reasons)


class Tally:
    """Counts what is left out while a cache is built. Messages that differ in numbers only are one reason."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, ...], Reason] = {}

    def add(self, message: str, name: str) -> None:
        """Counts a recording."""
        is_one_too_many = len(self._found) >= MAX_REASONS and _words(message) not in self._found
        self._add(Reason(OTHER_REASONS if is_one_too_many else message, 1, (name,)))

    def take(self, other: Tally) -> None:
        """Adds what another tally has counted."""
        for reason in other._found.values():
            self._add(reason)

    def result(self, of: int) -> LeftOut | None:
        """What was counted, of so many recordings; None if it is nothing."""
        reasons = (
            Reason(one_line(text, limit=300), count, tuple(one_line(name, limit=100) for name in names))
            for text, count, names in self._found.values()
        )
        return LeftOut(of, tuple(reasons)) if self._found else None

    def _add(self, new: Reason) -> None:
        key = _words(new.reason)
        if key in self._found:
            text, count, names = self._found[key]
            new = Reason(_common(text, new.reason), count + new.count, names + new.examples)
        self._found[key] = new._replace(examples=new.examples[:NUM_EXAMPLES])


def _words(message: str) -> tuple[str, ...]:
    """A message without its numbers."""
    return tuple(_NUMBER.split(message)[::2])


def _common(one: str, other: str) -> str:
    """A message with dots for the numbers in which another of the same words differs."""
    pairs = zip(_NUMBER.split(one), _NUMBER.split(other), strict=True)
    return one if one == other else "".join(a if a == b else "..." for a, b in pairs)


def _list(examples: tuple[str, ...], count: int) -> str:
    return ", ".join(examples) + (", ..." if count > len(examples) else "")
