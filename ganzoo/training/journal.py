"""What a run says: rows of its log, warnings, the bar, and its clock. Only the first process writes."""

from __future__ import annotations

import platform
import sys
import time
from pathlib import Path
from typing import Any

import torch

from ganzoo.training.diagnostics import Diagnostics
from ganzoo.training.trackers import ProgressBar, create_trackers, read_rows
from ganzoo.training.trainer import Trainer


class Journal:
    """The log of a run in `folder`, with what is wrong by the looks of it.

    Attributes:
        warnings: All that were given.
        seconds: Spent on training up to the last train row, by all processes that went on from one another.
    """

    def __init__(self, trainer: Trainer, folder: Path, *, quiet: bool) -> None:
        self.trainer, self.folder, self.quiet = trainer, folder, quiet
        self.is_main = trainer.world.is_main
        objectives = zip(trainer.phases, trainer.objectives, strict=True)
        boundaries = {phase.name: objective.boundary is not None for phase, objective in objectives}
        self.diagnostics = Diagnostics(has_decision_boundary=boundaries)
        self.warnings: list[str] = []
        self.bar: ProgressBar | None = None
        self.seconds = 0.0
        self._mark, self._marked_step = time.monotonic(), trainer.step

    def open(self, restored: Path | None) -> None:
        """Opens the log where a run begins, or goes on from the checkpoint `restored`."""
        if self.is_main:
            self.trackers = create_trackers(self.folder)
            self._replay(restored)
        if self.is_main and not self.quiet:
            total, size = self.trainer.total_steps, self.trainer.samples_per_step
            self.bar = ProgressBar(total, initial=self.trainer.step, samples_per_step=size)
        self._tell_of_data(is_new=restored is None)
        self._mark, self._marked_step = time.monotonic(), self.trainer.step

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()
        if self.is_main:
            self.trackers.close()

    def advance(self, steps: int = 1) -> None:
        """Moves the bar."""
        if self.bar is not None:
            self.bar.update(steps)

    def stop_clock(self) -> None:
        """Counts the time since the last train row: no more steps will come."""
        now = time.monotonic()
        self.seconds += now - self._mark
        self._mark = now

    def event(self, kind: str, /, **facts: Any) -> None:
        """Logs a row about the step."""
        if self.is_main:
            self.trackers.log({"event": kind, "step": self.trainer.step, **facts})

    def samples(self, path: Path) -> None:
        """Logs a file that shows the step's samples."""
        self.trackers.samples(self.trainer.step, path)

    def judged(self, kind: str, /, **facts: Any) -> None:
        """Logs a row, and what is wrong by the looks of it."""
        if not self.is_main:
            return
        row = {"event": kind, **facts}
        self.trackers.log({"step": self.trainer.step, **row})
        for diagnosis in self.diagnostics.check(row):
            self.event("warning", **diagnosis._asdict())
            self.warn(diagnosis.message)

    def train_row(self, means: dict[str, float]) -> None:
        """Logs the means of the steps since the last such row, beside rates of learning and speed."""
        if not self.is_main:
            return
        trainer, now = self.trainer, time.monotonic()
        rate = (trainer.step - self._marked_step) / max(now - self._mark, 1e-9)
        self.seconds += now - self._mark
        self._mark, self._marked_step = now, trainer.step
        row = {
            "phase": trainer.phase_at(trainer.step - 1).name,
            "samples_seen": trainer.samples_seen,
            "seconds": round(self.seconds, 3),
            **means,
            **{f"{role}/learning_rate": trainer.learning_rate(role) for role in trainer.networks},
            "steps_per_second": round(rate, 4),
            "samples_per_second": round(rate * trainer.samples_per_step, 2),
        }
        if self.bar is not None:
            self.bar.show({"event": "train", **row})
        self.judged("train", **row)

    def warn(self, message: str) -> None:
        self.warnings.append(message)
        if self.quiet or not self.is_main:
            return
        if self.bar is not None:
            self.bar.write(f"warning: {message}")
        else:
            print(f"warning: {message}", file=sys.stderr)

    def _replay(self, restored: Path | None) -> None:
        """Drops log rows beyond the restored step, and lets the diagnostics and the clock catch up with the rest."""
        trainer = self.trainer
        self.trackers.truncate_after(trainer.step)
        for row in read_rows(self.folder / "metrics.jsonl"):
            self.diagnostics.check(row)
            if row.get("event") == "train":
                self.seconds = row.get("seconds", self.seconds)
        beginning = {"event": "resume", "from": restored.name} if restored else {"event": "start"}
        facts = {
            "total_steps": trainer.total_steps,
            "recipe": trainer.recipe.name,
            "device": machine(trainer.device),
            "precision": str(trainer.precision),
        }
        self.trackers.log({**beginning, "step": trainer.step, **facts})

    def _tell_of_data(self, *, is_new: bool) -> None:
        """Warns of what was left to the data, and of recordings that could not be used; the log of a run says it once."""
        dataset = self.trainer.dataset
        told = [("decided-by-data", decision) for decision in self.trainer.processor.decisions]
        if dataset.left_out is not None:
            told.append(("left-out-recordings", dataset.left_out.sentence(f"{dataset.description} ({dataset.split})")))
        for name, message in told:
            self.warn(message)
            if is_new:
                self.event("warning", name=name, message=message)


def machine(device: torch.device) -> str:
    """The machine in words, for logs and cards."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{threads} CPU thread{'s' if threads > 1 else ''}, {platform.machine()}"
