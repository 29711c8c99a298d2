"""The phases of a run: their lengths, and what early stopping remembers."""

from __future__ import annotations

import copy
import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from itertools import accumulate

from torch import nn

from ganzoo.errors import UserError
from ganzoo.recipe.recipe import Recipe
from ganzoo.recipe.sections import PhaseConfig


def plan_phases(recipe: Recipe, default_updates: dict[str, int], roles: set[str]) -> list[PhaseConfig]:
    """The run's phases with all lengths known.

    Raises:
        UserError: The lengths do not add up to `training.steps`, or a phase updates a network that is not there.
    """
    total = recipe.training.steps
    phases = list(recipe.phases) or [
        PhaseConfig(name="adversarial" if len(roles) > 1 else "training", updates=default_updates)
    ]
    for phase in phases:
        unknown = (set(phase.updates) | set(phase.optimizers) | {*phase.copies, *phase.copies.values()}) - roles
        if unknown or not phase.updates:
            raise UserError(
                f"phase {phase.name!r} must update some of {', '.join(sorted(roles))}, not {sorted(unknown)}"
            )
    fixed = sum(phase.steps or 0 for phase in phases)
    open_ = [phase for phase in phases if phase.steps is None]
    if len(open_) > 1 or (open_ and fixed >= total) or (not open_ and fixed != total):
        raise UserError(
            f"the phases' steps must add up to training.steps={total} (given: {fixed}); "
            "one phase may leave its steps out and takes the rest"
        )
    return [phase if phase.steps else phase.model_copy(update={"steps": total - fixed}) for phase in phases]


class Timetable:
    """When each phase of a run begins and ends, in steps of the run.

    Args:
        phases: With all lengths known, as `plan_phases` gives them.
    """

    def __init__(self, phases: list[PhaseConfig]) -> None:
        self._ends = list(accumulate(phase.steps for phase in phases))

    def start(self, index: int) -> int:
        """The step at which a phase begins."""
        return self._ends[index - 1] if index else 0

    def end(self, index: int) -> int:
        """The step at which it is over."""
        return self._ends[index]

    def index_at(self, step: int) -> int:
        """Which phase a step belongs to; the last one after the end."""
        return min(bisect_right(self._ends, step), len(self._ends) - 1)

    def progress(self, index: int, step: int) -> float:
        """Share of a phase that is over at a step."""
        return (step - self.start(index)) / (self.end(index) - self.start(index))


def check_copies(phases: list[PhaseConfig], networks: Mapping[str, nn.Module]) -> None:
    """Raises a UserError if a network is to begin as a copy of one that has other weights."""
    shapes = {
        role: {key: value.shape for key, value in network.state_dict().items()} for role, network in networks.items()
    }
    for phase in phases:
        for role, other in phase.copies.items():
            if shapes[role] != shapes[other]:
                raise UserError(
                    f"phase {phase.name!r} begins the {role} as a copy of the {other}, but their weights have other "
                    "names or sizes; give both networks the same sizes, or leave copies out"
                )


def growing_networks(phases: list[PhaseConfig], networks: Iterable[nn.Module]) -> list[nn.Module]:
    """The networks that have levels.

    Raises:
        UserError: A phase names a level that they do not have, or none of them has any.
    """
    levels = [phase.level for phase in phases if phase.level is not None]
    if not levels:
        return []
    growing = [network for network in networks if network.top_level is not None]
    if not growing:
        raise UserError(
            "phases name a level, but the networks of this family do not grow; leave level and fade_in out"
        )
    top = growing[0].top_level
    if max(levels) > top:
        raise UserError(f"a phase names the level {max(levels)}, but the networks end at level {top}")
    return growing


class Validation:
    """What early stopping remembers: the best weights so far, their loss, and how long ago that was."""

    def __init__(self, network: nn.Module) -> None:
        self.best = copy.deepcopy(network).requires_grad_(False)
        self.reset()

    def reset(self) -> None:
        self.loss, self.since, self.count = math.inf, 0, 0

    def note(self, loss: float, network: nn.Module) -> None:
        """Takes a validation in."""
        self.count += 1
        self.since += 1
        if loss < self.loss:
            self.loss, self.since = loss, 0
            self.best.load_state_dict(network.state_dict())
