"""Several processes that draw samples together: `torchrun ... -m ganzoo sample MODEL --num-samples 1000`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from ganzoo.training.distributed import World


@dataclass(frozen=True)
class Processes:
    """The processes of this command; mostly there is one."""

    world: World

    @classmethod
    def of_this_run(cls) -> Processes:
        from ganzoo.training.distributed import World

        return cls(World.from_environment())

    @property
    def is_main(self) -> bool:
        """Whether it is this one that writes and prints."""
        return self.world.is_main

    def device(self, asked: str | None) -> str | None:
        """Where this process computes: of several on GPUs each has its own, if none is named by number."""
        return f"cuda:{self.world.local_rank}" if asked == "cuda" and self.world.size > 1 else asked

    def sample(self, pipeline: Any, number: int, *, seed: int | None = None, **how: Any) -> Tensor | None:
        """Samples in the network's space, (number, ...), as one process draws them: each draws a part of the seeds.

        Args:
            pipeline: One with a method `sample`.
            number: Samples.
            seed: Of the first; sample i has `seed + i`.
            **how: Further arguments of `sample`; labels are repeated in turn.

        Returns:
            All of them in the main process, None in the others.
        """
        world = self.world
        if world.size == 1:
            return pipeline.sample(number, seed=seed, **how).samples
        import torch
        import torch.distributed as dist

        world.start(pipeline.device)
        bounds = [rank * number // world.size for rank in range(world.size + 1)]
        first, last = bounds[world.rank : world.rank + 2]
        # Without a seed, the main process finds one for all.
        agreed = [torch.Generator().seed() % 2**62 if seed is None else seed]
        dist.broadcast_object_list(agreed)
        if labels := how.get("labels"):
            how["labels"] = [labels[index % len(labels)] for index in range(first, last)]
        drawn = pipeline.sample(last - first, seed=agreed[0] + first, **how).samples.cpu() if last > first else None
        parts: list[Any] | None = [None] * world.size if world.is_main else None
        dist.gather_object(drawn, parts)
        return torch.cat([part for part in parts if part is not None]) if parts is not None else None
