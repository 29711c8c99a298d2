"""Image classifier: a small convolutional network whose features the metrics compare.

Not a GAN: the embedder behind the Fréchet distance and its relatives where the standard Inception network does not fit
(digits, grey pictures) or cannot be downloaded. Convolutions with batch normalisation, in the style of Springenberg et al.
(2015, https://arxiv.org/abs/1412.6806), trained by its own recipes and published like every other checkpoint.
"""

from __future__ import annotations

from pydantic import Field
from torch import Tensor, nn

from ganzoo.config import ImageGANConfig
from ganzoo.modeling import Classifier, ClassifierOutput
from ganzoo.registry import register_family


class ImageClassifierConfig(ImageGANConfig):
    """Config of the classifier."""

    resolution: int = Field(32, ge=8, le=256, description="Height and width in pixels; a power of two from 8 to 256.")
    channels: int = Field(1, ge=1, le=64, description="Channels of the pictures.")
    num_classes: int = Field(10, ge=2, le=100_000, description="Number of classes.")
    width: int = Field(
        32, ge=1, le=256, description="Channels of the first stage; they double at every halving of the size."
    )
    feature_dim: int = Field(128, ge=1, le=2048, description="Size of the feature vector before the logits.")
    dropout: float = Field(0.3, ge=0, lt=1, description="Dropout before the feature layer.")


class ImageClassifier(Classifier):
    """Two 3x3 convolutions a stage, stages halving the size down to 4x4, a feature layer, a linear one.

    Pictures (B, channels, resolution, resolution) in [-1, 1] -> logits (B, num_classes), features (B, feature_dim).
    """

    def __init__(self, config: ImageClassifierConfig) -> None:
        super().__init__(config)
        stages = config.resolution.bit_length() - 3
        channels = [config.channels, *(min(config.width * 2**stage, 256) for stage in range(stages))]
        layers: list[nn.Module] = []
        for narrow, wide in zip(channels, channels[1:], strict=False):
            layers += [*_conv(narrow, wide), *_conv(wide, wide), nn.MaxPool2d(2)]
        self.stages = nn.Sequential(*layers)
        self.dropout = nn.Dropout(config.dropout)
        self.to_features = nn.Linear(channels[-1] * 16, config.feature_dim)
        self.to_logits = nn.Linear(config.feature_dim, config.num_classes)

    def forward(self, samples: Tensor) -> ClassifierOutput:
        hidden = self.dropout(self.stages(samples).flatten(1))
        features = self.to_features(hidden).relu()
        return ClassifierOutput(self.to_logits(features), features)


def _conv(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]


@register_family("image-classifier", modality="image", paper="https://arxiv.org/abs/1412.6806")
class ImageClassifierFamily:
    config = ImageClassifierConfig
    classifier = ImageClassifier
    objective = {"type": "classification"}
    tiny = {"resolution": 8, "channels": 1, "width": 4, "num_classes": 3, "feature_dim": 8}
