"""Networks and processors to and from the files of a checkpoint folder: strict, without pickle, without remote code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import nn
from torch.nn.utils.parametrizations import _WeightNorm
from torch.overrides import TorchFunctionMode

from ganzoo import __version__
from ganzoo.config import CONFIG_FILE, MODEL_TYPE, GANConfig
from ganzoo.errors import CheckpointError, NotFoundError, UserError, one_line
from ganzoo.files import TensorFile, read_json, save_tensors, write_text
from ganzoo.processors import PROCESSOR_FILE, Processor, processor_from_json
from ganzoo.registry import get_family

if TYPE_CHECKING:
    from ganzoo.modeling import GANModel
    from ganzoo.repository import Repository

WEIGHTS_FILE = "model.safetensors"
_FLOATS = {"F64", "F32", "F16", "BF16"}
_TYPE_NAMES = {torch.int64: "I64", torch.int32: "I32", torch.uint8: "U8", torch.bool: "BOOL"}
Network = TypeVar("Network", bound="GANModel")


def save_network(network: GANModel, folder: Path) -> None:
    """Writes `config.json` and `model.safetensors`, the weights as those of a network that is not being trained."""
    save_tensors(folder / WEIGHTS_FILE, plain_state_dict(network))
    write_text(folder / CONFIG_FILE, network.config.to_json(role=network.role))


def plain_state_dict(network: nn.Module) -> dict[str, torch.Tensor]:
    """The state of the same network without weight norm: each pair of direction and magnitude is the weight that it makes.

    Other parametrisations stay, because their tensors are state: the vectors of spectral norm.
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
    return state


def count_parameters(network: nn.Module) -> int:
    """Parameters of the network as it is saved: weight norm's magnitudes are not among them."""
    buffers = {name for name, _ in network.named_buffers()}
    return sum(tensor.numel() for name, tensor in plain_state_dict(network).items() if name not in buffers)


def read_network_config(repository: Repository, subfolder: str) -> tuple[str, str, GANConfig]:
    """Reads and validates a `config.json`: family, role, config.

    Raises:
        CheckpointError: It is not a ganzoo config, or its values are wrong.
        NotFoundError: The file or the family does not exist.
    """
    path = repository.file(f"{subfolder}/{CONFIG_FILE}" if subfolder else CONFIG_FILE)
    where = f"{repository.name}: {path.name}"
    values = read_json(path)
    if values.pop("model_type", None) != MODEL_TYPE:
        raise CheckpointError(f"{where} is not of a ganzoo checkpoint (its model_type is not '{MODEL_TYPE}')")
    family, role, version = (values.pop(key, None) for key in ("family", "role", "ganzoo_version"))
    if not isinstance(family, str) or not isinstance(role, str):
        raise CheckpointError(f"{where} lacks the family or the role of its network")
    try:
        record = get_family(family)
    except NotFoundError as error:
        raise NotFoundError(f"{where}: {error}. If another package provides it, install that package") from None
    if role not in record.networks:
        raise CheckpointError(f"{where}: family {family!r} has no {role!r}; it has {', '.join(record.networks)}")
    try:
        return family, role, record.config.from_dict(values, where=where)
    except UserError as error:
        written_by = f" (written by ganzoo {version}, this is {__version__})" if version != __version__ else ""
        raise CheckpointError(f"{error}{written_by}") from None


def load_network(
    repository: Repository,
    expected: type[Network],
    *,
    subfolder: str | None = None,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
) -> Network:
    """Loads one network in `eval()` mode; the arguments are those of `GANModel.from_pretrained`."""
    if dtype is not None and not dtype.is_floating_point:
        raise UserError(f"dtype must be a floating-point type such as torch.bfloat16, not {dtype}")
    if device is not None:
        _check_device(device)
    if subfolder is None:
        own = expected.role if expected.role == "discriminator" else ""
        subfolder = own if own and repository.find(f"{own}/{CONFIG_FILE}") else ""
    family, role, config = read_network_config(repository, subfolder)
    network_class = get_family(family).networks[role]
    if not issubclass(network_class, expected):
        raise UserError(f"{repository.name} holds the {role} of {family!r}, not a {expected.__name__}")
    weights = TensorFile(repository.file(f"{subfolder}/{WEIGHTS_FILE}" if subfolder else WEIGHTS_FILE))
    network = load_weights(network_class, config, weights, device=device)
    if dtype is not None:
        cast(network, dtype)
    return network.eval()


def load_weights(
    network_class: type[Network], config: GANConfig, weights: TensorFile, *, device: str | torch.device | None = None
) -> Network:
    """Builds a network and fills every tensor of it from a file.

    The network is first built without memory (meta device) and compared with the file's header: a config that asks for
    more than the file holds allocates nothing. The values are then copied, not mapped, so that results do not depend on
    the file's alignment.

    Raises:
        CheckpointError: Missing or unexpected keys, wrong shapes or types, damaged file.
    """
    with torch.device("meta"), _NoInitialisation():
        network = network_class(config)
    expected = network.state_dict()
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
    network.load_state_dict(tensors, strict=True, assign=True)
    return network


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


def read_processor(repository: Repository) -> Processor:
    """Reads `processor_config.json`, and the tokenizer's files where it has one.

    Raises:
        CheckpointError: Unknown type, malformed values, samples of another kind than the network's, or a tokenizer that is
            missing, damaged, or does not fit.
        NotFoundError: There is no `processor_config.json`.
    """
    path = repository.file(PROCESSOR_FILE)
    where = f"{repository.name}: {path.name}"
    processor = processor_from_json(read_json(path), where=where)
    _, _, config = read_network_config(repository, "")
    expected = config.processor()
    if processor.processor_type != expected.processor_type and processor.network_shape != expected.network_shape:
        raise CheckpointError(f"{where} is for {processor.modality}, the network is for {expected.modality}")
    if difference := processor.difference(expected):
        raise CheckpointError(f"{where} {difference}")
    return processor.with_files(repository)


def check_folder(folder: Path) -> None:
    """Checks a checkpoint folder without loading it into memory: configs, headers, checksums, processor.

    Raises:
        CheckpointError: What is wrong.
    """
    from ganzoo.repository import LocalRepository

    repository = LocalRepository(folder)
    for path in [folder, *(child for child in folder.iterdir() if child.is_dir())]:
        subfolder = "" if path == folder else path.name
        if subfolder and repository.find(f"{subfolder}/{CONFIG_FILE}") is None:
            continue
        read_network_config(repository, subfolder)
        TensorFile(repository.file(f"{subfolder}/{WEIGHTS_FILE}" if subfolder else WEIGHTS_FILE)).verify()
    read_processor(repository)


def _check_device(device: str | torch.device) -> None:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # AssertionError: torch was built without CUDA
        raise UserError(f"the device {str(device)!r} cannot be used: {str(error).splitlines()[0]}") from None


def _fits(tensor: torch.Tensor, dtype: str, shape: tuple[int, ...]) -> bool:
    same_kind = dtype in _FLOATS if tensor.is_floating_point() else dtype == _type_name(tensor)
    return same_kind and tuple(tensor.shape) == shape


def _type_name(tensor: torch.Tensor) -> str:
    return "F32" if tensor.is_floating_point() else _TYPE_NAMES.get(tensor.dtype, str(tensor.dtype))


def _few(names: list[Any]) -> str:
    shown = ", ".join(one_line(str(name), limit=100) for name in names[:4])
    return shown if len(names) <= 4 else f"{shown} and {len(names) - 4} more"
