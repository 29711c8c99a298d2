"""Randomness as a function of (seed, step, ...): what makes a resumed run equal to an uninterrupted one."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator

import torch


def mix(*numbers: int | str) -> int:
    """Hashes numbers and names to a 63-bit seed; streams of different purposes or steps are independent."""
    text = ":".join(str(number) for number in numbers).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1


def seed_device(device: torch.device, seed: int) -> None:
    """Seeds the global generator of the CPU and, if it is another, of `device`; dropout and augmentation draw from it."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.default_generators[device.index or 0].manual_seed(seed)


@contextlib.contextmanager
def preserved_rng(device: torch.device) -> Iterator[None]:
    """Gives the caller's global random state back afterwards."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        yield
