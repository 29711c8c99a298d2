"""How networks are loaded: a device and a type, also in the words of diffusers and transformers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch

from ganzoo.errors import UserError, did_you_mean, shorten

# Where a checkpoint is: arguments of `open_repository`.
PLACE = ("revision", "token", "cache_dir", "local_files_only", "force_download")
# What other libraries take besides, with the only values that say something here.
OTHERS = (
    "torch_dtype",
    "device_map",
    "use_safetensors",
    "low_cpu_mem_usage",
    "output_loading_info",
    "config",
    "variant",
)
_TYPES = ("auto", "float32", "bfloat16", "float16", "float64")


@dataclass(frozen=True)
class Loading:
    """How networks are loaded.

    Attributes:
        device: Where the weights go; None for the CPU.
        dtype: Type of the floating-point parameters; None for that in which networks are built, float32; "auto" for that of
            the file.
        config: The config that the network must have; None for whatever the checkpoint says.
        output_loading_info: Whether the caller also wants the report that transformers gives.
    """

    device: torch.device | None = None
    dtype: torch.dtype | Literal["auto"] | None = None
    config: Any = None
    output_loading_info: bool = False

    def reported(self, loaded: Any) -> Any:
        """What was loaded, with the report if that was asked for. It is empty: what does not fit is not loaded."""
        if not self.output_loading_info:
            return loaded
        return loaded, {"missing_keys": set(), "unexpected_keys": set(), "mismatched_keys": set(), "error_msgs": []}


def read_loading(device: Any = None, dtype: Any = None, **others: Any) -> Loading:
    """Reads the arguments of a `from_pretrained`.

    Args:
        device: `"cpu"`, `"cuda"`, `"cuda:1"`, `"auto"` (the GPU, where there is one), a number or a `torch.device`.
        dtype: A `torch.dtype`, its name (`"bfloat16"`, `"torch.bfloat16"`) or `"auto"`.
        **others: `OTHERS`.

    Raises:
        UserError: One sentence about the argument that cannot be.
    """
    for name in others.keys() - {*OTHERS}:
        known = ("device", "dtype", *PLACE, *OTHERS)
        raise UserError(f"from_pretrained has no argument {name!r}.{did_you_mean(name, known)}")
    if others.get("use_safetensors") is False:
        raise UserError("use_safetensors=False: ganzoo reads safetensors and nothing else; leave it out")
    if others.get("variant") is not None:
        raise UserError(
            f"variant={shorten(others['variant'])}: a checkpoint of ganzoo has one file of weights; leave it out, and say "
            "dtype='float16' for half precision"
        )
    return Loading(
        _one("device", read_device(device), "device_map", read_device(_whole(others.get("device_map")))),
        _dtype_of(dtype, others.get("torch_dtype")),
        others.get("config"),
        bool(others.get("output_loading_info")),
    )


def _dtype_of(dtype: Any, torch_dtype: Any) -> torch.dtype | Literal["auto"] | None:
    return _one("dtype", read_dtype(dtype), "torch_dtype", read_dtype(torch_dtype, name="torch_dtype"))


def read_dtype(value: Any, *, name: str = "dtype") -> torch.dtype | Literal["auto"] | None:
    """A type of floating point by what a caller says for it.

    Raises:
        UserError: It is none.
    """
    if value is None or value == "auto":
        return value
    dtype = getattr(torch, value.removeprefix("torch."), None) if isinstance(value, str) else value
    if not isinstance(dtype, torch.dtype):
        hint = did_you_mean(value.removeprefix("torch."), _TYPES) if isinstance(value, str) else ""
        raise UserError(
            f"{name}={shorten(value)} is no type of torch; give one of {', '.join(map(repr, _TYPES))}.{hint}"
        )
    if not dtype.is_floating_point:
        raise UserError(f"{name} must be a floating-point type such as torch.bfloat16, not {dtype}")
    return dtype


def read_device(value: Any) -> torch.device | None:
    """A device by what a caller says for it.

    Raises:
        UserError: This machine does not have it.
    """
    if value is None:
        return None
    if value == "auto":
        value = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(value)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, TypeError) as error:  # AssertionError: torch was built without CUDA
        reason = str(error).splitlines()[0]
        raise UserError(f"the device {shorten(str(value))} cannot be used: {reason}") from None
    return device


def _one(name: str, value: Any, other: str, same: Any) -> Any:
    """One value of an argument that has two names."""
    if value is not None and same is not None and value != same:
        raise UserError(f"{name} and {other} say two things: {shorten(value)} and {shorten(same)}; give {name} alone")
    return same if value is None else value


def _whole(device_map: Any) -> Any:
    """The device of a `device_map`, on which the whole network must be."""
    if isinstance(device_map, Mapping) and len({*map(str, device_map.values())}) == 1:
        return next(iter(device_map.values()))
    if isinstance(device_map, Mapping) or device_map in ("balanced", "balanced_low_0", "sequential"):
        raise UserError(
            f"device_map={shorten(device_map)}: a network of ganzoo goes to one device as a whole; say device='cuda'"
        )
    return device_map
