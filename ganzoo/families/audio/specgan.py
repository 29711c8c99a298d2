"""SpecGAN: spectrograms by two-dimensional convolutions (Donahue et al., 2019).

Paper: https://arxiv.org/abs/1802.04208, section 4 and the appendix's tables: a DCGAN of 5x5 kernels whose pictures are
normalised log-magnitude spectrograms. The processor (`ganzoo.processors.SpectrogramProcessor`) holds both directions of
that representation, with the statistics of the training data; Griffin-Lim brings back the phase. At 128 x 128 and width 64
the networks have as many parameters as WaveGAN's: 19,065,345 and 17,427,969.

Networks see (channels, frequencies, frames) = (channels, n_fft / 2, length / hop_length), both powers of two; layers of
stride 2 lead the larger one to 4: 128 x 128 starts at 4 x 4, 128 x 64 at 4 x 2.

Conditional models (`num_classes`) are not in the paper: the generator sees the label beside the latents, the discriminator
by projection (see `ganzoo.nn.audio`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from ganzoo.errors import UserError
from ganzoo.networks.audio import AudioGANConfig
from ganzoo.networks.base import Discriminator, DiscriminatorOutput, Generator, UniformLatents
from ganzoo.networks.config import StabilisedConfig
from ganzoo.nn import MinibatchLogit, check_labels, normalise
from ganzoo.nn.audio import DenseStart, ProjectionHead, SameConv2d, SameConvTranspose2d, init_glorot_
from ganzoo.registry import register_family

if TYPE_CHECKING:
    from ganzoo.processors import Processor

KERNEL_SIZE = 5


class SpecGANConfig(StabilisedConfig, AudioGANConfig):
    """Config of the SpecGAN pair."""

    length: int = Field(
        16_384, ge=64, le=2**20, description="Samples of a clip, in each channel: hop_length times a power of two."
    )
    n_fft: int = Field(
        256,
        ge=16,
        le=2048,
        description="Samples of a frame of the spectrogram, a power of two; it has half as many bins.",
    )
    hop_length: int = Field(
        128, ge=2, le=1024, description="Samples from one frame to the next; at most half of n_fft."
    )
    width: int = Field(
        64, ge=1, le=256, description="Channels of the layers next to the spectrogram; they double towards the start."
    )
    max_channels: int = Field(2048, ge=1, le=4096, description="No layer gets more channels than this.")
    label_dim: int = Field(50, ge=1, le=1024, description="Size of the label embeddings of a conditional generator.")

    @model_validator(mode="after")
    def _possible(self) -> SpecGANConfig:
        if self.n_fft & (self.n_fft - 1):
            raise ValueError(f"n_fft={self.n_fft} must be a power of two")
        if self.hop_length > self.n_fft // 2:
            raise ValueError(f"hop_length={self.hop_length} must be at most half of n_fft={self.n_fft}")
        frames, rest = divmod(self.length, self.hop_length)
        if rest or frames & (frames - 1):
            raise ValueError(f"length={self.length} must be hop_length={self.hop_length} times a power of two")
        bins, frames = self.picture_size
        if max(bins, frames) > 4 * min(bins, frames) or not 8 <= max(bins, frames) <= 1024:
            raise ValueError(
                f"the spectrogram would have {bins} frequencies (n_fft / 2) and {frames} frames (length / hop_length); one "
                "may be at most 4 times the other, and the larger from 8 to 1024"
            )
        return self

    @property
    def picture_size(self) -> tuple[int, int]:
        """Frequencies and frames of the spectrogram."""
        return self.n_fft // 2, self.length // self.hop_length

    @property
    def start_size(self) -> tuple[int, int]:
        """The same at the innermost layer."""
        bins, frames = self.picture_size
        shrink = max(bins, frames) // 4
        return bins // shrink, frames // shrink

    @property
    def hidden_channels(self) -> list[int]:
        """Channels from the start up to the layer next to the spectrogram, 1024-512-256-128-64 in the paper."""
        levels = max(self.picture_size).bit_length() - 3
        return [min(self.width * 2**level, self.max_channels) for level in reversed(range(levels))]

    @classmethod
    def processor_type(cls, values: Mapping[str, Any], overrides: Mapping[str, Any]) -> str | None:
        return "spectrogram"

    def processor(self, **overrides: Any) -> Processor:
        from ganzoo.processors import SpectrogramProcessor

        shape = self._shape(overrides)
        for name in ("n_fft", "hop_length"):
            if name in overrides:
                raise UserError(f"the processor's {name} is the model's; set model.{name} instead")
            shape[name] = getattr(self, name)
        return SpectrogramProcessor.from_dict({**shape, **overrides})


class SpecGANGenerator(UniformLatents, Generator):
    """Transposed convolutions from a latent vector to a spectrogram (paper, section 4).

    Latents (B, latent_dim) in [-1, 1], labels (B,) of a conditional model -> spectrograms (B, channels, n_fft / 2,
    length / hop_length) in [-1, 1].
    """

    def __init__(self, config: SpecGANConfig) -> None:
        super().__init__(config)
        hidden = config.hidden_channels
        self.start = DenseStart(
            config.latent_dim,
            hidden[0],
            config.start_size,
            num_classes=config.num_classes,
            label_dim=config.label_dim,
        )
        layers = [nn.ReLU(inplace=True)]
        for wide, narrow in zip(hidden, hidden[1:], strict=False):
            layers += [SameConvTranspose2d(wide, narrow, KERNEL_SIZE, 2), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers)
        self.to_spectrogram = SameConvTranspose2d(hidden[-1], config.channels, KERNEL_SIZE, 2)
        init_glorot_(self)

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        return torch.tanh(self.to_spectrogram(self.layers(self.start(latents, labels))))


class SpecGANDiscriminator(Discriminator):
    """Strided convolutions from a spectrogram to one logit; the generator mirrored (paper, section 4).

    Spectrograms (B, channels, n_fft / 2, length / hop_length), labels (B,) of a conditional model -> one output, logits
    (B,).
    """

    def __init__(self, config: SpecGANConfig) -> None:
        super().__init__(config)
        hidden = config.hidden_channels[::-1]
        layers = zip([config.channels, *hidden], hidden, strict=False)
        self.layers = nn.ModuleList(SameConv2d(inputs, outputs, KERNEL_SIZE, 2) for inputs, outputs in layers)
        self.activation = nn.LeakyReLU(0.2)
        self.head = ProjectionHead(hidden[-1], config.start_size, num_classes=config.num_classes)
        self.minibatch = MinibatchLogit(hidden[-1], config.minibatch_discrimination, config.minibatch_std)
        init_glorot_(self)
        normalise(self, config.discriminator_norm, self.layers[1:])

    def forward(self, samples: Tensor, labels: Tensor | None = None) -> list[DiscriminatorOutput]:
        check_labels(labels, self.config.num_classes, len(samples))
        hidden, features = samples, []
        for layer in self.layers:
            hidden = self.activation(layer(hidden))
            features.append(hidden)
        return [DiscriminatorOutput(self.minibatch(self.head(hidden, labels), hidden), features)]


@register_family("specgan", modality="audio", paper="https://arxiv.org/abs/1802.04208")
class SpecGAN:
    """The paper's training: Wasserstein loss with gradient penalty 10; five critic steps and Adam 1e-4 are the recipe's."""

    config = SpecGANConfig
    generator = SpecGANGenerator
    discriminator = SpecGANDiscriminator
    objective = {"loss": "wasserstein", "penalties": [{"type": "gradient-penalty", "weight": 10}]}
    tiny = {"length": 128, "sampling_rate": 1000, "n_fft": 32, "hop_length": 8, "width": 4, "latent_dim": 8}
