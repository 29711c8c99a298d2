"""SNGAN: residual networks with spectral normalisation (Miyato et al., 2018).

Paper: https://arxiv.org/abs/1802.05957, section 2 and the residual networks of appendix B.4 (tables 4 to 6). At the size for
CIFAR-10 (32x32x3, widths 256 and 128, 128 latents) the generator has 4,276,739 parameters, the discriminator 1,053,825.

Two shapes are the paper's: the same width everywhere, as for CIFAR-10 (`widths: constant`), and widths that double with
each halving of the picture, as for 128x128 (`doubling`: 64 next to the picture, 1024 at 4x4).

Conditional models follow Miyato and Koyama (2018, https://arxiv.org/abs/1802.05637): batch normalisation with a gain and a bias
for each class in the generator's blocks, and the projection discriminator; or, as in the AC-GAN (Odena et al., 2017), a
discriminator that also classifies.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ganzoo.networks.base import Discriminator, DiscriminatorOutput, Generator
from ganzoo.networks.config import MinibatchConfig
from ganzoo.networks.image import ImageGANConfig
from ganzoo.nn import (
    ConditionalBatchNorm2d,
    DiscriminatorBlock,
    GeneratorBlock,
    GroupedConv2d,
    MinibatchLogit,
    Projection,
    check_labels,
    init_xavier_,
    norm_and_rectify,
    normalise_spectrally,
    rectify,
    sum_pixels,
)
from ganzoo.registry import register_family


class SNGANConfig(MinibatchConfig, ImageGANConfig):
    """Config of the SNGAN pair."""

    resolution: int = Field(
        32, ge=16, le=128, description="Height and width in pixels; a power of two from 16 to 128."
    )
    latent_dim: int = Field(128, ge=1, le=4096, description="Numbers in a latent vector.")
    generator_width: int = Field(
        256, ge=1, le=1024, description="Channels of the generator's blocks; with doubling, of the last."
    )
    discriminator_width: int = Field(
        128, ge=1, le=1024, description="Channels of the discriminator's blocks; with doubling, of the first."
    )
    widths: Literal["constant", "doubling"] = Field(
        "constant", description="Whether channels double with each halving of the picture (up to 16 times the width)."
    )
    conditioning: Literal["projection", "auxiliary"] = Field(
        "projection",
        description="How a conditional discriminator uses labels: the inner product with an embedding, or a classifier "
        "beside the logit.",
    )

    @property
    def generator_widths(self) -> list[int]:
        """Channels of the 4x4 picture, then of each block's output: 4x4 to the full resolution."""
        levels = self.resolution.bit_length() - 3
        doublings = [max(0, levels - 1 - level) if self.widths == "doubling" else 0 for level in range(levels)]
        blocks = [self.generator_width * 2 ** min(number, 4) for number in doublings]
        return [blocks[0], *blocks]

    @property
    def discriminator_widths(self) -> list[tuple[int, bool]]:
        """Channels of each block's output and whether it halves the picture.

        Constant: down to 8x8, then two blocks more; doubling: down to 4x4, then one more.
        """
        levels = self.resolution.bit_length() - 1 - (2 if self.widths == "doubling" else 3)
        doublings = range(levels) if self.widths == "doubling" else [0] * levels
        down = [(self.discriminator_width * 2 ** min(number, 4), True) for number in doublings]
        return [*down, *[(down[-1][0], False)] * (1 if self.widths == "doubling" else 2)]


class SNGANGenerator(Generator):
    """Residual blocks from 4x4 up, each twice as fine as the last.

    Latents (B, latent_dim), labels (B,) of a conditional model -> pictures (B, channels, resolution, resolution) in
    [-1, 1].
    """

    def __init__(self, config: SNGANConfig) -> None:
        super().__init__(config)
        first, *widths = config.generator_widths
        norm = nn.BatchNorm2d
        if config.num_classes is not None:
            norm = partial(ConditionalBatchNorm2d, num_classes=config.num_classes)
        self.project = nn.Linear(config.latent_dim, 4 * 4 * first)
        self.blocks = nn.ModuleList(
            GeneratorBlock(*pair, norm) for pair in zip([first, *widths], widths, strict=False)
        )
        self.norm = nn.BatchNorm2d(widths[-1])
        self.to_image = GroupedConv2d(widths[-1], config.channels, 3, padding=1)
        for layer in (self.project, self.to_image):
            init_xavier_(layer)

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        check_labels(labels, self.config.num_classes, len(latents))
        # Rows ordered (height, width, channel): channels-last without a copy.
        hidden = self.project(latents).view(len(latents), 4, 4, -1).permute(0, 3, 1, 2)
        for block in self.blocks:
            hidden = block(hidden, labels)
        return torch.tanh(self.to_image(norm_and_rectify(self.norm, hidden)))

    def latent_weight(self) -> Tensor:
        return self.project.weight


class ResidualDiscriminator(Discriminator):
    """Residual blocks down to 8x8 or 4x4, the sum or mean over the pixels, one logit.

    Pictures (B, channels, resolution, resolution), labels (B,) of a conditional model -> one output, logits (B,), and with
    `conditioning: auxiliary` class logits (B, num_classes).
    """

    pool: ClassVar[Callable[[Tensor], Tensor]]

    def __init__(self, config: SNGANConfig, norm: Callable[[int], nn.Module] = nn.Identity) -> None:
        super().__init__(config)
        blocks, inputs = [], config.channels
        for outputs, down in config.discriminator_widths:
            blocks.append(DiscriminatorBlock(inputs, outputs, down=down, first=not blocks, norm=norm))
            inputs = outputs
        self.blocks = nn.ModuleList(blocks)
        classifies = config.num_classes is not None and config.conditioning == "auxiliary"
        self.to_logit = Projection(inputs, None if classifies else config.num_classes)
        self.to_classes = nn.Linear(inputs, config.num_classes) if classifies else None
        self.minibatch = MinibatchLogit(inputs, config.minibatch_discrimination, config.minibatch_std)
        init_xavier_(self.to_logit)
        if classifies:
            init_xavier_(self.to_classes)

    def forward(self, samples: Tensor, labels: Tensor | None = None) -> list[DiscriminatorOutput]:
        check_labels(labels, self.config.num_classes, len(samples))
        hidden, features = samples, []
        for block in self.blocks:
            hidden = block(hidden)
            features.append(hidden)
        pooled = self.pool(rectify(hidden)).to(self.dtype)
        if self.to_classes is None:
            return [DiscriminatorOutput(self.minibatch(self.to_logit(pooled, labels), hidden), features)]
        logits = self.minibatch(self.to_logit(pooled), hidden)
        return [DiscriminatorOutput(logits, features, self.to_classes(pooled))]


class SNGANDiscriminator(ResidualDiscriminator):
    """The sum over the pixels, and spectral norm of every layer's weight."""

    pool = staticmethod(sum_pixels)

    def __init__(self, config: SNGANConfig) -> None:
        super().__init__(config)
        normalise_spectrally(self)


@register_family("sngan", modality="image", paper="https://arxiv.org/abs/1802.05957")
class SNGAN:
    """The paper's loss for its residual networks; Adam 2e-4 (0, 0.9) and 5 discriminator updates are in the recipes."""

    config = SNGANConfig
    generator = SNGANGenerator
    discriminator = SNGANDiscriminator
    objective = {"loss": "hinge"}
    tiny = {"resolution": 16, "channels": 1, "generator_width": 8, "discriminator_width": 8, "latent_dim": 8}
