"""Interleaved timing: every candidate takes its turn in each round, so that a machine whose speed drifts treats all alike."""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch


@dataclass(frozen=True)
class Timing:
    """Seconds of a block, over the rounds: median, and the quartiles as spread."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median * 1e3:8.1f} ms ({self.low * 1e3:.1f} .. {self.high * 1e3:.1f})"


def interleave(
    candidates: Mapping[str, Callable[[], Any]], *, rounds: int, steps: int = 1, warmup: int = 2, device: str = "cpu"
) -> tuple[dict[str, Timing], dict[str, list[float]]]:
    """Times `steps` calls of each candidate per round, in turn.

    Returns:
        Timings per call, and the raw seconds per call and round (for ratios pair by pair).
    """
    for candidate in candidates.values():
        for _ in range(warmup):
            candidate()
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, candidate in candidates.items():
            synchronize(device)
            start = time.perf_counter()
            for _ in range(steps):
                candidate()
            synchronize(device)
            seconds[name].append((time.perf_counter() - start) / steps)
    return {name: summarise(values) for name, values in seconds.items()}, seconds


def summarise(values: list[float]) -> Timing:
    if len(values) < 2:
        return Timing(values[0], values[0], values[0])
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Timing(median, low, high)


def ratio(numerator: list[float], denominator: list[float]) -> Timing:
    """Ratios pair by pair (same round)."""
    return summarise([a / b for a, b in zip(numerator, denominator, strict=True)])


def synchronize(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def environment() -> dict[str, Any]:
    """What the numbers were measured on."""
    processor = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            processor = next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {"processor": processor, "gpu": gpu, "torch": torch.__version__, "python": platform.python_version()}


def run_cases(
    description: str,
    cases: Iterable[Any],
    compare: Callable[[Any], list[dict[str, Any]]],
    shortfalls: Callable[[list[dict[str, Any]]], list[str]],
    results: Path,
) -> int:
    """The command line of a benchmark: compares each case, writes the rows, says what is short of its target.

    Returns:
        The exit code: 1 with `--check` if anything is short, else 0.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="Exit with 1 if a target is missed.")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = [row for case in cases for row in compare(case)]
    results.parent.mkdir(exist_ok=True)
    results.write_text(json.dumps({"environment": environment(), "rows": rows}, indent=2) + "\n", encoding="utf-8")
    print(f"written to {results}")
    missed = shortfalls(rows)
    for line in missed:
        print(f"short of its target: {line}")
    return int(options.check and bool(missed))
