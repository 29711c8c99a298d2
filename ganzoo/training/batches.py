"""The batches that the networks are shown: stored rows gathered, varied, and brought into the networks' space."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from ganzoo.augmentation.transforms import random_crop, random_flip, random_segment
from ganzoo.data.dataset import ArrayDataset
from ganzoo.data.sampler import batch_indices
from ganzoo.networks.base import Batch
from ganzoo.processors import Processor
from ganzoo.recipe.recipe import Recipe
from ganzoo.training.distributed import World
from ganzoo.training.randomness import mix, preserved_rng


class RealBatches:
    """Real data of a run.

    Args:
        recipe: The run's recipe.
        dataset: Real samples in stored form, with their conditions where the networks need some.
        processor: Turns them into the networks' space.
        main: The main network: it says how real data look at the moment, and makes the condition of a batch.
        device: Where the networks run.
        world: The processes of this run; each takes its own share.

    Attributes:
        given: Updates of the networks that are done, of those with a batch of their own: where the stream of samples goes on.
    """

    def __init__(
        self,
        recipe: Recipe,
        dataset: ArrayDataset,
        processor: Processor,
        main: nn.Module,
        device: torch.device,
        world: World,
    ) -> None:
        self.training, self.data = recipe.training, recipe.data
        self.dataset, self.processor, self.main = dataset, processor, main
        self.device, self.world = device, world
        self.given = 0

    def of_update(self, ahead: int) -> Iterator[Batch]:
        """The batches of the update that is `ahead` of those given: several, where gradients are accumulated.

        Which samples they hold is a function of (seed, number of the update, rank) alone.
        """
        for micro in range(self.training.accumulation):
            number = (self.given + ahead) * self.training.accumulation + micro
            indices = self._indices(len(self.dataset), number, self.training.seed)
            others = indices
            if self.dataset.conditions is not None and not self.dataset.aligned:
                seed = mix(self.training.seed, "condition")
                others = self._indices(len(self.dataset.conditions), number, seed)
            yield self._batch(self.dataset, indices, others, varied=True)

    def held_out(self, dataset: ArrayDataset, count: int) -> Iterator[Batch]:
        """The first `count` samples of data that are not trained on, as they are; the same in all processes."""
        for start in range(0, count, self.training.batch_size):
            indices = np.arange(start, min(start + self.training.batch_size, count))
            others = indices if dataset.aligned else indices % len(dataset.conditions)
            yield self._batch(dataset, indices, others, varied=False)

    def _indices(self, length: int, number: int, seed: int) -> np.ndarray:
        size, rank, processes = self.training.batch_size, self.world.rank, self.world.size
        return batch_indices(length, size, number, seed=seed, rank=rank, world_size=processes)

    def _batch(self, dataset: ArrayDataset, indices: np.ndarray, others: np.ndarray, *, varied: bool) -> Batch:
        stored, labels = dataset.batch(indices)
        stored, condition = self._moved(stored), self._moved(dataset.condition_batch(others))
        if varied and condition is not None and self.processor.modality == self.processor.of_conditions.modality:
            if dataset.aligned:  # by the same draws
                with preserved_rng(self.device):
                    condition = self._vary(condition)
                stored = self._vary(stored)
            else:
                stored, condition = self._vary(stored), self._vary(condition)
        elif varied:
            stored = self._vary(stored)
        samples, own = self.processor.parts(self.processor.normalize(stored))
        samples = _laid(self.main.match(samples), self.processor)
        if condition is not None:
            own = _laid(self.processor.of_conditions.normalize(condition), self.processor.of_conditions)
        uses_labels = self.main.config.num_classes is not None
        batch = Batch(samples, self._moved(labels) if uses_labels else None, own)
        with torch.no_grad():
            return batch._replace(condition=self.main.condition(batch))

    def _moved(self, rows: Tensor | None) -> Tensor | None:
        return None if rows is None else rows.to(self.device, non_blocking=True)

    def _vary(self, stored: Tensor) -> Tensor:
        data = self.data
        return random_segment(random_crop(random_flip(stored, data.flip), data.crop_padding), data.segment)


def _laid(samples: Tensor, processor: Processor) -> Tensor:
    """(B, ...) as convolutions want them in memory."""
    return samples.contiguous(memory_format=torch.channels_last) if processor.channels_last else samples
