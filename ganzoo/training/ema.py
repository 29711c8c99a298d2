"""Exponential moving average of a network: parameters and buffers, with a half-life in samples."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class EMA:
    """Keeps `average`, a copy of `network` whose weights trail behind.

    Parameters and batch-norm statistics are averaged, so that the statistics fit the averaged weights; other buffers
    (counters, spectral-norm vectors, which must stay unit vectors) are copied.

    Args:
        network: The network to follow.
        half_life: Samples after which an old weight counts half.
        rampup: The half-life is at most this share of the samples seen, so that the random start is forgotten soon
            (Karras et al., 2020, training code).
    """

    def __init__(self, network: nn.Module, half_life: float, rampup: float) -> None:
        self.network = network
        self.average = copy.deepcopy(network).eval().requires_grad_(False)
        self.half_life = half_life
        self.rampup = rampup
        averaged, copied = _pair_up(self.network, self.average)
        self._sources, self._targets = zip(*averaged, strict=True)
        self._copied = copied

    @torch.no_grad()
    def update(self, batch_size: int, samples_seen: int) -> None:
        """Moves the average towards the network.

        Args:
            batch_size: Samples seen since the last update.
            samples_seen: Samples seen in all.
        """
        half_life = min(self.half_life, samples_seen * self.rampup)
        decay = 0.5 ** (batch_size / max(half_life, 1e-8))
        torch._foreach_lerp_(self._targets, self._sources, 1.0 - decay)
        for source, target in self._copied:
            target.copy_(source)


def _pair_up(
    network: nn.Module, average: nn.Module
) -> tuple[list[tuple[Tensor, Tensor]], list[tuple[Tensor, Tensor]]]:
    """Each tensor of the network with its twin, those to average and those to copy; of what layers share, one pair."""
    averaged = list(zip(network.parameters(), average.parameters(), strict=True))
    copied = []
    for (name, source), (_, target) in zip(network.named_buffers(), average.named_buffers(), strict=True):
        statistic = name.endswith(("running_mean", "running_var"))
        (averaged if statistic else copied).append((source, target))
    return averaged, copied
