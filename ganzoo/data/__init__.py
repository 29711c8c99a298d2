"""Data: readers, the decode-once cache, the step-indexed sampler and batch augmentation.

Names are resolved on first use (PEP 562), so that reading a recipe's `DataConfig` imports no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ganzoo.data.cache import build_cache
    from ganzoo.data.config import DataConfig
    from ganzoo.data.dataset import ArrayDataset, load_data
    from ganzoo.data.left_out import LeftOut
    from ganzoo.data.sampler import batch_indices
    from ganzoo.data.sources import Source, open_source
    from ganzoo.data.transforms import random_crop, random_flip, random_segment

_MODULES = {
    "ArrayDataset": "dataset",
    "DataConfig": "config",
    "LeftOut": "left_out",
    "Source": "sources",
    "batch_indices": "sampler",
    "build_cache": "cache",
    "load_data": "dataset",
    "open_source": "sources",
    "random_crop": "transforms",
    "random_flip": "transforms",
    "random_segment": "transforms",
}

__all__ = [
    "ArrayDataset",
    "DataConfig",
    "LeftOut",
    "Source",
    "batch_indices",
    "build_cache",
    "load_data",
    "open_source",
    "random_crop",
    "random_flip",
    "random_segment",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
