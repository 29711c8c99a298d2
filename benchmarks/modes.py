"""Mode coverage on Gaussians in the plane: the protocol of VEEGAN and PacGAN, for the zoo's recipes and for the plain GAN.

    python benchmarks/modes.py                           # ring and grid, ten seeds each: about 40 minutes on one core
    python benchmarks/modes.py --seeds 2 --data grid     # a first look
    python benchmarks/modes.py --check                   # end with 1 where a seed of a recipe misses a mode, or 95 %

100,000 points to train on; 2,500 generated points; a point is of high quality within three standard deviations of the nearest
mode (perfect samples: 98.9 %); a mode is covered by one such point (Lin et al., 2018, PacGAN, section 4.1). The plain GAN has
that paper's networks (four layers of 400 with batch normalisation; three of 200 maxout units), loss and optimiser, for as many
steps as the recipe.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from timing import environment

import ganzoo

RESULTS = Path(__file__).parent / "results"
GRADED = 0.95
# What PacGAN's GAN differs in from the recipe (its section 4.1 and code).
PLAIN = {
    "model.generator_widths": [400] * 4,
    "model.generator_norm": "batch",
    "model.discriminator_widths": [200] * 3,
    "model.maxout_pieces": 5,
    "objective": {"type": "adversarial", "loss": "non-saturating"},
    "generator_optimizer": {"type": "adam", "learning_rate": 1e-4, "betas": [0.8, 0.999]},
    "discriminator_optimizer": {"type": "adam", "learning_rate": 1e-4, "betas": [0.8, 0.999]},
    "training.batch_size": 100,
    "training.ema_half_life": None,
}
METHODS: dict[str, dict[str, Any]] = {"plain GAN": PLAIN, "recipe": {}}
QUIET = {"training.sample_every": None, "training.checkpoint_every": 10**9}


def train(data: str, method: str, seed: int, steps: int | None) -> tuple[dict[str, Any], torch.Tensor]:
    """One run: what it reached, and its points."""
    overrides = {**METHODS[method], **QUIET, "training.seed": seed, "evaluation.seed": seed}
    if steps is not None:
        overrides["training.steps"] = steps
    start = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        run = ganzoo.train(f"vanilla-{data}", output=folder, quiet=True, **overrides)
        seconds = time.process_time() - start
        points = torch.from_numpy(run.pipeline(num_samples=2500, seed=seed).points)
    values = {record["name"]: record["value"] for record in run.pipeline.metrics}
    row = {"data": data, "method": method, "seed": seed, **values, "cpu_seconds": round(seconds, 1)}
    return row, points


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean and standard error over the seeds, and the worst seed."""
    found: dict[str, Any] = {"data": rows[0]["data"], "method": rows[0]["method"], "seeds": len(rows)}
    for name in ("modes", "high_quality", "mode_divergence"):
        values = [row[name] for row in rows]
        error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0
        found |= {name: statistics.fmean(values), f"{name}_error": error}
    worst = {"worst_modes": min(row["modes"] for row in rows), "worst_quality": min(r["high_quality"] for r in rows)}
    return {**found, **worst, "cpu_seconds": max(row["cpu_seconds"] for row in rows)}


def draw(points: dict[tuple[str, str], torch.Tensor], path: Path) -> None:
    """The points of the first seed, one panel a method."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(points), figsize=(4 * len(points), 4), squeeze=False)
    for axis, ((data, method), found) in zip(axes[0], points.items(), strict=True):
        axis.scatter(found[:, 0], found[:, 1], s=2, alpha=0.4)
        axis.set(title=f"{data}, {method}", aspect="equal")
    figure.tight_layout()
    figure.savefig(path, dpi=80)
    pyplot.close(figure)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="+", choices=["ring", "grid"], default=["ring", "grid"])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--steps", type=int, default=None, help="instead of the recipe's; nothing is written then")
    parser.add_argument("--check", action="store_true", help="end with 1 where a target is missed")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    runs, table, pictures = [], [], {}
    for data in arguments.data:
        for method in METHODS:
            rows = []
            for seed in range(arguments.seeds):
                row, points = train(data, method, seed, arguments.steps)
                pictures.setdefault((data, method), points)
                rows.append(row)
                print(row, flush=True)
            runs += rows
            table.append(summary(rows))
            print(table[-1], flush=True)
    if arguments.steps is None and arguments.seeds == 10 and len(arguments.data) == 2:
        RESULTS.mkdir(exist_ok=True)
        content = {"environment": {**environment(), "threads": 1}, "summary": table, "runs": runs}
        (RESULTS / "modes.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        draw(pictures, RESULTS / "modes.png")
    full = {"ring": 8, "grid": 25}
    missed = [
        row
        for row in runs
        if row["method"] == "recipe" and (row["modes"] < full[row["data"]] or row["high_quality"] < GRADED)
    ]
    for row in missed:
        print(f"short of its target: {row}")
    return int(arguments.check and bool(missed))


if __name__ == "__main__":
    sys.exit(main())
