"""Processors: both directions of a modality's representation, saved with every checkpoint. One file a representation."""

from __future__ import annotations

from ganzoo.utils.lazy import lazy_package

__getattr__, __dir__, __all__ = lazy_package(__name__, __file__)
