"""A discriminator that sees the samples of a batch together: how alike they are, how much they differ.

A generator that draws one picture again and again is told so, whatever its one picture looks like.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ganzoo.utils.precision import widen


class MinibatchDiscrimination(nn.Module):
    """How close each sample is to the batch's samples, by several learned measures.

    Salimans et al. (2016, https://arxiv.org/abs/1606.03498), section 3.2: a matrix M_i = f(x_i) T of B rows and C columns
    for each sample, and o(x_i)_b = sum_j exp(-|M_ib - M_jb|_1) over all samples j of the batch. A generator that draws one
    picture again and again is told by its large o. What it says depends on the batch's size.

    Args:
        inputs: A, the number of features of a sample, (N, A) or (N, ...) with so many numbers behind the first dimension.
        kernels: B, the measures: numbers of a sample.
        kernel_dim: C, the size of the space of each.
    """

    def __init__(self, inputs: int, kernels: int, kernel_dim: int = 5) -> None:
        super().__init__()
        # Two samples' features of variance 1 are then at a distance of about 1. With weights much larger every exponential
        # is 0, and so is its gradient: the layer would never learn.
        self.weight = nn.Parameter(torch.randn(inputs, kernels, kernel_dim) / (kernel_dim * inputs**0.5))

    def forward(self, features: Tensor) -> Tensor:
        """o of features (N, ...), as (N, kernels), between 1 (far from all others) and N (all alike), in float32."""
        places = widen(features.flatten(1) @ self.weight.flatten(1)).unflatten(1, self.weight.shape[1:])
        # Not cdist: it has no second derivative, which gradient penalties need.
        distances = (places[:, None] - places[None]).abs().sum(dim=3)
        return torch.exp(-distances).sum(dim=1)


class MinibatchLogit(nn.Module):
    """Adds to each sample's logit what its batch as a whole says: a linear function of the measures that are switched on.

    Any discriminator's: `logits = self.minibatch(logits, features)` where its last layer is. In front of a linear last layer,
    appended features would add the same. Without a measure the logits are returned as they are, and there are no weights.

    Minibatch discrimination compares the features' means over their places, so that it does not depend on a picture's size;
    the standard deviation is that of `minibatch_std`, over groups of four.

    Args:
        channels: C of the features.
        kernels: Measures of minibatch discrimination; 0 for none.
        deviates: Whether to add the standard deviation.
    """

    def __init__(self, channels: int, kernels: int = 0, deviates: bool = False) -> None:
        super().__init__()
        self.discrimination = MinibatchDiscrimination(channels, kernels) if kernels else None
        self.deviates = deviates
        measures = kernels + deviates
        self.to_logit = nn.Linear(measures, 1, bias=False) if measures else None

    def forward(self, logits: Tensor, features: Tensor) -> Tensor:
        """Logits (B,), features (B, C, ...) -> logits (B,)."""
        if self.to_logit is None:
            return logits
        measures = []
        if self.discrimination is not None:
            means = features if features.ndim == 2 else features.flatten(2).mean(dim=2)
            measures.append(self.discrimination(means))
        if self.deviates:
            measures.append(deviation(features))
        row = torch.cat(measures, dim=1).to(features.dtype)  # they are float32
        return logits + self.to_logit(row)[:, 0].to(logits.dtype)


def minibatch_std(hidden: Tensor, group_size: int = 4, num_channels: int = 1) -> Tensor:
    """Appends how much samples of a group differ, so that a discriminator sees a lack of variety.

    Karras et al. (2018, https://arxiv.org/abs/1710.10196), section 3.

    The standard deviation over the group of each feature at each place, averaged over places and features: one number a
    group (and appended channel), the same at every pixel of every sample of the group. The samples of a group lie
    batch / group_size apart, so that neighbours in a batch (of one class, or augmented alike) are in different groups.

    Args:
        hidden: (B, C, H, W); float32 arithmetic inside.
        group_size: Samples compared with each other. Where the batch is not a multiple of it, its largest smaller
            divisor is taken; the whole batch where that would be 1.
        num_channels: Channels to append, each the average over its share of the features (1 in the paper); must divide C.

    Returns:
        (B, C + num_channels, H, W).
    """
    planes = deviation(hidden, group_size, num_channels)[:, :, None, None].expand(-1, -1, *hidden.shape[2:])
    return torch.cat([hidden, planes.to(hidden.dtype)], dim=1)


def deviation(hidden: Tensor, group_size: int = 4, num_channels: int = 1) -> Tensor:
    """What `minibatch_std` appends, as numbers: features (B, C, ...) -> (B, num_channels), float32."""
    batch, channels = hidden.shape[:2]
    group = _group_size(batch, group_size)
    groups = widen(hidden).reshape(group, batch // group, num_channels, channels // num_channels, -1)
    variance = (groups - groups.mean(dim=0)).square().mean(dim=0)  # 30 times as fast as Tensor.var over this dimension
    return torch.sqrt(variance + 1e-8).mean(dim=(2, 3)).repeat(group, 1)


def _group_size(batch: int, wanted: int) -> int:
    divisors = [size for size in range(2, min(wanted, batch) + 1) if batch % size == 0]
    return divisors[-1] if divisors else batch
