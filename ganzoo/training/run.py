"""A training run: from a recipe to a folder with checkpoints, samples, logs, a report and the finished pipeline."""

from __future__ import annotations

import platform
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ganzoo.checkpoints.checkpoint import save_network
from ganzoo.data import ArrayDataset, load_data
from ganzoo.data.sources import HOLDOUT
from ganzoo.errors import GanzooError, TrainingError, UserError
from ganzoo.pipelines import Pipeline, pipeline_class
from ganzoo.recipe.reading import load_recipe
from ganzoo.recipe.recipe import Recipe
from ganzoo.training.build import build_trainer
from ganzoo.training.devices import resolve_device
from ganzoo.training.diagnostics import Diagnostics, non_finite, non_finite_advice
from ganzoo.training.distributed import World
from ganzoo.training.randomness import preserved_rng
from ganzoo.training.report.page import write_report
from ganzoo.training.state import checkpoint_folders, load_latest, save_checkpoint
from ganzoo.training.trackers import ProgressBar, create_trackers, read_rows
from ganzoo.training.trainer import is_finite
from ganzoo.utils.files import new_folder, remove_leftovers, write_text
from ganzoo.utils.layout import DISCRIMINATOR_FOLDER, RECIPE_FILE

PIPELINE_FOLDER = "pipeline"
# With several processes the wish to stop is agreed on every so many steps; alone it is heard after each.
STEPS_BETWEEN_AGREEMENTS = 10
# Held-out samples that a discriminator is shown: the standard error of its accuracy is below 2 %.
NUM_JUDGED = 1000


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
    """What happens around the steps; only the first process writes."""

    def __init__(self, recipe: Recipe, folder: Path, world: World, device: torch.device, *, quiet: bool) -> None:
        self.recipe, self.folder, self.world, self.quiet = recipe, folder, world, quiet
        self.family, self.trainer = build_trainer(recipe, device, world)
        self.checkpoints = folder / "checkpoints"
        objectives = zip(self.trainer.phases, self.trainer.objectives, strict=True)
        boundaries = {phase.name: objective.boundary is not None for phase, objective in objectives}
        self.diagnostics = Diagnostics(has_decision_boundary=boundaries)
        self.warnings: list[str] = []
        self._held: dict[str, ArrayDataset] = {}
        self.bar: ProgressBar | None = None
        self.seconds = 0.0
        self.not_measured: str | None = None

    def run(self) -> TrainingRun:
        self.prepare()
        trainer = self.trainer
        try:
            with _stop_signals() as stop:
                while trainer.step < trainer.total_steps and not self._should_stop(stop):
                    self.step(stop)
            self.seconds += time.monotonic() - self._mark
            return self._finish(interrupted=trainer.step < trainer.total_steps)
        except TrainingError:
            self._end("failed")
            raise
        finally:
            self.close()

    def prepare(self) -> None:
        """Restores the newest checkpoint, and opens the logs."""
        restored = load_latest(self.trainer, self.checkpoints, warn=self._warn)
        self._saved_step = self.trainer.step if restored else None
        if self.world.is_main:
            for written in (RECIPE_FILE, PIPELINE_FOLDER, "samples/step-*", "checkpoints/step-*"):
                remove_leftovers(self.folder / written)
            write_text(self.folder / RECIPE_FILE, self.recipe.to_yaml())
            self.trackers = create_trackers(self.folder)
            self._replay(restored)
        self.bar = self._progress_bar()
        self._tell_of_data(is_new=restored is None)
        self._mark, self._marked_step = time.monotonic(), self.trainer.step

    def step(self, stop: threading.Event | None = None) -> None:
        """One training step and what is due after it; a wish to stop is heard between the updates of a long one."""
        is_logged = self._is_due(self.recipe.training.log_every, self.trainer.step + 1)
        alone = stop is not None and self.world.size == 1
        if self.trainer.train_step(is_logged=is_logged, **({"should_stop": stop.is_set} if alone else {})):
            self._after_step()

    def close(self) -> None:
        """Closes bar and logs."""
        if self.bar is not None:
            self.bar.close()
        if self.world.is_main:
            self.trackers.close()

    def _should_stop(self, stop: threading.Event) -> bool:
        if self.world.size > 1 and self.trainer.step % STEPS_BETWEEN_AGREEMENTS:
            return False
        return self.world.any(stop.is_set(), self.trainer.device)

    def _after_step(self) -> None:
        step, training = self.trainer.step, self.recipe.training
        if self.bar is not None:
            self.bar.update()
        if self._is_due(training.log_every, step):
            self._log()
        if self._is_due(training.sample_every, step):
            self._samples()
            self._judge_held_out()
        if self._is_due(self.recipe.evaluation.every, step) and step < self.trainer.total_steps:
            self._measure()
        if self._validate():
            return
        # Last: a run that is killed before it does all of the above again, one that is killed after it none.
        if self._is_due(training.checkpoint_every, step):
            self._checkpoint()

    def _validate(self) -> bool:
        """Early stopping: measures held-out data when the phase says so.

        Returns:
            Whether the phase has ended before its time (and its checkpoint is written).
        """
        trainer = self.trainer
        phase = trainer.phases[trainer.phase_index]
        if phase.stop is None:
            return False
        done = trainer.step - trainer.phase_start(trainer.phase_index)
        if done % phase.stop.every and done < phase.steps:
            return False
        loss = trainer.validate(self._held_out(phase.stop.split), phase.stop.num_samples)
        trainer.validation.note(loss, trainer.main_network)
        best, since = trainer.validation.loss, trainer.validation.since
        self._track({"event": "validation", "phase": phase.name, "validation/loss": loss, "validation/best": best})
        if since < phase.stop.patience and done < phase.steps:
            return False
        trainer.take_best()
        if done == phase.steps:
            return False
        if self.bar is not None:
            self.bar.update(phase.steps - done)
        trainer.end_phase_early()
        self._track({"event": "early stop", "phase": phase.name, "validation/best": best})
        self._checkpoint()
        return True

    def _judge_held_out(self) -> None:
        """Logs how the discriminator does on data that it never learned from, where the objective can tell."""
        phase = self.trainer.phases[self.trainer.phase_index]
        if not self.recipe.data.holdout or "discriminator" not in phase.updates:
            return
        stats = self.trainer.validation_stats(self._held_out(HOLDOUT), NUM_JUDGED)
        if stats:
            named = {f"validation/{name}": value for name, value in stats.items()}
            self._track({"event": "validation", "phase": phase.name, **named})

    def _held_out(self, split: str) -> ArrayDataset:
        if split not in self._held:
            self._held[split] = load_data(self.recipe.data, self.trainer.processor, split=split)
        return self._held[split]

    def _track(self, row: dict[str, Any]) -> None:
        """Logs a row, and what is wrong by the looks of it."""
        if not self.world.is_main:
            return
        step = self.trainer.step
        self.trackers.log({"step": step, **row})
        for diagnosis in self.diagnostics.check(row):
            self.trackers.log({"event": "warning", "step": step, **diagnosis._asdict()})
            self._warn(diagnosis.message)

    def _is_due(self, every: int | None, step: int) -> bool:
        return every is not None and (step % every == 0 or step == self.trainer.total_steps)

    def _log(self) -> None:
        means = self.world.mean(self.trainer.stats.read(), self.trainer.device)
        # In fp16 an infinite gradient is no failure: its step was skipped, and the next loss is scaled less.
        may_overflow = self.trainer.precision == torch.float16
        self._refuse(name for name in non_finite(means) if not (may_overflow and name.endswith("/grad_norm")))
        if not self.world.is_main:
            return
        now, step = time.monotonic(), self.trainer.step
        rate = (step - self._marked_step) / max(now - self._mark, 1e-9)
        row = {
            "event": "train",
            "phase": self.trainer.phase_at(step - 1).name,
            "samples_seen": self.trainer.samples_seen,
            "seconds": round(self.seconds + now - self._mark, 3),
            **means,
            **{f"{role}/learning_rate": self.trainer.learning_rate(role) for role in self.trainer.networks},
            "steps_per_second": round(rate, 4),
            "samples_per_second": round(rate * self.trainer.samples_per_step, 2),
        }
        self.seconds += now - self._mark
        self._mark, self._marked_step = now, step
        if self.bar is not None:
            self.bar.show(row)
        self._track(row)

    def _checkpoint(self) -> None:
        self._refuse([] if is_finite(self.trainer.modules.values()) else ["the weights"])
        if self.world.is_main:
            path = save_checkpoint(
                self.trainer,
                self.checkpoints,
                keep=self.recipe.training.keep_checkpoints,
                write_model=self._write_model,
            )
            self.trackers.log(
                {"event": "checkpoint", "step": self.trainer.step, "path": str(path.relative_to(self.folder))}
            )
        self._saved_step = self.trainer.step
        self.world.barrier()

    def _refuse(self, broken: Iterable[str]) -> None:
        """Ends the run if anything is NaN or infinite; the checkpoints from before stay as they are."""
        if names := list(broken):
            kept = checkpoint_folders(self.checkpoints)
            raise TrainingError(non_finite_advice(names, self.trainer.step, kept[0] if kept else None))

    @property
    def _trains_discriminator(self) -> bool:
        """One that no phase updates is noise, and not worth publishing."""
        return any("discriminator" in phase.updates for phase in self.trainer.phases)

    def _write_model(self, folder: Path) -> None:
        """The part of a training checkpoint that loads like any other: averaged main network, discriminator, processor."""
        save_network(self.trainer.main_network, folder)
        if self._trains_discriminator:
            save_network(self.trainer.networks["discriminator"], folder / DISCRIMINATOR_FOLDER)
        self.trainer.processor.save_pretrained(folder)
        write_text(folder / RECIPE_FILE, self.recipe.to_yaml())

    def _samples(self) -> None:
        if not self.world.is_main or not self.family.is_gan:
            return
        training, name = self.recipe.training, f"step-{self.trainer.step:08d}"
        # The same latents every time: a sheet shows how a sample changes, not which was drawn.
        with _restored_mode(self.trainer.main_network):
            names = self._pipeline().save_preview(
                self.folder / "samples", name, num_samples=training.num_preview_samples, seed=training.seed
            )
        for name in names:
            self.trackers.samples(self.trainer.step, self.folder / "samples" / name)

    def _finish(self, *, interrupted: bool) -> TrainingRun:
        step = self.trainer.step
        if self._saved_step != step or self.trainer.update:
            self._checkpoint()
        pipeline = self._pipeline()
        run = TrainingRun(self.folder, pipeline, step=step, finished=not interrupted, warnings=self.warnings)
        if self.world.is_main and not interrupted:
            if self.recipe.evaluation.metrics or not self.family.is_gan:
                run.metrics = pipeline.metrics = self._evaluate(pipeline)
                run.not_measured = self.not_measured
            with new_folder(self.folder / PIPELINE_FOLDER) as folder:
                pipeline.save_pretrained(folder)
        self._end("interrupted" if interrupted else "finished")
        return run

    def _end(self, status: str) -> None:
        if self.world.is_main:
            seconds = round(self.seconds, 3)
            self.trackers.log({"event": "end", "step": self.trainer.step, "seconds": seconds, "status": status})
            self.close()
            write_report(self.folder)

    def _pipeline(self) -> Pipeline:
        networks = self.trainer.networks
        pipeline = pipeline_class(self.trainer.main_network)(
            self.trainer.main_network,
            self.trainer.processor,
            discriminator=networks["discriminator"] if self._trains_discriminator else None,
            recipe=self.recipe,
            training={
                "steps": self.trainer.step - self.trainer.skipped,
                "batch_size": self.trainer.samples_per_step,
                "minutes": round(self.seconds / 60, 2),
                "machine": machine(self.trainer.device),
            },
        )
        pipeline.take_examples(self.trainer.dataset)
        return pipeline

    def _measure(self) -> None:
        if self.world.is_main:
            with _restored_mode(self.trainer.main_network):
                self._evaluate(self._pipeline())

    def _evaluate(self, pipeline: Pipeline) -> list[dict[str, Any]]:
        from ganzoo.evaluation import evaluate

        try:
            results = [result.to_dict() for result in evaluate(pipeline, progress=not self.quiet)]
        except GanzooError as error:
            # Hours of training must not be lost to a missing split or embedder.
            self.not_measured = f"not measured: {error}. The model is saved all the same; see ganzoo evaluate --help"
            self._warn(self.not_measured)
            return []
        self.not_measured = None
        self.trackers.log({"event": "evaluation", "step": self.trainer.step, "metrics": results})
        return results

    def _replay(self, restored: Path | None) -> None:
        """Drops log rows beyond the restored step, and lets the diagnostics and the clock catch up with the rest."""
        step = self.trainer.step
        self.trackers.truncate_after(step)
        for row in read_rows(self.folder / "metrics.jsonl"):
            self.diagnostics.check(row)
            if row.get("event") == "train":
                self.seconds = row.get("seconds", self.seconds)
        event = {"event": "resume", "from": restored.name} if restored else {"event": "start"}
        facts = {
            "recipe": self.recipe.name,
            "device": machine(self.trainer.device),
            "precision": str(self.trainer.precision),
        }
        self.trackers.log({**event, "step": step, "total_steps": self.trainer.total_steps, **facts})

    def _tell_of_data(self, *, is_new: bool) -> None:
        """Warns of what was left to the data, and of recordings that could not be used; the log of a run says it once."""
        dataset = self.trainer.dataset
        told = [("decided-by-data", decision) for decision in self.trainer.processor.decisions]
        if dataset.left_out is not None:
            told.append(("left-out-recordings", dataset.left_out.sentence(f"{dataset.description} ({dataset.split})")))
        for name, message in told:
            self._warn(message)
            if is_new and self.world.is_main:
                row = {"event": "warning", "step": self.trainer.step, "name": name, "message": message}
                self.trackers.log(row)

    def _progress_bar(self) -> ProgressBar | None:
        if self.quiet or not self.world.is_main:
            return None
        return ProgressBar(
            self.trainer.total_steps, initial=self.trainer.step, samples_per_step=self.trainer.samples_per_step
        )

    def _warn(self, message: str) -> None:
        self.warnings.append(message)
        if self.quiet or not self.world.is_main:
            return
        if self.bar is not None:
            self.bar.write(f"warning: {message}")
        else:
            print(f"warning: {message}", file=sys.stderr)


def machine(device: torch.device) -> str:
    """The machine in words, for logs and cards."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{threads} CPU thread{'s' if threads > 1 else ''}, {platform.machine()}"


@contextmanager
def _restored_mode(network: torch.nn.Module) -> Iterator[None]:
    """A pipeline puts its network into `eval()` mode; one that is being trained has to get back to its own."""
    training = network.training
    try:
        yield
    finally:
        network.train(training)


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
