"""What the trainer and every objective agree on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from torch import Tensor, nn

from ganzoo.networks.base import Batch as Batch
from ganzoo.recipe.objective import ObjectiveConfig

if TYPE_CHECKING:
    from ganzoo.recipe.sections import TrainingConfig

Networks = Mapping[str, Any]


class Loss(NamedTuple):
    """What an objective returns: `terms` are added up and minimised, `stats` are logged."""

    terms: dict[str, Tensor]
    stats: dict[str, Tensor]


@dataclass
class StepContext:
    """What the trainer tells an objective about the moment.

    Attributes:
        step: Step of the run, from 0.
        progress: Share of the run that is over, in [0, 1).
        phase_progress: Share of the phase that is over, in [0, 1).
        num_processes: Of the run; each sees its own share of the data.
        update: Which of the step's updates it is, from 0; -1 on held-out data, between the steps.
        repeat: Which of the step's updates of this network it is, from 0.
        draw_latents: `(generator, n) -> (n, ...)` latents, the same whatever the number of processes. With a key after
            them, the draw of that key in this step; without, the next one of this update.
        autocast: Makes the context in which the networks run in reduced precision.
        keep_graph: The next update of this step is another network's on the same batch: what this one computed with a
            graph may be left in `shared` for it.
        is_logged: The statistics of this step will be read, so costly ones are worth their time.
        gather: `(B, ...) -> (processes * B, ...)`: the rows of all processes, the same in each of them; without a graph.
        shared: What the updates of one step leave for one another. A run may be stopped between two updates and resumed
            there: what is missing here must be computable again.
    """

    step: int
    progress: float
    draw_latents: Callable[..., Tensor]
    autocast: Callable[[], AbstractContextManager]
    phase_progress: float = 0.0
    num_processes: int = 1
    update: int = 0
    repeat: int = 0
    keep_graph: bool = False
    is_logged: bool = False
    gather: Callable[[Tensor], Tensor] = lambda rows: rows.detach()
    shared: dict[str, Any] = field(default_factory=dict)


class Trained(NamedTuple):
    """Which networks an objective can train in a role.

    Attributes:
        kind: Their base class, or a Protocol of the methods that they must have.
        words: What they are, "a language model".
        but: Subclasses that it cannot train.
    """

    kind: type
    words: str
    but: tuple[type, ...] = ()

    def fits(self, network: type | None) -> bool:
        return network is not None and issubclass(network, self.kind) and not issubclass(network, self.but)


class Objective:
    """Base of the objectives: one method `<role>_loss(networks, batch, context) -> Loss` for every network it trains.

    Attributes:
        trains: Role -> which networks it can train there. Another family is refused when the recipe is read.
        config_class: Of its section of the recipe.
        boundary: The logit above which the discriminator says "real"; None where there is none, or logits are free.
        config: Its section of the recipe.
        modules: What it learns or remembers besides, by the role it is trained with: a critic, a moving average, a history of
            samples. Saved and resumed, so of one content in all processes: parameters are trained like those of the role,
            buffers are averaged after each step. A history, which has no average, takes in what `StepContext.gather` gives.
    """

    config_class: ClassVar[type[ObjectiveConfig]]
    boundary: float | None = None
    trains: ClassVar[Mapping[str, Trained]] = {}

    def __init__(self, config: Any) -> None:
        self.config = config
        self.modules: dict[str, nn.Module] = {}

    def updates(self, training: TrainingConfig) -> dict[str, int]:
        """Updates of each network in a step of a phase that does not say otherwise, in order."""
        raise NotImplementedError

    def prepare(self, networks: Networks) -> None:
        """Builds `modules`, whose sizes may depend on the networks."""

    def validation_loss(self, networks: Networks, batch: Batch, context: StepContext) -> Tensor:
        """The loss on held-out data by which early stopping judges; lower is better."""
        raise NotImplementedError(f"{type(self).__name__} has no loss on held-out data")

    @classmethod
    def validates(cls) -> bool:
        """Whether there is a `validation_loss`; a phase that stops early is refused without."""
        return cls.validation_loss is not Objective.validation_loss

    def validation_stats(self, networks: Networks, batch: Batch, context: StepContext) -> dict[str, Tensor]:
        """What else held-out data tells of the networks, to be logged; nothing, unless an objective knows something."""
        return {}


def generate(generator: Any, batch: Batch, context: StepContext) -> Tensor:
    """Samples (B, ...) for a batch of real data: new latents where the generator draws some, its labels, its condition."""
    if not generator.draws_latents:
        return generator(batch.condition, batch.labels)
    latents = context.draw_latents(generator, len(batch.samples))
    return generator(latents, batch.labels, *(() if batch.condition is None else (batch.condition,)))


def judge(discriminator: Any, samples: Tensor, labels: Tensor | None, condition: Tensor | None) -> Any:
    """What a discriminator says of samples (B, ...); one that knows of no condition is never told of one that is not there."""
    return discriminator(samples, labels) if condition is None else discriminator(samples, labels, condition)
