"""Modalities: what samples are. Each processor says its own; the list is read off their sources, without importing them."""

from __future__ import annotations

import re
from functools import cache

from ganzoo.errors import UserError, did_you_mean
from ganzoo.utils.finding import Kind, source_of

PROCESSORS = Kind("processor", "ganzoo.processors", "PROCESSOR")
_SAYS = re.compile(r'^    modality\b[^=\n]*= "([a-z][a-z0-9-]*)"$', re.MULTILINE)


@cache
def modalities() -> tuple[str, ...]:
    """The names of all modalities, sorted."""
    modules = {PROCESSORS.module(name) for name in PROCESSORS.names()}
    return tuple(sorted({name for module in modules for name in _SAYS.findall(source_of(module))}))


def check_modality(name: str) -> None:
    """Raises a UserError that lists what there is, if there is no modality of that name."""
    if name not in modalities():
        raise UserError(
            f"unknown modality {name!r}.{did_you_mean(name, modalities())} It is one of {', '.join(modalities())}"
        )
