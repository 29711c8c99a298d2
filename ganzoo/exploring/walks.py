"""Walks through latent space, as animations that loop."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ganzoo.errors import UserError
from ganzoo.exploring.opening import open_pictures
from ganzoo.pipelines import GANPipeline
from ganzoo.pipelines.drawing import check_positive
from ganzoo.utils.terminal import PATIENCE, bar

if TYPE_CHECKING:
    from PIL import Image

# More pictures than this in one animation are a mistake.
MAX_PICTURES = 200_000


def interpolate(
    model: GANPipeline | str | Path,
    num_samples: int = 1,
    *,
    stops: int = 4,
    frames: int = 25,
    labels: int | Sequence[int] | None = None,
    truncation: float | None = None,
    seed: int | None = None,
) -> list[Image.Image]:
    """Walks through latent space, on the sphere from one random point to the next and back to the first.

    Args:
        model: A pipeline of pictures, or what `ganzoo.from_pretrained` takes.
        num_samples: Walks side by side on a sheet, each through points of its own.
        stops: Random points of a walk.
        frames: Pictures from one point to the next.
        labels: Class of every walk, or of each, as of a pipeline's call; it stays the same all the way.
        truncation: As of a pipeline's call.
        seed: The walks start at the samples of the seeds `seed`, `seed + 1`, ...

    Returns:
        `stops * frames` sheets; the first follows the last without a jump. `save_animation` writes them.

    Raises:
        UserError: Arguments that contradict each other or the model.
    """
    pipeline = open_pictures(model)
    for name, value in (("num_samples", num_samples), ("stops", stops), ("frames", frames)):
        check_positive(name, value)
    if num_samples * stops * frames > MAX_PICTURES:
        raise UserError(f"{num_samples} walks of {stops} x {frames} pictures are too many for one animation")
    latents, chosen = pipeline.inputs(num_samples * stops, seed=seed, labels=labels)
    points = latents.unflatten(0, (stops, num_samples))
    chosen = None if chosen is None else chosen[:num_samples]
    sheets = []
    for place in bar(walk(points, frames), desc="walking", unit=" frames", delay=PATIENCE):
        samples = pipeline.sample(latents=place, labels=chosen, truncation=truncation).samples
        sheets.append(pipeline.processor.sheet(samples))
    return sheets


def walk(points: Tensor, frames: int) -> Tensor:
    """Points (S, ..., D) -> a closed walk (S * frames, ..., D) through them, by spherical interpolation."""
    legs = []
    for start, end in zip(points, points.roll(-1, dims=0), strict=True):
        legs += [slerp(start, end, frame / frames) for frame in range(frames)]
    return torch.stack(legs)


def slerp(start: Tensor, end: Tensor, share: float) -> Tensor:
    """A point on the way from `start` to `end`, both (..., D): its direction turns, its length changes, at even speed.

    Normal latents all have about one length, sqrt(D); those half-way on a straight line are shorter than any that a
    generator was trained on (White, 2016, https://arxiv.org/abs/1609.04468).
    """
    lengths = [torch.linalg.vector_norm(point, dim=-1, keepdim=True).clamp(min=1e-8) for point in (start, end)]
    first, last = start / lengths[0], end / lengths[1]
    angle = torch.acos((first * last).sum(dim=-1, keepdim=True).clamp(-1, 1))
    sine = torch.sin(angle)
    turned = (torch.sin((1 - share) * angle) * first + torch.sin(share * angle) * last) / sine.clamp(min=1e-8)
    # Where the two are (anti)parallel there is no plane to turn in: straight on.
    turned = torch.where(sine > 1e-4, turned, torch.lerp(first, last, share))
    return turned * torch.lerp(*lengths, share)
