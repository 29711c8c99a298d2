"""The published checkpoints by name: `hub/catalogue.json`, which also travels inside the wheel.

In a checkout the folders themselves lie beside the catalogue, and a name opens the folder without any network. An installed
ganzoo carries two of them, and downloads the rest from the organisation that publishes them, `$GANZOO_ORGANISATION` or
"ganzoo". Anybody might own that name: the catalogue pins the content of every file, and what differs is refused.
"""

from __future__ import annotations

import fnmatch
import json
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ganzoo.checkpoints.pins import Pin
from ganzoo.registry import family_modality, list_families
from ganzoo.utils.modalities import check_modality
from ganzoo.utils.resources import resource

CATALOGUE_FILE = "catalogue.json"
ORGANISATION = "ganzoo"


@dataclass(frozen=True)
class CatalogueEntry:
    """One published checkpoint.

    Attributes:
        name: `"dcgan-mnist"`.
        family: Family of its networks.
        modality: What its samples are.
        parameters: Parameters of the main network.
        summary: One line for the list.
        files: What each of its files must be, by its path; all but the card.
    """

    name: str
    family: str
    modality: str
    parameters: int
    summary: str
    files: dict[str, Pin]

    @property
    def repo_id(self) -> str:
        """Its repository on the Hub."""
        return f"{os.environ.get('GANZOO_ORGANISATION') or ORGANISATION}/{self.name}"

    @property
    def folder(self) -> Path:
        """The checkpoint's folder in a checkout; an installed ganzoo has it in part or not at all."""
        return resource("hub") / self.name


@cache
def catalogue() -> dict[str, CatalogueEntry]:
    """All published checkpoints by name."""
    path = resource("hub") / CATALOGUE_FILE
    if not path.is_file():
        return {}
    entries = json.loads(path.read_text(encoding="utf-8"))
    return {entry["name"]: _entry(**entry) for entry in entries}


def _entry(*, files: dict[str, dict[str, Any]], **fields: Any) -> CatalogueEntry:
    return CatalogueEntry(**fields, files={name: Pin(**pin) for name, pin in files.items()})


def list_models(
    pattern: str = "*", *, modality: str | None = None, family: str | None = None, pretrained: bool | None = None
) -> list[str]:
    """Lists the names of models, sorted.

    Args:
        pattern: Shell-style pattern, `"dcgan*"`.
        modality: Only this one: `"image"`, `"audio"`, `"text"`, `"points"`, ...
        family: Only this family.
        pretrained: True: published checkpoints (for `from_pretrained`); False: families (for `create`); None: both.

    Raises:
        UserError: Unknown modality.
    """
    if modality is not None:
        check_modality(modality)
    found: list[tuple[str, str, str | None]] = []
    if pretrained is not False:
        found += [(entry.name, entry.family, entry.modality) for entry in catalogue().values()]
    if pretrained is not True:
        found += [(name, name, modality and family_modality(name)) for name in list_families(kind="all")]
    return sorted(
        name
        for name, its_family, its_modality in found
        if fnmatch.fnmatch(name, pattern) and family in (None, its_family) and modality in (None, its_modality)
    )
