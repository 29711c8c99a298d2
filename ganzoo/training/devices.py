"""Where a run computes."""

from __future__ import annotations

import torch

from ganzoo.errors import UserError
from ganzoo.training.distributed import World


def resolve_device(name: str, world: World) -> torch.device:
    """Turns `training.device` into a device.

    Raises:
        UserError: There is no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"unknown device {name!r}; it is auto, cpu, cuda or cuda:N") from None
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise UserError("training.device is cuda, but torch sees no GPU; use training.device=cpu or auto")
        device = torch.device("cuda", device.index if device.index is not None else world.local_rank)
    return device
