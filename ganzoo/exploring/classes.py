"""All classes of a conditional model on one sheet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ganzoo.errors import UserError
from ganzoo.exploring.opening import open_pictures
from ganzoo.pipelines import GANPipeline
from ganzoo.pipelines.drawing import check_positive

if TYPE_CHECKING:
    from PIL import Image

MAX_ROWS = 1000


def class_grid(
    model: GANPipeline | str | Path,
    columns: int = 8,
    *,
    labels: Sequence[int | str] | None = None,
    truncation: float | None = None,
    seed: int | None = None,
) -> Image.Image:
    """One row a class, one column a seed: what the class decides differs from row to row, what latents decide from column
    to column.

    Args:
        model: A pipeline of pictures, or what `ganzoo.from_pretrained` takes.
        columns: Samples of each class.
        labels: The classes, from the top, by number or name; by default all.
        truncation, seed: As of a pipeline's call; column i has the seed `seed + i`.

    Raises:
        UserError: The model is unconditional, or has too many classes for one sheet.
    """
    pipeline = open_pictures(model)
    num_classes = pipeline.config.num_classes
    if num_classes is None:
        raise UserError("this model is unconditional: it has no classes to lay out")
    rows = list(range(num_classes)) if labels is None else list(pipeline.label_numbers(labels))
    if len(rows) > MAX_ROWS:
        raise UserError(f"{len(rows)} classes do not fit on one sheet; give up to {MAX_ROWS} labels")
    check_positive("columns", columns)
    latents, _ = pipeline.inputs(columns, seed=seed)
    every_row = torch.arange(columns).repeat(len(rows))
    chosen = torch.tensor(rows).repeat_interleave(columns)
    samples = pipeline.sample(latents=latents[every_row], labels=chosen, truncation=truncation).samples
    return pipeline.processor.sheet(samples, columns=columns)
