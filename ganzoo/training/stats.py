"""Running means of a step's losses and other scalars, without ever waiting for the device."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


class StatsCollector:
    """Sums named scalars on the device they live on, and gives their means when asked.

    `tensor.item()` in a training loop makes the host wait for everything queued on the device. Here `add` only queues
    work: the tensors of a step are stacked into one vector and added to a running float32 sum, two small kernels
    whatever their number. `read` is the one place that waits, once per device in use.

    Example:
        >>> stats = StatsCollector()
        >>> stats.add({"generator/loss": torch.tensor(1.0), "beta": 0.5})
        >>> stats.add({"generator/loss": torch.tensor(3.0), "beta": 0.5})
        >>> stats.read()
        {'generator/loss': 2.0, 'beta': 0.5}
    """

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        # Names that arrive together are summed together, keyed by (device, names): a lazy penalty that appears every
        # 16th step makes a second group, and its mean is over the steps that had it.
        self._sums: dict[tuple[torch.device, tuple[str, ...]], Tensor] = {}
        self._counts: dict[tuple[torch.device, tuple[str, ...]], int] = {}
        self._numbers: dict[str, tuple[float, int]] = {}
        self._order: dict[str, None] = {}  # names in the order they were first seen

    @torch.no_grad()
    def add(self, values: Mapping[str, Tensor | float]) -> None:
        """Adds one step's scalars. Never synchronises and keeps no autograd graph.

        Args:
            values: Name -> 0-dim tensor (any device, any real dtype; summed in float32) or a plain number.

        Raises:
            ValueError: A tensor is not 0-dim.
        """
        groups: dict[torch.device, dict[str, Tensor]] = {}
        for name, value in values.items():
            self._order.setdefault(name)
            if not isinstance(value, Tensor):
                total, count = self._numbers.get(name, (0.0, 0))
                self._numbers[name] = (total + float(value), count + 1)
            elif value.ndim:
                raise ValueError(
                    f"'{name}' must be a 0-dim tensor, but has the shape {tuple(value.shape)}; reduce it first"
                )
            else:
                groups.setdefault(value.device, {})[name] = value
        for device, tensors in groups.items():
            key = (device, tuple(tensors))
            vector = torch.stack(list(tensors.values()))
            if key in self._sums:
                self._sums[key].add_(vector)
                self._counts[key] += 1
            else:
                self._sums[key] = vector.float()
                self._counts[key] = 1

    def read(self) -> dict[str, float]:
        """Returns the mean of every name since the last read, and starts afresh.

        Waits for the device: one transfer per device in use.
        """
        totals = dict(self._numbers)
        for device in {device for device, _ in self._sums}:
            keys = [key for key in self._sums if key[0] == device]
            sums = iter(torch.cat([self._sums[key] for key in keys]).tolist())
            for key in keys:
                for name in key[1]:
                    total, count = totals.get(name, (0.0, 0))
                    totals[name] = (total + next(sums), count + self._counts[key])
        means = {name: totals[name][0] / totals[name][1] for name in self._order}
        self._reset()
        return means
