"""Networks and processors to and from the files of a checkpoint folder: strict, without pickle, without remote code."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ganzoo.checkpoints.weights import Loaded, Network, cast, load_weights, plain_state_dict
from ganzoo.errors import CheckpointError, NotFoundError, UserError
from ganzoo.processors import Processor, processor_from_json
from ganzoo.registry import get_family
from ganzoo.utils.files import TensorFile, read_json, save_tensors, write_text
from ganzoo.utils.layout import CONFIG_FILE, MODEL_TYPE, PROCESSOR_FILE, WEIGHTS_FILE
from ganzoo.version import __version__

if TYPE_CHECKING:
    from ganzoo.checkpoints.repository import Repository


def save_network(network: Network, folder: Path) -> None:
    """Writes `config.json` and `model.safetensors`, the weights as those of a network that is not being trained."""
    save_tensors(folder / WEIGHTS_FILE, plain_state_dict(network))
    write_text(folder / CONFIG_FILE, network.config.to_json(role=network.role))


def read_network_config(repository: Repository, subfolder: str) -> tuple[str, str, Any]:
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
    expected: type[Loaded],
    *,
    subfolder: str | None = None,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
) -> Loaded:
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
    from ganzoo.checkpoints.repository import LocalRepository

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
