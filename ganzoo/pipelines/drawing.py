"""How many samples a call draws, and from which randomness each of them is made."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from ganzoo.errors import UserError, shorten

MAX_SEED = 2**63


def check_positive(name: str, value: Any) -> None:
    """Raises UserError for anything but a positive integer."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise UserError(f"{name} must be a positive integer, not {shorten(value)}")


def count_samples(num_samples: int | None, *given: Any, default: int = 1) -> int:
    """`num_samples`, or as many as the first of the `given` arguments that is a list, or the default."""
    if num_samples is not None:
        check_positive("num_samples", num_samples)
        return num_samples
    for argument in given:
        if (
            not isinstance(argument, str)
            and hasattr(argument, "__len__")
            and getattr(argument, "ndim", 1)
            and len(argument)
        ):
            return len(argument)
    return default


def sources_of(count: int, seed: int | None, generator: Any) -> Iterable[torch.Generator]:
    """One source of randomness for every sample: that of sample i has the seed `seed + i`."""
    if isinstance(generator, torch.Generator):
        if generator.device.type != "cpu":
            raise UserError("pass a CPU generator: samples must not depend on the device")
        return (generator for _ in range(count))
    if generator is not None:
        if len(generator) != count:
            raise UserError(f"{len(generator)} generators for {count} samples; give one for each")
        return generator
    if seed is None:
        # From the system's entropy: the global random state stays as it is.
        seed = torch.Generator().seed() % (MAX_SEED // 2)
    if not isinstance(seed, int) or not 0 <= seed < MAX_SEED - count:
        raise UserError(f"seed must be an integer from 0 to 2**63 - 1, not {seed!r}")
    source = torch.Generator()
    return (source.manual_seed(seed + index) for index in range(count))
