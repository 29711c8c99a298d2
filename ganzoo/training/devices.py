"""Where a run computes, and in which precision."""

from __future__ import annotations

from contextlib import AbstractContextManager

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


def resolve_precision(name: str, device: torch.device) -> torch.dtype:
    """Turns `training.precision` into the networks' type; `auto` means bf16 where the hardware multiplies it."""
    if name == "auto":
        name = "bf16" if has_fast_bf16(device) else "fp32"
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[name]


def has_fast_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and (torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())


def autocast(device_type: str, dtype: torch.dtype) -> AbstractContextManager:
    """The context in which networks compute in `dtype`; of float32, one that changes nothing."""
    return torch.autocast(
        device_type, dtype=dtype if dtype != torch.float32 else torch.bfloat16, enabled=dtype != torch.float32
    )
