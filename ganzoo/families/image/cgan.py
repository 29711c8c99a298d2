"""Conditional GAN: both networks are told the class (Mirza and Osindero, 2014).

Paper: https://arxiv.org/abs/1411.1784, section 4.1 for the networks on MNIST: the generator maps latents to 200 and the label to
1,000 rectifiers, both to 1,200 together, and these to the picture; the discriminator maps the picture to 240 maxout units of five
pieces and the label to 50, both to 240 of four. Pictures here are powers of two: at 32x32 that is 2,701,224 parameters in the
generator and 1,512,101 in the discriminator. What reads the label is an embedding, which is a linear map of its one-hot form.
"""

from __future__ import annotations

import math

import torch
from pydantic import Field
from torch import Tensor, nn

from ganzoo.networks.base import Discriminator, DiscriminatorOutput, Generator
from ganzoo.networks.config import StabilisedConfig
from ganzoo.networks.image import ImageGANConfig
from ganzoo.nn import Maxout, MinibatchLogit, check_labels, init_he_, normalise
from ganzoo.registry import register_family

LABEL_PIECES = 5


class CGANConfig(StabilisedConfig, ImageGANConfig):
    """Config of the conditional pair; by default the paper's for the ten digits."""

    num_classes: int = Field(10, ge=2, le=100_000, description="Number of classes; this family always has some.")
    resolution: int = Field(32, ge=4, le=256, description="Height and width of the pictures; a power of two.")
    channels: int = Field(1, ge=1, le=64, description="Channels of the pictures: 1 for grey, 3 for RGB.")
    latent_width: int = Field(200, ge=1, le=16_384, description="Units that read the latents.")
    label_width: int = Field(1000, ge=1, le=16_384, description="Units that read the label in the generator.")
    joint_width: int = Field(1200, ge=1, le=16_384, description="Units that read both.")
    picture_units: int = Field(240, ge=1, le=16_384, description="Maxout units that read the picture.")
    label_units: int = Field(50, ge=1, le=16_384, description="Maxout units that read the label.")
    joint_units: int = Field(240, ge=1, le=16_384, description="Maxout units that read both.")
    dropout: float = Field(
        0.5, ge=0, lt=1, description="Of all hidden layers but the generator's first (section 4.1)."
    )

    @property
    def picture_size(self) -> int:
        return self.channels * self.resolution**2


class CGANGenerator(Generator):
    """Latents (B, latent_dim), labels (B,) -> pictures (B, channels, resolution, resolution) in [-1, 1]."""

    def __init__(self, config: CGANConfig) -> None:
        super().__init__(config)
        self.from_latents = nn.Linear(config.latent_dim, config.latent_width)
        self.from_labels = nn.Embedding(config.num_classes, config.label_width)
        self.joint = nn.Linear(config.latent_width + config.label_width, config.joint_width)
        self.output = nn.Linear(config.joint_width, config.picture_size)
        _init_(self)

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        check_labels(labels, self.config.num_classes, len(latents))
        hidden = torch.cat([self.from_latents(latents), self.from_labels(labels)], dim=1).relu()
        picture = torch.tanh(self.output(self.joint(hidden).relu()))
        return picture.view(len(latents), self.config.channels, self.config.resolution, self.config.resolution)

    def latent_weight(self) -> Tensor:
        return self.from_latents.weight


class CGANDiscriminator(Discriminator):
    """Pictures (B, channels, resolution, resolution), labels (B,) -> one output, logits (B,)."""

    def __init__(self, config: CGANConfig) -> None:
        super().__init__(config)
        self.from_picture = Maxout(config.picture_size, config.picture_units, 5)
        self.from_labels = nn.Embedding(config.num_classes, config.label_units * LABEL_PIECES)
        self.joint = Maxout(config.picture_units + config.label_units, config.joint_units, 4)
        self.output = nn.Linear(config.joint_units, 1)
        self.dropout = nn.Dropout(config.dropout)
        self.minibatch = MinibatchLogit(config.joint_units, config.minibatch_discrimination, config.minibatch_std)
        _init_(self)
        normalise(self, config.discriminator_norm, [self.joint])

    def forward(self, samples: Tensor, labels: Tensor | None = None) -> list[DiscriminatorOutput]:
        check_labels(labels, self.config.num_classes, len(samples))
        of_labels = self.from_labels(labels).unflatten(1, (-1, LABEL_PIECES)).amax(dim=2)
        hidden = self.dropout(torch.cat([self.from_picture(samples.flatten(1)), of_labels], dim=1))
        joint = self.dropout(self.joint(hidden))
        return [DiscriminatorOutput(self.minibatch(self.output(joint)[:, 0], joint), [hidden, joint])]


def _init_(network: CGANGenerator | CGANDiscriminator) -> None:
    """He's, also for the labels, whose table is a linear layer of one-hot vectors: torch's own is five times as loud, so that the
    label drowned the latents and every class became one picture."""
    init_he_(network)
    nn.init.normal_(network.from_labels.weight, 0.0, math.sqrt(2 / network.config.num_classes))


@register_family("cgan", modality="image", paper="https://arxiv.org/abs/1411.1784")
class CGAN:
    """The paper's training: the non-saturating game; SGD with momentum there, Adam in the recipes."""

    config = CGANConfig
    generator = CGANGenerator
    discriminator = CGANDiscriminator
    objective = {"loss": "non-saturating"}
    tiny = {
        "num_classes": 3,
        "resolution": 8,
        "latent_dim": 4,
        "latent_width": 6,
        "label_width": 4,
        "joint_width": 8,
        "picture_units": 6,
        "label_units": 3,
        "joint_units": 5,
        "dropout": 0.0,
    }
