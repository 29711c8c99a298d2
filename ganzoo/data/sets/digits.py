"""The handwritten digits that come with scikit-learn."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator

import numpy as np

from ganzoo.data.sets.base import DataSet
from ganzoo.data.source import Source, no_split
from ganzoo.errors import require
from ganzoo.recipe.data import DataConfig


def open_digits(config: DataConfig, split: str) -> Source:
    """The 1,797 handwritten digits that come with scikit-learn (UCI optdigits test set, 8x8, 17 grey levels)."""
    needed = {"extra": "train", "purpose": "The built-in data set 'digits'"}
    try:
        version = importlib.metadata.version("scikit-learn")  # importing it takes over a second, the cache may do
    except importlib.metadata.PackageNotFoundError:
        version = require("sklearn", **needed).__version__
    order = np.random.RandomState(0).permutation(1797)  # RandomState: the one NumPy stream that is frozen for ever
    members = {"train": order[:1437], "test": order[1437:]}
    if split not in members:
        raise no_split("The built-in data set 'digits'", split, members)

    def iterate() -> Iterator[tuple[np.ndarray, int]]:
        digits = require("sklearn.datasets", **needed).load_digits()
        images = np.rint(digits.images * (255 / 16)).astype(np.uint8)
        return ((images[index], int(digits.target[index])) for index in members[split])

    return Source(
        description="digits",
        split=split,
        fingerprint=f"digits:{split}:scikit-learn-{version}",
        length=len(members[split]),
        iterate=iterate,
        class_names=tuple("0123456789"),
    )


DATASET = DataSet(open_digits)
