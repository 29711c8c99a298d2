"""Rectifiers whose second derivative is nothing instead of zeros, and which may work in place.

A rectifier is linear on either side, so that its second derivative is zero (almost) everywhere. PyTorch makes a tensor of
zeros of it and, in a gradient penalty, sends that back through all layers before: a third of a penalty's arithmetic.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def rectify(hidden: Tensor, slope: float = 0.0, *, inplace: bool = False) -> Tensor:
    """max(x, 0) + slope min(x, 0).

    Args:
        hidden: Any shape.
        slope: Of the negative side, from 0 (ReLU) to below 1.
        inplace: Write the result over `hidden`, which nobody else may need; a convolution does not need its output.
    """
    if not torch.is_grad_enabled() or torch.compiler.is_compiling():
        return F.leaky_relu(hidden, slope, inplace)
    return _Rectify.apply(hidden, slope, inplace)


class _Rectify(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden: Tensor, slope: float, inplace: bool) -> Tensor:
        if inplace:
            ctx.mark_dirty(hidden)
        result = F.leaky_relu(hidden, slope, inplace)
        ctx.save_for_backward(result)
        ctx.slope = slope
        return result

    @staticmethod
    def backward(ctx, gradient: Tensor):
        (result,) = ctx.saved_tensors
        return _RectifyGradient.apply(gradient, result.detach(), ctx.slope), None, None


class _RectifyGradient(torch.autograd.Function):
    """The gradient where the result is positive, `slope` of it elsewhere: linear, hence its own derivative."""

    @staticmethod
    def forward(ctx, gradient: Tensor, result: Tensor, slope: float) -> Tensor:
        ctx.save_for_backward(result)
        ctx.slope = slope
        return torch.ops.aten.leaky_relu_backward(gradient, result, slope, True)

    @staticmethod
    def backward(ctx, gradient: Tensor):
        return _RectifyGradient.apply(gradient, *ctx.saved_tensors, ctx.slope), None, None
