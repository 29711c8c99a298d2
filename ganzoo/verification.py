"""`ganzoo verify`: is a checkpoint whole, and does it still compute what it computed when it was published?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from ganzoo.card import check_card
from ganzoo.checkpoint import load_network, read_processor
from ganzoo.config import CONFIG_FILE
from ganzoo.errors import CheckpointError, GanzooError
from ganzoo.files import load_tensors, read_json
from ganzoo.hub import Repository, open_repository
from ganzoo.modeling import Classifier, Discriminator, GANModel
from ganzoo.pipelines import GOLDEN_FILE, METRICS_FILE, RECIPE_FILE

# Float32 rounding differs between processors and thread counts; a wrong weight shows at a hundred times this.
TOLERANCE = 1e-3


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
    network = load_network(repository, GANModel)
    tensors, _ = load_tensors(repository.file(GOLDEN_FILE))
    expected = tensors.pop("expected", None)
    names = [name for name in ("latents", "samples", "labels") if name in tensors]
    if expected is None or set(names) != set(tensors):
        raise CheckpointError(f"{GOLDEN_FILE} holds {sorted(tensors)}, not the inputs and the expected output")
    with torch.inference_mode():
        output = network(*(tensors[name] for name in names))
    output = output.logits if isinstance(network, Classifier) else output
    if output.shape != expected.shape:
        raise CheckpointError(f"output has the shape {tuple(output.shape)}, expected {tuple(expected.shape)}")
    difference = (output - expected).abs().max().item()
    if not difference <= TOLERANCE:
        raise CheckpointError(f"outputs differ by {difference:.2g} from the published ones (tolerance {TOLERANCE:g})")
    return f"{len(expected)} outputs replayed, largest difference {difference:.1g}"


def _discriminator(repository: Repository) -> str:
    if repository.find(f"discriminator/{CONFIG_FILE}") is None:
        return "none in this checkpoint"
    network = load_network(repository, Discriminator)
    return f"{sum(p.numel() for p in network.parameters()):,} parameters"


def _processor(repository: Repository) -> str:
    processor = read_processor(repository)
    return f"{processor.processor_type}, samples of shape {processor.sample_shape}"


def _recipe(repository: Repository) -> str:
    from ganzoo.training.recipe import load_recipe

    path = repository.find(RECIPE_FILE)
    return "none in this checkpoint" if path is None else f"valid: {load_recipe(path).name}"


def _metrics(repository: Repository) -> str:
    from ganzoo.metrics.evaluate import MetricResult

    path = repository.find(METRICS_FILE)
    if path is None:
        return "none in this checkpoint"
    try:
        results = [MetricResult(**record) for record in read_json(path)["metrics"]]
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{METRICS_FILE} is malformed: {error}") from None
    return f"{len(results)} measured" if results else "nothing measured"


def _card(repository: Repository) -> str:
    problems = check_card(repository.file("README.md").read_text(encoding="utf-8"))
    if problems:
        raise CheckpointError("; ".join(problems))
    return "valid metadata"
