"""The image families on CIFAR-10 at an equal budget of real pictures seen, with small networks: what a CPU can compare.

    python benchmarks/cifar10.py --data PATH/TO/cifar10 --runs FOLDER       # all six; stopped and started again, it goes on
    python benchmarks/cifar10.py --data PATH/TO/cifar10 --runs FOLDER dcgan sngan     # these alone; the other rows stay
    python benchmarks/cifar10.py --data PATH/TO/cifar10 --runs FOLDER --images 2000000   # another budget; nothing is written

Every family's recipe with narrower networks (the WGAN's discriminator without layer norm, progressive growing with batches of 64)
and its schedules over the budget; 10,000 generated pictures against the test set's 10,000, by our own classifier's features
(`cifar10-classifier`) and, where its weights are to be had, by Inception's. The floor is what as many training pictures score in
their place. The data of the measured rows is a copy stored as JPEG: compare the rows with each other, not with figures from
elsewhere.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from timing import environment
from training_runs import trained

import ganzoo
from ganzoo.embedders.base import Embedder, Embedding
from ganzoo.embedders.opening import get_embedder
from ganzoo.errors import GanzooError
from ganzoo.recipe.reading import load_recipe

RESULTS = Path(__file__).parent / "results"
IMAGES = 102_400
METRICS = ("frechet_distance", "precision", "recall", "coverage")
OWN, INCEPTION = "cifar10-classifier", "inception"
COLUMNS = 16


@dataclass(frozen=True)
class Entry:
    """A family's recipe and what makes it small.

    Attributes:
        recipe: Its name.
        overrides: Over the recipe.
        phases: Shares of the budget that its phases take, where it has some.
    """

    recipe: str
    overrides: dict[str, Any] = field(default_factory=dict)
    phases: tuple[float, ...] = ()


RESIDUAL = {"model.generator_width": 64, "model.discriminator_width": 32}
ENTRIES = {
    "dcgan": Entry("dcgan-cifar10"),
    "wgan": Entry("wgan-cifar10", {**RESIDUAL, "model.discriminator_norm": "none"}),
    "sngan": Entry("sngan-cifar10", RESIDUAL),
    "progressive": Entry(
        "progressive-cifar10",
        {"model.max_channels": 64, "model.fmap_base": 2048, "training.batch_size": 64},
        (0.05, 0.15, 0.2, 0.15, 0.45),
    ),
    "r3gan": Entry("r3gan-cifar10", {"model.width": 32, "model.blocks": 1, "training.batch_size": 64}),
    "stylegan2": Entry("stylegan2-cifar10", {"model.width": 32, "model.max_channels": 64}),
}


def overrides(entry: Entry, images: int, data: str) -> dict[str, Any]:
    """Over the recipe: small networks, and as many steps as show the discriminator so many real pictures."""
    recipe = load_recipe(entry.recipe, entry.overrides)
    steps = images // (recipe.training.batch_size * recipe.training.n_critic)
    changed = {
        **entry.overrides,
        "data.path": data,
        "training.steps": steps,
        "training.ema_half_life": 10_000,
        "training.ema_rampup": 0.05,
        "training.sample_every": None,
        "training.checkpoint_every": 250,
        "training.keep_checkpoints": 1,
        "evaluation.metrics": [],
    }
    if entry.phases:
        phases = [phase.model_dump(mode="json", exclude_defaults=True) for phase in recipe.phases]
        for phase, share in zip(phases[:-1], entry.phases, strict=False):
            phase["steps"] = round(share * steps)
        changed["phases"] = phases
    return changed


class Remembering:
    """An embedder that answers at once what it has been asked before: every family is compared with the same real pictures."""

    def __init__(self, embedder: Embedder) -> None:
        self.embedder, self.name = embedder, embedder.name
        self.answers: dict[bytes, Embedding] = {}

    def __call__(self, images: torch.Tensor) -> Embedding:
        asked = hashlib.sha256(images.numpy().tobytes()).digest()
        if asked not in self.answers:
            self.answers[asked] = self.embedder(images)
        return self.answers[asked]


@cache
def embedder_of(name: str) -> Remembering:
    return Remembering(get_embedder(name))


def train(name: str, images: int, data: str, runs: Path) -> dict[str, Any]:
    """One family's row; a run that is done is not done again."""
    entry, folder = ENTRIES[name], runs / f"{name}-{images}"
    pipeline = trained(entry.recipe, folder, overrides(entry, images, data))
    row: dict[str, Any] = {"family": name, "recipe": entry.recipe, "images": images}
    row["generator_parameters"] = sum(p.numel() for p in pipeline.generator.parameters())
    row["discriminator_parameters"] = sum(p.numel() for p in pipeline.discriminator.parameters())
    row["minutes"] = pipeline.training["minutes"]
    row[OWN] = measure(pipeline, OWN, data)
    try:
        row[INCEPTION] = measure(pipeline, INCEPTION, data)
    except GanzooError as error:
        row[INCEPTION] = None
        print(f"without Inception's features: {error}", file=sys.stderr)
    return row


def measure(pipeline: Any, embedder: str, data: str) -> dict[str, Any]:
    """Values and floors by metric.

    Raises:
        GanzooError: The embedder or the data cannot be had.
    """
    settings: dict[str, Any] = {"embedder": embedder_of(embedder), "data": {"path": data}, "split": "test"}
    found = ganzoo.evaluate(pipeline, metrics=METRICS, num_samples=10_000, progress=True, **settings)
    return {result.name: {"value": result.value, "floor": result.floor} for result in found}


def as_markdown(rows: list[dict[str, Any]]) -> str:
    """The rows by our own features, best first, and the floor below them; Inception's Fréchet distance if all rows have it."""
    inception = all(row[INCEPTION] for row in rows)
    header = ["family", "weights, millions", "minutes", "Fréchet distance", "precision", "recall", "coverage"]
    header += ["Fréchet distance, Inception"] if inception else []

    def measured(row: dict[str, Any], which: str) -> list[str]:
        values = [row[OWN][name][which] for name in METRICS]
        values += [row[INCEPTION]["frechet_distance"][which]] if inception else []
        return [_short(value) for value in values]

    lines = [header, ["---"] * len(header)]
    for row in sorted(rows, key=lambda row: row[OWN]["frechet_distance"]["value"]):
        weights = f"{row['generator_parameters'] / 1e6:.2f} + {row['discriminator_parameters'] / 1e6:.2f}"
        lines.append([row["family"], weights, f"{row['minutes']:.0f}", *measured(row, "value")])
    lines.append(["real training pictures", "", "", *measured(rows[0], "floor")])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _short(value: float) -> str:
    return f"{value:.1f}" if value >= 1 else f"{value:.3f}"


def draw(names: list[str], images: int, runs: Path, path: Path) -> None:
    """A row of each family's first samples."""
    size, gap = 32, 2
    sheet = Image.new("RGB", (COLUMNS * (size + gap) + gap, len(names) * (size + gap) + gap), (40, 40, 40))
    for row, name in enumerate(names):
        pipeline = ganzoo.from_pretrained(runs / f"{name}-{images}" / "pipeline")
        for column, picture in enumerate(pipeline(num_samples=COLUMNS, seed=0).images):
            sheet.paste(picture, (gap + column * (size + gap), gap + row * (size + gap)))
    sheet.resize((2 * sheet.width, 2 * sheet.height), Image.Resampling.NEAREST).save(path)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("families", nargs="*", help=f"Of: {', '.join(ENTRIES)}; all by default.")
    parser.add_argument("--data", required=True, help="A folder with train.parquet and test.parquet.")
    parser.add_argument("--runs", type=Path, required=True, help="Where the runs are kept.")
    parser.add_argument("--images", type=int, default=IMAGES, help="Real pictures that a discriminator sees.")
    options = parser.parse_args()
    if unknown := set(options.families) - set(ENTRIES):
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    torch.set_num_threads(1)
    chosen = [name for name in ENTRIES if name in (options.families or ENTRIES)]
    path = RESULTS / "cifar10.json"
    rows = (
        {row["family"]: row for row in json.loads(path.read_text(encoding="utf-8"))["rows"]} if path.is_file() else {}
    )
    for name in chosen:
        rows[name] = train(name, options.images, options.data, options.runs)
        print(rows[name], flush=True)
        if options.images == IMAGES:
            ordered = [rows[name] for name in ENTRIES if name in rows]
            data = {"environment": {**environment(), "threads": 1}, "rows": ordered}
            path.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
    print(as_markdown([rows[name] for name in chosen]))
    if options.images == IMAGES and chosen == list(ENTRIES):
        draw(chosen, options.images, options.runs, RESULTS / "cifar10.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
