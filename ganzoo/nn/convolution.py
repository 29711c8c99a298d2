"""Convolutions with a faster weight gradient on CPUs.

In bfloat16 the CPU library's weight gradient of a deep layer (512x256 channels, 8 pixels) takes eight times as long as its
forward pass; as one matrix product of unfolded windows it takes as long. Values, parameters and names are those of
`nn.Conv2d` and `nn.ConvTranspose2d`; every other case (shallow layers, a GPU, no gradients, groups) goes their way.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# The matrix product is the faster way while a layer has fewer windows than this share of its channel pairs
# (benchmarks/convolution.py).
WINDOWS_PER_CHANNEL_PAIR = {torch.bfloat16: 1, torch.float32: 1 / 32}


class Conv2d(nn.Conv2d):
    """`nn.Conv2d` whose weight gradient is a matrix product where that is faster: deep layers on a CPU."""

    def forward(self, pictures: Tensor) -> Tensor:
        if not _pays(self, pictures, windows=len(pictures) * _output_pixels(self, pictures)):
            return super().forward(pictures)
        return _convolve(self, pictures, transposed=False)


class ConvTranspose2d(nn.ConvTranspose2d):
    """`nn.ConvTranspose2d` whose weight gradient is a matrix product where that is faster: deep layers on a CPU."""

    def forward(self, pictures: Tensor) -> Tensor:
        if any(self.output_padding) or not _pays(self, pictures, windows=pictures[:, 0].numel()):
            return super().forward(pictures)
        return _convolve(self, pictures, transposed=True)


def _output_pixels(layer: nn.Conv2d, pictures: Tensor) -> int:
    sizes = zip(pictures.shape[2:], layer.kernel_size, layer.stride, layer.padding, strict=True)
    height, width = ((size + 2 * padding - kernel) // stride + 1 for size, kernel, stride, padding in sizes)
    return height * width


def _pays(layer: nn.Module, pictures: Tensor, windows: int) -> bool:
    share = WINDOWS_PER_CHANNEL_PAIR.get(_dtype(pictures), 0)
    return (
        pictures.device.type == "cpu"
        and windows <= share * layer.in_channels * layer.out_channels
        and torch.is_grad_enabled()
        and layer.weight.requires_grad
        and layer.groups == 1
        and set(layer.dilation) == {1}
        and layer.padding_mode == "zeros"
    )


def _dtype(pictures: Tensor) -> torch.dtype:
    """The type the convolution computes in. Autocast does not look into custom functions, so it is asked."""
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else pictures.dtype


def _convolve(layer: nn.Module, pictures: Tensor, transposed: bool) -> Tensor:
    dtype = _dtype(pictures)
    result = _Convolution.apply(pictures.to(dtype), layer.weight.to(dtype), layer.stride, layer.padding, transposed)
    return result if layer.bias is None else result + layer.bias.to(dtype)[:, None, None]


class _Convolution(torch.autograd.Function):
    """A (transposed) convolution; its backward is made of differentiable operations, so that penalties go through it."""

    @staticmethod
    def forward(ctx, pictures: Tensor, weight: Tensor, stride, padding, transposed: bool) -> Tensor:
        ctx.save_for_backward(pictures, weight)
        ctx.arguments = stride, padding, transposed
        convolve = F.conv_transpose2d if transposed else F.conv2d
        return convolve(pictures, weight, None, stride, padding)

    @staticmethod
    def backward(ctx, gradient: Tensor):
        pictures, weight = ctx.saved_tensors
        stride, padding, transposed = ctx.arguments
        to_pictures = to_weight = None
        if ctx.needs_input_grad[0]:
            # The gradient of a convolution in its input is the transposed convolution, and the other way round.
            if transposed:
                to_pictures = F.conv2d(gradient, weight, None, stride, padding)
            else:
                to_pictures = torch.ops.aten.convolution_backward(
                    gradient, pictures, weight, None, stride, padding, (1, 1), False, (0, 0), 1, (True, False, False)
                )[0]
        if ctx.needs_input_grad[1]:
            fine, coarse = (gradient, pictures) if transposed else (pictures, gradient)
            to_weight = weight_gradient(fine, coarse, weight.shape[2:], stride, padding)
        return to_pictures, to_weight, None, None, None


def weight_gradient(fine: Tensor, coarse: Tensor, kernel, stride, padding) -> Tensor:
    """The gradient of a convolution in its weight: every window of the input times the gradient that came back there.

    Args:
        fine: The convolution's input (B, C, H, W); of a transposed convolution, the gradient of its output.
        coarse: The gradient of the output (B, D, h, w); of a transposed convolution, its input.
        kernel, stride, padding: Pairs (height, width).

    Returns:
        (D, C, *kernel), channels-last.
    """
    batch, channels = fine.shape[:2]
    depth, height, width = coarse.shape[1:]
    padded = F.pad(fine.permute(0, 2, 3, 1), (0, 0, padding[1], padding[1], padding[0], padding[0])).contiguous()
    image, row, column, _ = padded.stride()
    windows = padded.as_strided(
        (batch, height, width, *kernel, channels), (image, row * stride[0], column * stride[1], row, column, 1)
    ).reshape(batch * height * width, -1)
    rows = coarse.permute(0, 2, 3, 1).reshape(-1, depth)
    return (rows.T @ windows).view(depth, *kernel, channels).permute(0, 3, 1, 2)
