"""The base of a recipe's sections."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ganzoo.utils.exact import Exact

Positive = Annotated[int, Field(ge=1, le=10**12)]


class Section(Exact):
    """A part of a recipe."""
