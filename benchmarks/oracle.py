"""The oracle benchmark, honestly: every method as a curve of (NLL_oracle, NLL_test, entropy) over sampling temperatures.

    python benchmarks/oracle.py --oracle ../shared/data/seqgan-oracle/oracle.safetensors     # the paper's oracle
    python benchmarks/oracle.py --seed 7                                                     # a fresh one
    python benchmarks/oracle.py --quick --methods mle

NLL_oracle, the benchmark's published number, falls under a lower temperature and under a constant reward; NLL_test and the
entropy say what it cost. A method is better where its curve lies below the other's: both NLLs lower at some temperature.
`against_mle` in the table says how far: NLL_test and entropy at equal NLL_oracle, seed by seed. The two NLLs alone can be
gamed by mixing temperatures (a tenth of the sentences at 1, the rest at 0.3), which the entropy shows.
Each method is trained `--runs` times from other seeds on the same 10,000 sequences; the same temperature is used for
drawing, for NLL_test and for the entropy. The table and the curves are written to benchmarks/results/.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from timing import environment

import ganzoo
from ganzoo.data import load_data
from ganzoo.data.sets.oracle import Oracle
from ganzoo.metrics.text.likelihood import nll, nll_oracle
from ganzoo.recipe.data import DataConfig

RESULTS = Path(__file__).parent / "results"
TEMPERATURES = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.25)
MEASURED = ("nll_oracle", "nll_test", "entropy")
NUM_SAMPLES = 9_984  # 156 batches of 64, as published
# The published protocol's likelihood phase, which SeqGAN begins with: Adam 0.01, clipped to 5, batches of 64.
PUBLISHED = {
    "name": "likelihood",
    "steps": 9_420,  # 60 epochs
    "objective": {"type": "likelihood"},
    "updates": {"generator": 1},
    "optimizers": {"generator": {"type": "adam", "learning_rate": 0.01, "betas": [0.9, 0.999], "clip_norm": 5.0}},
}
EARLY = {"stop": {"every": 157, "patience": 2, "split": "validation", "num_samples": 2000}}
REWARDED = {**PUBLISHED, "name": "adversarial", "steps": 80, "objective": None}
ADVERSARIAL = [
    {"name": "discriminator", "steps": 50, "updates": {"discriminator": 60}},
    {**REWARDED, "steps": 50, "updates": {"generator": 1, "discriminator": 60}},
]
# Method -> recipe and changes. `cot` begins with exactly the weights that `mle` of the same seed ends with, and `constant` and
# `seqgan` with those of `plateau` (AFTER): the published protocol's overfitted model, of which `early` is the best on held-out
# data. The constant reward is the control: it has no discriminator.
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "mle": ("mle-oracle", {}),
    "cot": ("cot-oracle", {}),
    "early": ("seqgan-oracle", {"phases": [{**PUBLISHED, **EARLY}], "training.steps": 9_420}),
    "plateau": ("seqgan-oracle", {"phases": [PUBLISHED], "training.steps": 9_420}),
    "constant": ("seqgan-oracle", {"phases": [REWARDED], "training.steps": 80, "objective.reward": "constant"}),
    "seqgan": ("seqgan-oracle", {"phases": ADVERSARIAL, "training.steps": 100}),
}
AFTER = {"constant": "plateau", "seqgan": "plateau"}


def train(method: str, data: dict[str, Any], seed: int, runs: Path, changes: dict[str, Any]) -> Any:
    recipe, own = METHODS[method]
    overrides = {**{f"data.{key}": value for key, value in data.items()}, "training.seed": seed, **own, **changes}
    if method in AFTER:
        first = runs / f"{AFTER[method]}-{seed}"
        train(AFTER[method], data, seed, runs, changes)
        overrides["init"] = str(first / "pipeline")
    overrides["evaluation.metrics"] = []
    return ganzoo.train(recipe, output=runs / f"{method}-{seed}", resume=True, quiet=True, **overrides)


def curve(generator: Any, oracle: Oracle, test: torch.Tensor, seed: int, count: int) -> list[dict[str, float]]:
    points = []
    for temperature in TEMPERATURES:
        latents = torch.rand(count, test.shape[1], generator=torch.Generator().manual_seed(seed))
        drawn = torch.cat([generator(part, temperature=temperature) for part in latents.split(512)])
        points.append(
            {
                "temperature": temperature,
                "nll_oracle": nll_oracle(oracle, drawn).mean,
                "nll_test": nll(generator, test, temperature=temperature).mean,
                "entropy": nll(generator, drawn, temperature=temperature).mean,
                "distinct": len(torch.unique(drawn, dim=0)) / len(drawn),
            }
        )
    return points


@torch.no_grad()
def held_out_accuracy(run: Any, test: torch.Tensor, count: int) -> dict[str, float] | None:
    """Share of held-out real and of fresh generated sequences that the discriminator tells right; None without a judge."""
    discriminator = run.pipeline.discriminator
    if discriminator is None or run.pipeline.recipe.objective.type != "policy-gradient":  # a mediator judges nothing
        return None
    discriminator.eval()
    drawn = run.pipeline.network(torch.rand(count, test.shape[1], generator=torch.Generator().manual_seed(1)))
    judged = {"real": test[:count], "generated": drawn}
    shares = {
        name: (torch.cat([discriminator(part)[0].logits for part in tokens.split(256)]) > 0).float().mean().item()
        for name, tokens in judged.items()
    }
    return {"real": shares["real"], "generated": 1 - shares["generated"]}


def summary(runs: list[dict[str, Any]]) -> list[dict[str, float]]:
    """Mean and standard deviation over the runs, at every temperature."""
    rows = []
    for points in zip(*(run["curve"] for run in runs), strict=True):
        row = {"temperature": points[0]["temperature"]}
        for name in MEASURED:
            values = [point[name] for point in points]
            row[name] = statistics.fmean(values)
            row[f"{name}_spread"] = statistics.stdev(values) if len(values) > 1 else 0.0
        rows.append(row)
    return rows


def draw(results: dict[str, Any], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(ncols=2, figsize=(12, 5))
    for method, found in results.items():
        rows = found["summary"]
        for axes in panels:
            axes.errorbar(
                [row["nll_oracle"] for row in rows],
                [row["nll_test"] for row in rows],
                xerr=[row["nll_oracle_spread"] for row in rows],
                yerr=[row["nll_test_spread"] for row in rows],
                marker="o",
                markersize=3,
                capsize=2,
                label=method,
            )
    for axes in panels:
        axes.set_xlabel("NLL of samples under the oracle (lower: better sentences)")
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("NLL of held-out sequences (lower: more of them covered)")
    panels[0].set_title(f"Sampling temperatures {TEMPERATURES[-1]} to {TEMPERATURES[0]}, right to left")
    panels[0].legend()
    panels[1].set_ylim(7.3, 9.0)
    panels[1].set_title("The lowest part")
    figure.savefig(path, dpi=120, bbox_inches="tight")


def gaps(found: list[dict[str, Any]], baseline: list[dict[str, Any]]) -> list[dict[str, float]]:
    """How far a method's curve lies below the baseline's of the same seed: at each temperature of the method, its NLL_test and
    its entropy less those of the baseline where that has the same NLL_oracle (linear between temperatures)."""
    rows = []
    for number, temperature in enumerate(TEMPERATURES):
        pairs = []
        for run, other in zip(found, baseline, strict=True):
            point, curve_points = run["curve"][number], sorted(other["curve"], key=lambda p: p["nll_oracle"])
            known = [p["nll_oracle"] for p in curve_points]
            if not known[0] <= point["nll_oracle"] <= known[-1]:
                break
            at = [np.interp(point["nll_oracle"], known, [p[name] for p in curve_points]) for name in MEASURED[1:]]
            pairs.append([point[name] - value for name, value in zip(MEASURED[1:], at, strict=True)])
        else:
            row: dict[str, float] = {"temperature": temperature}
            for name, values in zip(MEASURED[1:], zip(*pairs, strict=True), strict=True):
                row[name] = float(statistics.fmean(values))
                row[f"{name}_spread"] = float(statistics.stdev(values)) if len(values) > 1 else 0.0
            rows.append(row)
    return rows


def write(results: dict[str, Any], protocol: dict[str, Any]) -> None:
    """Writes table and curves; what other methods reached under the same protocol stays."""
    path = RESULTS / "oracle.json"
    present = json.loads(path.read_text()) if path.is_file() else {}
    protocol = json.loads(json.dumps(protocol))
    methods = {**(present["methods"] if present.get("protocol") == protocol else {}), **results}
    for found in methods.values():
        found["summary"] = summary(found["runs"])
        baseline = methods.get("mle", {"runs": []})["runs"]
        if found["runs"] is not baseline and len(baseline) == len(found["runs"]):
            found["against_mle"] = gaps(found["runs"], baseline)
    ordered = {name: methods[name] for name in METHODS if name in methods}
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps({"environment": environment(), "protocol": protocol, "methods": ordered}, indent=2)
    path.write_text(text + "\n")
    draw(ordered, RESULTS / "oracle.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--oracle", type=Path, help="The 15 arrays of SeqGAN's oracle, as safetensors.")
    parser.add_argument("--seed", type=int, default=0, help="Of a fresh oracle, if no file is given.")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="Where the runs lie, to be resumed; a temporary one by default.")
    parser.add_argument("--quick", action="store_true", help="Few steps and samples: a test of the script.")
    options = parser.parse_args()
    data = {"path": str(options.oracle)} if options.oracle else {"dataset": "oracle", "name": str(options.seed)}
    oracle = Oracle.from_file(options.oracle) if options.oracle else Oracle.from_seed(options.seed)
    count = 512 if options.quick else NUM_SAMPLES
    results: dict[str, Any] = {}
    protocol = {
        "oracle": options.oracle.name if options.oracle else f"fresh, seed {options.seed}",
        "num_samples": count,
        "temperatures": TEMPERATURES,
        "training_sequences": 10_000,
    }
    with tempfile.TemporaryDirectory() as temporary:
        for method in options.methods.split(","):
            runs = []
            for seed in range(options.runs):
                start = time.perf_counter()
                runs_folder = options.folder or Path(temporary)
                run = train(method, data, seed, runs_folder, {"training.batch_size": 8} if options.quick else {})
                config = DataConfig.model_validate(data)
                test = torch.from_numpy(
                    load_data(config, run.pipeline.processor, split="test").samples[:count].copy()
                ).long()
                points = curve(run.pipeline.network, oracle, test, seed, count)
                runs.append(
                    {
                        "seed": seed,
                        "minutes": round((time.perf_counter() - start) / 60, 2),
                        "discriminator_accuracy": held_out_accuracy(run, test, min(count, 2000)),
                        "curve": points,
                    }
                )
                shown = "  ".join(f"{p['temperature']}: {p['nll_oracle']:.3f}/{p['nll_test']:.3f}" for p in points)
                print(f"{method} seed {seed} ({runs[-1]['minutes']} min)  {shown}", flush=True)
            results[method] = {"runs": runs}
            if not options.quick:
                write(results, protocol)


if __name__ == "__main__":
    main()
