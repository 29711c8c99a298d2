"""Progressive GAN: pictures that grow from 4x4 pixels while the networks train (Karras et al., 2018).

Paper: https://arxiv.org/abs/1710.10196, section 2 (growing), 3 (minibatch standard deviation), 4 (equalised learning rate,
pixel norm), appendix A and table 2 (networks and training). At 1024x1024 with the paper's widths the generator has 23,079,115
parameters and the discriminator 23,087,249: the 23.1 million each of table 2. The layers to and from pictures of the lower
resolutions are among them (7,608 and 10,112).

**Levels.** Level 0 makes 4x4 pictures, each further one doubles their size; all layers exist from the start, so that a
checkpoint of any stage has the same tensors and optimisers never change. A recipe's phases name the level of each stage and
how long it is faded in: between k - 1 and k, the generator blends its picture of level k with the enlarged one of level
k - 1, the discriminator blends what it makes of both sizes, and real pictures are blended alike (section 2, figure 2).

Conditional models (`num_classes`) are not in the paper: the generator sees the label as an embedding beside the normalised
latents; the discriminator judges by projection (Miyato and Koyama, 2018), or also tells the classes apart (Odena et al.,
2017).
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ganzoo.networks.base import Discriminator, DiscriminatorOutput, Generator
from ganzoo.networks.config import DiscriminatorNormConfig, MinibatchDiscriminationConfig
from ganzoo.networks.image import ImageGANConfig
from ganzoo.nn import (
    HE_GAIN,
    EqualisedConv2d,
    EqualisedLinear,
    EqualisedUpsampleConv2d,
    MinibatchLogit,
    PixelNorm,
    check_labels,
    minibatch_std,
    normalise,
    rectify,
)
from ganzoo.nn.growing import Growing, enlarge, shrink
from ganzoo.registry import register_family

START = 4  # pixels of level 0


class ProgressiveConfig(MinibatchDiscriminationConfig, DiscriminatorNormConfig, ImageGANConfig):
    """Config of the progressive pair."""

    resolution: int = Field(
        64, ge=8, le=1024, description="Height and width of the finished pictures, in pixels; a power of two from 8."
    )
    latent_dim: int = Field(512, ge=1, le=4096, description="Numbers in a latent vector.")
    fmap_base: int = Field(
        8192,
        ge=8,
        le=65_536,
        description="Channels times half the resolution, 8192 in the paper: 16 channels at 1024x1024, 32 at 512x512 ...",
    )
    max_channels: int = Field(
        512, ge=1, le=2048, description="No layer gets more channels than this (fmap_max in the paper's code)."
    )
    output: Literal["linear", "tanh"] = Field(
        "linear",
        description="What ends the generator: nothing, as in the paper, or tanh, which saturates at plain black and white.",
    )
    minibatch_group: int = Field(
        4, ge=1, le=256, description="Samples that the minibatch standard deviation compares; 1 for none."
    )
    label_dim: int = Field(50, ge=1, le=1024, description="Size of a conditional generator's label embeddings.")
    conditioning: Literal["projection", "classifier"] = Field(
        "projection", description="How a conditional discriminator uses labels: in its judgement, or as a second task."
    )

    @property
    def level_channels(self) -> list[int]:
        """Channels at 4x4, 8x8 ... up to the resolution."""
        levels = self.resolution.bit_length() - START.bit_length() + 1
        return [min(max(2 * self.fmap_base // (START << level), 1), self.max_channels) for level in range(levels)]


class ProgressiveGenerator(Growing, Generator):
    """A growing stack of convolutions from a latent vector to a picture (paper, table 2 left).

    Latents (B, latent_dim), labels (B,) of a conditional model -> pictures (B, channels, R, R). In training R is the level's
    resolution, and values are not bounded unless `output` is tanh; in use R is the config's resolution at every level, and
    values are in [-1, 1].
    """

    def __init__(self, config: ProgressiveConfig) -> None:
        super().__init__(config)
        channels = config.level_channels
        conditional = config.num_classes is not None
        self.label_embedding = nn.Embedding(config.num_classes, config.label_dim) if conditional else None
        self.normalise = PixelNorm()
        first = _Start(config.latent_dim + (config.label_dim if conditional else 0), channels[0])
        self.blocks = nn.ModuleList([first, *map(_Doubling, channels, channels[1:])])
        self.to_image = nn.ModuleList(EqualisedConv2d(width, config.channels, 1) for width in channels)
        self.begin_at_top(len(channels) - 1)

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        check_labels(labels, self.config.num_classes, len(latents))
        hidden = self.normalise(latents)
        if self.label_embedding is not None:
            # Of length about 1, against the latents' sqrt(latent_dim): louder labels drown the latents.
            embedded = self.label_embedding(labels) * self.config.label_dim**-0.5
            hidden = torch.cat([hidden, embedded.to(hidden.dtype)], dim=1)
        level, below = self.upper_level, None
        for block in self.blocks[: level + 1]:
            below, hidden = hidden, block(hidden)
        pictures = self._draw(level, hidden)
        if self.fade is not None:
            smaller = self._draw(level - 1, below)
            pictures = torch.lerp(enlarge(smaller, pictures.shape[-1]), pictures, self.fade)
        return pictures if self.training else enlarge(pictures, self.config.resolution).clamp(-1, 1)

    def _draw(self, level: int, hidden: Tensor) -> Tensor:
        pictures = self.to_image[level](hidden)
        return pictures if self.config.output == "linear" else torch.tanh(pictures)

    def latent_weight(self) -> Tensor:
        return self.blocks[0].dense.weight[:, : self.config.latent_dim]

    def match(self, samples: Tensor) -> Tensor:
        """Pictures (B, channels, R, R) averaged down to the level's size, and as blurred as the generator's are while a
        level is faded in."""
        pictures = shrink(samples, START << self.upper_level)
        if self.fade is None:
            return pictures
        return torch.lerp(enlarge(F.avg_pool2d(pictures, 2), pictures.shape[-1]), pictures, self.fade)


class ProgressiveDiscriminator(Growing, Discriminator):
    """The generator mirrored, with the standard deviation over the minibatch near its end (paper, table 2 right).

    Pictures (B, channels, R, R) of the level's resolution or a multiple of it, labels (B,) of a conditional model -> one
    output, logits (B,).
    """

    def __init__(self, config: ProgressiveConfig) -> None:
        super().__init__(config)
        channels = config.level_channels
        self.from_image = nn.ModuleList(
            nn.Sequential(EqualisedConv2d(config.channels, width, 1, gain=HE_GAIN), _Rectifier()) for width in channels
        )
        self.blocks = nn.ModuleList(map(_Halving, channels[1:], channels))
        self.end = _End(channels[0], config.minibatch_group)
        self.to_logit = EqualisedLinear(channels[0], 1)
        projects = config.num_classes is not None and config.conditioning == "projection"
        classifies = config.num_classes is not None and config.conditioning == "classifier"
        self.label_embedding = nn.Embedding(config.num_classes, channels[0]) if projects else None
        self.to_classes = EqualisedLinear(channels[0], config.num_classes) if classifies else None
        self.minibatch = MinibatchLogit(channels[0], config.minibatch_discrimination)
        normalise(self, config.discriminator_norm, [*self.blocks, self.end])
        self.begin_at_top(len(channels) - 1)

    def forward(self, samples: Tensor, labels: Tensor | None = None) -> list[DiscriminatorOutput]:
        check_labels(labels, self.config.num_classes, len(samples))
        level = self.upper_level
        pictures = shrink(samples, START << level)
        hidden = self.from_image[level](pictures)
        features = []
        for above in reversed(range(level)):
            hidden = self.blocks[above](hidden)
            if above == level - 1 and self.fade is not None:
                hidden = torch.lerp(self.from_image[above](F.avg_pool2d(pictures, 2)), hidden, self.fade)
            features.append(hidden)
        hidden = self.end(hidden)
        logits = self.to_logit(hidden).flatten()
        if self.label_embedding is not None:
            embedded = self.label_embedding(labels) * hidden.shape[1] ** -0.5
            logits = logits + (embedded.to(hidden.dtype) * hidden).sum(dim=1)
        classes = None if self.to_classes is None else self.to_classes(hidden)
        return [DiscriminatorOutput(self.minibatch(logits, hidden), [*features, hidden], classes)]


class _Start(nn.Module):
    """Latents (B, inputs) -> (B, channels, 4, 4): a 4x4 convolution of one pixel, then a 3x3 one."""

    def __init__(self, inputs: int, channels: int) -> None:
        super().__init__()
        self.channels = channels
        # The convolution sees its one pixel padded to 7x7, which counts as inputs x 16 at its fan-in.
        self.dense = EqualisedLinear(inputs, channels * START**2, bias=False, gain=HE_GAIN / START)
        self.bias = nn.Parameter(torch.zeros(channels))
        self.after = nn.Sequential(_Rectifier(), PixelNorm(), *_convolution(channels, channels), PixelNorm())

    def forward(self, latents: Tensor) -> Tensor:
        # Ordered (height, width, channel): channels-last without a copy.
        pixels = self.dense(latents).view(len(latents), START, START, self.channels) + self.bias
        return self.after(pixels.permute(0, 3, 1, 2))


class _Doubling(nn.Sequential):
    """(B, inputs, R, R) -> (B, outputs, 2R, 2R): repeated pixels, two convolutions, pixel norm after each."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(
            nn.Identity(),  # saved weights count the layers, and once the pixels were repeated here
            EqualisedUpsampleConv2d(inputs, outputs, gain=HE_GAIN),
            _Rectifier(),
            PixelNorm(),
            *_convolution(outputs, outputs),
            PixelNorm(),
        )


class _Halving(nn.Sequential):
    """(B, inputs, R, R) -> (B, outputs, R/2, R/2): two convolutions, averages of four pixels."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(*_convolution(inputs, inputs), *_convolution(inputs, outputs), nn.AvgPool2d(2))


class _End(nn.Module):
    """(B, channels, 4, 4) -> (B, channels): minibatch standard deviation, a 3x3 and a 4x4 convolution."""

    def __init__(self, channels: int, group: int) -> None:
        super().__init__()
        self.group = group
        self.convolution = nn.Sequential(*_convolution(channels + (group > 1), channels))
        self.dense = EqualisedLinear(channels * START**2, channels, gain=HE_GAIN)
        self.rectifier = _Rectifier()

    def forward(self, hidden: Tensor) -> Tensor:
        if self.group > 1:
            hidden = minibatch_std(hidden, self.group)
        # Rows ordered (height, width, channel), as the memory is.
        rows = self.convolution(hidden).permute(0, 2, 3, 1).flatten(1)
        return self.rectifier(self.dense(rows))


def _convolution(inputs: int, outputs: int) -> list[nn.Module]:
    return [EqualisedConv2d(inputs, outputs, 3, gain=HE_GAIN), _Rectifier()]


class _Rectifier(nn.Module):
    """Leaky, in place: what comes in is a convolution's output, which nobody else needs."""

    def forward(self, hidden: Tensor) -> Tensor:
        return rectify(hidden, 0.2, inplace=True)


@register_family("progressive", modality="image", paper="https://arxiv.org/abs/1710.10196")
class Progressive:
    """The paper's training: Wasserstein loss with gradient penalty and drift; Adam 1e-3 (0, 0.99) is in the recipes."""

    config = ProgressiveConfig
    generator = ProgressiveGenerator
    discriminator = ProgressiveDiscriminator
    objective = {
        "loss": "wasserstein",
        "penalties": [{"type": "gradient-penalty", "weight": 10.0}, {"type": "drift", "weight": 0.001}],
    }
    # Two levels to grow by. Pixel norm over fewer channels would amplify the rounding of half precision.
    tiny = {"resolution": 16, "channels": 1, "latent_dim": 8, "fmap_base": 512, "max_channels": 64}
