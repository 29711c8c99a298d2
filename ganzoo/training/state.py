"""Training checkpoints: everything that a killed run needs to end bit-identical to one that was not.

`checkpoints/step-00000500/` is a checkpoint folder like any other (EMA weights at the root: it loads and samples), plus
`training_state/`: networks, average, optimisers, the step, the update within it, and how many batches were given. There is
nothing else to save: randomness and the order of the data are functions of these and the seed. `state.json` carries a checksum
over all of it, so that damage is told from a checkpoint of another model, which must never be passed over and replaced.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ganzoo.errors import CheckpointError, UserError
from ganzoo.utils.files import CHECKSUM_KEY, TensorFile, new_folder, read_json, save_tensors, write_text

if TYPE_CHECKING:
    from ganzoo.training.trainer import Trainer

FORMAT = 2
STATE_FOLDER = "training_state"


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
        for name, module in trainer.modules.items():
            save_tensors(state / f"{name}.safetensors", _tensors(module))
        tensors, numbers = _pack_optimizers(trainer.optimizers)
        save_tensors(state / "optimizers.safetensors", tensors)
        values = {
            "format": FORMAT,
            "step": trainer.step,
            "update": trainer.update,
            "skipped": trainer.skipped,
            "batches": trainer.batches.given,
            "phase_index": trainer.phase_index,
            "validation": _pack_validation(trainer),
            "phase": trainer.phase_at(max(0, trainer.step - 1)).name,
            "holds": _contents(trainer),
            "optimizer_values": numbers,
            "scalers": {
                role: scaler.state_dict() for role, scaler in trainer.descent.scalers.items() if scaler.is_enabled()
            },
        }
        values[CHECKSUM_KEY] = _digest(state, values)
        write_text(state / "state.json", json.dumps(values, indent=2) + "\n")
    folders = checkpoint_folders(root)
    newest = folders.index(path)
    # What is newer than this one was damaged, or the run would have gone on from there.
    for old in (*folders[:newest], *folders[newest + keep :]):
        shutil.rmtree(old, ignore_errors=True)
    return path


def load_latest(trainer: Trainer, root: Path, *, warn: Callable[[str], None]) -> Path | None:
    """Puts the newest undamaged checkpoint into the trainer; a damaged one is reported and the one before it used.

    Returns:
        The checkpoint's folder, or None if there is none.

    Raises:
        UserError: The newest undamaged checkpoint is one of another model or optimiser.
        CheckpointError: There are checkpoints, but none can be read. To start anew would overwrite them in the end.
    """
    folders = checkpoint_folders(root)
    reason = ""
    for path in folders:
        try:
            load_checkpoint(trainer, path)
            return path
        except CheckpointError as error:
            reason = str(error)
            if path != folders[-1]:
                warn(f"checkpoint {path.name} is damaged ({error}); falling back to the one before it")
    if folders:
        raise CheckpointError(
            f"none of the {len(folders)} checkpoints in {root} can be read ({reason}); nothing was changed: train into "
            "another output folder, or move this one away"
        )
    return None


def load_checkpoint(trainer: Trainer, path: Path) -> None:
    """Restores the trainer. Everything is read and checked before anything is changed.

    Raises:
        CheckpointError: A file is missing or damaged.
        UserError: It holds another model or optimiser than the recipe's.
    """
    state = path / STATE_FOLDER
    values = read_json(state / "state.json")
    if values.pop(CHECKSUM_KEY, None) != _digest(state, values):
        raise CheckpointError("its checksum does not match")
    if values["format"] != FORMAT or not 0 <= values["phase_index"] < len(trainer.phases):
        raise UserError(
            f"{path} was written by another version of ganzoo or with other phases; choose another output folder"
        )
    files = {name: TensorFile(state / f"{name}.safetensors") for name in (*values["holds"]["modules"], "optimizers")}
    trainer.enter_phase(values["phase_index"])
    fits = values["holds"] == _contents(trainer) and all(
        files[name].shapes == {key: tuple(tensor.shape) for key, tensor in _tensors(module).items()}
        for name, module in trainer.modules.items()
    )
    if not fits:
        raise UserError(
            f"{path} holds another model, average or optimiser than the recipe's, so the run cannot go on from it; "
            f"use its recipe ({path / 'recipe.yaml'}), or another output folder"
        )
    loaded = {name: file.load() for name, file in files.items()}
    for name, module in trainer.modules.items():
        module.load_state_dict(loaded[name], strict=False)  # complete, as was checked: a shared tensor has one name
    _unpack_optimizers(trainer.optimizers, loaded["optimizers"], values["optimizer_values"])
    for role, scaler_state in values["scalers"].items():
        trainer.descent.scalers[role].load_state_dict(scaler_state)
    trainer.step, trainer.update, trainer.skipped = values["step"], values["update"], values["skipped"]
    # Written before batches were counted: the stream goes on where it would have.
    groups = max(trainer.phase_at(trainer.step).updates.values())
    trainer.batches.given = values.get("batches", trainer.step * groups)
    if trainer.validation is not None:
        for name, value in values["validation"].items():
            setattr(trainer.validation, name, value)


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name; of what layers share, the first name only."""
    named: dict[int, tuple[str, Tensor]] = {}
    for name, tensor in module.state_dict(keep_vars=True).items():
        named.setdefault(id(tensor), (name, tensor.detach()))
    return dict(named.values())


def _pack_validation(trainer: Trainer) -> dict[str, float]:
    validation = trainer.validation
    if validation is None or not validation.count:
        return {}
    return {name: getattr(validation, name) for name in ("loss", "since", "count")}


def _contents(trainer: Trainer) -> dict[str, Any]:
    optimizers = {role: config.type for role, config in trainer.descent.configs.items()}
    return {"modules": list(trainer.modules), "optimizers": optimizers}


def _digest(state: Path, values: Mapping[str, Any]) -> str:
    """Checksum of the values and of the files beside them, whole (a tensor file's own leaves its header out)."""
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode())
    for path in sorted(state.glob("*.safetensors")):
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


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
        for parameter, state in optimizer.state.items():
            for name, value in state.items():
                if isinstance(value, Tensor) and value.shape == parameter.shape:
                    # A file holds rows; fused kernels insist on the parameter's own memory format.
                    state[name] = torch.empty_like(parameter).copy_(value)
