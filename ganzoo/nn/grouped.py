"""Convolutions in groups whose derivatives of every order are as fast as their values.

PyTorch computes the second derivative of a grouped convolution, which R1, R2 and every other gradient penalty take, one
group after another: for 16 groups of 16 channels that is most of the time of a step. And it computes that of a plain
convolution as one with a kernel as large as the picture.

A convolution, its transpose and its weight gradient are one trilinear form in the fine pictures x (the convolution's
input), the coarse pictures y (its output) and the weight w: the sum over everything of x[b, c, s i + k] w[d, c, k] y[b, d, i].
Differentiated by y it is the convolution, by x the transpose, by w the weight gradient; differentiated once more, each is
one of the other two. So three functions that are each other's gradients give all derivatives, and each of them is one call
of the library's grouped kernel, fastest on channels-last pictures.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganzoo.nn.convolution import WINDOWS_PER_CHANNEL_PAIR, weight_gradient

# Pixels. Native time / the product's, 128 and 256 channels in bfloat16: 0.5 to 0.7 at 16x16, 1.05 to 1.6 at 8x8.
LONGEST_DEEP_ROW = 8


class Geometry(NamedTuple):
    """How windows lie in the pictures."""

    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int


class GroupedConv2d(nn.Conv2d):
    """`nn.Conv2d`, with or without groups, whose second derivatives are fast; the same values, parameters and names."""

    def forward(self, pictures: Tensor) -> Tensor:
        if self.padding_mode != "zeros" or isinstance(self.padding, str) or pictures.ndim != 4:
            return super().forward(pictures)
        geometry = Geometry(self.stride, self.padding, self.dilation, self.groups)
        return convolve(pictures, self.weight, self.bias, geometry)


def convolve(pictures: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
    """The convolution: pictures (B, C, H, W), weight (D, C / groups, k, k), bias (D,) or None -> (B, D, h, w)."""
    if _is_plain():
        return F.conv2d(pictures, weight, bias, *geometry)
    return _Convolve.apply(*_inputs(pictures, weight, bias), geometry)


def convolve_transpose(gradients: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
    """The transposed convolution: (B, D, h, w), weight (D, C / groups, k, k), bias (C,) or None -> (B, C, H, W)."""
    stride, padding, dilation, groups = geometry
    if _is_plain():
        return F.conv_transpose2d(gradients, weight, bias, stride, padding, 0, groups, dilation)
    size = [
        (steps - 1) * stride[axis] + dilation[axis] * (weight.shape[2 + axis] - 1) + 1 - 2 * padding[axis]
        for axis, steps in enumerate(gradients.shape[2:])
    ]
    shape = torch.Size((len(gradients), weight.shape[1] * groups, *size))
    gradients, weight, bias = _inputs(gradients, weight, bias)
    pictures = _Transpose.apply(gradients, weight, shape, geometry)
    return pictures if bias is None else pictures + bias[:, None, None]


def _is_plain() -> bool:
    return not torch.is_grad_enabled() or torch.compiler.is_compiling()


def _inputs(pictures: Tensor, *parameters: Tensor | None) -> tuple[Tensor | None, ...]:
    """The same in the type to compute in, because autocast does not look into custom functions."""
    device = pictures.device.type
    autocast = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
    dtype = torch.get_autocast_dtype(device) if autocast else pictures.dtype
    # Views, because of leaves of the graph the engine does not say whether it will reach them.
    views = (None if parameter is None else parameter.view_as(parameter).to(dtype) for parameter in parameters)
    return pictures.to(dtype), *views


class _Convolve(torch.autograd.Function):
    """pictures (B, C, H, W), weight (D, C / groups, k, k), bias (D,) or None -> (B, D, h, w)."""

    @staticmethod
    def forward(ctx, pictures: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
        ctx.save_for_backward(pictures, weight)
        ctx.geometry = geometry
        return F.conv2d(pictures, weight, bias, *geometry)

    @staticmethod
    def backward(ctx, gradient: Tensor):
        pictures, weight = ctx.saved_tensors
        to_pictures, to_weight, to_bias, _ = wanted = wanted_gradients(ctx)
        if not torch.is_grad_enabled():  # nobody differentiates this again
            return *_gradients(gradient, pictures, weight, ctx.geometry, wanted), None
        return (
            _Transpose.apply(gradient, weight, pictures.shape, ctx.geometry) if to_pictures else None,
            _WeightGradient.apply(pictures, gradient, weight.shape, ctx.geometry) if to_weight else None,
            gradient.sum((0, 2, 3)) if to_bias else None,
            None,
        )


class _Transpose(torch.autograd.Function):
    """gradients (B, D, h, w), weight -> the gradient in pictures of the given shape."""

    @staticmethod
    def forward(ctx, gradients: Tensor, weight: Tensor, shape: torch.Size, geometry: Geometry) -> Tensor:
        ctx.save_for_backward(gradients, weight)
        ctx.geometry = geometry
        pictures = _unfilled(gradients, shape)
        return _native_backward(gradients, pictures, weight, geometry, (True, False, False))[0]

    @staticmethod
    def backward(ctx, pictures: Tensor):
        gradients, weight = ctx.saved_tensors
        to_gradients, to_weight, *_ = wanted_gradients(ctx)
        return (
            _Convolve.apply(pictures, weight, None, ctx.geometry) if to_gradients else None,
            _WeightGradient.apply(pictures, gradients, weight.shape, ctx.geometry) if to_weight else None,
            None,
            None,
        )


class _WeightGradient(torch.autograd.Function):
    """pictures (B, C, H, W), gradients (B, D, h, w) -> the gradient in a weight of the given shape."""

    @staticmethod
    def forward(ctx, pictures: Tensor, gradients: Tensor, shape: torch.Size, geometry: Geometry) -> Tensor:
        ctx.save_for_backward(pictures, gradients)
        ctx.geometry = geometry
        if _is_deep(gradients, shape, geometry):
            return weight_gradient(pictures, gradients, shape[2:], geometry.stride, geometry.padding)
        weight = _unfilled(pictures, shape)
        return _native_backward(gradients, pictures, weight, geometry, (False, True, False))[1]

    @staticmethod
    def backward(ctx, weight: Tensor):
        pictures, gradients = ctx.saved_tensors
        to_pictures, to_gradients, *_ = wanted_gradients(ctx)
        return (
            _Transpose.apply(gradients, weight, pictures.shape, ctx.geometry) if to_pictures else None,
            _Convolve.apply(pictures, weight, None, ctx.geometry) if to_gradients else None,
            None,
            None,
        )


def _gradients(gradient: Tensor, pictures: Tensor, weight: Tensor, geometry: Geometry, wanted) -> tuple:
    """All at once: of pictures, weight and bias."""
    to_pictures, to_weight, to_bias, _ = wanted
    if not (to_weight and _is_deep(gradient, weight.shape, geometry)):
        return _native_backward(gradient, pictures, weight, geometry, (to_pictures, to_weight, to_bias))
    rest = _native_backward(gradient, pictures, weight, geometry, (to_pictures, False, False))
    product = weight_gradient(pictures, gradient, weight.shape[2:], geometry.stride, geometry.padding)
    return rest[0], product, gradient.sum((0, 2, 3)) if to_bias else None


def _is_deep(gradients: Tensor, shape: torch.Size, geometry: Geometry) -> bool:
    """Whether the weight's gradient is faster as a matrix product, as in `ganzoo.nn.convolution`; of pictures whose rows are
    long the library's own is, however deep."""
    share = WINDOWS_PER_CHANNEL_PAIR.get(gradients.dtype, 0)
    return (
        gradients.device.type == "cpu"
        and geometry.groups == 1
        and geometry.dilation == (1, 1)
        and gradients.shape[3] <= LONGEST_DEEP_ROW
        and 4 * gradients[:, 0].numel() <= share * shape[0] * shape[1]
    )


def wanted_gradients(ctx) -> tuple[bool, ...]:
    """Which inputs' gradients this backward pass is for, in a custom function's `backward`.

    `ctx.needs_input_grad` says only which could be asked for. A penalty asks for the pictures' alone, and the weights',
    computed along, would be thrown away. Where PyTorch does not tell, the answer is `needs_input_grad`.
    """
    nodes = (node for node, _ in ctx.next_functions if node is not None)  # one for each that could be asked for
    return tuple(needed and _is_reached(next(nodes)) for needed in ctx.needs_input_grad)


def _is_reached(node: torch.autograd.graph.Node) -> bool:
    try:
        return torch._C._will_engine_execute_node(node)
    except (AttributeError, RuntimeError):  # another PyTorch; or a leaf, of which the engine does not say
        return True


def _unfilled(like: Tensor, shape: torch.Size) -> Tensor:
    """A tensor of which only shape and layout are read."""
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=torch.channels_last)


def _native_backward(gradients: Tensor, pictures: Tensor, weight: Tensor, geometry: Geometry, wanted) -> tuple:
    stride, padding, dilation, groups = geometry
    biases = (len(weight),) if wanted[2] else None
    return torch.ops.aten.convolution_backward(
        gradients, pictures, weight, biases, stride, padding, dilation, False, (0, 0), groups, wanted
    )
