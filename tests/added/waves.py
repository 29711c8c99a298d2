"""A built-in data set: sines of every phase."""

from __future__ import annotations

import numpy as np

from ganzoo.data.sets.base import DataSet
from ganzoo.data.source import Source, no_split
from ganzoo.recipe.data import DataConfig

SPLITS = {"train": 32, "test": 16}


def open_waves(config: DataConfig, split: str) -> Source:
    """One split."""
    if split not in SPLITS:
        raise no_split("The built-in data set 'waves'", split, SPLITS)
    phases = np.linspace(0, 6, SPLITS[split])
    waves = np.sin(np.arange(64) / 3 + phases[:, None]).astype(np.float32)
    return Source("waves", split, f"waves-1:{split}", len(waves), lambda: ((wave, None) for wave in waves))


DATASET = DataSet(open_waves)
