"""Samples beside the training pictures nearest to them: whether a model draws anew or remembers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ganzoo.exploring.opening import open_pictures
from ganzoo.pipelines import GANPipeline
from ganzoo.pipelines.drawing import check_positive
from ganzoo.utils.terminal import PATIENCE, bar

if TYPE_CHECKING:
    from PIL import Image

    from ganzoo.data.dataset import ArrayDataset
    from ganzoo.embedders.base import Embedder

BATCH = 256


def neighbour_sheet(
    model: GANPipeline | str | Path,
    num_samples: int = 8,
    *,
    neighbours: int = 3,
    data: Mapping[str, Any] | None = None,
    embedder: str | Embedder = "pixels",
    labels: int | Sequence[int] | None = None,
    truncation: float | None = None,
    seed: int | None = None,
) -> Image.Image:
    """A row a sample: the sample, then the training pictures nearest to it, the nearest first.

    Args:
        model: A pipeline of pictures, or what `ganzoo.from_pretrained` takes.
        num_samples: Rows.
        neighbours: Training pictures beside each.
        data: The `data` section of a recipe, whose split is searched; its keys go over those of the model's own recipe.
        embedder: Whose features say what is near, by Euclidean distance: `"pixels"`, `"inception"`, a classifier checkpoint, or
            an `Embedder`. Pictures that were mirrored in training are compared in both ways, and shown in the nearer.
        labels, truncation, seed: As of a pipeline's call.

    Raises:
        UserError: The model makes something else than pictures, or has no recipe and no data is given.
        NotFoundError: There is no such data.
    """
    from ganzoo.data import load_data
    from ganzoo.embedders.opening import get_embedder
    from ganzoo.metrics.evaluate import embed_samples
    from ganzoo.metrics.nearest import nearest_indices
    from ganzoo.recipe.data import data_config

    pipeline = open_pictures(model)
    check_positive("neighbours", neighbours)
    config = data_config(pipeline.recipe.data if pipeline.recipe else None, data)
    processor, embedder = pipeline.processor, get_embedder(embedder)
    training = load_data(config, processor.revised(**config.processor), split=config.split)
    samples = pipeline.sample(num_samples, labels=labels, truncation=truncation, seed=seed).samples.cpu()
    both_ways = config.flip > 0
    points = embed_samples(processor.to_stored(samples), embedder=embedder).features
    total = -(-len(training) // BATCH) * (1 + both_ways)
    batches = bar(_batches(training, both_ways), total=total, desc="comparing", unit=" batches", delay=PATIENCE)
    others = (embedder(batch).features.cpu() for batch in batches)
    found = nearest_indices(points, others, neighbours)
    rows = [
        torch.cat([sample[None], processor.normalize(torch.stack([_picture(training, i, both_ways) for i in near]))])
        for sample, near in zip(samples, found.tolist(), strict=True)
    ]
    return processor.sheet(torch.cat(rows), columns=1 + neighbours)


def _batches(dataset: ArrayDataset, both_ways: bool) -> Iterator[torch.Tensor]:
    """All pictures, batch by batch; with `both_ways` each batch is followed by its mirror images."""
    for start in range(0, len(dataset), BATCH):
        batch, _ = dataset.batch(np.arange(start, min(start + BATCH, len(dataset))))
        yield batch
        if both_ways:
            yield batch.flip(-1)


def _picture(dataset: ArrayDataset, index: int, both_ways: bool) -> torch.Tensor:
    """The picture at a place of what `_batches` gives one after another."""
    if not both_ways:
        return dataset.batch(np.array([index]))[0][0]
    # Full batches come in pairs of BATCH; in the last pair each is as long as what is left.
    pair, place = divmod(index, 2 * BATCH)
    length = min(BATCH, len(dataset) - pair * BATCH)
    picture = dataset.batch(np.array([pair * BATCH + place % length]))[0][0]
    return picture.flip(-1) if place >= length else picture
