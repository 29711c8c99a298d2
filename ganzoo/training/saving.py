"""What a run keeps: its checkpoints, and the pipeline that they and the finished run are."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ganzoo.checkpoints.checkpoint import save_network
from ganzoo.errors import TrainingError
from ganzoo.pipelines import Pipeline, pipeline_class
from ganzoo.training.diagnostics import non_finite_advice
from ganzoo.training.journal import Journal, machine
from ganzoo.training.state import checkpoint_folders, load_latest, save_checkpoint
from ganzoo.training.trainer import Trainer, is_finite
from ganzoo.utils.files import new_folder, remove_leftovers, write_text
from ganzoo.utils.layout import DISCRIMINATOR_FOLDER, RECIPE_FILE

PIPELINE_FOLDER = "pipeline"


class Saver:
    """Saves a run into `folder`. Nothing that is NaN or infinite is saved."""

    def __init__(self, trainer: Trainer, folder: Path, journal: Journal) -> None:
        self.trainer, self.folder, self.journal = trainer, folder, journal
        self.checkpoints = folder / "checkpoints"
        self._saved_step: int | None = None

    def restore(self) -> Path | None:
        """Puts the newest undamaged checkpoint into the trainer, clears away what killed writers left, and writes the recipe.

        Returns:
            The checkpoint's folder, or None if there is none.
        """
        restored = load_latest(self.trainer, self.checkpoints, warn=self.journal.warn)
        self._saved_step = self.trainer.step if restored else None
        if self.trainer.world.is_main:
            for written in (RECIPE_FILE, PIPELINE_FOLDER, "samples/step-*", "checkpoints/step-*"):
                remove_leftovers(self.folder / written)
            write_text(self.folder / RECIPE_FILE, self.trainer.recipe.to_yaml())
        return restored

    def checkpoint(self) -> None:
        """Saves the moment; all processes have to come."""
        trainer = self.trainer
        self.refuse([] if is_finite(trainer.modules.values()) else ["the weights"])
        if trainer.world.is_main:
            keep = trainer.recipe.training.keep_checkpoints
            path = save_checkpoint(trainer, self.checkpoints, keep=keep, write_model=self._write_model)
            self.journal.event("checkpoint", path=str(path.relative_to(self.folder)))
        self._saved_step = trainer.step
        trainer.world.barrier()

    def checkpoint_if_new(self) -> None:
        """Saves the moment unless it is saved already."""
        if self._saved_step != self.trainer.step or self.trainer.update:
            self.checkpoint()

    def refuse(self, broken: Iterable[str]) -> None:
        """Ends the run if anything is NaN or infinite; the checkpoints from before stay as they are."""
        if names := list(broken):
            kept = checkpoint_folders(self.checkpoints)
            raise TrainingError(non_finite_advice(names, self.trainer.step, kept[0] if kept else None))

    def pipeline(self) -> Pipeline:
        """The networks of the moment, ready to use."""
        trainer = self.trainer
        pipeline = pipeline_class(trainer.main_network)(
            trainer.main_network,
            trainer.processor,
            discriminator=trainer.networks["discriminator"] if self._trains_discriminator else None,
            recipe=trainer.recipe,
            training={
                "steps": trainer.step - trainer.skipped,
                "batch_size": trainer.samples_per_step,
                "minutes": round(self.journal.seconds / 60, 2),
                "machine": machine(trainer.device),
            },
        )
        pipeline.take_examples(trainer.dataset)
        return pipeline

    def save_pipeline(self, pipeline: Pipeline) -> None:
        with new_folder(self.folder / PIPELINE_FOLDER) as folder:
            pipeline.save_pretrained(folder)

    @property
    def _trains_discriminator(self) -> bool:
        """One that no phase updates is noise, and not worth publishing."""
        return any("discriminator" in phase.updates for phase in self.trainer.phases)

    def _write_model(self, folder: Path) -> None:
        """The part of a training checkpoint that loads like any other: averaged main network, discriminator, processor."""
        trainer = self.trainer
        save_network(trainer.main_network, folder)
        if self._trains_discriminator:
            save_network(trainer.networks["discriminator"], folder / DISCRIMINATOR_FOLDER)
        trainer.processor.save_pretrained(folder)
        write_text(folder / RECIPE_FILE, trainer.recipe.to_yaml())
