"""LAPGAN: a chain of generators, each of which sharpens what the one before made (Denton et al., 2015).

Paper: https://arxiv.org/abs/1506.05751, section 2.2 (Laplacian pyramid), section 2.3 (LAPGAN), section 4 (networks). A
picture is taken apart into a small one and, for every doubling of its size, the band of detail that the doubled small one
lacks. The first generator makes the small picture; each further one makes a band from the picture so far and from noise.

**Levels.** Level 0 are pictures of `start` pixels, each further level doubles them. A level's pair trains on its own, in a
recipe's phase of that level: the coarse pictures that it sharpens are then those of real ones (equation 5), so that no level
waits for another. Its discriminator judges band plus coarse picture, which is the picture at that size, as the paper adds the
two before its first layer. In use the generators sample from coarse to fine (equation 4).

The paper's layers (two hidden dense ones of 1,200 and 600 units at the coarsest size, three and two convolutions above) have
here the widths of the config, as it names none for the convolutions, and the sizes are powers of two (its CIFAR-10 went from 8
by 14 to 28). Blurring is an average of four pixels, smoothing bilinear interpolation, so that pictures of one level lie on each
other. Labels enter as in section 4.1: as a plane beside the first layer's maps.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn

from ganzoo.errors import UserError
from ganzoo.networks.base import Batch, Discriminator, DiscriminatorOutput, Generator
from ganzoo.networks.config import StabilisedConfig
from ganzoo.networks.image import ImageGANConfig
from ganzoo.nn import Conv2d, MinibatchLogit, check_labels, init_he_, normalise
from ganzoo.nn.growing import Growing, shrink
from ganzoo.registry import register_family

# ------------------------------------------------------------------------------------------------------------ the pyramid


def reduce(pictures: Tensor) -> Tensor:
    """Blurs and decimates: averages of four pixels, (B, C, H, W) -> (B, C, H/2, W/2)."""
    return F.avg_pool2d(pictures, 2)


def expand(pictures: Tensor) -> Tensor:
    """Enlarges and smooths: bilinear interpolation, (B, C, H, W) -> (B, C, 2H, 2W)."""
    return F.interpolate(pictures, scale_factor=2, mode="bilinear", align_corners=False)


def laplacian_pyramid(pictures: Tensor, levels: int) -> list[Tensor]:
    """Takes pictures apart (equations 1 and 2): h_k = I_k - expand(I_k+1), with I_k+1 = reduce(I_k).

    Args:
        pictures: (B, C, H, W).
        levels: Bands to take off; H and W must be multiples of 2^levels.

    Returns:
        The small picture (B, C, H / 2^levels, ...), then the bands from coarse to fine.

    Raises:
        UserError: The size is not such a multiple.
    """
    if any(size % 2**levels for size in pictures.shape[2:]):
        raise UserError(f"pictures of {tuple(pictures.shape[2:])} pixels cannot be halved {levels} times")
    bands: list[Tensor] = []
    for _ in range(levels):
        smaller = reduce(pictures)
        bands.append(pictures - expand(smaller))
        pictures = smaller
    return [pictures, *reversed(bands)]


def from_pyramid(pyramid: list[Tensor]) -> Tensor:
    """Puts pictures together again (equation 3): I_k = expand(I_k+1) + h_k, from coarse to fine."""
    picture, *bands = pyramid
    for band in bands:
        picture = expand(picture) + band
    return picture


# ------------------------------------------------------------------------------------------------------------ the networks


class LAPGANConfig(StabilisedConfig, ImageGANConfig):
    """Config of the LAPGAN pair: of one generator and one discriminator a level, inside two networks."""

    resolution: int = Field(32, ge=8, le=256, description="Height and width in pixels; a power of two from 8 to 256.")
    start: int = Field(8, ge=4, le=32, description="Height and width of the coarsest pictures; a power of two.")
    latent_dim: int = Field(
        100, ge=1, le=4096, description="Numbers in the coarsest level's latents; every other has one for each pixel."
    )
    generator_units: int = Field(1200, ge=1, le=8192, description="Units of the coarsest generator's hidden layers.")
    discriminator_units: int = Field(
        600, ge=1, le=8192, description="Units of the coarsest discriminator's hidden layers."
    )
    width: int = Field(64, ge=1, le=512, description="Channels of the convolutions above it.")
    kernel_size: int = Field(5, ge=3, le=9, description="Height and width of their kernels; odd.")
    dropout: float = Field(0.5, ge=0, lt=1, description="Dropout in the discriminators.")
    label_dim: int = Field(50, ge=1, le=1024, description="Size of the label embeddings at the coarsest level.")

    @field_validator("start")
    @classmethod
    def _start_is_a_power_of_two(cls, value: int) -> int:
        if value & (value - 1):
            raise ValueError(f"must be a power of two, not {value}")
        return value

    @field_validator("kernel_size")
    @classmethod
    def _kernel_has_a_centre(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError(f"must be odd, not {value}")
        return value

    @model_validator(mode="after")
    def _has_levels(self) -> LAPGANConfig:
        if self.start >= self.resolution:
            raise ValueError(f"start={self.start} must be below resolution={self.resolution}")
        return self

    @property
    def sizes(self) -> list[int]:
        """Height and width at each level, coarsest first."""
        return [self.start << level for level in range((self.resolution // self.start).bit_length())]

    @property
    def latent_sizes(self) -> list[int]:
        """Numbers in each level's share of the latents."""
        return [self.latent_dim, *(size**2 for size in self.sizes[1:])]


class _ByLevel(Growing):
    """Levels that train one after another; nothing is faded in."""

    def set_level(self, level: float) -> None:
        if level != int(level):
            raise UserError(f"lapgan trains level by level and fades none in, so {level} is none; leave fade_in out")
        super().set_level(level)


class LAPGANGenerator(_ByLevel, Generator):
    """All levels' generators, run from coarse to fine up to the level in use (paper, figure 1).

    Latents (B, sum of the config's latent_sizes): the first level's, then the noise planes of the others; labels (B,) of a
    conditional model -> pictures (B, channels, R, R). In training R is the level's size, and with a condition, coarse
    pictures (B, channels, R, R), the finest band alone is made anew; in use R is the resolution at every level, in [-1, 1].
    """

    def __init__(self, config: LAPGANConfig) -> None:
        super().__init__(config)
        finer = [_BandGenerator(config, size) for size in config.sizes[1:]]
        self.levels = nn.ModuleList([_FirstGenerator(config), *finer])
        _init_he_(self)
        self.begin_at_top(len(finer))

    def forward(self, latents: Tensor, labels: Tensor | None = None, condition: Tensor | None = None) -> Tensor:
        check_labels(labels, self.config.num_classes, len(latents))
        shares = latents.split(self.config.latent_sizes, dim=1)
        level = self.upper_level
        if condition is not None and level > 0:
            return condition + self.levels[level](shares[level], condition, labels)
        picture = self.levels[0](shares[0], labels)
        for share, finer in zip(shares[1 : level + 1], self.levels[1 : level + 1], strict=True):
            coarse = expand(picture)
            picture = coarse + finer(share, coarse, labels)
        if self.training:
            return picture
        for _ in range(level, self.top_level):
            picture = expand(picture)
        return picture.clamp(-1, 1)

    def match(self, samples: Tensor) -> Tensor:
        """Pictures (B, channels, R, R) averaged down to the level's size."""
        return shrink(samples, self.config.sizes[self.upper_level])

    def condition(self, batch: Batch) -> Tensor | None:
        """The coarse version of the real pictures (B, channels, R, R), which lacks their finest band; None at level 0."""
        return expand(reduce(batch.samples)) if self.upper_level else None

    @property
    def latent_size(self) -> int:
        """Every level's noise, as one vector."""
        return sum(self.config.latent_sizes)

    def latent_weight(self) -> Tensor:
        """Of the coarsest level's first layer, which decides what is drawn; zero for the noise planes, which decide details."""
        weight = self.levels[0].layers[0].weight[:, : self.config.latent_dim]
        return F.pad(weight, (0, sum(self.config.latent_sizes[1:])))


class LAPGANDiscriminator(_ByLevel, Discriminator):
    """All levels' discriminators, of which the one of the level in use judges.

    Pictures (B, channels, R, R) of the level's size or a multiple of it, labels (B,) of a conditional model -> one output,
    logits (B,). The condition is in the picture already: the discriminator sees the sum of coarse version and band.
    """

    def __init__(self, config: LAPGANConfig) -> None:
        super().__init__(config)
        finer = [_PictureDiscriminator(config, size) for size in config.sizes[1:]]
        self.levels = nn.ModuleList([_FirstDiscriminator(config), *finer])
        _init_he_(self)
        normalise(self, config.discriminator_norm, [level.second for level in self.levels])
        self.begin_at_top(len(finer))

    def forward(
        self, samples: Tensor, labels: Tensor | None = None, condition: Tensor | None = None
    ) -> list[DiscriminatorOutput]:
        check_labels(labels, self.config.num_classes, len(samples))
        level = self.upper_level
        logits, features = self.levels[level](shrink(samples, self.config.sizes[level]), labels)
        return [DiscriminatorOutput(logits, features)]


class _FirstGenerator(nn.Module):
    """Latents (B, latent_dim) -> the coarsest pictures (B, channels, start, start), by dense layers."""

    def __init__(self, config: LAPGANConfig) -> None:
        super().__init__()
        self.shape = config.channels, config.start, config.start
        self.label_embedding = _embedding(config, config.label_dim)
        inputs = config.latent_dim + (0 if self.label_embedding is None else config.label_dim)
        units = config.generator_units
        self.layers = nn.Sequential(
            *(nn.Linear(inputs, units), nn.ReLU(), nn.Linear(units, units), nn.ReLU()),
            nn.Linear(units, config.channels * config.start**2),
        )

    def forward(self, latents: Tensor, labels: Tensor | None) -> Tensor:
        return self.layers(_beside(latents, self.label_embedding, labels)).view(-1, *self.shape)


class _FirstDiscriminator(nn.Module):
    """The coarsest pictures -> logits (B,) and features, by dense layers."""

    def __init__(self, config: LAPGANConfig) -> None:
        super().__init__()
        self.label_embedding = _embedding(config, config.label_dim)
        inputs = config.channels * config.start**2 + (0 if self.label_embedding is None else config.label_dim)
        units = config.discriminator_units
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Linear(size, units), nn.ReLU(), nn.Dropout(config.dropout)) for size in (inputs, units)
        )
        self.to_logit = nn.Linear(units, 1)
        self.minibatch = MinibatchLogit(units, config.minibatch_discrimination, config.minibatch_std)

    @property
    def second(self) -> nn.Module:
        return self.layers[1]

    def forward(self, pictures: Tensor, labels: Tensor | None) -> tuple[Tensor, list[Tensor]]:
        first_hidden = self.layers[0](_beside(pictures.flatten(1), self.label_embedding, labels))
        second_hidden = self.second(first_hidden)
        logits = self.minibatch(self.to_logit(second_hidden)[:, 0], second_hidden)
        return logits, [first_hidden, second_hidden]


class _BandGenerator(nn.Module):
    """Noise (B, size^2) as one more plane of coarse pictures (B, channels, size, size) -> the band of detail that they lack."""

    def __init__(self, config: LAPGANConfig, size: int) -> None:
        super().__init__()
        self.label_plane = _embedding(config, size**2)
        self.first = _convolution(config, config.channels + 1, config.width)
        self.second = _convolution(config, config.width + (self.label_plane is not None), config.width)
        self.to_band = _convolution(config, config.width, config.channels)

    def forward(self, noise: Tensor, coarse: Tensor, labels: Tensor | None) -> Tensor:
        planes = noise.view(-1, 1, *coarse.shape[2:]).to(coarse.dtype)
        hidden = self.first(torch.cat([coarse, planes], dim=1)).relu()
        hidden = self.second(_with_plane(hidden, self.label_plane, labels)).relu()
        return self.to_band(hidden)


class _PictureDiscriminator(nn.Module):
    """Pictures (B, channels, size, size) -> logits (B,) and features, by two convolutions of stride 2."""

    def __init__(self, config: LAPGANConfig, size: int) -> None:
        super().__init__()
        self.label_plane = _embedding(config, (size // 2) ** 2)
        self.first = _convolution(config, config.channels, config.width, stride=2)
        self.second = _convolution(config, config.width + (self.label_plane is not None), config.width, stride=2)
        self.dropout = nn.Dropout(config.dropout)
        self.to_logit = nn.Linear(config.width * (size // 4) ** 2, 1)
        self.minibatch = MinibatchLogit(config.width, config.minibatch_discrimination, config.minibatch_std)

    def forward(self, pictures: Tensor, labels: Tensor | None) -> tuple[Tensor, list[Tensor]]:
        first = self.first(pictures).relu()
        second = self.second(_with_plane(first, self.label_plane, labels)).relu()
        logits = self.to_logit(self.dropout(second).flatten(1))[:, 0]
        return self.minibatch(logits, second), [first, second]


def _convolution(config: LAPGANConfig, inputs: int, outputs: int, stride: int = 1) -> Conv2d:
    return Conv2d(inputs, outputs, config.kernel_size, stride=stride, padding=config.kernel_size // 2)


def _init_he_(network: nn.Module) -> None:
    """He's start; bands begin at about a tenth of the pictures' size, as small as real ones are."""
    init_he_(network)
    for name, parameter in network.named_parameters():
        if name.endswith("to_band.weight"):
            nn.init.normal_(parameter, 0.0, 0.1 / math.sqrt(parameter[0].numel()))


def _embedding(config: LAPGANConfig, size: int) -> nn.Embedding | None:
    """Label vectors of length about 1: louder ones drown the noise. A linear layer of one-hot labels is the same."""
    if config.num_classes is None:
        return None
    embedding = nn.Embedding(config.num_classes, size)
    nn.init.normal_(embedding.weight, 0.0, min(size, config.label_dim) ** -0.5)
    return embedding


def _beside(rows: Tensor, embedding: nn.Embedding | None, labels: Tensor | None) -> Tensor:
    return rows if embedding is None else torch.cat([rows, embedding(labels).to(rows.dtype)], dim=1)


def _with_plane(maps: Tensor, embedding: nn.Embedding | None, labels: Tensor | None) -> Tensor:
    if embedding is None:
        return maps
    return torch.cat([maps, embedding(labels).view(-1, 1, *maps.shape[2:]).to(maps.dtype)], dim=1)


@register_family("lapgan", modality="image", paper="https://arxiv.org/abs/1506.05751")
class LAPGAN:
    """The paper's loss (equation 5) in its non-saturating form; its phases are in the recipes."""

    config = LAPGANConfig
    generator = LAPGANGenerator
    discriminator = LAPGANDiscriminator
    objective = {"loss": "non-saturating"}
    tiny = {
        **{"resolution": 16, "start": 4, "channels": 1, "latent_dim": 8, "width": 4},
        **{"generator_units": 16, "discriminator_units": 16},
    }
