"""A training run: from a recipe to a folder with checkpoints, samples, logs, a report and the finished pipeline."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ganzoo.errors import TrainingError, UserError
from ganzoo.pipelines import Pipeline
from ganzoo.recipe.reading import load_recipe
from ganzoo.recipe.recipe import Recipe
from ganzoo.training.build import build_trainer
from ganzoo.training.devices import resolve_device
from ganzoo.training.diagnostics import non_finite
from ganzoo.training.distributed import World
from ganzoo.training.journal import Journal
from ganzoo.training.measuring import HeldOut, Measurer
from ganzoo.training.randomness import preserved_rng
from ganzoo.training.report.page import write_report
from ganzoo.training.saving import Saver
from ganzoo.training.state import checkpoint_folders

# With several processes the wish to stop is agreed on every so many steps; alone it is heard after each.
STEPS_BETWEEN_AGREEMENTS = 10


@dataclass
class TrainingRun:
    """A run that has ended.

    Attributes:
        folder: Its directory.
        pipeline: The trained model, ready to sample.
        metrics: What was measured at the end.
        step: Steps done.
        finished: False if a signal ended it early (its checkpoint is saved; resume goes on).
        warnings: Warnings that were given.
        not_measured: Why the finished model could not be measured, or None; it is saved all the same.
    """

    folder: Path
    pipeline: Pipeline
    metrics: list[dict[str, Any]] = field(default_factory=list)
    step: int = 0
    finished: bool = True
    warnings: list[str] = field(default_factory=list)
    not_measured: str | None = None


def train(
    recipe: str | Path | Recipe | dict[str, Any],
    *,
    output: str | Path | None = None,
    resume: bool = False,
    quiet: bool = False,
    **overrides: Any,
) -> TrainingRun:
    """Trains a recipe: `ganzoo.train("dcgan-digits", **{"training.steps": 500})`.

    Args:
        recipe: A recipe's name, the path of a YAML file, its values, or a `Recipe`.
        output: Folder of the run; `runs/<name of the recipe>` by default.
        resume: Go on from the newest undamaged checkpoint in `output`; start anew if there is none. The result equals
            that of an uninterrupted run, bit for bit.
        quiet: No progress bar and no messages.
        **overrides: `{"section.key": value}`.

    Raises:
        UserError: The recipe is wrong, or `output` holds another run and `resume` is not set.
        CheckpointError: `output` holds checkpoints, and none of them can be read.
        TrainingError: The losses became NaN; the last good checkpoint is kept.
    """
    if isinstance(recipe, Recipe):
        recipe = recipe.model_dump(mode="json")
    loaded = load_recipe(recipe, overrides)
    world = World.from_environment()
    device = resolve_device(loaded.training.device, world)
    folder = run_folder(loaded, output, resume=resume)
    # Exact resume needs convolutions whose sums have one order: cuDNN's deterministic ones.
    with preserved_rng(device), torch.backends.cudnn.flags(benchmark=False, deterministic=True):
        world.start(device)
        return RunLoop(loaded, folder, world, device, quiet=quiet).run()


def run_folder(recipe: Recipe, output: str | Path | None = None, *, resume: bool = False) -> Path:
    """The folder of a run: `output`, or `runs/<name of the recipe>`.

    Raises:
        UserError: It holds another run, and `resume` is not set.
    """
    folder = Path(output) if output is not None else Path("runs") / recipe.name
    if checkpoint_folders(folder / "checkpoints") and not resume:
        raise UserError(
            f"{folder} holds a run already; pass resume=True (--resume) to go on, or another output folder"
        )
    return folder


class RunLoop:
    """What happens around the steps: what is due after each, and how a run begins and ends."""

    def __init__(self, recipe: Recipe, folder: Path, world: World, device: torch.device, *, quiet: bool) -> None:
        self.recipe, self.folder, self.world = recipe, folder, world
        self.family, self.trainer = build_trainer(recipe, device, world)
        self.journal = Journal(self.trainer, folder, quiet=quiet)
        self.saver = Saver(self.trainer, folder, self.journal)
        self.measurer = Measurer(self.trainer, self.saver, self.journal)
        self.held_out = HeldOut(self.trainer, self.saver, self.journal)

    def run(self) -> TrainingRun:
        self.prepare()
        trainer = self.trainer
        try:
            with _stop_signals() as stop:
                while trainer.step < trainer.total_steps and not self._should_stop(stop):
                    self.step(stop)
            self.journal.stop_clock()
            return self._finish(interrupted=trainer.step < trainer.total_steps)
        except TrainingError:
            self._end("failed")
            raise
        finally:
            self.close()

    def prepare(self) -> None:
        """Restores the newest checkpoint, and opens the logs."""
        self.journal.open(self.saver.restore())

    def step(self, stop: threading.Event | None = None) -> None:
        """One training step and what is due after it; a wish to stop is heard between the updates of a long one."""
        is_logged = self._is_due(self.recipe.training.log_every, self.trainer.step + 1)
        alone = stop is not None and self.world.size == 1
        if self.trainer.train_step(is_logged=is_logged, **({"should_stop": stop.is_set} if alone else {})):
            self._after_step()

    def close(self) -> None:
        """Closes bar and logs."""
        self.journal.close()

    def _should_stop(self, stop: threading.Event) -> bool:
        if self.world.size > 1 and self.trainer.step % STEPS_BETWEEN_AGREEMENTS:
            return False
        return self.world.any(stop.is_set(), self.trainer.device)

    def _after_step(self) -> None:
        step, training = self.trainer.step, self.recipe.training
        self.journal.advance()
        if self._is_due(training.log_every, step):
            self._log()
        if self._is_due(training.sample_every, step):
            self.measurer.samples()
            self.held_out.judge_discriminator()
        if self._is_due(self.recipe.evaluation.every, step) and step < self.trainer.total_steps:
            self.measurer.measure()
        if self.held_out.ends_phase():
            return
        # Last: a run that is killed before it does all of the above again, one that is killed after it none.
        if self._is_due(training.checkpoint_every, step):
            self.saver.checkpoint()

    def _is_due(self, every: int | None, step: int) -> bool:
        return every is not None and (step % every == 0 or step == self.trainer.total_steps)

    def _log(self) -> None:
        means = self.world.mean(self.trainer.stats.read(), self.trainer.device)
        # In fp16 an infinite gradient is no failure: its step was skipped, and the next loss is scaled less.
        may_overflow = self.trainer.precision == torch.float16
        self.saver.refuse(name for name in non_finite(means) if not (may_overflow and name.endswith("/grad_norm")))
        self.journal.train_row(means)

    def _finish(self, *, interrupted: bool) -> TrainingRun:
        self.saver.checkpoint_if_new()
        pipeline, warnings = self.saver.pipeline(), self.journal.warnings
        run = TrainingRun(self.folder, pipeline, step=self.trainer.step, finished=not interrupted, warnings=warnings)
        if self.world.is_main and not interrupted:
            if self.recipe.evaluation.metrics or not self.family.is_gan:
                run.metrics = pipeline.metrics = self.measurer.evaluate(pipeline)
                run.not_measured = self.measurer.not_measured
            self.saver.save_pipeline(pipeline)
        self._end("interrupted" if interrupted else "finished")
        return run

    def _end(self, status: str) -> None:
        self.journal.event("end", seconds=round(self.journal.seconds, 3), status=status)
        self.close()
        if self.world.is_main:
            write_report(self.folder)


@contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    """Turns the first SIGTERM or Ctrl-C into a wish to stop after the step; a second one is obeyed at once."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    previous = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def ask(number: int, frame: Any) -> None:
        stop.set()
        signal.signal(number, previous[number])

    for number in previous:
        signal.signal(number, ask)
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
