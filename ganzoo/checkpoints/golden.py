"""The golden file of a checkpoint: inputs and the network's output for them, replayed by `ganzoo verify`."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch import Tensor

from ganzoo.checkpoints.weights import Network
from ganzoo.errors import CheckpointError
from ganzoo.utils.files import load_tensors, save_tensors

GOLDEN_SAMPLES = 4
# Float32 rounding differs between processors and thread counts; a wrong weight shows at a hundred times this.
TOLERANCE = 1e-3
# What files of before the one word for every input call a condition.
_FORMER_NAMES = {"mel": "condition", "prompts": "condition"}


def save_golden(network: Network, path: Path) -> None:
    """Writes the file, computed in float32 on the CPU whatever the network's own type and device."""
    network = copy.deepcopy(network).cpu().float()
    inputs = _inputs(network)
    with torch.inference_mode():
        save_tensors(path, {**inputs, "expected": network.replay(**inputs)})


def replay_golden(network: Network, path: Path) -> float:
    """Computes the outputs again, with the inputs of the file.

    Args:
        network: In float32, on the CPU.

    Returns:
        The largest difference.

    Raises:
        CheckpointError: Outputs differ by more than `TOLERANCE`, or the file does not fit the network.
    """
    tensors, _ = load_tensors(path)
    tensors = {_FORMER_NAMES.get(name, name): tensor for name, tensor in tensors.items()}
    expected, own = tensors.pop("expected", None), _inputs(network)
    # Compared before the network runs: the file decides neither how much it computes nor on what.
    if expected is None or _kinds(tensors) != _kinds(own):
        raise CheckpointError(f"{path} does not hold the inputs of this network and its expected output")
    try:
        with torch.inference_mode():
            output = network.replay(**tensors)
    except (IndexError, RuntimeError) as error:  # by shape and type the inputs fit: it is their values
        raise CheckpointError(f"{path} holds labels or tokens that the network does not have: {error}") from None
    if _kinds({"expected": expected}) != _kinds({"expected": output}):
        raise CheckpointError(f"{path} expects the shape {tuple(expected.shape)}, not {tuple(output.shape)}")
    difference = (output - expected).abs().max().item()
    if not difference <= TOLERANCE:
        raise CheckpointError(f"outputs differ by {difference:.2g} from the published ones (tolerance {TOLERANCE:g})")
    return difference


def _inputs(network: Network) -> dict[str, Tensor]:
    return network.example_inputs(GOLDEN_SAMPLES, torch.Generator().manual_seed(0))


def _kinds(tensors: dict[str, Tensor]) -> dict[str, tuple[torch.dtype, torch.Size]]:
    return {name: (tensor.dtype, tensor.shape) for name, tensor in tensors.items()}
