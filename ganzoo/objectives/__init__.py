"""Objectives: what is minimised. They compute losses and nothing else; the trainer owns data, optimisers and the loop.

An objective has one method `<role>_loss(networks, batch, context)` for every network it trains. It returns the named terms of
the loss, already weighted (their sum is what is minimised), and named statistics for the log. Each is a file here, with its
section of a recipe above it, and is found by the file's name (`ganzoo.utils.finding`).
"""

from __future__ import annotations

from ganzoo.objectives.base import Batch, Loss, Networks, Objective, StepContext, Trained
from ganzoo.recipe.objective import OBJECTIVES, ObjectiveConfig


def build_objective(config: ObjectiveConfig) -> Objective:
    """The objective of a recipe's section."""
    return OBJECTIVES.get(config.type)(config)


__all__ = ["Batch", "Loss", "Networks", "Objective", "StepContext", "Trained", "build_objective"]
