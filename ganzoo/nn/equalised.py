"""Layers of progressive growing and StyleGAN: equalised learning rate.

Karras et al. (2018, https://arxiv.org/abs/1710.10196), section 4.1.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ganzoo.nn.grouped import Geometry, convolve
from ganzoo.nn.residual import upsample_convolve

# Gain of weights before a (leaky) rectifier that keeps the variance of what flows through (He et al., 2015).
HE_GAIN = math.sqrt(2)


class EqualisedLinear(nn.Linear):
    """A linear layer with equalised learning rate (section 4.1), `(..., inputs)` -> `(..., outputs)`.

    Weights begin as N(0, 1) and are multiplied by gain / sqrt(inputs) in every pass. An optimiser that divides by the
    gradient's size, as Adam does, then changes all layers at the same relative speed, however large they are. The bias
    is not multiplied by the constant.

    Args:
        inputs, outputs: Sizes.
        bias: Whether there is one.
        gain: sqrt(2) before a rectifier, 1 elsewhere.
        bias_init: What the bias is at the start.
        lr_multiplier: Weight and bias learn so many times as fast (StyleGAN's mapping network: 0.01), with the same
            values at the start.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        bias: bool = True,
        gain: float = 1.0,
        bias_init: float = 0.0,
        lr_multiplier: float = 1.0,
    ) -> None:
        super().__init__(inputs, outputs, bias=bias)
        self.scale, self.lr_multiplier = _prepare(self, inputs, gain, bias_init, lr_multiplier)

    def reset_parameters(self) -> None:
        nn.init.normal_(self.weight)

    def forward(self, hidden: Tensor) -> Tensor:
        return nn.functional.linear(hidden, self.weight * self.scale, _bias(self))


class EqualisedConv2d(nn.Conv2d):
    """A convolution with equalised learning rate, (B, inputs, H, W) -> (B, outputs, H', W'); see `EqualisedLinear`.

    Args:
        inputs, outputs: Channels.
        kernel_size: Of the square kernel.
        padding: Pixels at each side; by default as many as keep the size of the picture (odd kernels).
        stride: Of the windows.
        bias, gain, bias_init, lr_multiplier: As of `EqualisedLinear`.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel_size: int,
        *,
        padding: int | None = None,
        stride: int = 1,
        bias: bool = True,
        gain: float = 1.0,
        bias_init: float = 0.0,
        lr_multiplier: float = 1.0,
    ) -> None:
        padding = kernel_size // 2 if padding is None else padding
        super().__init__(inputs, outputs, kernel_size, stride=stride, padding=padding, bias=bias)
        self.scale, self.lr_multiplier = _prepare(self, inputs * kernel_size**2, gain, bias_init, lr_multiplier)

    def reset_parameters(self) -> None:
        nn.init.normal_(self.weight)

    def forward(self, pictures: Tensor) -> Tensor:
        geometry = Geometry(self.stride, self.padding, self.dilation, self.groups)
        return convolve(pictures, self.weight * self.scale, _bias(self), geometry)


class EqualisedUpsampleConv2d(EqualisedConv2d):
    """Every pixel repeated 2x2, then a 3x3 convolution with equalised learning rate, as one convolution:
    (B, inputs, H, W) -> (B, outputs, 2H, 2W)."""

    def __init__(self, inputs: int, outputs: int, *, gain: float = 1.0) -> None:
        super().__init__(inputs, outputs, 3, gain=gain)

    def forward(self, pictures: Tensor) -> Tensor:
        return upsample_convolve(pictures, self.weight * self.scale, self.bias)


def _prepare(
    layer: nn.Linear | nn.Conv2d, fan_in: int, gain: float, bias_init: float, lr_multiplier: float
) -> tuple[float, float]:
    """Sets the parameters to their values at the start; returns the weight's constant and the bias's."""
    with torch.no_grad():
        if lr_multiplier != 1:
            layer.weight.div_(lr_multiplier)
        if layer.bias is not None:
            layer.bias.fill_(bias_init / lr_multiplier)
    return gain / math.sqrt(fan_in) * lr_multiplier, lr_multiplier


def _bias(layer: nn.Linear | nn.Conv2d) -> Tensor | None:
    return layer.bias if layer.bias is None or layer.lr_multiplier == 1 else layer.bias * layer.lr_multiplier
