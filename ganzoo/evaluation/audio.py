"""Measuring generated sound."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ganzoo.errors import UserError, did_you_mean, shorten
from ganzoo.utils.terminal import bar

if TYPE_CHECKING:
    from ganzoo.data.dataset import ArrayDataset
    from ganzoo.embedders.base import Embedder, Embedding
    from ganzoo.evaluation.request import Request
    from ganzoo.metrics.records import MetricResult

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


def evaluate_audio(request: Request) -> list[MetricResult]:
    """Generated sound against the split, the training split against it as the floor; and how near it is to the training
    data.

    A conditional model is asked for its classes in turn. The inception score is that of all samples at once: the parts that
    are usual for pictures would be too small for data sets of sound.

    Raises:
        UserError: An unknown metric, or one that needs classes where there are none.
    """
    from ganzoo.metrics.evaluate import METRICS

    subject = Subject(request)
    names = request.metrics or _default_metrics(subject)
    known = (*METRICS, *OWN_METRICS)
    for name in names:
        if name not in known:
            hint = did_you_mean(name, known)
            raise UserError(
                f"there is no audio metric {shorten(name)}.{hint} The audio metrics are: {', '.join(known)}"
            )
    results = {name: OWN_METRICS[name](subject) for name in names if name in OWN_METRICS}
    results |= {result.name: result for result in _of_embeddings(subject, [n for n in names if n in METRICS])}
    return [results[name] for name in names]


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
        from ganzoo.embedders.names import get_embedder

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

    def log_mels(self, waveforms: Tensor) -> Tensor:
        from ganzoo.embedders.listening import listening_features

        parts = [listening_features(part, self.sampling_rate).flatten(1) for part in waveforms.split(BATCH)]
        return torch.cat(parts)


def _default_metrics(subject: Subject) -> tuple[str, ...]:
    if not subject.knows_classes:
        return DEFAULT_METRICS
    asked = () if subject.labels is None else ("label_accuracy",)
    return (*CLASS_METRICS, *asked, *DEFAULT_METRICS)


def _of_embeddings(subject: Subject, names: list[str]) -> list[MetricResult]:
    from ganzoo.metrics.evaluate import METRICS, evaluate_embeddings

    if not names:
        return []
    if classified := [name for name in names if METRICS[name].needs != "features"]:
        _check_classes(subject, classified)
    request = subject.request
    compared = any(METRICS[name].compares for name in names)
    return evaluate_embeddings(
        subject.generated_embedding._replace(labels=subject.labels),
        subject.real_embedding._replace(labels=subject.real[1]) if compared or request.floor else None,
        reference=subject.training_embedding if compared and request.has_floor else None,
        floor=request.floor,
        metrics=names,
        embedder=subject.embedder.name,
        seed=request.seed,
        splits=1,
        dataset=request.real.description,
        split=request.real.split,
    )


def _check_classes(subject: Subject, names: list[str]) -> None:
    if not subject.knows_classes:
        raise UserError(
            f"{', '.join(names)} read class probabilities, which the embedder {subject.embedder.name!r} does not give; "
            "choose a classifier of sound, such as 'audio-digit-classifier'"
        )


def _frechet_audio_distance(subject: Subject) -> MetricResult:
    """The Fréchet distance over CLAP, whatever the other metrics are measured by (Kilgour et al., 2019, used VGGish)."""
    from ganzoo.embedders.names import get_embedder
    from ganzoo.metrics.evaluate import evaluate_samples

    request = subject.request
    is_clap = isinstance(request.embedder, str) and request.embedder.partition(":")[0] == "clap"
    embedder = subject.embedder if is_clap else get_embedder("clap", sampling_rate=subject.sampling_rate)
    (result,) = evaluate_samples(
        subject.generated,
        subject.real[0],
        embedder=embedder,
        metrics=["frechet_distance"],
        seed=request.seed,
        dataset=request.real.description,
        split=request.real.split,
        reference=subject.some(subject.training, request.num_samples)[0] if request.has_floor else None,
        progress=request.progress,
    )
    return dataclasses.replace(result, name="frechet_audio_distance")


def _nearest_training(subject: Subject) -> MetricResult:
    """|D|_train: near 0 for copies of the training data."""
    from ganzoo.metrics.nearest import nearest_distances

    training = subject.training
    generated, real = subject.points

    def to_training(points: Tensor) -> Tensor:
        starts = range(0, len(training), BATCH)
        rows = (training.batch(np.arange(start, min(start + BATCH, len(training))))[0] for start in starts)
        return nearest_distances(points, (subject.log_mels(part) for part in rows))

    floor = to_training(real) if subject.request.has_floor else None
    protocol = {"split": training.split, "num_real": len(training)}
    return _nearest(subject, "nearest_training", to_training(generated), floor, **protocol)


def _nearest_self(subject: Subject) -> MetricResult:
    """|D|_self: near 0 where all samples are alike."""
    from ganzoo.metrics.nearest import nearest_distances_within

    generated, real = subject.points
    floor = nearest_distances_within(real) if subject.request.floor else None
    return _nearest(subject, "nearest_self", nearest_distances_within(generated), floor, num_real=0)


def _nearest(subject: Subject, name: str, distances: Tensor, floor: Tensor | None, **protocol: Any) -> MetricResult:
    from ganzoo.embedders.listening import listening_mel

    mel = listening_mel(subject.sampling_rate)
    details = {"standard_deviation": float(distances.std()), "minimum": float(distances.min())}
    if floor is not None:
        details |= {"floor_standard_deviation": float(floor.std()), "num_reference": len(floor)}
    return subject.request.result(
        name,
        float(distances.mean()),
        parameters={"n_mels": mel.n_mels, "n_fft": mel.n_fft, "hop_length": mel.hop_length},
        details=details,
        floor=None if floor is None else float(floor.mean()),
        num_generated=len(distances),
        embedder="log-mel",
        **protocol,
    )


OWN_METRICS: dict[str, Callable[[Subject], MetricResult]] = {
    "nearest_training": _nearest_training,
    "nearest_self": _nearest_self,
    "frechet_audio_distance": _frechet_audio_distance,
}
