"""Image GANs' training speed: ganzoo's step beside the plain PyTorch loop, same networks and weights, in turn.

    python benchmarks/train_images.py                   # all cases, one thread
    python benchmarks/train_images.py --quick           # ... once each; nothing is written
    python benchmarks/train_images.py sngan growth      # these again; the other results stay as they are
    python benchmarks/train_images.py --check           # ... and exit with 1 if a target is missed
    python benchmarks/train_images.py --device cuda     # a GPU, and what share of its bf16 matrix rate is reached

`plain fp32` is the loop of `plain_images.py`; the losses of a step of both are compared first. `ganzoo` is
`Trainer.train_step` with all that it does; in "bf16" gradient penalties are in fp32, in "bf16, penalties too" they are not.

Seconds on a CPU are those of the process, so that others on the machine count little; images are real ones, of each of the
discriminator's updates. The published projects' rows were measured in fp32 on one core of an AMD Zen 5.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import re
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from plain_images import CASES, Case, PlainLoop, check_equality, trainer
from timing import environment, ratio, summarise, synchronize
from torch.utils.flop_counter import FlopCounterMode

from ganzoo.utils.precision import has_fast_bf16

RESULTS = Path(__file__).parent / "results"
PLAIN, FP32, BF16, BF16_PENALTIES = "plain fp32", "ganzoo fp32", "ganzoo bf16", "ganzoo bf16, penalties too"
# Families whose cost is plotted, and the field that is their width.
GROWTH = {"dcgan": "width", "progressive": "max_channels", "r3gan-small": "width", "stylegan2-small": "max_channels"}
AXES = {"resolution": (16, 32, 64), "batch": (8, 16, 32, 64), "width": (16, 32, 64, 128)}
MIDDLE = {"resolution": 32, "batch": 16, "width": 64}


def candidates(case: Case, device: str) -> dict[str, Callable[[], Callable[[], Any]]]:
    """By name, what makes a step."""
    makers: dict[str, Callable[[], Callable[[], Any]]] = {PLAIN: lambda: PlainLoop(case, device)}
    kinds = {FP32: ("fp32",)}
    if has_fast_bf16(torch.device(device)):
        kinds[BF16] = ("bf16",)
        if any(penalty["type"] != "drift" for penalty in case.penalties):
            kinds[BF16_PENALTIES] = ("bf16", "training")
    makers |= {name: lambda kind=kind: trainer(case, device, *kind).train_step for name, kind in kinds.items()}
    return makers


def seconds_of(step: Callable[[], Any], steps: int, device: str) -> float:
    """Of one step: the process's on a CPU, the clock's on a GPU."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    synchronize(device)
    start = clock()
    for _ in range(steps):
        step()
    synchronize(device)
    return (clock() - start) / steps


def measure(
    steps: dict[str, Callable[[], Any]], rounds: int, number: int, device: str
) -> tuple[dict[str, list[float]], dict[str, int]]:
    """Seconds a step by candidate and round, every one in its turn; and floating-point operations of a step, on a GPU."""
    flops = {}
    for name, step in steps.items():
        for _ in range(1 if device == "cpu" else 3 * number):
            step()
        if device != "cpu":
            with FlopCounterMode(display=False) as counter:
                for _ in range(number):
                    step()
            flops[name] = counter.get_total_flops() // number
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            seconds[name].append(seconds_of(step, number, device))
    return seconds, flops


def matrix_rate(device: str) -> float:
    """Floating-point operations a second of bfloat16 matrix products."""
    size = 8192
    matrix = torch.randn(size, size, device=device, dtype=torch.bfloat16)
    seconds_of(lambda: matrix @ matrix, 10, device)
    return 2 * size**3 / seconds_of(lambda: matrix @ matrix, 50, device)


def peak_memory(case: Case, name: str, device: str) -> float:
    """MiB that networks and a step (with one update of each) add to a process of its own, or hold on its GPU."""
    # Lambdas cannot be sent; the new process makes the candidate itself.
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_added_memory, (replace(case, critic_updates=1), name, device))


def _added_memory(case: Case, name: str, device: str) -> float:
    torch.set_num_threads(1)
    before = _highest_mib()
    candidates(case, device)[name]()()
    return _highest_mib() - before if device == "cpu" else torch.cuda.max_memory_allocated() / 2**20


def _highest_mib() -> float:
    """The process's peak of resident memory (getrusage's begins with that of the parent)."""
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024


def compare(name: str, device: str, quick: bool, rate: float | None) -> Iterable[dict[str, Any]]:
    case = CASES[name]
    check_equality(case, device)
    steps = {code: make() for code, make in candidates(case, device).items()}
    seconds, flops = measure(steps, 1 if quick else case.rounds, case.steps, device)
    images = case.batch * case.critic_updates
    for code, values in seconds.items():
        timing, speedup = summarise(values), ratio(seconds[PLAIN], values)
        row = {
            "case": name,
            "code": code,
            "images_per_second": round(images / timing.median, 1),
            "quartiles": [round(images / timing.high, 1), round(images / timing.low, 1)],
            "speedup": round(speedup.median, 3),
            "speedup_quartiles": [round(speedup.low, 3), round(speedup.high, 3)],
            "peak_mib": None if quick else round(peak_memory(case, code, device)),
            "published": case.published,
            "target": round(case.target * case.published, 1) if case.target else None,
            "share_of_matrix_rate": round(flops[code] / timing.median / rate, 4) if rate else None,
        }
        beside = f"  published {case.published}" + (f", target {row['target']}" if case.target else "")
        share = f"  {row['share_of_matrix_rate']:.1%} of the matrix rate" if rate else ""
        print(
            f"{name:<16} {code:<27} {row['images_per_second']:8.1f} images/s  {speedup.median:.2f}x "
            f"({speedup.low:.2f} .. {speedup.high:.2f})  {row['peak_mib'] or 0:5} MiB{share}"
            f"{beside if case.published and device == 'cpu' else ''}",
            flush=True,
        )
        yield row


def growth(device: str) -> Iterable[dict[str, Any]]:
    """Milliseconds an image of a step, in the precision of `auto`, along one axis at a time."""
    for name, width in GROWTH.items():
        for axis, values in AXES.items():
            for value in values:
                at = {**MIDDLE, axis: value}
                model = {**CASES[name].model, "resolution": at["resolution"], width: at["width"]}
                case = replace(CASES[name], model=model, batch=at["batch"])
                step = trainer(case, device, "auto", "training").train_step
                seconds_of(step, case.steps, device)
                seconds = min(seconds_of(step, case.steps, device) for _ in range(3 if case.steps == 1 else 1))
                yield {"family": case.family, "axis": axis, "value": value, "ms": round(1e3 * seconds / case.batch, 3)}


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(ncols=len(AXES), figsize=(13, 4), sharey=True, layout="constrained")
    words = {"resolution": "pixels along a side", "batch": "batch size", "width": "widest layer's channels"}
    for panel, axis in zip(panels, AXES, strict=True):
        for family in dict.fromkeys(row["family"] for row in rows):
            points = [(row["value"], row["ms"]) for row in rows if (row["family"], row["axis"]) == (family, axis)]
            panel.loglog(*zip(*points, strict=True), "o-", label=family)
        panel.set_xscale("log", base=2)
        panel.set_xticks(AXES[axis], [str(value) for value in AXES[axis]])
        rest = ", ".join(f"{name} {value}" for name, value in MIDDLE.items() if name != axis)
        panel.set(xlabel=words[axis], title=rest)
        panel.grid(alpha=0.3, which="both")
    panels[0].set_ylabel("CPU ms an image, one training step")
    panels[0].legend()
    figure.savefig(path, dpi=110)


def shortfalls(rows: list[dict[str, Any]]) -> list[str]:
    """The cases that miss their target, in words."""
    best: dict[str, dict[str, Any]] = {}
    for row in rows:
        if (
            row["target"]
            and row["images_per_second"] > best.get(row["case"], {"images_per_second": 0})["images_per_second"]
        ):
            best[row["case"]] = row
    return [
        f"{name}: {row['images_per_second']} images a second, not {row['target']}"
        for name, row in best.items()
        if row["images_per_second"] < row["target"]
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", help=f"Of: {', '.join([*CASES, 'growth'])}; all by default.")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--quick", action="store_true", help="One round, no memory, no growth, nothing written.")
    parser.add_argument("--check", action="store_true", help="Exit with 1 if a target is missed (CPU).")
    options = parser.parse_args()
    if unknown := set(options.what) - {*CASES, "growth"}:
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    what = options.what or [*CASES, *([] if options.quick or options.device != "cpu" else ["growth"])]
    torch.set_num_threads(1)
    kind = options.device.partition(":")[0]
    path = RESULTS / f"train_images-{kind}.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"rows": [], "growth": []}
    rate = matrix_rate(options.device) if kind == "cuda" else None
    new = [row for name in CASES if name in what for row in compare(name, options.device, options.quick, rate)]
    rows = sorted(
        [row for row in known["rows"] if row["case"] not in what] + new, key=lambda row: [*CASES].index(row["case"])
    )
    grown = list(growth(options.device)) if "growth" in what else known["growth"]
    if not options.quick:
        RESULTS.mkdir(exist_ok=True)
        data = {"environment": environment(), "matrix_rate": rate, "rows": rows, "growth": grown}
        path.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
        print(f"written to {path}")
        if "growth" in what:
            draw(grown, RESULTS / "train_images-growth.png")
    missed = shortfalls(new) if kind == "cpu" else []
    for line in missed:
        print(f"short of its target: {line}")
    return int(options.check and bool(missed))


if __name__ == "__main__":
    sys.exit(main())
