"""Layers that more than one family uses."""

from ganzoo.nn.conditional import ConditionalBatchNorm2d, Projection
from ganzoo.nn.convolution import Conv2d, ConvTranspose2d
from ganzoo.nn.equalised import HE_GAIN, EqualisedConv2d, EqualisedLinear, EqualisedUpsampleConv2d
from ganzoo.nn.grouped import GroupedConv2d
from ganzoo.nn.layers import (
    JudgeWhole,
    Maxout,
    ProjectLatents,
    check_labels,
    init_he_,
    init_normal_,
    normalisation,
    pack,
)
from ganzoo.nn.minibatch import MinibatchDiscrimination, MinibatchLogit, minibatch_std
from ganzoo.nn.modulated import ModulatedConv2d
from ganzoo.nn.normalise import normalise, normalise_spectrally
from ganzoo.nn.pixel_norm import PixelNorm
from ganzoo.nn.rectifiers import rectify
from ganzoo.nn.resample import blur, downsample, upsample
from ganzoo.nn.residual import (
    DiscriminatorBlock,
    GeneratorBlock,
    init_xavier_,
    mean_pixels,
    norm_and_rectify,
    sum_pixels,
)

__all__ = [
    "ConditionalBatchNorm2d",
    "Conv2d",
    "ConvTranspose2d",
    "DiscriminatorBlock",
    "EqualisedConv2d",
    "EqualisedLinear",
    "EqualisedUpsampleConv2d",
    "GeneratorBlock",
    "GroupedConv2d",
    "HE_GAIN",
    "JudgeWhole",
    "Maxout",
    "MinibatchDiscrimination",
    "MinibatchLogit",
    "ModulatedConv2d",
    "PixelNorm",
    "ProjectLatents",
    "Projection",
    "blur",
    "check_labels",
    "downsample",
    "init_he_",
    "init_normal_",
    "init_xavier_",
    "mean_pixels",
    "minibatch_std",
    "norm_and_rectify",
    "normalisation",
    "normalise",
    "normalise_spectrally",
    "pack",
    "rectify",
    "sum_pixels",
    "upsample",
]
