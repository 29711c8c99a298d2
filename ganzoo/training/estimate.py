"""How long a run will take, from one or two updates of each network: told before it starts."""

from __future__ import annotations

import time

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
        trainer.step = trainer.phase_start(index) + phase.steps - 1  # grown, where the networks grow
        trainer.enter_phase(index)
        trainer.grow()
        step = sum(_seconds_of(trainer, role, times) for role, times in phase.updates.items())
        seconds[phase.name] = seconds.get(phase.name, 0.0) + step * phase.steps
    return seconds


def describe(seconds: dict[str, float]) -> str:
    """One line: the total, and the phases where there are several."""
    total = f"about {duration(sum(seconds.values()))} on this machine"
    if len(seconds) == 1:
        return total
    return f"{total} ({', '.join(f'{name} {duration(value)}' for name, value in seconds.items())})"


def _seconds_of(trainer: Trainer, role: str, times: int) -> float:
    """Seconds that a network's updates take in one step: the first, which may prepare something for the others, and the
    rest like the second."""
    context = trainer._context(is_logged=False)
    batches = list(trainer._batches(0, 1))
    trainer._update(role, batches, context)  # warms up
    context.shared.clear()
    taken = []
    for repeat in range(min(times, 2)):
        context.update = context.repeat = repeat
        start = time.perf_counter()
        trainer._update(role, batches, context)
        if trainer.device.type == "cuda":
            torch.cuda.synchronize(trainer.device)
        taken.append(time.perf_counter() - start)
    return taken[0] + taken[-1] * (times - 1)
