"""`ganzoo verify`: is a checkpoint whole, and does it still compute what it computed when it was published?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ganzoo.checkpoints.checkpoint import load_network, read_processor
from ganzoo.checkpoints.golden import replay_golden
from ganzoo.checkpoints.repository import Repository, open_repository
from ganzoo.errors import CheckpointError, GanzooError
from ganzoo.hub.metadata import check_card
from ganzoo.networks.base import Discriminator, GANModel
from ganzoo.utils.files import read_text
from ganzoo.utils.layout import CONFIG_FILE, GOLDEN_FILE, RECIPE_FILE


@dataclass(frozen=True)
class Check:
    """One thing that was checked."""

    name: str
    passed: bool
    message: str


def verify(source: str | Path, *, revision: str | None = None) -> list[Check]:
    """Checks a checkpoint, on a folder or on the Hub.

    Returns:
        Every check, passed or not: weights (strict loading with checksum), golden outputs, discriminator, processor,
        recipe, metrics, card.

    Raises:
        NotFoundError: There is no such checkpoint.
    """
    repository = open_repository(source, revision=revision)
    repository.file(CONFIG_FILE)
    checks: dict[str, Callable[[Repository], str]] = {
        "weights": _weights,
        "golden outputs": _golden,
        "discriminator": _discriminator,
        "processor": _processor,
        "recipe": _recipe,
        "metrics": _metrics,
        "card": _card,
    }
    return [_run(name, check, repository) for name, check in checks.items()]


def _run(name: str, check: Callable[[Repository], str], repository: Repository) -> Check:
    try:
        return Check(name, True, check(repository))
    except GanzooError as error:
        return Check(name, False, str(error))


def _weights(repository: Repository) -> str:
    network = load_network(repository, GANModel)
    return f"{network.family} {network.role}, {sum(p.numel() for p in network.parameters()):,} parameters"


def _golden(repository: Repository) -> str:
    path = repository.file(GOLDEN_FILE)
    difference = replay_golden(load_network(repository, GANModel), path)
    return f"outputs replayed, largest difference {difference:.1g}"


def _discriminator(repository: Repository) -> str:
    if repository.find(f"discriminator/{CONFIG_FILE}") is None:
        return "none in this checkpoint"
    network = load_network(repository, Discriminator)
    return f"{sum(p.numel() for p in network.parameters()):,} parameters"


def _processor(repository: Repository) -> str:
    processor = read_processor(repository)
    return f"{processor.processor_type}, samples of shape {processor.sample_shape}"


def _recipe(repository: Repository) -> str:
    from ganzoo.recipe.reading import load_recipe

    path = repository.find(RECIPE_FILE)
    return "none in this checkpoint" if path is None else f"valid: {load_recipe(path).name}"


def _metrics(repository: Repository) -> str:
    from ganzoo.metrics.records import read_measured
    from ganzoo.utils.layout import METRICS_FILE

    path = repository.find(METRICS_FILE)
    if path is None:
        return "none in this checkpoint"
    results = read_measured(path).metrics
    return f"{len(results)} measured" if results else "nothing measured"


def _card(repository: Repository) -> str:
    problems = check_card(read_text(repository.file("README.md")))
    if problems:
        raise CheckpointError("; ".join(problems))
    return "valid metadata"
