"""Directions that change a picture most, found in a generator's weights alone.

Shen and Zhou (2021, https://arxiv.org/abs/2007.06600): what moves along n in front of a matrix A moves behind it by A n, so the
unit vectors of which A makes most are eigenvectors of A^T A (equation 5). No data, no training.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from ganzoo.errors import UserError
from ganzoo.exploring.opening import draw_styles, open_pictures
from ganzoo.pipelines import GANPipeline
from ganzoo.pipelines.drawing import check_positive

if TYPE_CHECKING:
    from PIL import Image

# Draws from which the spread along a direction is estimated.
NUM_DRAWN = 512


class Directions(NamedTuple):
    """Directions among latents, or among styles where the generator has them.

    Attributes:
        vectors: (num, D), of length 1, at right angles to each other, the strongest first.
        strengths: (num,), the length of A n.
        spreads: (num,), the standard deviation of what the model draws along each: the unit of a move.
    """

    vectors: Tensor
    strengths: Tensor
    spreads: Tensor

    def move(self, latents: Tensor, index: int, amount: float) -> Tensor:
        """Latents (or styles, all layers alike), moved along a direction by so many standard deviations."""
        return latents + amount * (self.spreads[index] * self.vectors[index]).to(latents)


@torch.no_grad()
def directions(model: GANPipeline | str | Path, num: int = 10) -> Directions:
    """Finds the directions that a generator's first layer makes most of (of StyleGAN2: all layers that a style enters).

    Args:
        model: A pipeline of pictures, or what `ganzoo.from_pretrained` takes.
        num: How many; at most as many as a latent vector has numbers.

    Raises:
        UserError: The generator has no matrix that latents enter by, or not so many directions.
    """
    pipeline = open_pictures(model)
    check_positive("num", num)
    weight = pipeline.generator.latent_weight().cpu().double()
    if num > weight.shape[1]:
        raise UserError(f"num={num}: there are {weight.shape[1]} directions, as many as numbers in a latent vector")
    squares, vectors = torch.linalg.eigh(weight.T @ weight)
    squares, vectors = squares.flip(0)[:num].clamp(min=0), vectors.T.flip(0)[:num]
    # An eigenvector's opposite is one as well; the one whose largest number is positive is taken.
    largest = vectors.gather(1, vectors.abs().argmax(dim=1, keepdim=True))
    vectors = (vectors * largest.sign()).float()
    return Directions(vectors, squares.sqrt().float(), _spreads(pipeline, vectors))


def _spreads(pipeline: GANPipeline, vectors: Tensor) -> Tensor:
    styles, _ = draw_styles(pipeline, NUM_DRAWN, seed=0)
    # Layers' styles are the same before they are moved.
    return (styles.reshape(NUM_DRAWN, -1, vectors.shape[1])[:, 0] @ vectors.T).std(dim=0)


def direction_strip(
    model: GANPipeline | str | Path,
    num_samples: int = 4,
    *,
    index: int = 0,
    columns: int = 7,
    reach: float = 3.0,
    labels: int | Sequence[int] | None = None,
    truncation: float | None = None,
    seed: int | None = None,
) -> Image.Image:
    """A sheet with a sample a row, moved along a direction from left to right; in the middle column it is where it was.

    Args:
        model: A pipeline of pictures, or what `ganzoo.from_pretrained` takes.
        num_samples: Rows.
        index: Which direction, the strongest being 0.
        columns: Pictures in a row.
        reach: How far the first and the last column are moved, in standard deviations.
        labels, truncation, seed: As of a pipeline's call.

    Raises:
        UserError: The generator has no such direction.
    """
    pipeline = open_pictures(model)
    for name, value in (("num_samples", num_samples), ("columns", columns)):
        check_positive(name, value)
    available = pipeline.generator.latent_weight().shape[1]
    if not 0 <= index < available:
        raise UserError(f"there is no direction {index}; they are numbered from 0 to {available - 1}")
    found = directions(pipeline, index + 1)
    styles, chosen = draw_styles(pipeline, num_samples, labels=labels, truncation=truncation, seed=seed)
    amounts = torch.linspace(-reach, reach, columns).tolist() if columns > 1 else [0.0]
    moved = torch.stack([found.move(styles, index, amount) for amount in amounts], dim=1).flatten(0, 1)
    chosen = None if chosen is None else chosen.repeat_interleave(columns)
    return pipeline.processor.sheet(pipeline.sample(latents=moved, labels=chosen).samples, columns=columns)
