"""`ganzoo verify`: is a checkpoint whole, and does it still compute what it computed when it was published?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ganzoo.checkpoints.checkpoint import Checkpoint
from ganzoo.checkpoints.golden import replay_golden
from ganzoo.checkpoints.weights import count_parameters
from ganzoo.errors import CheckpointError, GanzooError
from ganzoo.hub.metadata import check_card
from ganzoo.networks.base import GANModel
from ganzoo.utils.files import read_text
from ganzoo.utils.layout import CARD_FILE, CONFIG_FILE, GOLDEN_FILE, RECIPE_FILE


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
    checkpoint = Checkpoint.open(source, revision=revision)
    checkpoint.files.file(CONFIG_FILE)
    checks: dict[str, Callable[[Checkpoint], str]] = {
        "weights": _weights,
        "golden outputs": _golden,
        "discriminator": _discriminator,
        "processor": _processor,
        "recipe": _recipe,
        "metrics": _metrics,
        "card": _card,
    }
    return [_run(name, check, checkpoint) for name, check in checks.items()]


def _run(name: str, check: Callable[[Checkpoint], str], checkpoint: Checkpoint) -> Check:
    try:
        return Check(name, True, check(checkpoint))
    except GanzooError as error:
        return Check(name, False, str(error))


def _weights(checkpoint: Checkpoint) -> str:
    network = checkpoint.network("", GANModel)
    return f"{network.family} {network.role}, {count_parameters(network):,} parameters"


def _golden(checkpoint: Checkpoint) -> str:
    path = checkpoint.files.file(GOLDEN_FILE)
    difference = replay_golden(checkpoint.network("", GANModel), path)
    return f"outputs replayed, largest difference {difference:.1g}"


def _discriminator(checkpoint: Checkpoint) -> str:
    network = checkpoint.discriminator
    return "none in this checkpoint" if network is None else f"{count_parameters(network):,} parameters"


def _processor(checkpoint: Checkpoint) -> str:
    processor = checkpoint.processor
    return f"{processor.processor_type}, samples of shape {processor.sample_shape}"


def _recipe(checkpoint: Checkpoint) -> str:
    from ganzoo.recipe.reading import load_recipe

    path = checkpoint.files.find(RECIPE_FILE)
    return "none in this checkpoint" if path is None else f"valid: {load_recipe(path).name}"


def _metrics(checkpoint: Checkpoint) -> str:
    from ganzoo.metrics.records import read_measured
    from ganzoo.utils.layout import METRICS_FILE

    path = checkpoint.files.find(METRICS_FILE)
    if path is None:
        return "none in this checkpoint"
    results = read_measured(path).metrics
    return f"{len(results)} measured" if results else "nothing measured"


def _card(checkpoint: Checkpoint) -> str:
    problems = check_card(read_text(checkpoint.files.file(CARD_FILE)))
    if problems:
        raise CheckpointError("; ".join(problems))
    return "valid metadata"
