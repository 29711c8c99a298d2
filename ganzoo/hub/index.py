"""The catalogue of what ganzoo publishes, written from the checkpoint folders."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from ganzoo.checkpoints.catalogue import CATALOGUE_FILE, CatalogueEntry, catalogue
from ganzoo.checkpoints.repository import LocalRepository
from ganzoo.hub.transfer import CARD_FILE


def write_catalogue(folder: Path) -> list[CatalogueEntry]:
    """Rebuilds `catalogue.json` from the checkpoint folders under `folder` (maintainers: `make catalogue`)."""
    from ganzoo.checkpoints.checkpoint import read_processor
    from ganzoo.networks.base import GANModel
    from ganzoo.utils.files import write_text

    entries = []
    for checkpoint in sorted(path.parent for path in folder.glob("*/config.json")):
        network = GANModel.from_pretrained(checkpoint)
        entries.append(
            CatalogueEntry(
                name=checkpoint.name,
                repo_id=f"ganzoo/{checkpoint.name}",
                family=network.family,
                modality=read_processor(LocalRepository(checkpoint)).modality,
                parameters=sum(parameter.numel() for parameter in network.parameters()),
                summary=_summary(checkpoint / CARD_FILE),
            )
        )
    write_text(folder / CATALOGUE_FILE, json.dumps([asdict(entry) for entry in entries], indent=2) + "\n")
    catalogue.cache_clear()
    return entries


def _summary(card: Path) -> str:
    """The card's first sentence: the first line of its body that is neither heading nor mark-up."""
    lines = card.read_text(encoding="utf-8").split("---", 2)[-1].splitlines()
    return next((line.strip() for line in lines if line.strip() and line[0] not in "#<!|"), "")
