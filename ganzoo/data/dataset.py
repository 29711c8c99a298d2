"""A data set in the trainer's hands: arrays on disk, gathered by index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ganzoo.data.cache import build_cache, read_cache
from ganzoo.data.left_out import LeftOut
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
    """

    samples: np.ndarray
    labels: np.ndarray | None = None
    description: str = "arrays"
    split: str = "train"
    fingerprint: str = ""
    class_names: tuple[str, ...] | None = None
    left_out: LeftOut | None = None

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
    folder = build_cache(source, processor, config.limit, progress=progress)
    content = read_cache(folder)
    if content is None:
        raise GanzooError(f"The data cache {folder} was removed or damaged while it was being opened; start again.")
    return ArrayDataset(
        **content._asdict(),
        description=source.description,
        split=source.split,
        fingerprint=source.fingerprint,
        class_names=source.class_names,
    )
