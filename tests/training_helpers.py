"""Tiny training runs: their recipe, runs in processes of their own that tests can kill, and what a run leaves behind.

Importing torch takes seconds, so the processes are forked from a server that has imported everything already. What
is sent to them is a real SIGKILL all the same.
"""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import resource
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PROCESSES = multiprocessing.get_context("forkserver")
# torch.optim imports torch._dynamo when the first optimiser is built.
PROCESSES.set_forkserver_preload(
    ["ganzoo.training.run", "ganzoo.families.image.dcgan", "torch._dynamo", "torch.utils.tensorboard"]
)
PATIENCE = 120  # seconds; only a run that hangs takes as long
GANZOO = [sys.executable, "-m", "ganzoo"]

RECIPE = {
    "name": "tiny",
    "model": {"family": "dcgan", "resolution": 8, "channels": 1, "width": 4, "latent_dim": 8},
    "objective": {"loss": "non-saturating"},
    "training": {
        "steps": 20,
        "batch_size": 8,
        "precision": "fp32",
        "ema_half_life": 100,
        "log_every": 1,
        "sample_every": None,
        "num_preview_samples": 4,
        "checkpoint_every": 1000,
        "keep_checkpoints": 3,
    },
}
# Networks whose samples do not see each other: what they compute does not depend on how samples are batched.
NO_BATCH_STATISTICS = {"model.generator_norm": "none", "model.discriminator_norm": "none"}
# Ends in infinity within a few steps.
EXPLODING = {
    "objective.loss": "least-squares",
    "generator_optimizer": {"type": "sgd", "learning_rate": 10.0},
    "discriminator_optimizer": {"type": "sgd", "learning_rate": 10.0},
    **NO_BATCH_STATISTICS,
}


def make_trainer(**overrides: Any) -> Any:
    """The trainer of RECIPE with overrides, on the CPU; training has not begun."""
    import torch

    from ganzoo.recipe.reading import load_recipe
    from ganzoo.training.build import build_trainer

    return build_trainer(load_recipe(RECIPE, overrides), torch.device("cpu"))[1]


def environment(**changes: str) -> dict[str, str]:
    """The environment of a training command."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", **changes}


@dataclass
class Outcome:
    """How a run ended."""

    killed: bool
    step: int | None = None
    finished: bool = False
    warnings: list[str] = field(default_factory=list)


class Run:
    """A training in a process of its own.

    Args:
        recipe: What to train.
        output: The run's folder.
        overrides: Of the recipe.
        resume: As of `ganzoo.train`.
        variables: Environment variables of this process alone.
    """

    def __init__(
        self,
        recipe: Mapping[str, Any],
        output: Path,
        overrides: Mapping[str, Any] | None = None,
        *,
        resume: bool = False,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self._connection, theirs = PROCESSES.Pipe(duplex=False)
        arguments = (theirs, recipe, output, overrides or {}, resume, variables or {})
        self.process = PROCESSES.Process(target=_train, args=arguments)
        self.process.start()
        theirs.close()
        self._outcome = Outcome(killed=False)

    def wait_for(self, name: str) -> bool:
        """Waits for "step" (the first step begins) or "write" (the first checkpoint begins to be written).

        Returns:
            False if the run ended before.
        """
        with contextlib.suppress(EOFError):
            while True:
                assert self._connection.poll(PATIENCE), "the run hangs"
                message, *values = self._connection.recv()
                if message == "end":
                    self._outcome.step, self._outcome.finished, self._outcome.warnings = values
                if message == name:
                    return True
        return False

    def join(self) -> Outcome:
        """Waits for the end, which must be a good one or a SIGKILL."""
        self.wait_for("end")
        self.process.join(PATIENCE)
        assert self.process.exitcode in (0, -signal.SIGKILL), f"the run ended with exit code {self.process.exitcode}"
        self._outcome.killed = self.process.exitcode != 0
        return self._outcome


def train_in_process(*arguments: Any, kill: tuple[str, float] | None = None, **options: Any) -> Outcome:
    """Trains to the end, or until it is killed; the arguments are those of `Run`.

    Args:
        kill: ("step" or "write", seconds): SIGKILL so long after the first step, or after the first checkpoint of this
            process, has begun. A run that is faster ends by itself.
    """
    run = Run(*arguments, **options)
    if kill is not None and run.wait_for(kill[0]):
        time.sleep(kill[1])
        run.process.kill()
    return run.join()


def _train(
    connection: Any,
    recipe: Mapping[str, Any],
    output: Path,
    overrides: Mapping[str, Any],
    resume: bool,
    variables: Mapping[str, str],
) -> None:
    os.environ.update(variables)
    import ganzoo.training.run as run_module
    import ganzoo.training.saving as saving
    from ganzoo.training.trainer import Trainer

    def announce(name: str, function: Any) -> Any:
        """Says once that `function` is about to be called for the first time."""
        said: list[str] = []

        def announced(*arguments: Any, **options: Any) -> Any:
            if not said:
                said.append(name)
                connection.send((name,))
            return function(*arguments, **options)

        return announced

    Trainer.train_step = announce("step", Trainer.train_step)
    saving.save_checkpoint = announce("write", saving.save_checkpoint)
    run_module.write_report = lambda folder: None  # drawing it takes longer than the whole run; test_report.py has it
    run = run_module.train(recipe, output=output, resume=resume, quiet=True, **overrides)
    connection.send(("end", run.step, run.finished, run.warnings))
    connection.close()


def command_in_process(arguments: list[str], *, largest_file: int) -> tuple[int, str]:
    """Runs the command line where no file may grow beyond `largest_file` bytes; returns exit code and stderr."""
    ours, theirs = PROCESSES.Pipe(duplex=False)
    process = PROCESSES.Process(target=_command, args=(theirs, arguments, largest_file))
    process.start()
    theirs.close()
    assert ours.poll(PATIENCE), "the command hangs"
    result = ours.recv()
    process.join(PATIENCE)
    return result


def _command(connection: Any, arguments: list[str], largest_file: int) -> None:
    from ganzoo.cli import run

    resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
        code = run(arguments)
    connection.send((code, errors.getvalue()))
    connection.close()


def state_of(folder: Path, step: int) -> dict[str, bytes]:
    """Every byte that a run must end with: its last checkpoint (weights, average, optimisers), its pipeline's weights.

    Not the recipe: that of a run which is cut up may say so.
    """
    checkpoint = folder / "checkpoints" / f"step-{step:08d}"
    files = [path for path in checkpoint.rglob("*") if path.is_file() and path.name != "recipe.yaml"]
    assert files, f"{checkpoint} does not exist"
    files += (folder / "pipeline").rglob("model.safetensors")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def differing(state: Mapping[str, bytes], reference: Mapping[str, bytes]) -> list[str]:
    """Names of the files that are not the same, so that a failure names them instead of printing their bytes."""
    return sorted(name for name in {*state, *reference} if state.get(name) != reference.get(name))


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob(".tmp-*"))


def checkpoints(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


def noise(config: Any, seed: int = 0) -> Any:
    """A recording as long as an audio model's clips, (C, length)."""
    import numpy as np

    return np.random.default_rng(seed).uniform(-0.5, 0.5, (config.channels, config.length))


def fitted_processor(config: Any) -> Any:
    """The config's processor, with what it may have to learn from data."""
    from ganzoo.registry import family_modality

    return config.processor().fitted([noise(config)] if family_modality(config.family) == "audio" else [])
