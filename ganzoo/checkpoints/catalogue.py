"""The published checkpoints by name: `hub/catalogue.json`, which also travels inside the wheel.

In a checkout the folders themselves lie beside the catalogue, and a name opens the folder without any network; an installed
ganzoo downloads the entry's repository.
"""

from __future__ import annotations

import fnmatch
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ganzoo.registry import family_modality, list_families
from ganzoo.utils.modalities import check_modality
from ganzoo.utils.resources import resource

CATALOGUE_FILE = "catalogue.json"


@dataclass(frozen=True)
class CatalogueEntry:
    """One published checkpoint.

    Attributes:
        name: `"dcgan-mnist"`.
        repo_id: Repository on the Hub.
        family: Family of its networks.
        modality: What its samples are.
        parameters: Parameters of the main network.
        summary: One line for the list.
    """

    name: str
    repo_id: str
    family: str
    modality: str
    parameters: int
    summary: str

    @property
    def folder(self) -> Path:
        """The checkpoint's folder in a checkout (it need not exist)."""
        return resource("hub") / self.name


@cache
def catalogue() -> dict[str, CatalogueEntry]:
    """All published checkpoints by name."""
    path = resource("hub") / CATALOGUE_FILE
    if not path.is_file():
        return {}
    entries = json.loads(path.read_text(encoding="utf-8"))
    return {entry["name"]: CatalogueEntry(**entry) for entry in entries}


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
