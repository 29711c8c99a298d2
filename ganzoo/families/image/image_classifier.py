"""Image classifier: a small convolutional network whose features the metrics compare.

Not a GAN: the embedder behind the Fréchet distance and its relatives where the standard Inception network does not fit
(digits, grey pictures) or cannot be downloaded. Convolutions with batch normalisation, in the style of Springenberg et al.
(2015, https://arxiv.org/abs/1412.6806), trained by its own recipes and published like every other checkpoint. For photographs
there is what makes training fast: whitening first (as in Jordan, 2024, https://arxiv.org/abs/2404.00498), halving the size
early, and residual stages (He et al., 2016, https://arxiv.org/abs/1512.03385).
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from ganzoo.networks.base import Classifier, ClassifierOutput
from ganzoo.networks.image import ImageGANConfig
from ganzoo.nn import Conv2d
from ganzoo.registry import register_family


class ImageClassifierConfig(ImageGANConfig):
    """Config of the classifier."""

    resolution: int = Field(32, ge=8, le=256, description="Height and width in pixels; a power of two from 8 to 256.")
    channels: int = Field(1, ge=1, le=64, description="Channels of the pictures.")
    num_classes: int = Field(10, ge=2, le=100_000, description="Number of classes.")
    width: int = Field(
        32, ge=1, le=256, description="Channels of the first stage; they double at every halving of the size."
    )
    whiten: bool = Field(
        False,
        description="Begin with a fixed basis in which neighbouring pixels and the three colours hardly correlate.",
    )
    stem: int = Field(0, ge=0, le=256, description="Channels of a convolution before the first stage; 0 for none.")
    depth: int = Field(2, ge=1, le=16, description="Convolutions of a stage.")
    halve: Literal["last", "first"] = Field(
        "last", description="After which convolution a stage halves the size; first costs less and loses little."
    )
    residual: bool = Field(
        False, description="What a stage computes after its first convolution is added to that convolution's result."
    )
    readout: Literal["flatten", "mean", "max"] = Field(
        "flatten",
        description="What the feature layer sees of the last 4x4 pixels: all of them, or one number a channel.",
    )
    feature_dim: int = Field(128, ge=1, le=2048, description="Size of the feature vector before the logits.")
    feature_norm: bool = Field(
        False, description="Batch normalisation of the features before their rectifier: bears large learning rates."
    )
    mirror: bool = Field(
        False, description="Outside training, look at the mirror image too; the features are the mean of the two."
    )
    dropout: float = Field(0.3, ge=0, lt=1, description="Dropout before the feature layer.")

    @model_validator(mode="after")
    def _possible(self) -> ImageClassifierConfig:
        if self.whiten and self.channels != 3:
            raise ValueError(f"whiten is for pictures of three colours, not of channels={self.channels}")
        return self


class ImageClassifier(Classifier):
    """3x3 convolutions in stages, each halving the size down to 4x4, a feature layer, a linear one.

    Pictures (B, channels, resolution, resolution) in [-1, 1] -> logits (B, num_classes), features (B, feature_dim).
    """

    def __init__(self, config: ImageClassifierConfig) -> None:
        super().__init__(config)
        stages = config.resolution.bit_length() - 3
        inputs = 2 * _Whiten.OUTPUTS if config.whiten else config.channels
        channels = [config.stem or inputs, *(min(config.width * 2**stage, 256) for stage in range(stages))]
        layers: list[nn.Module] = [_Whiten()] if config.whiten else []
        layers += _conv(inputs, config.stem) if config.stem else []
        for narrow, wide in pairwise(channels):
            layers += _stage(narrow, wide, config)
        self.stages = nn.Sequential(*layers)
        self.dropout = nn.Dropout(config.dropout)
        self.to_features = nn.Linear(channels[-1] * (16 if config.readout == "flatten" else 1), config.feature_dim)
        self.norm = nn.BatchNorm1d(config.feature_dim) if config.feature_norm else nn.Identity()
        self.to_logits = nn.Linear(config.feature_dim, config.num_classes)

    def forward(self, samples: Tensor) -> ClassifierOutput:
        features = self._features(samples)
        if self.config.mirror and not self.training:
            features = (features + self._features(samples.flip(-1))) / 2
        return ClassifierOutput(self.to_logits(features), features)

    def _features(self, samples: Tensor) -> Tensor:
        hidden = self.dropout(READOUTS[self.config.readout](self.stages(samples)))
        return self.norm(self.to_features(hidden)).relu()


READOUTS = {
    "flatten": lambda hidden: hidden.flatten(1),
    "mean": lambda hidden: hidden.mean(dim=(2, 3)),
    "max": lambda hidden: hidden.amax(dim=(2, 3)),
}


class _Whiten(nn.Module):
    """Pictures (B, 3, H, W) -> (B, 24, H, W): 2x2 pixels in a fixed basis, each axis brought to variance 1, and both its signs.

    The basis is Haar's (a mean, three differences) of the colours of Ohta et al. (1980), to which the principal components of
    the colours of photographs come close; so the normalisation whitens, and nothing has to be learned from the data first.
    """

    COLOURS = ((1 / 3, 1 / 3, 1 / 3), (1 / 2, 0.0, -1 / 2), (-1 / 4, 1 / 2, -1 / 4))
    OUTPUTS = 12

    def __init__(self) -> None:
        super().__init__()
        halves = torch.tensor([[0.5, 0.5], [0.5, -0.5]])
        haar = torch.einsum("ai,bj->abij", halves, halves).flatten(0, 1)
        basis = torch.einsum("ck,pij->cpkij", torch.tensor(self.COLOURS), haar).flatten(0, 1)
        self.register_buffer("basis", basis)
        self.norm = nn.BatchNorm2d(self.OUTPUTS, affine=False)

    def forward(self, samples: Tensor) -> Tensor:
        # The last row and column are their own neighbours, so that the size stays.
        padded = nn.functional.pad(samples, (0, 1, 0, 1), mode="replicate")
        whitened = self.norm(nn.functional.conv2d(padded, self.basis))
        return torch.cat([whitened, -whitened], dim=1).relu_()


class _Residual(nn.Sequential):
    def forward(self, hidden: Tensor) -> Tensor:
        return hidden + super().forward(hidden)


def _stage(inputs: int, outputs: int, config: ImageClassifierConfig) -> list[nn.Module]:
    first = _conv(inputs, outputs)
    others = [layer for _ in range(config.depth - 1) for layer in _conv(outputs, outputs)]
    if config.residual:
        others = [_Residual(*others)]
    if config.halve == "last":
        return [*first, *others, nn.MaxPool2d(2)]
    # A maximum commutes with the rectifier and, for positive scales, with the normalisation, which now see a quarter.
    convolution, *norm_and_rectify = first
    return [convolution, nn.MaxPool2d(2), *norm_and_rectify, *others]


def _conv(inputs: int, outputs: int) -> list[nn.Module]:
    return [Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]


@register_family("image-classifier", modality="image", paper="https://arxiv.org/abs/1412.6806")
class ImageClassifierFamily:
    config = ImageClassifierConfig
    classifier = ImageClassifier
    objective = {"type": "classification"}
    tiny = {"resolution": 8, "channels": 1, "width": 4, "num_classes": 3, "feature_dim": 8}
