"""Training checkpoints: everything that a killed run needs to end bit-identical to one that was not.

`checkpoints/step-00000500/` is a checkpoint folder like any other (EMA weights at the root: it loads and samples), plus
`training_state/`: the raw main network, the optimisers, and the step. There is nothing else to save: randomness and the
order of the data are functions of (seed, step).
"""

from __future__ import annotations

import json
import logging
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ganzoo.errors import CheckpointError
from ganzoo.files import TensorFile, new_folder, read_json, save_tensors, write_text

if TYPE_CHECKING:
    from ganzoo.training.trainer import Trainer

FORMAT = 1
STATE_FOLDER = "training_state"
logger = logging.getLogger("ganzoo")


def checkpoint_folders(root: Path) -> list[Path]:
    """The finished checkpoints under `root`, newest first; temporary folders of killed writers are not among them."""
    found = [path for path in root.glob("step-*") if re.fullmatch(r"step-\d+", path.name) and path.is_dir()]
    return sorted(found, key=lambda path: int(path.name.removeprefix("step-")), reverse=True)


def save_checkpoint(trainer: Trainer, root: Path, *, keep: int, write_model: Callable[[Path], None]) -> Path:
    """Writes the trainer's state into a new folder under `root`, then removes all but the newest `keep`.

    Args:
        write_model: Writes the loadable part (networks, processor, recipe) into the folder it is given.

    Raises:
        GanzooError: The folder cannot be written; nothing half-written stays behind.
    """
    path = root / f"step-{trainer.step:08d}"
    with new_folder(path) as folder:
        write_model(folder)
        state = folder / STATE_FOLDER
        for role, network in trainer.networks.items():
            save_tensors(state / f"{role}.safetensors", network.state_dict())
        if trainer.ema is not None:
            save_tensors(state / "ema.safetensors", trainer.ema.average.state_dict())
        tensors, numbers = _pack_optimizers(trainer.optimizers)
        save_tensors(state / "optimizers.safetensors", tensors)
        values = {
            "format": FORMAT,
            "step": trainer.step,
            "phase": trainer.phase_at(max(0, trainer.step - 1)).name,
            "optimizer_values": numbers,
            "scalers": {role: scaler.state_dict() for role, scaler in trainer.scalers.items() if scaler.is_enabled()},
        }
        write_text(state / "state.json", json.dumps(values, indent=2) + "\n")
    for old in checkpoint_folders(root)[keep:]:
        shutil.rmtree(old, ignore_errors=True)
    for leftover in root.glob(".tmp-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    return path


def load_latest(trainer: Trainer, root: Path, *, warn: Callable[[str], None]) -> Path | None:
    """Puts the newest undamaged checkpoint into the trainer; a damaged one is reported and the one before it used.

    Returns:
        The checkpoint's folder, or None if there is none.
    """
    for path in checkpoint_folders(root):
        try:
            load_checkpoint(trainer, path)
            return path
        except CheckpointError as error:
            warn(f"checkpoint {path.name} is damaged ({error}); falling back to the one before it")
    return None


def load_checkpoint(trainer: Trainer, path: Path) -> None:
    """Restores the trainer. Everything is read and checked before anything is changed.

    Raises:
        CheckpointError: A file is missing or damaged, or does not fit the recipe's networks.
    """
    state = path / STATE_FOLDER
    values = read_json(state / "state.json")
    if values.get("format") != FORMAT or not isinstance(values.get("step"), int):
        raise CheckpointError(f"{state / 'state.json'} has format {values.get('format')!r}, not {FORMAT}")
    modules: dict[str, nn.Module] = dict(trainer.networks)
    if trainer.ema is not None:
        modules["ema"] = trainer.ema.average
    loaded = {
        name: _read_fitting(state / f"{name}.safetensors", module.state_dict()) for name, module in modules.items()
    }
    optimizers = TensorFile(state / "optimizers.safetensors").load()
    for name, module in modules.items():
        module.load_state_dict(loaded[name])
    _unpack_optimizers(trainer.optimizers, optimizers, values.get("optimizer_values", {}))
    for role, scaler_state in values.get("scalers", {}).items():
        trainer.scalers[role].load_state_dict(scaler_state)
    trainer.step = values["step"]


def _read_fitting(path: Path, expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    file = TensorFile(path)
    if file.shapes != {name: tuple(tensor.shape) for name, tensor in expected.items()}:
        raise CheckpointError(
            f"{path} holds other tensors than this recipe's networks; was the model section changed?"
        )
    return file.load()


def _pack_optimizers(optimizers: Mapping[str, torch.optim.Optimizer]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Optimiser states as `role.parameter.name` -> tensor, and the few plain numbers beside them."""
    tensors, numbers = {}, {}
    for role, optimizer in optimizers.items():
        for index, values in optimizer.state_dict()["state"].items():
            for name, value in values.items():
                key = f"{role}.{index}.{name}"
                if isinstance(value, Tensor):
                    # One tensor may be a view of another (a scalar step): safetensors wants memory of its own.
                    tensors[key] = value.clone(memory_format=torch.contiguous_format)
                elif value is not None:
                    numbers[key] = value
    return tensors, numbers


def _unpack_optimizers(
    optimizers: Mapping[str, torch.optim.Optimizer], tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]
) -> None:
    for role, optimizer in optimizers.items():
        states: dict[int, dict[str, Any]] = {}
        for key, value in {**tensors, **numbers}.items():
            owner, index, name = key.split(".", 2)
            if owner == role:
                states.setdefault(int(index), {})[name] = value
        # Hyperparameters come from the recipe, so that a resumed run may change them; the state comes from the file.
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": states, "param_groups": groups})
