"""A data set in the trainer's hands: arrays on disk, gathered by index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ganzoo.data.cache import CacheContent, build_cache, read_cache
from ganzoo.data.left_out import LeftOut
from ganzoo.data.source import Source
from ganzoo.data.sources import open_source
from ganzoo.errors import GanzooError, UserError, did_you_mean, shorten
from ganzoo.recipe.data import DataConfig

if TYPE_CHECKING:
    from ganzoo.processors import Processor


@dataclass(frozen=True, eq=False)
class ArrayDataset:
    """Samples in their stored form, usually a read-only memory map.

    Attributes:
        samples: (N, *sample_shape) in the processor's storage type.
        labels: (N,) int64 from 0, or None.
        description: Where they come from: the data set's public name, or a path.
        split: The split they are.
        fingerprint: Of the source data, as `Source.fingerprint`.
        class_names: The classes by label, where the data names them.
        left_out: Recordings that could not be used, counted and named; None if there are none.
        conditions: (M, ...) what else steers the networks, in the storage type of its processor; None of most data.
        aligned: Condition i belongs to sample i, and M = N; else they have an order and a number of their own.
    """

    samples: np.ndarray
    labels: np.ndarray | None = None
    description: str = "arrays"
    split: str = "train"
    fingerprint: str = ""
    class_names: tuple[str, ...] | None = None
    left_out: LeftOut | None = None
    conditions: np.ndarray | None = None
    aligned: bool = True

    def __len__(self) -> int:
        return len(self.samples)

    @cached_property
    def num_classes(self) -> int | None:
        """Number of classes: of the names, or one more than the largest label; None without labels."""
        if self.labels is None:
            return None
        return len(self.class_names) if self.class_names else int(self.labels.max()) + 1

    def numbered_as(self, class_names: Sequence[str] | None) -> ArrayDataset:
        """The data with its classes numbered as these names are, such as a model's; itself where either has no names.

        A folder's classes are numbered in the order of their names: with one more or one less, all that follow have others.

        Raises:
            UserError: A class of the data is not among them.
        """
        if not class_names or not self.class_names or self.labels is None or self.class_names == tuple(class_names):
            return self
        if unknown := [name for name in self.class_names if name not in class_names]:
            raise UserError(
                f"{self.description} has the class {shorten(unknown[0])}, which the model does not know."
                f"{did_you_mean(unknown[0], class_names)}"
            )
        numbers = np.array([class_names.index(name) for name in self.class_names])
        return replace(self, labels=numbers[self.labels], class_names=tuple(class_names))

    def batch(self, indices: np.ndarray) -> tuple[Tensor, Tensor | None]:
        """Gathers samples, copying each once.

        Args:
            indices: (B,) int64 in [0, N), in any order, repetitions allowed.

        Returns:
            (B, *sample_shape) in the storage type and (B,) int64 labels or None, on the CPU, owning their memory.
        """
        samples = torch.from_numpy(self.samples[indices])  # indexing by an array is the one copy
        labels = None if self.labels is None else torch.from_numpy(self.labels[indices])
        return samples, labels

    def condition_batch(self, indices: np.ndarray) -> Tensor | None:
        """Gathers conditions as `batch` does samples: (B,) indices in [0, M) -> (B, ...), or None."""
        return None if self.conditions is None else torch.from_numpy(self.conditions[indices])


def load_data(
    config: DataConfig, processor: Processor, *, split: str | None = None, progress: bool | None = None
) -> ArrayDataset:
    """Opens the data of a recipe, decoding it into the cache the first time.

    Args:
        config: The `data` section.
        processor: Turns a raw sample into its stored form.
        split: Another split than `config.split`, e.g. the one to measure against.
        progress: Show a progress bar on stderr while decoding; by default only if stderr is a terminal.

    Raises:
        UserError: The data does not exist, lacks the split or column, or cannot be read.
        MissingPackageError: A package that reads it is not installed.
        GanzooError: The cache cannot be written.
    """
    source = open_source(config, split)
    content = _cached(source, processor, config.limit, progress)
    conditions = None
    if source.conditions is not None:
        conditions = _cached(source.conditions, processor.of_conditions, config.limit, progress).samples
        if not config.unaligned and not len(conditions) == len(content.samples) == source.first_length(config.limit):
            raise UserError(
                f"{source.description} ({source.split}): some samples or conditions could not be used, or became several, so "
                "that they do not belong to each other any more; take these out, or set data.unaligned=true"
            )
    return ArrayDataset(
        **content._asdict(),
        conditions=conditions,
        aligned=not config.unaligned,
        description=source.description,
        split=source.split,
        fingerprint=source.fingerprint,
        class_names=source.class_names,
    )


def _cached(source: Source, processor: Processor, limit: int | None, progress: bool | None) -> CacheContent:
    folder = build_cache(source, processor, limit, progress=progress)
    content = read_cache(folder)
    if content is None:
        raise GanzooError(f"The data cache {folder} was removed or damaged while it was being opened; start again.")
    return content
