"""Evaluating a pipeline: its samples against real data of its recipe, by the metrics of `ganzoo.metrics`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ganzoo.errors import NotFoundError, UserError
from ganzoo.pipelines import ClassifierPipeline, GANPipeline, Pipeline, from_pretrained

if TYPE_CHECKING:
    from ganzoo.data.config import DataConfig
    from ganzoo.data.dataset import ArrayDataset
    from ganzoo.metrics.embedders import Embedder
    from ganzoo.metrics.evaluate import MetricResult

DEFAULT_METRICS = ("frechet_distance", "kid", "precision", "recall", "density", "coverage")
BATCH = 256


def evaluate(
    model: str | Path | Pipeline,
    *,
    metrics: Sequence[str] | None = None,
    num_samples: int | None = None,
    data: Mapping[str, Any] | DataConfig | None = None,
    split: str | None = None,
    embedder: str | Embedder | None = None,
    seed: int | None = None,
    floor: bool = True,
    progress: bool = False,
) -> list[MetricResult]:
    """Measures a model against real data. What is left out comes from the recipe in its checkpoint.

    Args:
        model: A pipeline, or whatever `from_pretrained` takes.
        metrics: Names of `ganzoo.metrics.METRICS`; for a classifier it is always its accuracy.
        num_samples: Generated samples; real ones are the whole split, or its first `num_samples` if it is larger.
        data: The `data` section of a recipe, e.g. `{"path": "../mnist"}`; its keys go over those of the recipe.
        split: Split of the data to compare with; if it is left out and the data has no such split as the recipe names,
            the training split.
        embedder: `"pixels"`, `"inception"`, a classifier checkpoint, or an `Embedder`.
        seed: Seed of the first sample; sample i has seed + i.
        floor: Also measure the training split against the same real samples: what a perfect model would get.
        progress: Show progress bars.

    Raises:
        UserError: Unknown metric, data without the split, or a model without a recipe and no data given.
    """
    pipeline = model if isinstance(model, Pipeline) else from_pretrained(model)
    recipe = pipeline.recipe
    config = _data_config(recipe.data if recipe else None, data)
    settings = recipe.evaluation if recipe else None
    seed = seed if seed is not None else (settings.seed if settings else 0)
    real = _load_real(config, pipeline, split, settings.split if settings else "test", progress)
    split = real.split
    if isinstance(pipeline, ClassifierPipeline):
        return [_accuracy(pipeline, real, seed)]

    from ganzoo.metrics.evaluate import evaluate_samples

    count = num_samples or (settings.num_samples if settings else 10_000)
    names = metrics or (settings.metrics if settings and settings.metrics else DEFAULT_METRICS)
    reference = _load(config, pipeline, config.split, progress) if floor and config.split != split else None
    return evaluate_samples(
        _generated(pipeline, count, seed),
        _stored(real, count),
        embedder=embedder or (settings.embedder if settings else "pixels"),
        metrics=names,
        seed=seed,
        dataset=real.description,
        split=split,
        reference=_stored(reference, count) if reference is not None else None,
        progress=progress,
    )


def _data_config(recipe_data: DataConfig | None, data: Mapping[str, Any] | DataConfig | None) -> DataConfig:
    from pydantic import ValidationError

    from ganzoo.data.config import DataConfig
    from ganzoo.validation import explain

    if isinstance(data, DataConfig):
        return data
    if recipe_data is None and data is None:
        raise UserError("this model has no recipe that names its data; pass data={'dataset': ...} or {'path': ...}")
    try:
        return DataConfig.model_validate({**(recipe_data.model_dump() if recipe_data else {}), **(data or {})})
    except ValidationError as error:
        raise UserError(f"data: {explain(error, DataConfig)}") from None


def _load_real(
    config: DataConfig, pipeline: Pipeline, asked: str | None, default: str, progress: bool
) -> ArrayDataset:
    try:
        return _load(config, pipeline, asked or default, progress)
    except NotFoundError:
        if asked is not None or default == config.split:
            raise
        return _load(config, pipeline, config.split, progress)


def _load(config: DataConfig, pipeline: Pipeline, split: str, progress: bool) -> ArrayDataset:
    from ganzoo.data import load_data

    return load_data(config, pipeline.config.processor(**config.processor), split=split, progress=progress or None)


def _stored(dataset: ArrayDataset, count: int) -> torch.Tensor:
    import numpy as np

    return dataset.batch(np.arange(min(count, len(dataset))))[0]


def _generated(pipeline: GANPipeline, count: int, seed: int) -> Iterator[torch.Tensor]:
    for start in range(0, count, BATCH):
        drawn = pipeline.sample(min(BATCH, count - start), seed=seed + start, batch_size=BATCH)
        yield pipeline.processor.to_stored(drawn.samples)


def _accuracy(pipeline: ClassifierPipeline, real: ArrayDataset, seed: int) -> MetricResult:
    import numpy as np

    from ganzoo import __version__
    from ganzoo.metrics.evaluate import MetricResult

    if real.labels is None:
        raise UserError(f"{real.description} has no labels to compare a classifier with")
    correct = 0
    with torch.inference_mode():
        for start in range(0, len(real), BATCH):
            stored, labels = real.batch(np.arange(start, min(start + BATCH, len(real))))
            logits = pipeline.network(pipeline.processor.normalize(stored.to(pipeline.device))).logits
            correct += int((logits.argmax(dim=1).cpu() == labels).sum())
    return MetricResult(
        name="accuracy",
        value=correct / len(real),
        num_real=len(real),
        num_generated=0,
        embedder="the model itself",
        dataset=real.description,
        split=real.split,
        seed=seed,
        ganzoo_version=__version__,
        torch_version=torch.__version__,
    )
