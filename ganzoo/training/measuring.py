"""What a run finds out about itself between its steps: samples, metrics, and how it does on data that it never learned from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from ganzoo.data import ArrayDataset, load_data
from ganzoo.data.sources import HOLDOUT
from ganzoo.errors import GanzooError
from ganzoo.pipelines import Pipeline
from ganzoo.training.journal import Journal
from ganzoo.training.saving import Saver
from ganzoo.training.trainer import Trainer

# Held-out samples that a discriminator is shown: the standard error of its accuracy is below 2 %.
NUM_JUDGED = 1000


class Measurer:
    """Draws samples and measures the model of the moment; the first process does it.

    Attributes:
        not_measured: Why the last evaluation failed, None if it did not.
    """

    def __init__(self, trainer: Trainer, saver: Saver, journal: Journal) -> None:
        self.trainer, self.saver, self.journal = trainer, saver, journal
        self.not_measured: str | None = None

    def samples(self) -> None:
        """Writes a sheet of samples."""
        trainer, training = self.trainer, self.trainer.recipe.training
        if not trainer.world.is_main or "generator" not in trainer.networks:
            return
        folder, name = self.saver.folder / "samples", f"step-{trainer.step:08d}"
        # The same latents every time: a sheet shows how a sample changes, not which was drawn.
        with _restored_mode(trainer.main_network):
            names = self.saver.pipeline().save_preview(
                folder, name, num_samples=training.num_preview_samples, seed=training.seed
            )
        for name in names:
            self.journal.samples(folder / name)

    def measure(self) -> None:
        """Measures between two steps."""
        if self.trainer.world.is_main:
            with _restored_mode(self.trainer.main_network):
                self.evaluate(self.saver.pipeline())

    def evaluate(self, pipeline: Pipeline) -> list[dict[str, Any]]:
        """The metrics of the recipe; none, and a warning, where they cannot be computed."""
        from ganzoo.evaluation import evaluate

        try:
            results = [result.to_dict() for result in evaluate(pipeline, progress=not self.journal.quiet)]
        except GanzooError as error:
            # Hours of training must not be lost to a missing split or embedder.
            self.not_measured = f"not measured: {error}. The model is saved all the same; see ganzoo evaluate --help"
            self.journal.warn(self.not_measured)
            return []
        self.not_measured = None
        self.journal.event("evaluation", metrics=results)
        return results


class HeldOut:
    """Judges by held-out data: whether a phase is to end early, and whether the discriminator knows its data by heart."""

    def __init__(self, trainer: Trainer, saver: Saver, journal: Journal) -> None:
        self.trainer, self.saver, self.journal = trainer, saver, journal
        self._splits: dict[str, ArrayDataset] = {}

    def judge_discriminator(self) -> None:
        """Logs how the discriminator does on data that it never learned from, where the objective can tell."""
        trainer = self.trainer
        phase = trainer.phases[trainer.phase_index]
        if not trainer.recipe.data.holdout or "discriminator" not in phase.updates:
            return
        stats = trainer.validation_stats(self._split(HOLDOUT), NUM_JUDGED)
        if stats:
            named = {f"validation/{name}": value for name, value in stats.items()}
            self.journal.judged("validation", phase=phase.name, **named)

    def ends_phase(self) -> bool:
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
        loss = trainer.validate(self._split(phase.stop.split), phase.stop.num_samples)
        trainer.validation.note(loss, trainer.main_network)
        best, since = trainer.validation.loss, trainer.validation.since
        found = {"validation/loss": loss, "validation/best": best}
        self.journal.judged("validation", phase=phase.name, **found)
        if since < phase.stop.patience and done < phase.steps:
            return False
        trainer.take_best()
        if done == phase.steps:
            return False
        self.journal.advance(phase.steps - done)
        trainer.end_phase_early()
        self.journal.judged("early stop", phase=phase.name, **{"validation/best": best})
        self.saver.checkpoint()
        return True

    def _split(self, name: str) -> ArrayDataset:
        if name not in self._splits:
            self._splits[name] = load_data(self.trainer.recipe.data, self.trainer.processor, split=name)
        return self._splits[name]


@contextmanager
def _restored_mode(network: nn.Module) -> Iterator[None]:
    """A pipeline puts its network into `eval()` mode; one that is being trained has to get back to its own."""
    training = network.training
    try:
        yield
    finally:
        network.train(training)
