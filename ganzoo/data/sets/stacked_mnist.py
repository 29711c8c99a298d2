"""StackedMNIST: three random digits in the three channels of a picture, which makes a thousand known modes (Metz et al., 2017)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from ganzoo.data.sets.base import DataSet
from ganzoo.data.source import Source, no_split
from ganzoo.recipe.data import DataConfig

BASE = "ylecun/mnist"
# VEEGAN's and PacGAN's 128,000 fixed stacks to train on (theirs are drawn of MNIST's test digits, too), and as many to
# compare with as they generate.
SPLITS = {"train": 128_000, "test": 26_000}


def open_stacked_mnist(config: DataConfig, split: str, open_base: Callable[[], Source]) -> Source:
    """Stacks of digits of MNIST's split of that name, drawn with replacement, for ever the same; the label is the number that
    the three digits make. `path` is a local copy of MNIST, which `open_base` opens."""
    if split not in SPLITS:
        raise no_split("The built-in data set 'stacked-mnist'", split, SPLITS)
    digits = open_base()

    def iterate() -> Iterator[tuple[np.ndarray, int]]:
        from ganzoo.processors import ImageProcessor

        processor = ImageProcessor(resolution=28, channels=1)
        pairs = list(digits.iterate())
        pictures = np.stack([processor.encode(raw)[0] for raw, _ in pairs])
        labels = np.array([label for _, label in pairs])
        source = np.random.RandomState(list(SPLITS).index(split))  # the one NumPy stream that is frozen for ever
        for chosen in source.randint(len(pairs), size=(SPLITS[split], 3)):
            hundreds, tens, ones = labels[chosen].tolist()
            yield np.ascontiguousarray(pictures[chosen].transpose(1, 2, 0)), 100 * hundreds + 10 * tens + ones

    return Source(
        description="stacked-mnist",
        split=split,
        fingerprint=f"stacked-mnist-1:{split}:{digits.fingerprint}",
        length=SPLITS[split],
        iterate=iterate,
        class_names=tuple(f"{number:03d}" for number in range(1000)),
    )


DATASET = DataSet(open_stacked_mnist, base=BASE)
