"""What embedders refuse: samples of another kind than theirs."""

from __future__ import annotations

import torch
from torch import Tensor

from ganzoo.errors import UserError


def check_images(images: Tensor) -> Tensor:
    """Returns `images` when they are uint8 of shape `(B, C, H, W)` with B >= 1.

    Raises:
        UserError: Another type or shape.
    """
    if not isinstance(images, Tensor) or images.dtype != torch.uint8 or images.ndim != 4 or 0 in images.shape:
        raise UserError(
            f"images must be uint8 tensors of shape (batch, channels, height, width), not {_found(images)}; "
            "decode a generator's output with its processor first"
        )
    return images


def check_waveforms(waveforms: Tensor) -> Tensor:
    """Returns `waveforms` when they are int16 of shape `(B, C, L)` with B >= 1.

    Raises:
        UserError: Another type or shape.
    """
    if (
        not isinstance(waveforms, Tensor)
        or waveforms.dtype != torch.int16
        or waveforms.ndim != 3
        or not waveforms.numel()
    ):
        raise UserError(
            f"waveforms must be int16 tensors of shape (batch, channels, samples), not {_found(waveforms)}; "
            "decode a generator's output with its processor first"
        )
    return waveforms


def check_samples(samples: Tensor) -> Tensor:
    """Returns `samples` when they are images or waveforms, as `check_images` and `check_waveforms` want them.

    Raises:
        UserError: They are neither.
    """
    if isinstance(samples, Tensor) and samples.dtype == torch.int16:
        return check_waveforms(samples)
    return check_images(samples)


def _found(value: object) -> str:
    return f"{value.dtype} of {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
