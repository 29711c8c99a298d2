"""What is to be measured, with nothing left out, and the real data it is measured against."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ganzoo.errors import NotFoundError
from ganzoo.recipe.data import DataConfig

if TYPE_CHECKING:
    from ganzoo.data.dataset import ArrayDataset
    from ganzoo.embedders.base import Embedder
    from ganzoo.metrics.records import MetricResult
    from ganzoo.pipelines import Pipeline


TEST = "test"


@dataclass(frozen=True)
class Request:
    """One evaluation.

    Attributes:
        pipeline: The model.
        data: Where the real data is from.
        metrics: Names of metrics; empty for those of the modality.
        num_samples: Generated samples.
        split: The split to compare with; None for the test split, else what is held out, else the training split.
        embedder: Of pictures or sound; None for the samples themselves.
        temperature: Of text.
        seed: Of the first sample.
        floor: Whether real data is also measured in place of generated samples.
        progress: Whether bars are shown.
    """

    pipeline: Pipeline
    data: DataConfig
    metrics: tuple[str, ...]
    num_samples: int
    split: str | None
    embedder: str | Embedder | None
    temperature: float
    seed: int
    floor: bool
    progress: bool

    @cached_property
    def real(self) -> ArrayDataset:
        """The real samples to compare with.

        Raises:
            NotFoundError: The data has no such split; says which it has.
        """
        return self.load(self.split if self.split is not None else default_split(self.data))

    @property
    def has_floor(self) -> bool:
        """Whether a floor is wanted, and there are other real samples than those to compare with."""
        return self.floor and self.real.split != self.data.split

    def load(self, split: str) -> ArrayDataset:
        """A split as the model would read it."""
        from ganzoo.data import load_data

        processor = self.pipeline.processor.revised(**self.data.processor)
        return load_data(self.data, processor, split=split, progress=None if self.progress else False)

    def result(self, name: str, value: float, **protocol: Any) -> MetricResult:
        """A number with what all numbers of this evaluation have in common."""
        import torch

        from ganzoo.metrics.records import MetricResult
        from ganzoo.version import __version__

        common = {
            "dataset": self.real.description,
            "split": self.real.split,
            "seed": self.seed,
            "ganzoo_version": __version__,
            "torch_version": str(torch.__version__),
        }
        return MetricResult(name=name, value=value, **{**common, **protocol})


def default_split(data: DataConfig) -> str:
    """The split that a recipe compares with when it does not say one."""
    from ganzoo.data import open_source
    from ganzoo.data.sources import HOLDOUT

    try:
        return open_source(data, TEST).split
    except NotFoundError:
        return HOLDOUT if data.holdout else data.split
