"""Layers that more than one family uses."""

from ganzoo.nn.layers import JudgeWhole, ProjectLatents, check_labels, init_normal_, normalisation

__all__ = ["JudgeWhole", "ProjectLatents", "check_labels", "init_normal_", "normalisation"]
