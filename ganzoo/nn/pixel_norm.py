"""Pixel norm with its derivative written out, in few passes over memory.

y = s x with s = (mean(x^2 over channels) + 1e-8)^(-1/2), so that for a gradient g of y that of x is s (g - mean(y g) y): no
factor but s is large where x is small, which half precision could not hold.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ganzoo.utils.precision import widen

EPSILON = 1e-8


class PixelNorm(nn.Module):
    """Scales every pixel's feature vector to a mean square of 1 (Karras et al., 2018, section 4.2): x / sqrt(mean(x^2) + 1e-8).

    (B, C) or (B, C, H, W), any type; means over the channels are taken in float32.
    """

    def forward(self, hidden: Tensor) -> Tensor:
        if not torch.is_grad_enabled() or torch.compiler.is_compiling():
            return _times(hidden, _scale(hidden))
        return _PixelNorm.apply(hidden)


class _PixelNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden: Tensor) -> Tensor:
        scale = _scale(hidden)
        normed = _times(hidden, scale)
        ctx.save_for_backward(hidden, scale, normed)
        return normed

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        hidden, scale, normed = ctx.saved_tensors
        if torch.is_grad_enabled():  # a second derivative is wanted, which goes through the scale as well
            scale = _scale(hidden)
        along = widen(gradient * normed).mean(dim=1, keepdim=True)
        return _times(gradient - _times(normed, along), scale)


def _scale(hidden: Tensor) -> Tensor:
    """(B, 1) or (B, 1, H, W), at least float32."""
    return torch.rsqrt(widen(hidden).square().mean(dim=1, keepdim=True) + EPSILON)


def _times(hidden: Tensor, factor: Tensor) -> Tensor:
    """`hidden` times one number a pixel.

    Channels-last on a CPU, broadcasting a pixel's number over fewer halves than a vector register holds (32) takes twice as
    long as spreading it first, by an outer product with ones.
    """
    factor = factor.to(hidden.dtype)
    narrow = hidden.ndim == 4 and hidden.stride(1) == 1 and hidden.shape[1] < 32 and hidden.element_size() == 2
    if not narrow or hidden.device.type != "cpu":
        return hidden * factor
    batch, channels, height, width = hidden.shape
    spread = factor.reshape(-1, 1) @ factor.new_ones(1, channels)
    return hidden * spread.view(batch, height, width, channels).permute(0, 3, 1, 2)
