"""Mixtures of Gaussians in the plane, on which a GAN's modes can be counted (Metz et al., 2017; Lin et al., 2018, PacGAN)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ganzoo.data.sets.base import DataSet
from ganzoo.data.source import Source, no_split
from ganzoo.errors import UserError
from ganzoo.recipe.data import DataConfig

# PacGAN's 100,000 points to train on; to test with, as many as are generated.
SPLITS = {"train": 100_000, "test": 2500}


@dataclass(frozen=True)
class Mixture:
    """Equally probable round Gaussians.

    Attributes:
        centres: (modes, 2).
        sigma: Standard deviation of each, in each coordinate.
    """

    centres: tuple[tuple[float, float], ...]
    sigma: float

    def draw(self, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Points (count, 2), float32, and the modes (count,) that they are of; frozen for ever."""
        source = np.random.RandomState(seed)
        modes = source.randint(len(self.centres), size=count)
        return (np.array(self.centres)[modes] + self.sigma * source.randn(count, 2)).astype(np.float32), modes


# The sizes of PacGAN's protocol (its table 1): sigma 0.01 on a ring of radius 1; sigma 0.05 on a grid of distance 2.
MIXTURES = {
    "ring": Mixture(tuple((math.cos(math.tau * k / 8), math.sin(math.tau * k / 8)) for k in range(8)), 0.01),
    "grid": Mixture(tuple((float(x), float(y)) for x in range(-4, 5, 2) for y in range(-4, 5, 2)), 0.05),
}


def mixture(name: str | None) -> Mixture:
    """The mixture of that name.

    Raises:
        UserError: There is none.
    """
    if name not in MIXTURES:
        raise UserError(f"modes can be counted of the data sets {' and '.join(MIXTURES)}, not of {name}")
    return MIXTURES[name]


def open_mixture(config: DataConfig, split: str) -> Source:
    """Points of a mixture; the label is the mode."""
    if split not in SPLITS:
        raise no_split(f"The built-in data set '{config.dataset}'", split, SPLITS)
    name = config.dataset

    def iterate() -> Iterator[tuple[np.ndarray, int]]:
        points, modes = MIXTURES[name].draw(SPLITS[split], seed=list(SPLITS).index(split))
        return zip(points, modes.tolist(), strict=True)

    return Source(
        description=name,
        split=split,
        fingerprint=f"{name}-1:{split}",
        length=SPLITS[split],
        iterate=iterate,
        class_names=tuple(str(number) for number in range(len(MIXTURES[name].centres))),
    )


DATASETS = {"ring": DataSet(open_mixture), "grid": DataSet(open_mixture)}
