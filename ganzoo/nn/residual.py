"""Pre-activation residual blocks of generators and discriminators (Gulrajani et al., 2017; Miyato et al., 2018).

Where a block changes the size of its picture, a 3x3 convolution and its neighbour are one 4x4 convolution with stride 2: of
repeated pixels, the transposed convolution; before average pooling, the plain one. Its kernel is the 3x3 one, blurred by
2x2 ones. The same values for four products a pixel instead of nine. And a 1x1 convolution changes places with the resizing
beside it, so that it sees the smaller picture.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganzoo.nn.conditional import ConditionalBatchNorm2d
from ganzoo.nn.grouped import Geometry, GroupedConv2d, convolve, convolve_transpose
from ganzoo.nn.rectifiers import rectify

HALF = Geometry((2, 2), (1, 1), (1, 1), 1)


class UpsampleConv2d(nn.Conv2d):
    """Every pixel repeated 2x2, then a 3x3 convolution: (B, inputs, H, W) -> (B, outputs, 2H, 2W)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, padding=1)

    def forward(self, pictures: Tensor) -> Tensor:
        return upsample_convolve(pictures, self.weight, self.bias)


class ConvDownsample2d(nn.Conv2d):
    """A 3x3 convolution, then the mean of each 2x2 pixels: (B, inputs, H, W) -> (B, outputs, H / 2, W / 2)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, padding=1)

    def forward(self, pictures: Tensor) -> Tensor:
        return convolve(pictures, _blurred(self.weight) / 4, self.bias, HALF)


def upsample_convolve(pictures: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """What `UpsampleConv2d` computes, of a weight (outputs, inputs, 3, 3)."""
    return convolve_transpose(pictures, _blurred(weight).flip(2, 3).transpose(0, 1), bias, HALF)


def _blurred(weight: Tensor) -> Tensor:
    """(D, C, 3, 3) -> (D, C, 4, 4), each element the sum of its up to four neighbours."""
    rows = F.pad(weight, (0, 0, 0, 1)) + F.pad(weight, (0, 0, 1, 0))
    return F.pad(rows, (0, 1)) + F.pad(rows, (1, 0))


class GeneratorBlock(nn.Module):
    """Norm, ReLU, x2, conv3, norm, ReLU, conv3; beside it, x2 and conv1: (B, inputs, H, W) -> (B, outputs, 2H, 2W).

    Miyato et al. 2018, figure 8; pixels are repeated.

    Args:
        inputs, outputs: Channels.
        norm: Makes the normalisation layer of so many channels; a `ConditionalBatchNorm2d` gets the labels.
    """

    def __init__(self, inputs: int, outputs: int, norm: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.norm1, self.norm2 = norm(inputs), norm(outputs)
        self.conv1 = UpsampleConv2d(inputs, outputs)
        self.conv2 = GroupedConv2d(outputs, outputs, 3, padding=1)
        self.shortcut = GroupedConv2d(inputs, outputs, 1)
        init_xavier_(self)

    def forward(self, hidden: Tensor, labels: Tensor | None = None) -> Tensor:
        main = self.conv1(norm_and_rectify(self.norm1, hidden, labels))
        main = self.conv2(norm_and_rectify(self.norm2, main, labels))
        return main + F.interpolate(self.shortcut(hidden), scale_factor=2)


class DiscriminatorBlock(nn.Module):
    """Norm, ReLU, conv3, norm, ReLU, conv3, and, if `down`, the mean of 2x2 pixels; beside it, conv1 and the same mean.

    Miyato et al. 2018, figures 8 and 9. The shortcut has no convolution where neither size nor channels change.

    Args:
        inputs, outputs: Channels.
        down: Whether the picture becomes half as large.
        first: Whether the input is a picture, which is not to be normalised and rectified.
        norm: Makes the normalisation layer of so many channels.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        down: bool,
        first: bool = False,
        norm: Callable[[int], nn.Module] = lambda channels: nn.Identity(),
    ) -> None:
        super().__init__()
        self.down, self.first = down, first
        wide = outputs if first else inputs
        self.norm1, self.norm2 = nn.Identity() if first else norm(inputs), norm(wide)
        self.conv1 = GroupedConv2d(inputs, wide, 3, padding=1)
        self.conv2 = ConvDownsample2d(wide, outputs) if down else GroupedConv2d(wide, outputs, 3, padding=1)
        self.shortcut = GroupedConv2d(inputs, outputs, 1) if down or inputs != outputs else None
        init_xavier_(self)

    def forward(self, hidden: Tensor) -> Tensor:
        main = hidden if self.first else norm_and_rectify(self.norm1, hidden)
        main = rectify(self.norm2(self.conv1(main)), inplace=True)
        main = self.conv2(main)
        shortcut = F.avg_pool2d(hidden, 2) if self.down else hidden
        return main + (shortcut if self.shortcut is None else self.shortcut(shortcut))


def norm_and_rectify(norm: nn.Module, hidden: Tensor, labels: Tensor | None = None) -> Tensor:
    """ReLU(norm(hidden)); a `ConditionalBatchNorm2d` gets the labels too."""
    if isinstance(norm, nn.Identity):
        return rectify(hidden)  # not in place: the shortcut needs it as it is
    normalised = norm(hidden, labels) if isinstance(norm, ConditionalBatchNorm2d) else norm(hidden)
    return rectify(normalised, inplace=True)


def init_xavier_(block: nn.Module) -> None:
    """Weights uniform with the variance of Glorot and Bengio (2010), doubled before and after a rectifier; biases 0."""
    for name, module in block.named_modules():
        if isinstance(module, (nn.Conv2d, nn.Linear, nn.Embedding)):
            nn.init.xavier_uniform_(module.weight, gain=2**0.5 if name.startswith("conv") else 1.0)
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.zeros_(module.bias)


def sum_pixels(hidden: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, C), in float32 at least."""
    return hidden.sum((2, 3), dtype=torch.promote_types(hidden.dtype, torch.float32))


def mean_pixels(hidden: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, C), in float32 at least."""
    return sum_pixels(hidden) / (hidden.shape[2] * hidden.shape[3])
