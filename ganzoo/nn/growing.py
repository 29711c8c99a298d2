"""Networks that grow: a level that the trainer sets and that travels with the weights."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganzoo.errors import CheckpointError, UserError


class Growing(nn.Module):
    """Mixin of networks of which only the layers up to a level are in use.

    Level 0 is the smallest; between two whole numbers the upper level is being faded in. The buffer `level` is what a
    checkpoint holds; `current_level` is the same number for the forward pass, which must not wait for a device.

    Attributes:
        top_level: The level at which everything is in use; new networks begin there.
    """

    top_level: int
    current_level: float
    level: Tensor

    def begin_at_top(self, top_level: int) -> None:
        """To be called once, at the end of `__init__`."""
        self.top_level, self.current_level = top_level, float(top_level)
        self.register_buffer("level", torch.full((), float(top_level)))
        self.register_load_state_dict_post_hook(_read_level)

    @torch.no_grad()
    def set_level(self, level: float) -> None:
        """Sets the level, in the buffer's precision, so that a loaded network computes what the saved one did.

        Raises:
            UserError: It is below 0 or above `top_level`.
        """
        if not 0 <= level <= self.top_level:
            raise UserError(f"level must be from 0 to {self.top_level}, not {level}")
        self.current_level = float(np.float32(level))
        self.level.fill_(self.current_level)

    @property
    def upper_level(self) -> int:
        """The level in use or being faded in."""
        return -int(-self.current_level // 1)

    @property
    def fade(self) -> float | None:
        """Share of the upper level, between 0 and 1; None where there is nothing to blend it with."""
        return (self.current_level % 1) or None


def _read_level(network: Growing, _incompatible_keys: object) -> None:
    level = network.level.item()
    if not 0 <= level <= network.top_level:  # NaN, too
        raise CheckpointError(f"the level must be from 0 to {network.top_level}, not {level}")
    network.current_level = level


def shrink(samples: Tensor, resolution: int) -> Tensor:
    """Averages squares of pixels, (B, C, H, W) -> (B, C, resolution, resolution).

    Raises:
        UserError: The pictures are smaller, or not a whole number of times as large.
    """
    height, width = samples.shape[2:]
    if height != width or height % resolution:
        raise UserError(
            f"these networks are at {resolution}x{resolution} pixels: they take pictures of that size or a multiple of it, "
            f"not {height}x{width}"
        )
    return samples if height == resolution else F.avg_pool2d(samples, height // resolution)


def enlarge(samples: Tensor, resolution: int) -> Tensor:
    """Repeats pixels, (B, C, H, H) -> (B, C, resolution, resolution)."""
    height = samples.shape[-1]
    return samples if height == resolution else F.interpolate(samples, scale_factor=resolution // height)
