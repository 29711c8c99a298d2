"""DCGAN: deep convolutional GAN (Radford et al., 2016).

Paper: https://arxiv.org/abs/1511.06434, section 3 (guidelines) and section 4 (training). The network at 64x64x3 with 100
latents and width 64 is the paper's: 3,576,704 parameters in the generator, 2,765,568 in the discriminator. Other powers of
two from 8 to 256 follow the same rule: 4x4 at the deepest layer, channels doubling towards it.

Conditional models (`num_classes`) are not in the paper. As in the conditional GAN (Mirza and Osindero, 2014, section 3.2),
both networks see the label at their input: the generator as an embedding beside the latents, the discriminator as one more
channel beside the picture's.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ganzoo.networks.base import Discriminator, DiscriminatorOutput, Generator
from ganzoo.networks.config import MinibatchConfig
from ganzoo.networks.image import ImageGANConfig
from ganzoo.nn import (
    Conv2d,
    ConvTranspose2d,
    JudgeWhole,
    MinibatchLogit,
    ProjectLatents,
    check_labels,
    init_normal_,
    normalisation,
    normalise_spectrally,
)
from ganzoo.registry import register_family


class DCGANConfig(MinibatchConfig, ImageGANConfig):
    """Config of the DCGAN pair."""

    resolution: int = Field(64, ge=8, le=256, description="Height and width in pixels; a power of two from 8 to 256.")
    width: int = Field(
        64, ge=1, le=512, description="Channels of the layers next to the picture; they double towards 4x4."
    )
    max_channels: int = Field(1024, ge=1, le=2048, description="No layer gets more channels than this.")
    generator_norm: Literal["batch", "instance", "none"] = Field(
        "batch", description="Normalisation in the generator."
    )
    discriminator_norm: Literal["batch", "instance", "layer", "spectral", "none"] = Field(
        "batch",
        description="Normalisation in the discriminator; layer = over each sample, for gradient penalties; spectral = of the "
        "weights (Miyato et al., 2018).",
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="Dropout after each of the discriminator's hidden layers.")
    label_dim: int = Field(50, ge=1, le=1024, description="Size of the label embeddings of a conditional model.")

    @property
    def hidden_channels(self) -> list[int]:
        """Channels from the 4x4 layer up to the one next to the picture, 512-256-128-64 in the paper."""
        levels = self.resolution.bit_length() - 3
        return [min(self.width * 2**level, self.max_channels) for level in reversed(range(levels))]


class DCGANGenerator(Generator):
    """Fractionally-strided convolutions from a latent vector to a picture (paper, figure 1).

    Latents (B, latent_dim), labels (B,) of a conditional model -> pictures (B, channels, resolution, resolution) in
    [-1, 1].
    """

    def __init__(self, config: DCGANConfig) -> None:
        super().__init__(config)
        hidden = config.hidden_channels
        conditional = config.num_classes is not None
        self.label_embedding = nn.Embedding(config.num_classes, config.label_dim) if conditional else None
        inputs = config.latent_dim + (config.label_dim if conditional else 0)
        norm = config.generator_norm
        blocks = [_block(ProjectLatents(inputs, hidden[0], 4, bias=norm == "none"), norm)]
        blocks += [_up(wide, narrow, norm) for wide, narrow in zip(hidden, hidden[1:], strict=False)]
        self.blocks = nn.Sequential(*blocks)
        self.to_image = ConvTranspose2d(hidden[-1], config.channels, 4, stride=2, padding=1, bias=False)
        init_normal_(self)
        _init_labels(self.label_embedding)

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        check_labels(labels, self.config.num_classes, len(latents))
        if self.label_embedding is not None:
            latents = torch.cat([latents, self.label_embedding(labels).to(latents.dtype)], dim=1)
        return torch.tanh(self.to_image(self.blocks(latents)))

    def latent_weight(self) -> Tensor:
        return self.blocks[0][0].weight[: self.config.latent_dim].flatten(1).T


class DCGANDiscriminator(Discriminator):
    """Strided convolutions from a picture to one logit; the generator mirrored, no normalisation after the first layer.

    Pictures (B, channels, resolution, resolution), labels (B,) of a conditional model -> one output, logits (B,).
    """

    def __init__(self, config: DCGANConfig) -> None:
        super().__init__(config)
        hidden = config.hidden_channels[::-1]
        norm = config.discriminator_norm
        first = "spectral" if norm == "spectral" else "none"
        conditional = config.num_classes is not None
        self.label_embedding = nn.Embedding(config.num_classes, config.label_dim) if conditional else None
        self.label_plane = nn.Linear(config.label_dim, config.resolution**2) if conditional else None
        blocks = [_down(config.channels + conditional, hidden[0], first, config.dropout)]
        blocks += [_down(narrow, wide, norm, config.dropout) for narrow, wide in zip(hidden, hidden[1:], strict=False)]
        self.blocks = nn.ModuleList(blocks)
        self.to_logit = JudgeWhole(hidden[-1], 1, 4, bias=False)
        self.minibatch = MinibatchLogit(hidden[-1], config.minibatch_discrimination, config.minibatch_std)
        init_normal_(self)
        _init_labels(self.label_embedding)
        if norm == "spectral":
            normalise_spectrally(self)

    def forward(self, samples: Tensor, labels: Tensor | None = None) -> list[DiscriminatorOutput]:
        check_labels(labels, self.config.num_classes, len(samples))
        hidden = samples
        if self.label_embedding is not None:
            plane = self.label_plane(self.label_embedding(labels)).view(len(samples), 1, *samples.shape[2:])
            hidden = torch.cat([samples, plane.to(samples.dtype)], dim=1)
        features = []
        for block in self.blocks:
            hidden = block(hidden)
            features.append(hidden)
        logits = self.minibatch(self.to_logit(hidden).flatten(), hidden)
        return [DiscriminatorOutput(logits, features)]


def _init_labels(embedding: nn.Embedding | None) -> None:
    """Label vectors of length about 1, as one-hot ones have, against the latents' 10.

    With entries of variance 1 the label drowned the latents: the generator learned one picture a class, on MNIST as on the
    small digits.
    """
    if embedding is not None:
        nn.init.normal_(embedding.weight, 0.0, embedding.embedding_dim**-0.5)


def _up(inputs: int, outputs: int, norm: str) -> nn.Sequential:
    return _block(ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1, bias=norm == "none"), norm)


def _block(convolution: nn.ConvTranspose2d, norm: str) -> nn.Sequential:
    return nn.Sequential(convolution, normalisation(norm, convolution.out_channels), nn.ReLU(inplace=True))


def _down(inputs: int, outputs: int, norm: str, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        Conv2d(inputs, outputs, 4, stride=2, padding=1, bias=False),
        normalisation(norm, outputs),
        nn.LeakyReLU(0.2, inplace=True),
        nn.Dropout(dropout) if dropout else nn.Identity(),
    )


@register_family("dcgan", modality="image", paper="https://arxiv.org/abs/1511.06434")
class DCGAN:
    """The paper's training: non-saturating loss; Adam 2e-4 (0.5, 0.999) is in the recipes."""

    config = DCGANConfig
    generator = DCGANGenerator
    discriminator = DCGANDiscriminator
    objective = {"loss": "non-saturating"}
    # At 16x16 every kind of layer is there; at 8x8 the discriminator would have no normalisation.
    tiny = {"resolution": 16, "channels": 1, "width": 4, "latent_dim": 8}
