"""Optimisers and learning-rate schedules from a recipe's sections."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch.nn import Parameter

    from ganzoo.recipe.sections import OptimizerConfig, ScheduleConfig


def build_optimizer(
    config: OptimizerConfig, parameters: Iterable[Parameter], device: torch.device
) -> torch.optim.Optimizer:
    """Builds an optimiser: the fused kernel where there is one (one pass over memory), else the foreach (list-at-once) one."""
    parameters = list(parameters)
    fused = device.type in ("cpu", "cuda")
    common = {"lr": config.learning_rate, "weight_decay": config.weight_decay}
    if config.type in ("adam", "adamw"):
        algorithm = torch.optim.Adam if config.type == "adam" else torch.optim.AdamW
        return algorithm(parameters, betas=config.betas, eps=config.eps, fused=fused, foreach=not fused, **common)
    if config.type == "rmsprop":
        return torch.optim.RMSprop(parameters, eps=config.eps, momentum=config.momentum, foreach=True, **common)
    return torch.optim.SGD(parameters, momentum=config.momentum, nesterov=config.nesterov, foreach=True, **common)


def learning_rate_factor(schedule: ScheduleConfig, step: int, total_steps: int) -> float:
    """The factor on the learning rate at `step`, counted from 0: a pure function, so that nothing of it is saved.

    Linear warm-up over `warmup` steps; constant until `start` of the run; then from 1 to `final` by the schedule's type.
    """
    warm = min(1.0, (step + 1) / schedule.warmup) if schedule.warmup else 1.0
    begin = schedule.start * total_steps
    progress = min(1.0, max(0.0, (step - begin) / max(1.0, total_steps - begin)))
    decay = {
        "constant": 1.0,
        "linear": 1.0 + (schedule.final - 1.0) * progress,
        "cosine": schedule.final + (1.0 - schedule.final) * 0.5 * (1.0 + math.cos(math.pi * progress)),
        "exponential": schedule.final**progress,
    }[schedule.type]
    return warm * decay


def betas_at(config: OptimizerConfig, step: int, total_steps: int) -> tuple[float, float]:
    """Adam's decay rates at `step`, counted from 0: the second goes to `final_beta2` along half a cosine."""
    beta1, beta2 = config.betas
    if config.final_beta2 is None:
        return beta1, beta2
    share = 0.5 * (1.0 + math.cos(math.pi * min(1.0, step / total_steps)))
    return beta1, config.final_beta2 + (beta2 - config.final_beta2) * share
