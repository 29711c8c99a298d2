"""Resampling of pictures through a small separable filter, so that nothing aliases: blur, twice the size, half the size.

Zhang (2019, https://arxiv.org/abs/1904.11486), section 3; Karras et al. (2019), section 3.1, and (2020b), figure 7. The
filters are those of binomials: (1, 3, 3, 1) in StyleGAN2, (1, 2, 1) in R3GAN. What lies outside a picture counts as 0.

All three are one linear map, and its transpose is one of the same kind. Its derivative is written down here because the one
that a grouped convolution brings along takes, differentiated twice, one tiny convolution for every channel.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def blur(pictures: Tensor, kernel: Sequence[float] = (1, 2, 1), *, padding: tuple[int, int] | None = None) -> Tensor:
    """Filters every channel.

    Args:
        pictures: (B, C, H, W).
        kernel: The filter along either axis; its scale does not matter, it is made to sum to 1.
        padding: Zeros before and after, along either axis; by default as many as keep the size, the surplus before.

    Returns:
        (B, C, H + sum(padding) - len(kernel) + 1, ...).
    """
    before, after = padding or _split(len(kernel) - 1)
    return _resample(pictures, _normalised(kernel), 1, 1, before, after)


def upsample(pictures: Tensor, kernel: Sequence[float] = (1, 3, 3, 1)) -> Tensor:
    """Doubles height and width: zeros between the pixels, then the filter, whose sum of 2 makes up for them.

    Args:
        pictures: (B, C, H, W).
        kernel: As of `blur`. (1, 3, 3, 1) is linear interpolation between the pixels' centres, (1, 1) repeats pixels.
    """
    before, after = _split(len(kernel) - 2)
    return _resample(pictures, _normalised(kernel, 2.0), 2, 1, before + 1, after + 1)


def downsample(pictures: Tensor, kernel: Sequence[float] = (1, 3, 3, 1)) -> Tensor:
    """Halves height and width (even numbers): the filter, of whose output every second pixel is kept.

    Args:
        pictures: (B, C, H, W).
        kernel: As of `blur`. (1, 1) is average pooling.
    """
    before, after = _split(len(kernel) - 2)
    return _resample(pictures, _normalised(kernel), 1, 2, before, after)


def _split(padding: int) -> tuple[int, int]:
    return (padding + 1) // 2, padding // 2


def _normalised(kernel: Sequence[float], total: float = 1.0) -> tuple[float, ...]:
    return tuple(weight * total / sum(kernel) for weight in kernel)


def _resample(pictures: Tensor, kernel: tuple[float, ...], up: int, down: int, before: int, after: int) -> Tensor:
    return _Resample.apply(pictures, kernel, up, down, (before, before), (after, after))


class _Resample(torch.autograd.Function):
    """Zeros between the pixels (`up`), zeros around, the filter, every `down`-th pixel. Linear, so that its derivative is its
    transpose: the mirrored filter with `up` and `down` exchanged, which is differentiable in turn."""

    @staticmethod
    def forward(ctx, pictures: Tensor, kernel, up: int, down: int, before, after) -> Tensor:
        if up == 1 and before == after and min(before) >= 0:
            result = _filter(pictures, kernel, down, padding=before)
        elif up > 1 and pictures.dtype != torch.bfloat16 and max(*before, *after) < len(kernel):
            result = _filter_between(pictures, kernel, up, before, after)[:, :, ::down, ::down]
        else:
            # The transposed convolution of a CPU's library is ten times as slow in bfloat16.
            result = _filter(_spread(pictures, up, before, after), kernel, down)
        size = len(kernel)
        given, made = pictures.shape[2:], result.shape[2:]
        start = tuple(size - 1 - padding for padding in before)
        # As many zeros behind as the picture needs that comes back.
        end = tuple(up * (n - 1) + size - (down * (m - 1) + 1) - s for n, m, s in zip(given, made, start, strict=True))
        ctx.transpose = kernel[::-1], down, up, start, end
        return result

    @staticmethod
    def backward(ctx, gradient: Tensor):
        return _Resample.apply(gradient, *ctx.transpose), None, None, None, None, None


def _spread(pictures: Tensor, up: int, before, after) -> Tensor:
    """Pixels `up` apart in a field of zeros."""
    height, width = (
        (n - 1) * up + 1 + first + last for n, first, last in zip(pictures.shape[2:], before, after, strict=True)
    )
    if up == 1:
        return F.pad(pictures, (before[1], after[1], before[0], after[0]))
    top, left = (max(first, 0) for first in before)
    bottom, right = (max(last, 0) for last in after)
    rows, columns = ((n - 1) * up + 1 for n in pictures.shape[2:])
    shape = (*pictures.shape[:2], top + rows + bottom, left + columns + right)
    field = torch.empty(shape, dtype=pictures.dtype, device=pictures.device, memory_format=_layout(pictures)).zero_()
    field[:, :, top : top + rows : up, left : left + columns : up] = pictures
    return field[:, :, top - before[0] :, left - before[1] :][:, :, :height, :width]


def _layout(pictures: Tensor) -> torch.memory_format:
    return (
        torch.channels_last if pictures.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format
    )


def _filter(pictures: Tensor, kernel: Sequence[float], stride: int, padding: tuple[int, ...] = (0, 0)) -> Tensor:
    return F.conv2d(pictures, _square(kernel, pictures), None, stride, padding, groups=pictures.shape[1])


def _filter_between(pictures: Tensor, kernel: Sequence[float], up: int, before, after) -> Tensor:
    """`_filter` of `_spread`, without the zeros."""
    top, left, bottom, right = (len(kernel) - 1 - padding for padding in (*before, *after))
    padding = (min(top, bottom), min(left, right))
    weights = _square(kernel[::-1], pictures)
    field = F.conv_transpose2d(pictures, weights, None, up, padding, groups=pictures.shape[1])
    height, width = field.shape[2:]
    rows = slice(top - padding[0], height - bottom + padding[0])
    return field[:, :, rows, left - padding[1] : width - right + padding[1]]


def _square(kernel: Sequence[float], pictures: Tensor) -> Tensor:
    """The filter in two dimensions, once for every channel."""
    weights = torch.tensor(kernel, dtype=torch.float32, device=pictures.device)
    return torch.outer(weights, weights).to(pictures.dtype).expand(pictures.shape[1], 1, -1, -1)
