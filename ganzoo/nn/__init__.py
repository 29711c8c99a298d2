"""Layers that more than one family uses."""

from ganzoo.nn.convolution import Conv2d, ConvTranspose2d
from ganzoo.nn.layers import JudgeWhole, ProjectLatents, check_labels, init_normal_, normalisation

__all__ = [
    "Conv2d",
    "ConvTranspose2d",
    "JudgeWhole",
    "ProjectLatents",
    "check_labels",
    "init_normal_",
    "normalisation",
]
