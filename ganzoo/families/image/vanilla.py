"""The first GAN: two fully connected networks (Goodfellow et al., 2014).

Paper: https://arxiv.org/abs/1406.2661, section 5: rectifiers in the generator, maxout and dropout in the discriminator. They see
pictures as rows of numbers, so any shape will do: pictures of any size, and points of the plane (`dimensions`), on which the
modes that a GAN covers can be counted (Lin et al., 2018, section 4.1: four layers of 400 with batch normalisation against three
of 200 maxout units).

Conditional models (`num_classes`) see the label, one-hot, beside the input of both networks (Mirza and Osindero, 2014); the
network of that paper is the family `cgan`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from ganzoo.networks.base import Discriminator, DiscriminatorOutput, Generator
from ganzoo.networks.config import StabilisedConfig, check_free
from ganzoo.networks.image import ImageGANConfig
from ganzoo.nn import Maxout, MinibatchLogit, check_labels, normalise
from ganzoo.registry import register_family

Widths = Annotated[tuple[Annotated[int, Field(ge=1, le=16_384)], ...], Field(min_length=1, max_length=16)]


class VanillaConfig(StabilisedConfig, ImageGANConfig):
    """Config of the fully connected pair; by default close to the paper's for 28x28 digits."""

    resolution: int = Field(32, ge=4, le=256, description="Height and width of the pictures; a power of two.")
    channels: int = Field(1, ge=1, le=64, description="Channels of the pictures: 1 for grey, 3 for RGB.")
    dimensions: int | None = Field(
        None, ge=1, le=4096, description="Points of so many coordinates instead of pictures; null for pictures."
    )
    binary_latents: int = Field(
        0,
        ge=0,
        le=4096,
        description="How many of the latents are -1 or 1 instead of normal: what lies apart need not be joined by a path.",
    )
    scale: float = Field(1.0, gt=0, le=1e9, description="Of points: what their coordinates are divided by.")
    generator_widths: Widths = Field((1200, 1200), description="Units of the generator's hidden layers.")
    generator_norm: Literal["batch", "none"] = Field("none", description="Normalisation after its hidden layers.")
    discriminator_widths: Widths = Field((240, 240), description="Units of the discriminator's hidden layers.")
    maxout_pieces: int = Field(
        5, ge=1, le=64, description="Linear maps of which a unit is the largest; 1 for leaky rectifiers instead."
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="Dropout of the discriminator's hidden layers (paper: used).")

    @model_validator(mode="after")
    def _possible(self) -> VanillaConfig:
        if self.binary_latents > self.latent_dim:
            raise ValueError(f"binary_latents={self.binary_latents} are more than latent_dim={self.latent_dim}")
        if self.scale != 1.0 and self.dimensions is None:
            raise ValueError("scale is of points; set dimensions, or leave scale out")
        return self

    @property
    def sample_shape(self) -> tuple[int, ...]:
        if self.dimensions is not None:
            return (self.dimensions,)
        return (self.channels, self.resolution, self.resolution)

    def _packed_field(self) -> str | None:
        return "channels" if self.dimensions is None else "dimensions"

    @classmethod
    def processor_type(cls, values: Mapping[str, Any], overrides: Mapping[str, Any]) -> str | None:
        return "points" if values.get("dimensions") is not None else super().processor_type(values, overrides)

    def processor(self, **overrides: Any) -> Any:
        from ganzoo.processors import PointsProcessor

        if self.dimensions is None:
            return super().processor(**overrides)
        shape = {"dimensions": self.dimensions, "scale": self.scale}
        check_free(shape, overrides)
        return PointsProcessor.from_dict({**shape, **overrides})


class VanillaGenerator(Generator):
    """Latents (B, latent_dim), labels (B,) of a conditional model -> pictures (B, channels, resolution, resolution) in
    [-1, 1], or points (B, dimensions)."""

    def __init__(self, config: VanillaConfig) -> None:
        super().__init__(config)
        widths = [config.latent_dim + (config.num_classes or 0), *config.generator_widths]
        layers: list[nn.Module] = []
        for inputs, outputs in zip(widths, widths[1:], strict=False):
            layers.append(_linear(inputs, outputs, math.sqrt(2)))
            layers += [nn.BatchNorm1d(outputs)] if config.generator_norm == "batch" else []
            layers.append(nn.ReLU(inplace=True))
        self.hidden = nn.Sequential(*layers)
        self.output = _linear(widths[-1], math.prod(config.sample_shape), 1.0)

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        check_labels(labels, self.config.num_classes, len(latents))
        flat = self.output(self.hidden(_with_labels(latents, labels, self.config.num_classes)))
        if self.config.dimensions is None:
            flat = torch.tanh(flat)
        return flat.view(len(latents), *self.config.sample_shape)

    def sample_latents(self, num_samples: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Latents (B, latent_dim): the first `binary_latents` of them -1 or 1, the others normal (Brock et al., 2019,
        appendix E, tried such latents). A continuous map of normal ones alone would have to draw what lies between two modes.
        """
        return self._with_signs(super().sample_latents(num_samples, generator=generator))

    def truncate(self, latents: Tensor, truncation: float, labels: Tensor | None = None) -> Tensor:
        return self._with_signs(super().truncate(latents, truncation, labels))

    def _with_signs(self, latents: Tensor) -> Tensor:
        signs, normal = latents.tensor_split([self.config.binary_latents], dim=1)
        return torch.cat([torch.where(signs < 0, -1.0, 1.0).to(normal.dtype), normal], dim=1)

    def latent_weight(self) -> Tensor:
        return self.hidden[0].weight[:, : self.config.latent_dim]


class VanillaDiscriminator(Discriminator):
    """Samples, labels (B,) of a conditional model -> one output, logits (B,)."""

    def __init__(self, config: VanillaConfig) -> None:
        super().__init__(config)
        inputs = math.prod(config.sample_shape) + (config.num_classes or 0)
        widths = [inputs, *config.discriminator_widths]
        self.layers = nn.ModuleList(
            _hidden(before, after, config.maxout_pieces) for before, after in zip(widths, widths[1:], strict=False)
        )
        self.dropout = nn.Dropout(config.dropout) if config.dropout else nn.Identity()
        self.output = _linear(widths[-1], 1, 1.0)
        self.minibatch = MinibatchLogit(widths[-1], config.minibatch_discrimination, config.minibatch_std)
        normalise(self, config.discriminator_norm, self.layers[1:])

    def forward(self, samples: Tensor, labels: Tensor | None = None) -> list[DiscriminatorOutput]:
        check_labels(labels, self.config.num_classes, len(samples))
        hidden = _with_labels(samples.flatten(1), labels, self.config.num_classes)
        features = []
        for layer in self.layers:
            hidden = self.dropout(layer(hidden))
            features.append(hidden)
        return [DiscriminatorOutput(self.minibatch(self.output(hidden)[:, 0], hidden), features)]


def _with_labels(inputs: Tensor, labels: Tensor | None, num_classes: int | None) -> Tensor:
    if num_classes is None:
        return inputs
    return torch.cat([inputs, F.one_hot(labels, num_classes).to(inputs.dtype)], dim=1)


def _hidden(inputs: int, outputs: int, pieces: int) -> nn.Module:
    if pieces > 1:
        return Maxout(inputs, outputs, pieces)
    return nn.Sequential(_linear(inputs, outputs, math.sqrt(2)), nn.LeakyReLU(0.2, inplace=True))


def _linear(inputs: int, outputs: int, gain: float) -> nn.Linear:
    """A layer whose outputs have the variance of its inputs (times gain^2 / 2 behind a rectifier)."""
    layer = nn.Linear(inputs, outputs)
    nn.init.normal_(layer.weight, 0.0, gain / math.sqrt(inputs))
    nn.init.zeros_(layer.bias)
    return layer


@register_family("vanilla", modality="image", paper="https://arxiv.org/abs/1406.2661")
class Vanilla:
    """The paper's training is the minimax game with the non-saturating generator; SGD with momentum there, Adam in the recipes."""

    config = VanillaConfig
    generator = VanillaGenerator
    discriminator = VanillaDiscriminator
    objective = {"loss": "non-saturating"}
    tiny = {
        "resolution": 8,
        "latent_dim": 4,
        "generator_widths": (8,),
        "discriminator_widths": (6, 4),
        "maxout_pieces": 2,
    }
