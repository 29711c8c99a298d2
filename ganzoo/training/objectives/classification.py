"""The objective of a classifier."""

from __future__ import annotations

import torch.nn.functional as F

from ganzoo.training.augment import diff_augment, instance_noise
from ganzoo.training.objective_sections import ClassificationConfig
from ganzoo.training.objectives.base import Batch, Loss, Networks, Objective, StepContext
from ganzoo.training.sections import TrainingConfig


class ClassificationObjective(Objective):
    """Cross-entropy of a classifier, with shifted and noisy samples: it must judge pictures that are not quite perfect."""

    config: ClassificationConfig

    def updates(self, training: TrainingConfig) -> dict[str, int]:
        return {"classifier": 1}

    def classifier_loss(self, networks: Networks, batch: Batch, context: StepContext) -> Loss:
        samples = batch.samples
        if self.config.augment:
            samples = diff_augment(samples, ",".join(self.config.augment))
        if self.config.noise:
            samples = instance_noise(samples, self.config.noise)
        with context.autocast():
            logits = networks["classifier"](samples).logits
        loss = F.cross_entropy(logits.float(), batch.labels, label_smoothing=self.config.label_smoothing)
        accuracy = (logits.argmax(dim=1) == batch.labels).float().mean()
        return Loss({"cross_entropy": loss}, {"accuracy": accuracy})
