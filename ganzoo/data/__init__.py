"""Data: readers, built-in sets, the decode-once cache and the step-indexed sampler.

Names are resolved on first use (PEP 562), so that reading a recipe's `DataConfig` imports no torch.
"""

from __future__ import annotations

from ganzoo.utils.lazy import lazy_package

__getattr__, __dir__, __all__ = lazy_package(__name__, __file__)
