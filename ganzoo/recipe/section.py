"""The base of a recipe's sections."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[int, Field(ge=1, le=10**12)]


class Section(BaseModel):
    """Unknown keys, NaN and infinity are refused; a section never changes."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
