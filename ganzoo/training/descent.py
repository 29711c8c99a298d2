"""From gradients to steps: one optimiser a network, with what its phase says of learning rate, clipping and scaling."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ganzoo.losses.penalties import clip_weights_
from ganzoo.recipe.recipe import Recipe
from ganzoo.recipe.sections import PhaseConfig
from ganzoo.training.distributed import World
from ganzoo.training.optimizers import betas_at, build_optimizer, learning_rate_factor
from ganzoo.training.phases import Timetable


class Descent:
    """The optimisers of a run.

    Args:
        recipe: The run's recipe.
        phases: With their own optimisers, which begin anew where they are named.
        parameters: Role -> what is trained of the network and along with it, each once.
        device: Where they are.
        precision: Of the forward passes; gradients of float16 are scaled.
        world: The processes of this run, whose gradients are averaged.

    Attributes:
        phase_index: The phase whose optimisers are in use.
        configs: Role -> the section of the recipe that its optimiser is of.
    """

    def __init__(
        self,
        recipe: Recipe,
        phases: list[PhaseConfig],
        parameters: Mapping[str, list[nn.Parameter]],
        *,
        device: torch.device,
        precision: torch.dtype,
        world: World,
    ) -> None:
        self.recipe, self.phases, self.parameters = recipe, phases, parameters
        self.device, self.world = device, world
        self.total_steps, self.timetable = recipe.training.steps, Timetable(phases)
        self.scalers = {
            role: torch.amp.GradScaler(device.type, enabled=precision == torch.float16) for role in parameters
        }
        self.optimizers: dict[str, torch.optim.Optimizer] = {}
        self.enter_phase(0)

    def enter_phase(self, index: int) -> None:
        """Makes the optimisers of a phase: its own begin anew, the others go on as they are."""
        self.configs = {role: self.recipe.optimizers[role] for role in self.parameters}
        own: set[str] = set()
        for phase in self.phases[: index + 1]:
            own = set(phase.optimizers)
            self.configs |= phase.optimizers
        self.phase_index = index
        for role, parameters in self.parameters.items():
            if role in own or role not in self.optimizers:
                self.optimizers[role] = build_optimizer(self.configs[role], parameters, self.device)

    def learning_rate(self, role: str, step: int) -> float:
        """The learning rate at a step of the run."""
        config = self.configs[role]
        return config.learning_rate * learning_rate_factor(config.schedule, *self._time(role, step))

    def open(self, role: str, *, others: bool) -> None:
        """Lets gradients reach the parameters of one network, and of the others too or not, and forgets the old ones."""
        for other, parameters in self.parameters.items():
            for parameter in parameters:
                parameter.requires_grad_(other == role or others)
        self.optimizers[role].zero_grad(set_to_none=True)

    def backward(self, role: str, loss: Tensor) -> None:
        """Adds the gradients of a loss by one network's parameters."""
        self.scalers[role].scale(loss).backward(inputs=self.parameters[role])

    def step(self, role: str, step: int, *, measure: bool) -> Tensor | None:
        """Moves one network's parameters by their gradients.

        Args:
            step: Of the run.
            measure: Compute the gradients' norm, also where it is not clipped.

        Returns:
            The norm, a 0-dim tensor, or None.
        """
        config, parameters = self.configs[role], self.parameters[role]
        optimizer, scaler = self.optimizers[role], self.scalers[role]
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        self.world.average_(gradients)
        scaler.unscale_(optimizer)
        norm = None
        if config.clip_norm is not None:
            norm = torch.nn.utils.clip_grad_norm_(parameters, config.clip_norm)
        elif measure:
            norm = torch.nn.utils.get_total_norm(gradients)
        for group in optimizer.param_groups:
            group["lr"] = self.learning_rate(role, step)
            if config.final_beta2 is not None:
                group["betas"] = betas_at(config, *self._time(role, step))
        scaler.step(optimizer)
        scaler.update()
        if config.clip_weights is not None:
            clip_weights_(parameters, config.clip_weights)
        return norm

    def _time(self, role: str, step: int) -> tuple[int, int]:
        """Steps done, and steps in all, of the run or of the phase that a network's optimiser began with."""
        for index in reversed(range(self.phase_index + 1)):
            if role in self.phases[index].optimizers:
                return step - self.timetable.start(index), self.phases[index].steps
        return step, self.total_steps
