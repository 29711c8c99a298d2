"""Several processes that train one model: `torchrun` or `accelerate launch`, gloo on CPUs, nccl on GPUs.

No DistributedDataParallel: it cannot keep its promise under double backward. Each process runs plain autograd on its share
of the batch; before an optimiser step the gradients are averaged by one all-reduce of one flat tensor. As all processes
then apply the same update to the same weights, they stay bit-identical.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterable, Mapping

import torch
import torch.distributed as dist
from torch import Tensor, nn


class World:
    """The processes of this run; a world of one communicates nothing."""

    def __init__(self, rank: int = 0, size: int = 1, local_rank: int = 0) -> None:
        self.rank = rank
        self.size = size
        self.local_rank = local_rank

    @classmethod
    def from_environment(cls) -> World:
        """Reads RANK, WORLD_SIZE and LOCAL_RANK as torchrun and accelerate set them."""
        return cls(
            *(
                int(os.environ.get(name, default))
                for name, default in (("RANK", 0), ("WORLD_SIZE", 1), ("LOCAL_RANK", 0))
            )
        )

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def start(self, device: torch.device) -> None:
        """Joins the other processes, until this one ends: torchrun's store does not let them meet a second time."""
        if device.type == "cuda":
            torch.cuda.set_device(device)
        if self.size > 1 and not dist.is_initialized():
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo", rank=self.rank, world_size=self.size)
            atexit.register(_leave)

    def barrier(self) -> None:
        if self.size > 1:
            dist.barrier()

    def average_(self, tensors: Iterable[Tensor]) -> None:
        """Replaces each tensor by its mean over the processes, in one all-reduce."""
        tensors = list(tensors)
        if self.size == 1 or not tensors:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        dist.all_reduce(flat)
        flat /= self.size
        parts = flat.split([tensor.numel() for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view_as(tensor))

    def gather(self, rows: Tensor) -> Tensor:
        """The rows (B, ...) of every process, in their order: (size * B, ...), without a graph; all must have as many."""
        if self.size == 1:
            return rows.detach()
        parts = [torch.empty_like(rows, memory_format=torch.contiguous_format) for _ in range(self.size)]
        dist.all_gather(parts, rows.detach().contiguous())
        return torch.cat(parts)

    def mean(self, values: Mapping[str, float], device: torch.device) -> dict[str, float]:
        """Each number's mean over the processes; a NaN in one is a NaN in all."""
        if self.size == 1 or not values:
            return dict(values)
        means = torch.tensor(list(values.values()), device=device)
        self.average_([means])
        return dict(zip(values, means.tolist(), strict=True))

    def any(self, flag: bool, device: torch.device) -> bool:
        """Whether the flag is up in any process; all must ask at the same moment."""
        if self.size == 1:
            return flag
        value = torch.tensor(float(flag), device=device)
        dist.all_reduce(value, op=dist.ReduceOp.MAX)
        return bool(value.item())


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def running_statistics(network: nn.Module) -> list[Tensor]:
    """Batch-norm means and variances: each process sees its own share of the data, so they must be averaged too."""
    return [buffer for name, buffer in network.named_buffers() if name.endswith(("running_mean", "running_var"))]
