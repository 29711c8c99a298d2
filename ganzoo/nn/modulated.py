"""Convolutions whose weights a style modulates, one set for every sample (Karras et al., 2020b, section 2.2).

Paper: https://arxiv.org/abs/1912.04958, equations 1 to 3.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ganzoo.nn.convolution import Conv2d, ConvTranspose2d
from ganzoo.nn.equalised import EqualisedLinear
from ganzoo.nn.resample import blur


class ModulatedConv2d(nn.Module):
    """A convolution with weights s_i w_ijk d_j of each sample's own, (B, inputs, H, W) -> (B, outputs, H', W').

    The scale s_i of input channel i is an affine function of the sample's style; d_j = (sum_ik (s_i w_ijk)^2 + eps)^(-1/2)
    brings output channel j back to variance 1 (demodulation, equation 3). Weights of each sample's own need grouped
    convolutions, which are slow on a CPU and slower when differentiated twice. But s_i may as well multiply the input, and
    d_j the output: then all samples share one convolution, and every value is the same.

    Weights begin as N(0, 1) and have an equalised learning rate, as `EqualisedConv2d`'s.

    Args:
        inputs, outputs: Channels.
        kernel_size: Of the square kernel; odd.
        style_dim: Numbers in a style.
        up: Doubles height and width: a transposed 3x3 convolution of stride 2, smoothed by the filter (1, 3, 3, 1).
        demodulate: Whether there are d_j.
        gain: The standard deviation of the output instead of 1.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel_size: int,
        style_dim: int,
        *,
        up: bool = False,
        demodulate: bool = True,
        gain: float = 1.0,
    ) -> None:
        super().__init__()
        # Of four pixels three were zeros when the filter averaged them.
        self.up, self.demodulate, self.gain = up, demodulate, gain * 4 if up else gain
        self.scale = 1.0 / math.sqrt(inputs * kernel_size**2)
        self.to_scales = EqualisedLinear(style_dim, inputs, bias_init=1.0)
        if up:
            self.convolution = ConvTranspose2d(inputs, outputs, kernel_size, stride=2, bias=False)
        else:
            self.convolution = Conv2d(inputs, outputs, kernel_size, padding=kernel_size // 2, bias=False)
        nn.init.normal_(self.convolution.weight)

    def forward(self, pictures: Tensor, style: Tensor, offset: Tensor | None = None) -> Tensor:
        """Convolves.

        Args:
            pictures: (B, inputs, H, W).
            style: (B, style_dim).
            offset: Added to the output, in one pass with what scales it: anything that broadcasts to it.
        """
        scales = self.to_scales(style)
        hidden = self.convolution(pictures * (scales * self.scale).to(pictures.dtype)[:, :, None, None])
        if self.up:
            # It is one row and column more than twice the size: the filter takes three away, and sees a zero at each end.
            hidden = blur(hidden, (1, 3, 3, 1), padding=(1, 1))
        factors = self.factors(scales).to(hidden.dtype)[:, :, None, None]
        return hidden * factors if offset is None else torch.addcmul(offset.to(hidden.dtype), hidden, factors)

    def factors(self, scales: Tensor) -> Tensor:
        """The d_j times all constants, (B, outputs) or (1, 1), of scales (B, inputs)."""
        if not self.demodulate:
            return scales.new_full((1, 1), self.gain)
        squares = self.convolution.weight.square().sum(dim=(2, 3)) * self.scale**2
        variances = scales.square() @ (squares if self.up else squares.T)
        return torch.rsqrt(variances + 1e-8) * self.gain
