"""Measuring generated sound: against the split, the training split against it as the floor, and how near it is to the training
data. A conditional model is asked for its classes in turn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ganzoo.errors import UserError
from ganzoo.evaluation.base import Evaluation
from ganzoo.utils.finding import Kind
from ganzoo.utils.terminal import bar

if TYPE_CHECKING:
    from ganzoo.data.dataset import ArrayDataset
    from ganzoo.embedders.base import Embedder, Embedding
    from ganzoo.evaluation.request import Request
    from ganzoo.metrics.metric import Metric
    from ganzoo.metrics.records import MetricResult

SOUND_METRICS = Kind("audio metric", "ganzoo.metrics.sound", "METRIC", joint="_")
DEFAULT_METRICS = (
    "frechet_distance",
    "precision",
    "recall",
    "density",
    "coverage",
    "nearest_training",
    "nearest_self",
)
# Read by whom the embedder says is in a class.
CLASS_METRICS = ("inception_score", "class_balance")
BATCH = 256
# The more points, the nearer the nearest: distances compare at one number of them.
NEAREST_COUNT = 300


class Subject:
    """What a model makes and what is real; each part is made when it is first needed."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.sampling_rate: int = request.pipeline.processor.sampling_rate

    @cached_property
    def labels(self) -> Tensor | None:
        """The class of each sample, in turn; None of an unconditional model."""
        num_classes = self.request.pipeline.config.num_classes
        return None if num_classes is None else torch.arange(self.request.num_samples) % num_classes

    @cached_property
    def generated(self) -> Tensor:
        """int16 (num_samples, C, L)."""
        return torch.cat(list(self._draw()))

    def _draw(self) -> Iterator[Tensor]:
        request, pipeline = self.request, self.request.pipeline
        starts = range(0, request.num_samples, BATCH)
        for start in bar(starts, desc="generating", unit=" batches", shown=None if request.progress else False):
            count = min(BATCH, request.num_samples - start)
            labels = None if self.labels is None else self.labels[start : start + count]
            drawn = pipeline.sample(count, seed=request.seed + start, labels=labels)
            yield pipeline.processor.to_stored(drawn.samples).cpu()

    @cached_property
    def real(self) -> tuple[Tensor, Tensor | None]:
        """The split, int16 (N, C, L) with labels (N,) or None; of a large one, as many as are generated."""
        return self.some(self.request.real, self.request.num_samples)

    @cached_property
    def training(self) -> ArrayDataset:
        return self.request.load(self.request.data.split)

    def some(self, dataset: ArrayDataset, count: int) -> tuple[Tensor, Tensor | None]:
        """At most `count` samples, chosen at random: a data set may be sorted by class."""
        chosen = np.random.default_rng(self.request.seed).permutation(len(dataset))[:count]
        return dataset.batch(np.sort(chosen))

    @cached_property
    def embedder(self) -> Embedder:
        from ganzoo.embedders.opening import get_embedder

        return get_embedder(self.request.embedder or "log-mel", sampling_rate=self.sampling_rate)

    @cached_property
    def knows_classes(self) -> bool:
        """Whether the embedder does."""
        return self.embedder(self.real[0][:1]).probabilities is not None

    @cached_property
    def generated_embedding(self) -> Embedding:
        return self._embed(self.generated, "generated")

    @cached_property
    def real_embedding(self) -> Embedding:
        return self._embed(self.real[0], "real")

    @cached_property
    def training_embedding(self) -> Embedding:
        return self._embed(self.some(self.training, self.request.num_samples)[0], "training")

    def _embed(self, waveforms: Tensor, name: str) -> Embedding:
        from ganzoo.metrics.evaluate import embed_samples

        return embed_samples(waveforms, embedder=self.embedder, name=name, progress=self.request.progress)

    @cached_property
    def points(self) -> tuple[Tensor, Tensor]:
        """Log-mel spectrograms of generated and of real samples, as many of both, (count, D)."""
        generated, (real, _) = self.generated, self.real
        count = min(NEAREST_COUNT, len(generated), len(real))
        chosen = torch.randperm(len(real), generator=torch.Generator().manual_seed(self.request.seed))[:count]
        return self.log_mels(generated[:count]), self.log_mels(real[chosen])

    def embedded(self, metrics: Mapping[str, Metric]) -> list[MetricResult]:
        """Metrics of embeddings. The inception score is that of all samples at once: the parts that are usual for pictures
        would be too small for data sets of sound."""
        from ganzoo.metrics.evaluate import evaluate_embeddings

        if classified := [name for name, metric in metrics.items() if metric.needs != "features"]:
            self._check_classes(classified)
        request = self.request
        compared = any(metric.compares for metric in metrics.values())
        return evaluate_embeddings(
            self.generated_embedding._replace(labels=self.labels),
            self.real_embedding._replace(labels=self.real[1]) if compared or request.floor else None,
            reference=self.training_embedding if compared and request.has_floor else None,
            floor=request.floor,
            metrics=list(metrics),
            embedder=self.embedder.name,
            seed=request.seed,
            splits=1,
            dataset=request.real.description,
            split=request.real.split,
        )

    def _check_classes(self, names: list[str]) -> None:
        if not self.knows_classes:
            raise UserError(
                f"{', '.join(names)} read class probabilities, which the embedder {self.embedder.name!r} does not give; "
                "choose a classifier of sound, such as 'audio-digit-classifier'"
            )

    def log_mels(self, waveforms: Tensor) -> Tensor:
        from ganzoo.embedders.listening import listening_features

        parts = [listening_features(part, self.sampling_rate).flatten(1) for part in waveforms.split(BATCH)]
        return torch.cat(parts)


def _default_metrics(subject: Subject) -> tuple[str, ...]:
    if not subject.knows_classes:
        return DEFAULT_METRICS
    asked = () if subject.labels is None else ("label_accuracy",)
    return (*CLASS_METRICS, *asked, *DEFAULT_METRICS)


EVALUATION = Evaluation(
    Subject, _default_metrics, (Kind("audio metric", "ganzoo.metrics", "METRIC", joint="_"), SOUND_METRICS)
)
