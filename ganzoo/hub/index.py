"""The catalogue of what ganzoo publishes, written from the checkpoint folders."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from ganzoo.checkpoints.catalogue import CATALOGUE_FILE, CatalogueEntry, catalogue
from ganzoo.checkpoints.pins import pins_of
from ganzoo.checkpoints.repository import LocalRepository
from ganzoo.checkpoints.weights import count_parameters
from ganzoo.hub.metadata import split_card
from ganzoo.utils.files import read_text, write_text
from ganzoo.utils.layout import CARD_FILE, CONFIG_FILE


def write_catalogue(folder: Path) -> list[CatalogueEntry]:
    """Rebuilds `catalogue.json` from the checkpoint folders under `folder` (maintainers: `make catalogue`).

    It pins the content of every file but the cards: whoever loads a checkpoint by its name gets those or none.
    """
    from ganzoo.checkpoints.checkpoint import Checkpoint

    entries = []
    for path in sorted(path.parent for path in folder.glob(f"*/{CONFIG_FILE}")):
        checkpoint = Checkpoint(LocalRepository(path))
        entries.append(
            CatalogueEntry(
                name=path.name,
                family=checkpoint.family,
                modality=checkpoint.processor.modality,
                parameters=count_parameters(checkpoint.network()),
                summary=_summary(path / CARD_FILE),
                files=pins_of(path),
            )
        )
    write_text(folder / CATALOGUE_FILE, json.dumps([asdict(entry) for entry in entries], indent=2) + "\n")
    catalogue.cache_clear()
    return entries


def _summary(card: Path) -> str:
    """The card's first sentence: the first line of its body that is neither heading nor mark-up."""
    lines = split_card(read_text(card), where=str(card))[1].splitlines()
    return next((line.strip() for line in lines if line.strip() and line[0] not in "#<!|"), "")
