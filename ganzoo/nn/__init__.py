"""Layers that more than one family uses."""

from ganzoo.nn.layers import check_labels, init_normal_, normalisation

__all__ = ["check_labels", "init_normal_", "normalisation"]
