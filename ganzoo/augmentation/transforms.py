"""Augmentation of real samples, on the whole batch at once and on its own device.

The functions draw from the global random generator of that device, which the trainer seeds afresh for every step.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ganzoo.errors import UserError


def random_flip(samples: Tensor, probability: float) -> Tensor:
    """Mirrors each sample left to right with a probability of its own draw.

    Args:
        samples: (B, C, H, W), any dtype.
        probability: In [0, 1]; at 0 the batch is returned as it is and nothing is drawn.

    Returns:
        (B, C, H, W), same dtype.

    Raises:
        UserError: The samples are no pictures.
    """
    if probability == 0:
        return samples
    _check_pictures("flip", samples)
    chosen = torch.rand(len(samples), device=samples.device) < probability
    return torch.where(chosen[:, None, None, None], samples.flip(-1), samples)


def random_crop(samples: Tensor, padding: int) -> Tensor:
    """Pads each sample by reflection and cuts its own random window of the original size, as one gather.

    The window's corner is uniform over the `(2 * padding + 1)**2` places. Reflection is computed on the coordinates
    (the border pixel is not repeated, as in `torch.nn.functional.pad(mode="reflect")`), so no padded copy is made and
    integer dtypes work.

    Args:
        samples: (B, C, H, W), any dtype.
        padding: Pixels on each side, less than H and W; at 0 the batch is returned as it is and nothing is drawn.

    Returns:
        (B, C, H, W), same dtype, contiguous.

    Raises:
        UserError: The samples are no pictures, or the padding is not smaller than they are.
    """
    if padding == 0:
        return samples
    _check_pictures("crop_padding", samples)
    batch, channels, height, width = samples.shape
    if padding >= min(height, width):
        raise UserError(
            f"data.crop_padding={padding} must be smaller than the samples, which are {height}x{width} pixels."
        )
    offsets = torch.randint(-padding, padding + 1, (2, batch, 1), device=samples.device)
    rows = _reflect(offsets[0] + torch.arange(height, device=samples.device), height)
    columns = _reflect(offsets[1] + torch.arange(width, device=samples.device), width)
    pixels = (rows[:, :, None] * width + columns[:, None, :]).view(batch, 1, height * width)
    cropped = samples.flatten(2).gather(2, pixels.expand(-1, channels, -1))
    return cropped.view(batch, channels, height, width)


def random_segment(samples: Tensor, length: int | None) -> Tensor:
    """Cuts a random excerpt out of each clip, of the sound in it: the silence that fills a clip up to its length is not cut
    from, unless the sound is shorter than the excerpt.

    Args:
        samples: (B, C, L), any dtype.
        length: Samples of the excerpt, at most L; None returns the batch as it is and draws nothing.

    Returns:
        (B, C, length), same dtype.

    Raises:
        UserError: The excerpt is longer than the clips.
    """
    if length is None:
        return samples
    longest = samples.shape[-1]
    if samples.ndim != 3 or length > longest:
        raise UserError(f"data.segment={length} must be at most the length of the clips, {longest}, and is for audio.")
    sounds = (samples != 0).any(dim=1)
    ends = longest - sounds.flip(1).int().argmax(dim=1)  # of a clip without any sound: its length
    places = (ends - length).clamp(min=0) + 1
    starts = (
        (torch.rand(len(samples), device=samples.device) * places).long().clamp(max=longest - length)[:, None, None]
    )
    positions = starts + torch.arange(length, device=samples.device)
    return samples.gather(2, positions.expand(-1, samples.shape[1], -1))


def _check_pictures(key: str, samples: Tensor) -> None:
    if samples.ndim != 4:
        raise UserError(f"data.{key} is for pictures (B, C, H, W), not for samples of shape {tuple(samples.shape)}")


def _reflect(positions: Tensor, size: int) -> Tensor:
    """Folds positions in (-size, 2 * size - 1) back into [0, size)."""
    return (size - 1) - ((size - 1) - positions.abs()).abs()
