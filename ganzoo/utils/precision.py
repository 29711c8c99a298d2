"""In which precision networks compute."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch
from torch import Tensor

from ganzoo.errors import UserError

_TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def resolve_precision(name: str, device: torch.device) -> torch.dtype:
    """Turns fp32, bf16, fp16 or auto into the networks' type; `auto` means bf16 where the hardware multiplies it.

    Raises:
        UserError: Another name.
    """
    if name == "auto":
        name = "bf16" if has_fast_bf16(device) else "fp32"
    if name not in _TYPES:
        raise UserError(f"precision must be one of {', '.join(_TYPES)} or auto, not {name!r}")
    return _TYPES[name]


def has_fast_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and (torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())


def autocast(device_type: str, dtype: torch.dtype) -> AbstractContextManager:
    """The context in which networks compute in `dtype`; of float32, one that changes nothing."""
    return torch.autocast(
        device_type, dtype=dtype if dtype != torch.float32 else torch.bfloat16, enabled=dtype != torch.float32
    )


def lacks_recurrence(device_type: str) -> bool:
    """Whether autocast would hand LSTMs to oneDNN in a type in which it has none for this processor (AVX2 and older), which
    raises "could not create a primitive descriptor"."""
    if device_type != "cpu" or not torch.is_autocast_enabled("cpu"):
        return False
    supported = {
        torch.bfloat16: torch.ops.mkldnn._is_mkldnn_bf16_supported,
        torch.float16: torch.ops.mkldnn._is_mkldnn_fp16_supported,
    }.get(torch.get_autocast_dtype("cpu"))
    return supported is not None and not supported()


def widen(tensor: Tensor) -> Tensor:
    """Casts to float32, unless the tensor is wider already."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
