"""The objective of a classifier."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from pydantic import Field

from ganzoo.augmentation.diffaugment import DIFF_AUGMENTATIONS, changes_of, diff_augment, instance_noise
from ganzoo.networks.base import Classifier
from ganzoo.objectives.base import Batch, Loss, Networks, Objective, StepContext, Trained
from ganzoo.recipe.objective import ObjectiveConfig
from ganzoo.recipe.section import name_of
from ganzoo.recipe.sections import TrainingConfig


class ClassificationConfig(ObjectiveConfig):
    """Objective of a classifier: cross-entropy against the labels of the data."""

    type: Literal["classification"] = Field("classification", description="Which objective.")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="Share of the target spread over all classes.")
    noise: float = Field(0.0, ge=0, le=1, description="Standard deviation of Gaussian noise on the samples.")
    augment: tuple[name_of(DIFF_AUGMENTATIONS), ...] = Field((), description="Random changes of the samples.")


class ClassificationObjective(Objective):
    """Cross-entropy of a classifier, with shifted and noisy samples: it must judge pictures that are not quite perfect."""

    config_class = ClassificationConfig
    trains = {"classifier": Trained(Classifier, "a classifier")}

    config: ClassificationConfig

    def updates(self, training: TrainingConfig) -> dict[str, int]:
        return {"classifier": 1}

    def prepare(self, networks: Networks) -> None:
        changes_of(networks["classifier"].config.processor().network_shape, self.config.augment)

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


OBJECTIVE = ClassificationObjective
