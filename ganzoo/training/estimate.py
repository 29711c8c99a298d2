"""How long a run will take, from one or two updates of each network: told before it starts."""

from __future__ import annotations

import time
from collections.abc import Iterator

import torch

from ganzoo.recipe.recipe import Recipe
from ganzoo.training.build import build_trainer
from ganzoo.training.trackers import duration
from ganzoo.training.trainer import Trainer


def estimate_seconds(recipe: Recipe, device: torch.device) -> dict[str, float]:
    """Seconds that each phase takes, by name; on a trainer of its own, which is thrown away.

    Logs, samples and checkpoints are not counted, and early stopping may end a phase before.
    """
    trainer = build_trainer(recipe, device)[1]
    seconds: dict[str, float] = {}
    for index, phase in enumerate(trainer.phases):
        taken = dict(_timed(trainer, index))
        # The first update may prepare something for the others; the rest are like the second.
        step = sum(
            taken[role, 0] + taken[role, min(times, 2) - 1] * (times - 1) for role, times in phase.updates.items()
        )
        seconds[phase.name] = seconds.get(phase.name, 0.0) + step * phase.steps
    return seconds


def describe(seconds: dict[str, float]) -> str:
    """One line: the total, and the phases where there are several."""
    total = f"about {duration(sum(seconds.values()))} on this machine"
    if len(seconds) == 1:
        return total
    return f"{total} ({', '.join(f'{name} {duration(value)}' for name, value in seconds.items())})"


def _timed(trainer: Trainer, index: int) -> Iterator[tuple[tuple[str, int], float]]:
    """The updates that `Trainer.try_step` makes of a phase, and the seconds that each took."""
    start = time.perf_counter()
    for update in trainer.try_step(index):
        if trainer.device.type == "cuda":
            torch.cuda.synchronize(trainer.device)
        yield update, time.perf_counter() - start
        start = time.perf_counter()
