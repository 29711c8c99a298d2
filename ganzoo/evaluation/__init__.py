"""Evaluating a pipeline: its samples against real data of its recipe, by the metrics of `ganzoo.metrics`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ganzoo.evaluation.base import EVALUATIONS, evaluation_of
from ganzoo.evaluation.checking import check_evaluation
from ganzoo.evaluation.request import Request
from ganzoo.pipelines import Pipeline, from_pretrained
from ganzoo.recipe.data import data_config

if TYPE_CHECKING:
    from ganzoo.embedders.base import Embedder
    from ganzoo.metrics.records import MetricResult
    from ganzoo.recipe.data import DataConfig


def evaluate(
    model: str | Path | Pipeline,
    *,
    metrics: Sequence[str] | None = None,
    num_samples: int | None = None,
    data: Mapping[str, Any] | DataConfig | None = None,
    split: str | None = None,
    embedder: str | Embedder | None = None,
    temperature: float | None = None,
    seed: int | None = None,
    floor: bool = True,
    progress: bool = False,
) -> list[MetricResult]:
    """Measures a model against real data. What is left out comes from the recipe in its checkpoint.

    Args:
        model: A pipeline, or whatever `from_pretrained` takes.
        metrics: Names of metrics: the keys of `METRICS` in the files of `ganzoo.metrics` (pictures, and sound), of its folders
            `sound`, `text`, `points`, `vocoding`, `classification`; by default those that its evaluation chooses.
        num_samples: Generated samples, or copied clips. Of a larger split the first `num_samples` pictures are taken, of
            sound as many at random; real sentences are always the whole split.
        data: The `data` section of a recipe, e.g. `{"path": "../mnist"}`; its keys go over those of the recipe.
        split: Split of the data to compare with. If it is left out, the recipe's; of other data, or where the recipe leaves it
            open, the test split, else what the recipe holds out, else (there being no other) the training split. Every result
            says which it was.
        embedder: Of pictures: `"pixels"`, `"inception"`; of sound: `"log-mel"`, `"clap"`; of both a classifier checkpoint,
            or an `Embedder`.
        temperature: Of text: divides the logits, for the samples and for the likelihoods alike.
        seed: Seed of the first sample; sample i has seed + i.
        floor: Also measure real data in place of the generated samples: what a perfect model would get.
        progress: Show progress bars.

    Raises:
        UserError: Unknown metric, data without the split, or a model without a recipe and no data given.
    """
    from ganzoo.recipe.sections import EvaluationConfig

    pipeline = model if isinstance(model, Pipeline) else from_pretrained(model)
    recipe = pipeline.recipe
    settings = recipe.evaluation if recipe else EvaluationConfig()
    request = Request(
        pipeline=pipeline,
        data=data_config(recipe.data if recipe else None, data),
        metrics=(metrics,) if isinstance(metrics, str) else tuple(metrics or settings.metrics),
        num_samples=num_samples if num_samples is not None else settings.num_samples,
        # The recipe's split is one of the recipe's data.
        split=split if split is not None or data is not None else settings.split,
        embedder=embedder if embedder is not None else settings.embedder,
        temperature=temperature if temperature is not None else settings.temperature,
        seed=seed if seed is not None else settings.seed,
        floor=floor,
        progress=progress,
    )
    return evaluation_of(pipeline.network.task, pipeline.processor.modality)(request)


__all__ = ["EVALUATIONS", "check_evaluation", "evaluate"]
