"""Minibatch discrimination: a discriminator that sees how alike the samples of a batch are."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ganzoo.precision import widen


class MinibatchDiscrimination(nn.Module):
    """Appends to each sample's features how close it is to the batch's samples, by several learned measures.

    Salimans et al. (2016, https://arxiv.org/abs/1606.03498), section 3.2: a matrix M_i = f(x_i) T of B rows and C columns
    for each sample, and o(x_i)_b = sum_j exp(-|M_ib - M_jb|_1) over all samples j of the batch. A generator that draws one
    picture again and again is told by its large o. What it says depends on the batch's size.

    Args:
        inputs: A, the number of features of a sample, (N, A) or (N, ...) with so many numbers behind the first dimension.
        kernels: B, the measures: numbers appended.
        kernel_dim: C, the size of the space of each.
    """

    def __init__(self, inputs: int, kernels: int, kernel_dim: int = 5) -> None:
        super().__init__()
        # Two samples' features of variance 1 are then at a distance of about 1. With weights much larger every exponential
        # is 0, and so is its gradient: the layer would never learn.
        self.weight = nn.Parameter(torch.randn(inputs, kernels, kernel_dim) / (kernel_dim * inputs**0.5))

    def closeness(self, features: Tensor) -> Tensor:
        """o of features (N, ...), as (N, kernels), between 1 (far from all others) and N (all alike), in float32."""
        places = widen(features.flatten(1) @ self.weight.flatten(1)).unflatten(1, self.weight.shape[1:])
        # Not cdist: it has no second derivative, which gradient penalties need.
        distances = (places[:, None] - places[None]).abs().sum(dim=3)
        return torch.exp(-distances).sum(dim=1)

    def forward(self, features: Tensor) -> Tensor:
        """Features (N, A) -> (N, A + kernels); feature maps (N, C, H, W) -> (N, C + kernels, H, W), constant planes."""
        closeness = self.closeness(features).to(features.dtype)
        planes = closeness.reshape(*closeness.shape, *(1,) * (features.ndim - 2)).expand(-1, -1, *features.shape[2:])
        return torch.cat([features, planes], dim=1)
