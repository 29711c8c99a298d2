"""Training: the one trainer that every family and modality shares."""

from __future__ import annotations

from ganzoo.utils.lazy import lazy_package

__getattr__, __dir__, __all__ = lazy_package(__name__, __file__)
