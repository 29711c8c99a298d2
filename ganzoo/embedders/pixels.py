"""Pixels as features, and giving pictures the size that an embedder takes."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from ganzoo.embedders.base import EmbedderKind, Embedding
from ganzoo.embedders.validation import check_images
from ganzoo.errors import UserError


class PixelEmbedder:
    """The pixels themselves, averaged to at most 16 x 16: needs nothing, knows no classes."""

    name = "pixels"
    max_size = 16

    def __call__(self, images: Tensor) -> Embedding:
        """Maps uint8 images `(B, C, H, W)` to features `(B, C * min(H, 16) * min(W, 16))` in [0, 1]."""
        height, width = (min(size, self.max_size) for size in check_images(images).shape[2:])
        return Embedding(adaptive_avg_pool2d(images.float() / 255, (height, width)).flatten(1), None)


def fit_images(images: Tensor, channels: int, height: int, width: int) -> Tensor:
    """Gives images another size and number of channels.

    Resizing is bilinear with antialiasing; RGB becomes grey by the mean and grey becomes RGB by repetition. Images
    that fit already come back as they are.

    Args:
        images: uint8 `(B, C, H, W)`.
        channels: Wanted number of channels: C, or 1 from 3, or any from 1.
        height: Wanted height in pixels.
        width: Wanted width in pixels.

    Returns:
        uint8 `(B, channels, height, width)`.

    Raises:
        UserError: Not uint8 images, or a change of channels that has no meaning.
    """
    found = check_images(images).shape[1]
    if found not in (1, channels) and (found, channels) != (3, 1):
        raise UserError(f"images with {found} channels cannot be shown to an embedder that takes {channels}")
    if images.shape[1:] == (channels, height, width):
        return images
    values = images.float()
    if found > channels:
        values = values.mean(dim=1, keepdim=True)
    if values.shape[2:] != (height, width):
        values = interpolate(values, (height, width), mode="bilinear", align_corners=False, antialias=True)
    return values.round().to(torch.uint8).expand(-1, channels, -1, -1)


EMBEDDER = EmbedderKind(lambda source, sampling_rate: PixelEmbedder())
