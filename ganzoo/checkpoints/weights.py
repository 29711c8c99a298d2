"""From the tensors of a file to a network: every key checked, nothing allocated for what the file does not hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import torch
from torch import nn
from torch.nn.utils.parametrizations import _WeightNorm
from torch.overrides import TorchFunctionMode

from ganzoo.errors import CheckpointError, one_line
from ganzoo.utils.files import TensorFile

_FLOATS = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}

_TYPE_NAMES = {torch.int64: "I64", torch.int32: "I32", torch.uint8: "U8", torch.bool: "BOOL"}


class Network(Protocol):
    """What is asked of a network here; a `ganzoo.networks.base.GANModel` says more of each."""

    family: str
    role: str
    config: Any

    def state_dict(self) -> dict[str, torch.Tensor]: ...

    def example_inputs(self, num_samples: int, generator: torch.Generator) -> dict[str, torch.Tensor]: ...

    def replay(self, **inputs: torch.Tensor) -> torch.Tensor: ...


Loaded = TypeVar("Loaded", bound=nn.Module)


def plain_state_dict(network: nn.Module) -> dict[str, torch.Tensor]:
    """The state of the same network without weight norm: each pair of direction and magnitude is the weight that it makes.

    Other parametrisations stay, because their tensors are state: the vectors of spectral norm. What layers share is there once.

    Returns:
        Parameters and persistent buffers by the names in `state_dict`, each of the shape that it has in the network.
    """
    state = dict(network.state_dict())
    for path, module in network.named_modules():
        for name, chain in getattr(module, "parametrizations", {}).items():
            if not all(isinstance(step, _WeightNorm) for step in chain):
                continue
            prefix = f"{path}." if path else ""
            for key in chain.state_dict():
                del state[f"{prefix}parametrizations.{name}.{key}"]
            state[f"{prefix}{name}"] = getattr(module, name).detach()
    for name in shared_names(network):
        state.pop(name, None)
    return state


def shared_names(network: nn.Module) -> dict[str, str]:
    """The further names of tensors that layers share (tied embeddings, a module used twice), each with the first."""
    first: dict[int, str] = {}
    names = {name: first.setdefault(id(tensor), name) for name, tensor in network.state_dict(keep_vars=True).items()}
    return {name: original for name, original in names.items() if name != original}


def count_parameters(network: nn.Module) -> int:
    """Parameters of the network as it is saved: weight norm's magnitudes are not among them."""
    buffers = {name for name, _ in network.named_buffers()}
    return sum(tensor.numel() for name, tensor in plain_state_dict(network).items() if name not in buffers)


def load_weights(
    network_class: type[Loaded], config: Any, weights: TensorFile, *, device: str | torch.device | None = None
) -> Loaded:
    """Builds a network and fills every tensor of it from a file.

    The network is first built without memory (meta device) and compared with the file's header: a config that asks for
    more than the file holds allocates nothing. The values are then copied, not mapped, so that results do not depend on
    the file's alignment.

    Raises:
        CheckpointError: Missing or unexpected keys, wrong shapes or types, damaged file.
    """
    with torch.device("meta"), _NoInitialisation():
        network = network_class(config)
    expected, shared = network.state_dict(), shared_names(network)
    for name in shared:
        del expected[name]
    missing = sorted(set(expected) - set(weights.shapes))
    unexpected = sorted(set(weights.shapes) - set(expected))
    wrong = [
        f"{name} is {weights.dtypes[name]} {weights.shapes[name]} instead of {_type_name(tensor)} {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in weights.shapes and not _fits(tensor, weights.dtypes[name], weights.shapes[name])
    ]
    problems = [
        f"{label} {_few(names)}"
        for label, names in (("missing keys:", missing), ("unexpected keys:", unexpected), ("wrong tensors:", wrong))
        if names
    ]
    if problems:
        raise CheckpointError(f"{weights.path} does not fit its config.json: {'; '.join(problems)}")
    tensors = {
        name: tensor.to(device or "cpu", expected[name].dtype, copy=True) for name, tensor in weights.load().items()
    }
    network.load_state_dict({**tensors, **{name: tensors[first] for name, first in shared.items()}}, assign=True)
    for name, first in shared.items():
        _set(network, name, _get(network, first))
    return network


def _get(network: nn.Module, name: str) -> Any:
    path, _, attribute = name.rpartition(".")
    return getattr(network.get_submodule(path), attribute)


def _set(network: nn.Module, name: str, tensor: Any) -> None:
    path, _, attribute = name.rpartition(".")
    setattr(network.get_submodule(path), attribute, tensor)


# Initialisation, and the power iterations of spectral norm: what they give is not looked at, so only its shape is right.
_EMPTY: dict[Any, Callable[..., torch.Tensor]] = {
    torch.Tensor.normal_: lambda tensor, *_, **__: tensor,
    nn.init.normal_: lambda tensor, *_, **__: tensor,
    nn.functional.normalize: lambda tensor, *_, out=None, **__: tensor if out is None else out,
    torch.mv: lambda matrix, vector: matrix.new_empty(len(matrix)),
    torch.vdot: lambda vector, other: vector.new_empty(()),
    torch.Tensor.div: lambda tensor, _: tensor,
    torch.Tensor.__truediv__: lambda tensor, _: tensor,
}


class _NoInitialisation(TorchFunctionMode):
    """Leaves out what fills nothing on the meta device, and for which torch imports its compiler there (two seconds)."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _EMPTY.get(function, function)(*args, **(kwargs or {}))


def stored_dtype(weights: TensorFile) -> torch.dtype:
    """The type in which a file has its floating-point tensors: of several the smallest, since `cast` keeps what must be larger."""
    found = [_FLOATS[dtype] for dtype in weights.dtypes.values() if dtype in _FLOATS]
    return min(found, key=lambda dtype: dtype.itemsize, default=torch.float32)


def cast(network: nn.Module, dtype: torch.dtype) -> None:
    """Casts floating-point tensors; in half precision, layers with running statistics stay float32 as a whole."""
    for module in network.modules():
        own_parameters = list(module.parameters(recurse=False))
        own_buffers = list(module.buffers(recurse=False))
        if own_parameters and own_buffers and dtype.itemsize < 4:
            continue
        for tensor in (*own_parameters, *own_buffers):
            if tensor.is_floating_point():
                tensor.data = tensor.data.to(dtype)


def _fits(tensor: torch.Tensor, dtype: str, shape: tuple[int, ...]) -> bool:
    same_kind = dtype in _FLOATS if tensor.is_floating_point() else dtype == _type_name(tensor)
    return same_kind and tuple(tensor.shape) == shape


def _type_name(tensor: torch.Tensor) -> str:
    return "F32" if tensor.is_floating_point() else _TYPE_NAMES.get(tensor.dtype, str(tensor.dtype))


def _few(names: list[Any]) -> str:
    shown = ", ".join(one_line(str(name), limit=100) for name in names[:4])
    return shown if len(names) <= 4 else f"{shown} and {len(names) - 4} more"
