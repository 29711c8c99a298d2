"""WaveGAN: raw waveforms by one-dimensional convolutions (Donahue et al., 2019).

Paper: https://arxiv.org/abs/1802.04208, section 3 and the appendix's tables: DCGAN with the pictures' 5x5 kernels of stride
2 stretched to 25 taps of stride 4. At 16,384 samples and width 64 the networks are the paper's: 19,065,345 parameters in the
generator, 17,427,969 in the discriminator; at 32,768 and 65,536 samples they are those of its authors' code, with one more
layer. Padding is TensorFlow's (`ganzoo.nn.audio.same_margins`), so that their weights would fit.

**Lengths.** A clip has `start` x 4^n samples, or half of that: then the last layer of each network has stride 2. With
`start` 16 that is every power of two from 1,024 to 65,536. Other starts give other lengths, or the same in other ways:
8,192 samples are 16 x 4^4 x 2 or, at half the work, 8 x 4^5.

Conditional models (`num_classes`) are not in the paper: the generator sees the label beside the latents, the discriminator
by projection (see `ganzoo.nn.audio`).
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from ganzoo.networks.audio import AudioGANConfig
from ganzoo.networks.base import Discriminator, DiscriminatorOutput, Generator, UniformLatents
from ganzoo.networks.config import StabilisedConfig
from ganzoo.nn import MinibatchLogit, check_labels, normalise
from ganzoo.nn.audio import (
    DenseStart,
    NearestConv1d,
    PhaseShuffle,
    ProjectionHead,
    SameConv1d,
    SameConvTranspose1d,
    init_glorot_,
)
from ganzoo.nn.convolution1d import LeakyReLU
from ganzoo.registry import register_family

STRIDE = 4
# The authors' discriminator shuffles after its first four layers, however many there are, and never after the last.
SHUFFLED_LAYERS = 4


class WaveGANConfig(StabilisedConfig, AudioGANConfig):
    """Config of the WaveGAN pair."""

    length: int = Field(
        16_384,
        ge=1024,
        le=65_536,
        description="Samples of a clip, in each channel: start x 4^n or half of that; with the start of 16 a power of two.",
    )
    start: int = Field(
        16, ge=4, le=64, description="Time steps of the innermost layer; 8 makes 8,192 samples by strides of 4 alone."
    )
    width: int = Field(
        64, ge=1, le=256, description="Channels of the layers next to the waveform; they double towards the start."
    )
    max_channels: int = Field(2048, ge=1, le=4096, description="No layer gets more channels than this.")
    kernel_size: int = Field(25, ge=4, le=101, description="Taps of the convolutions.")
    upsample: Literal["transposed", "nearest"] = Field(
        "transposed", description="Transposed convolutions, or repeated samples and a convolution at the higher rate."
    )
    generator_norm: Literal["none", "batch"] = Field("none", description="Normalisation in the generator.")
    phase_shuffle: int = Field(
        2,
        ge=0,
        le=16,
        description="Largest random shift of the discriminator's activations (n in the paper); 0 for none.",
    )
    post_filter: int = Field(
        0,
        ge=0,
        le=4096,
        description="Taps of a learned filter of the generator's output, 512 in the paper; 0 for none.",
    )
    label_dim: int = Field(50, ge=1, le=1024, description="Size of the label embeddings of a conditional generator.")

    @model_validator(mode="after")
    def _possible(self) -> WaveGANConfig:
        ratio, rest = divmod(self.length, self.start)
        if rest or ratio < STRIDE or ratio & (ratio - 1):
            lengths = [self.start * 2**power for power in range(2, 15) if 1024 <= self.start * 2**power <= 65_536]
            raise ValueError(
                f"length={self.length} cannot be made from start={self.start}, only {', '.join(map(str, lengths))}"
            )
        if self.phase_shuffle > self.start:
            raise ValueError(f"phase_shuffle={self.phase_shuffle} must not exceed start={self.start}")
        return self

    @property
    def strides(self) -> list[int]:
        """Strides of the convolutions, in the order in which either network applies them: fours, maybe a two at the end."""
        doublings = (self.length // self.start).bit_length() - 1
        return [STRIDE] * (doublings // 2) + [2] * (doublings % 2)

    @property
    def hidden_channels(self) -> list[int]:
        """Channels from the start up to the layer next to the waveform, 1024-512-256-128-64 in the paper."""
        return [min(self.width * 2**level, self.max_channels) for level in reversed(range(len(self.strides)))]


class WaveGANGenerator(UniformLatents, Generator):
    """Transposed convolutions from a latent vector to a waveform (paper, section 3.2).

    Latents (B, latent_dim) in [-1, 1], labels (B,) of a conditional model -> waveforms (B, channels, length) in [-1, 1];
    the post filter, if there is one, may pass beyond.
    """

    def __init__(self, config: WaveGANConfig) -> None:
        super().__init__(config)
        hidden, norm = config.hidden_channels, config.generator_norm
        self.start = DenseStart(
            config.latent_dim,
            hidden[0],
            (config.start,),
            num_classes=config.num_classes,
            label_dim=config.label_dim,
            bias=norm == "none",
        )
        *strides, last = config.strides
        layers = [_activation(norm, hidden[0])]
        for wide, narrow, stride in zip(hidden, hidden[1:], strides, strict=False):
            layers.append(_up(config, wide, narrow, stride, bias=norm == "none"))
            layers.append(_activation(norm, narrow))
        self.layers = nn.Sequential(*layers)
        self.to_wave = _up(config, hidden[-1], config.channels, last)
        # One filter for each channel: stereo stays stereo.
        self.post_filter = (
            SameConv1d(config.channels, config.channels, config.post_filter, groups=config.channels, bias=False)
            if config.post_filter
            else None
        )
        init_glorot_(self)

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        waves = torch.tanh(self.to_wave(self.layers(self.start(latents, labels))))
        return waves if self.post_filter is None else self.post_filter(waves)


class WaveGANDiscriminator(Discriminator):
    """Strided convolutions from a waveform to one logit, with phase shuffle between them (paper, sections 3.2 and 3.3).

    Waveforms (B, channels, length), labels (B,) of a conditional model -> one output, logits (B,).
    """

    def __init__(self, config: WaveGANConfig) -> None:
        super().__init__(config)
        hidden = config.hidden_channels[::-1]
        layers = zip([config.channels, *hidden], hidden, config.strides, strict=False)
        self.layers = nn.ModuleList(
            SameConv1d(inputs, outputs, config.kernel_size, stride) for inputs, outputs, stride in layers
        )
        self.activation = LeakyReLU(0.2)
        self.phase_shuffle = PhaseShuffle(config.phase_shuffle)
        self.head = ProjectionHead(hidden[-1], (config.start,), num_classes=config.num_classes)
        self.minibatch = MinibatchLogit(hidden[-1], config.minibatch_discrimination, config.minibatch_std)
        init_glorot_(self)
        normalise(self, config.discriminator_norm, self.layers[1:])

    def forward(self, samples: Tensor, labels: Tensor | None = None) -> list[DiscriminatorOutput]:
        check_labels(labels, self.config.num_classes, len(samples))
        hidden, features = samples, []
        shuffled = min(SHUFFLED_LAYERS, len(self.layers) - 1)
        for number, layer in enumerate(self.layers):
            hidden = self.activation(layer(hidden))
            features.append(hidden)
            if number < shuffled:
                hidden = self.phase_shuffle(hidden)
        return [DiscriminatorOutput(self.minibatch(self.head(hidden, labels), hidden), features)]


def _up(config: WaveGANConfig, inputs: int, outputs: int, stride: int, *, bias: bool = True) -> nn.Module:
    kind = SameConvTranspose1d if config.upsample == "transposed" else NearestConv1d
    return kind(inputs, outputs, config.kernel_size, stride, bias=bias)


def _activation(norm: str, channels: int) -> nn.Module:
    activation = nn.ReLU(inplace=True)
    return nn.Sequential(nn.BatchNorm1d(channels), activation) if norm == "batch" else activation


@register_family("wavegan", modality="audio", paper="https://arxiv.org/abs/1802.04208")
class WaveGAN:
    """The paper's training: Wasserstein loss with gradient penalty 10; five critic steps and Adam 1e-4 are the recipe's."""

    config = WaveGANConfig
    generator = WaveGANGenerator
    discriminator = WaveGANDiscriminator
    objective = {"loss": "wasserstein", "penalties": [{"type": "gradient-penalty", "weight": 10}]}
    tiny = {"length": 1024, "sampling_rate": 1000, "width": 4, "latent_dim": 8}
