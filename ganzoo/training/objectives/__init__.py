"""Objectives: what is minimised. They compute losses and nothing else; the trainer owns data, optimisers and the loop.

An objective has one method `<role>_loss(networks, batch, context)` for every network it trains. It returns the named terms of
the loss, already weighted (their sum is what is minimised), and named statistics for the log.
"""

from __future__ import annotations

from typing import Any

from ganzoo.training.objectives.adversarial import AdversarialObjective
from ganzoo.training.objectives.base import Batch, Loss, Networks, Objective, StepContext
from ganzoo.training.objectives.classification import ClassificationObjective
from ganzoo.training.objectives.cooperative import CooperativeObjective
from ganzoo.training.objectives.gumbel import GumbelObjective
from ganzoo.training.objectives.likelihood import LikelihoodObjective
from ganzoo.training.objectives.policy_gradient import PolicyGradientObjective
from ganzoo.training.objectives.vocoder import VocoderObjective

OBJECTIVES: dict[str, type[Objective]] = {
    "adversarial": AdversarialObjective,
    "classification": ClassificationObjective,
    "likelihood": LikelihoodObjective,
    "policy-gradient": PolicyGradientObjective,
    "gumbel": GumbelObjective,
    "cooperative": CooperativeObjective,
    "vocoder": VocoderObjective,
}


def build_objective(config: Any) -> Objective:
    """The objective of a recipe's section."""
    return OBJECTIVES[config.type](config)


__all__ = ["OBJECTIVES", "Batch", "Loss", "Networks", "Objective", "StepContext", "build_objective"]
