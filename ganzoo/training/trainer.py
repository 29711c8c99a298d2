"""The trainer: one loop for every family and modality.

It owns data order, randomness, optimisers, accumulation, precision, averaging, distribution and the order of updates; what
is minimised is the objective's business, what happens between steps (logs, samples, checkpoints) the callbacks' in
`run.py`. It never asks which family or modality it trains.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ganzoo.data.dataset import ArrayDataset
from ganzoo.objectives import Batch, Loss, Objective, StepContext, build_objective
from ganzoo.processors import Processor
from ganzoo.recipe.recipe import Recipe
from ganzoo.recipe.sections import PhaseConfig
from ganzoo.training.batches import RealBatches
from ganzoo.training.descent import Descent
from ganzoo.training.distributed import World, running_statistics
from ganzoo.training.ema import EMA
from ganzoo.training.phases import Timetable, Validation, check_copies, growing_networks, plan_phases
from ganzoo.training.randomness import mix, seed_device
from ganzoo.training.stats import StatsCollector
from ganzoo.utils.precision import autocast, resolve_precision


class Trainer:
    """Trains the networks of one family by one objective.

    Args:
        recipe: The run's recipe.
        networks: Role -> network, main network first; moved to `device`.
        objective: What is minimised.
        dataset: Real samples in stored form.
        processor: Turns stored samples into the networks' space.
        device: Where the networks run.
        world: The processes of this run.

    Attributes:
        step: Steps done.
        update: Updates done of a step that was left in the middle, else 0.
        skipped: Steps that early stopping spared.
        batches: The real data, and how much of them was given.
        ema: Average of the main network, or None.
        stats: Means of losses and statistics since they were last read.
    """

    def __init__(
        self,
        recipe: Recipe,
        networks: Mapping[str, nn.Module],
        objective: Objective,
        dataset: ArrayDataset,
        processor: Processor,
        *,
        device: torch.device,
        world: World | None = None,
    ) -> None:
        training = recipe.training
        self.recipe, self.dataset, self.processor = recipe, dataset, processor
        self.device, self.world = device, world or World()
        for network in networks.values():
            network.prepare_for_training()
        # Channels-last only touches 4-d weights: 10-20 % faster convolutions, nothing for other networks.
        self.networks = {
            role: network.to(device, memory_format=torch.channels_last).train() for role, network in networks.items()
        }
        main = next(iter(self.networks))
        self.callables: dict[str, Any] = dict(self.networks)
        if training.compile:
            self.callables[main] = torch.compile(self.networks[main])
        self.precision = resolve_precision(training.precision, device)
        half_life = training.ema_half_life
        self.ema = EMA(self.networks[main], half_life, training.ema_rampup) if half_life else None
        self.phases = plan_phases(recipe, objective.updates(training), set(self.networks))
        self.timetable = Timetable(self.phases)
        self.objectives = [build_objective(phase.objective) if phase.objective else objective for phase in self.phases]
        check_copies(self.phases, self.networks)
        self._growing = growing_networks(
            self.phases, [*self.networks.values(), *([self.ema.average] if self.ema else [])]
        )
        self._learned = self._prepare_objectives()
        self.total_steps = training.steps
        self.step = self.update = self.skipped = 0
        self.validation = Validation(self.networks[main]) if any(phase.stop for phase in self.phases) else None
        self.stats = StatsCollector()
        self.batches = RealBatches(recipe, dataset, processor, self.networks[main], device, self.world)
        self._statistics = [buffer for network in self.networks.values() for buffer in running_statistics(network)]
        self._statistics += [buffer for module in self._learned.values() for buffer in module.buffers()]
        self.descent = Descent(
            recipe,
            self.phases,
            {role: [*network.parameters(), *self._companions(role)] for role, network in self.networks.items()},
            device=device,
            precision=self.precision,
            world=self.world,
        )

    @property
    def samples_per_step(self) -> int:
        """Real samples that one update of a network sees, over all processes."""
        training = self.recipe.training
        return training.batch_size * training.accumulation * self.world.size

    @property
    def samples_seen(self) -> int:
        return (self.step - self.skipped) * self.samples_per_step

    @property
    def modules(self) -> dict[str, nn.Module]:
        """Everything that has weights: the networks by role, the average as "ema", the best so far as "best", and what
        objectives learn besides."""
        extra = {} if self.ema is None else {"ema": self.ema.average}
        if self.validation is not None:
            extra["best"] = self.validation.best
        return {**self.networks, **extra, **self._learned}

    @property
    def main_network(self) -> nn.Module:
        """The network to sample from: the average, if there is one."""
        return self.ema.average if self.ema is not None else next(iter(self.networks.values()))

    @property
    def objective(self) -> Objective:
        """That of the phase whose optimisers are in use."""
        return self.objectives[self.phase_index]

    def phase_at(self, step: int) -> PhaseConfig:
        return self.phases[self.timetable.index_at(step)]

    def phase_start(self, index: int) -> int:
        """The step at which a phase begins."""
        return self.timetable.start(index)

    @property
    def phase_index(self) -> int:
        """The phase whose optimisers are in use."""
        return self.descent.phase_index

    @property
    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """By role."""
        return self.descent.optimizers

    def enter_phase(self, index: int) -> None:
        """Makes the optimisers of a phase: its own begin anew, the others go on as they are."""
        self.descent.enter_phase(index)

    def _copy_weights(self, copies: Mapping[str, str]) -> None:
        for role, other in copies.items():
            self.networks[role].load_state_dict(self.networks[other].state_dict())

    def _prepare_objectives(self) -> dict[str, nn.Module]:
        learned = {}
        for index, objective in enumerate(dict.fromkeys(self.objectives)):
            objective.prepare(self.networks)
            for role, module in objective.modules.items():
                learned[f"objective{index}_{role}"] = module.to(self.device)
        return learned

    def _companions(self, role: str) -> list[nn.Parameter]:
        """Parameters that objectives train along with a network."""
        modules = [
            objective.modules[role] for objective in dict.fromkeys(self.objectives) if role in objective.modules
        ]
        return [parameter for module in modules for parameter in module.parameters()]

    def train_step(self, *, is_logged: bool = False, should_stop: Callable[[], bool] = lambda: False) -> bool:
        """One step: every network of the phase is updated as often as the phase says; then the average follows.

        Args:
            is_logged: Its statistics will be read.
            should_stop: Asked between two updates; if it says so, the step is left there, to be gone on with later, in
                this process or in one that resumes from a checkpoint.

        Returns:
            Whether the step was finished.
        """
        if self.update == 0 and (index := self.timetable.index_at(self.step)) != self.phase_index:
            self.enter_phase(index)
            self._copy_weights(self.phases[index].copies)
        self.grow()
        updates = self.phases[self.phase_index].updates
        groups = max(updates.values())
        # A network that is updated less often than another uses the batches of the other's last updates.
        plan = [(role, groups - times + repeat, repeat) for role, times in updates.items() for repeat in range(times)]
        context = self._context(is_logged)
        batches: list[Batch] = []
        gathered = None
        for number, (role, group, repeat) in enumerate(plan):
            if number < self.update:
                continue
            if self.update and should_stop() and not context.keep_graph:
                return False
            seed_device(self.device, mix(self.recipe.training.seed, "step", self.step, number, self.world.rank))
            if group != gathered:
                batches, gathered = list(self.batches.of_update(group)), group
            next_group = plan[number + 1][1] if number + 1 < len(plan) else None
            context.keep_graph = group == next_group and self.recipe.training.accumulation == 1
            context.update, context.repeat = number, repeat
            self._update(role, batches, context)
            self.update = number + 1
        self.world.average_(self._statistics)
        self.step, self.update = self.step + 1, 0
        self.batches.given += groups
        if self.ema is not None:
            self.ema.update(self.samples_per_step, self.samples_seen)
        return True

    def try_step(self, index: int) -> Iterator[tuple[str, int]]:
        """Makes the updates of a phase's last step, where networks have grown, to see that they work or how long they take.

        Of each network one to warm up, which may prepare something for the others, then the first two. The weights change, and
        no step is counted: for a trainer that is thrown away.

        Yields:
            After each update its network's role and its number among them; -1 of the one to warm up.
        """
        phase = self.phases[index]
        self.step = self.timetable.end(index) - 1
        self.enter_phase(index)
        self.grow()
        for role, times in phase.updates.items():
            context, batches = self._context(is_logged=False), list(self.batches.of_update(0))
            self._update(role, batches, context)
            context.shared.clear()
            yield role, -1
            for repeat in range(min(times, 2)):
                context.update = context.repeat = repeat
                self._update(role, batches, context)
                yield role, repeat

    @property
    def phase_progress(self) -> float:
        """Share of the phase that is over."""
        return self.timetable.progress(self.phase_index, self.step)

    def grow(self) -> None:
        """Gives networks that grow the level of the moment."""
        level = self.phases[self.phase_index].level_at(self.phase_progress)
        if level is not None:
            for network in self._growing:
                network.set_level(level)

    def learning_rate(self, role: str) -> float:
        """That of a network's optimiser at the moment."""
        return self.descent.learning_rate(role, self.step)

    def validate(self, dataset: ArrayDataset, num_samples: int | None) -> float:
        """The phase's loss on (the first `num_samples`) held-out data, the same in all processes.

        The network that is judged is the one that will be used: the average, if there is one.
        """
        networks = {**self.networks, next(iter(self.networks)): self.main_network}

        def loss(*inputs: Any) -> dict[str, Tensor]:
            return {"loss": self.objective.validation_loss(*inputs)}

        return self._held_out_means(loss, networks, dataset, num_samples)["loss"]

    def validation_stats(self, dataset: ArrayDataset, num_samples: int | None) -> dict[str, float]:
        """What else the phase's objective tells of held-out data; {} if nothing.

        The networks are those in training, so that the numbers can be compared with those of the steps.
        """
        return self._held_out_means(self.objective.validation_stats, self.networks, dataset, num_samples)

    @torch.no_grad()
    def _held_out_means(
        self,
        compute: Callable[..., dict[str, Tensor]],
        networks: Mapping[str, nn.Module],
        dataset: ArrayDataset,
        num_samples: int | None,
    ) -> dict[str, float]:
        """Means over held-out batches, weighted by their size, without dropout; training goes on as if nothing was.

        Every process goes through all of it, with latents of its own; what all then act on is the mean over them.
        """
        count = min(num_samples or len(dataset), len(dataset))
        modes = {role: network.training for role, network in networks.items()}
        totals: dict[str, Tensor] = {}
        context = self._context(False)
        context.update = -1
        try:
            for network in networks.values():
                network.eval()
            for batch in self.batches.held_out(dataset, count):
                for name, value in compute(networks, batch, context).items():
                    totals[name] = totals.get(name, 0.0) + value * len(batch.samples)
        finally:
            for role, network in networks.items():
                network.train(modes[role])
        return self.world.mean({name: total.item() / count for name, total in totals.items()}, self.device)

    def end_phase_early(self) -> None:
        """Goes back to the weights that validated best, and on to the next phase."""
        end = self.timetable.end(self.phase_index)
        self.skipped += end - self.step
        self.step = end

    def take_best(self) -> None:
        """Puts the weights that validated best into the main network and its average."""
        if self.validation is None or not self.validation.count:
            return
        next(iter(self.networks.values())).load_state_dict(self.validation.best.state_dict())
        if self.ema is not None:
            self.ema.average.load_state_dict(self.validation.best.state_dict())
        self.validation.reset()

    def _update(self, role: str, batches: list[Batch], context: StepContext) -> None:
        """Gradients of one network's loss over the accumulated batches, then one step of its optimiser."""
        # Frozen networks cost no weight gradients. With `keep_graph`, what this update computes is differentiated by the next
        # one, so every network stays open.
        self.descent.open(role, others=context.keep_graph)
        compute = getattr(self.objective, f"{role}_loss")
        for batch in batches:
            loss: Loss = compute(self.callables, batch, context)
            total = sum_terms(loss.terms)
            self.descent.backward(role, total / len(batches) if len(batches) > 1 else total)
            self._record(role, loss, total)
        norm = self.descent.step(role, self.step, measure=context.is_logged)
        if norm is not None:
            self.stats.add({f"{role}/grad_norm": norm})

    def _record(self, role: str, loss: Loss, total: Tensor) -> None:
        values = {f"{role}/loss": total, **{f"{role}/loss_{name}": value for name, value in loss.terms.items()}}
        values |= {name if "/" in name else f"{role}/{name}": value for name, value in loss.stats.items()}
        self.stats.add(values)

    def _context(self, is_logged: bool) -> StepContext:
        counts: dict[int, int] = {}
        generator = torch.Generator(self.device)

        def draw_latents(network: Any, num_samples: int, *key: Any) -> Tensor:
            if not key:
                counts[context.update] = counts.get(context.update, -1) + 1
                key = (context.update, counts[context.update])
            # Every process draws the whole world's latents and takes its share: n processes see what one would.
            generator.manual_seed(mix(self.recipe.training.seed, "latents", self.step, *key))
            latents = network.sample_latents(num_samples * self.world.size, generator=generator)
            return latents[self.world.rank * num_samples :][:num_samples]

        context = StepContext(
            step=self.step,
            progress=self.step / self.total_steps,
            phase_progress=self.phase_progress,
            num_processes=self.world.size,
            draw_latents=draw_latents,
            autocast=partial(autocast, self.device.type, self.precision),
            is_logged=is_logged,
            gather=self.world.gather,
        )
        return context


def sum_terms(terms: Mapping[str, Tensor]) -> Tensor:
    first, *rest = terms.values()
    for term in rest:
        first = first + term
    return first


def is_finite(modules: Iterable[nn.Module]) -> bool:
    """Whether every parameter and statistic is finite; waits for the device once."""
    tensors = [tensor for module in modules for tensor in module.state_dict().values() if tensor.is_floating_point()]
    norms = torch._foreach_norm(tensors)
    return math.isfinite(torch.stack([norm.float() for norm in norms]).sum().item())
