"""StyleGAN2: a generator whose every layer is steered by a style (Karras et al., 2020b).

Paper: https://arxiv.org/abs/1912.04958, sections 2 (demodulation), 3.2 (path lengths) and 4.1 (skip generator, residual
discriminator); the mapping network, style mixing, noise and truncation are those of StyleGAN (Karras et al., 2019,
https://arxiv.org/abs/1812.04948). The default config is the paper's configuration F at 1024x1024: 30,370,060 parameters in
the generator, 2,101,248 of them in its mapping network, and 29,012,513 in the discriminator.

**Styles.** The mapping network turns latents (B, latent_dim) into one style a layer, (B, num_styles, latent_dim). The
generator takes styles in place of latents: what projection finds, directions move and truncation returns.

**Noise.** In training every layer adds fresh noise. Outside of it each layer adds a picture of noise drawn once and saved
with the weights, so that a sample depends on its latents alone.

**Truncation.** A psi: the share that is left of a style's distance from the mean style (Karras et al., 2019, appendix B).
The mean is a running one, saved with the weights; a conditional model has one for each class, so that no class is lost.

Conditional models (`num_classes`) follow the authors' later work (Karras et al., 2020a, appendix C): the label's embedding
stands beside the latents at the mapping network's input, both normalised; the discriminator judges by projection (Miyato
and Koyama, 2018).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ganzoo.errors import UserError
from ganzoo.networks.base import Discriminator, DiscriminatorOutput, Generator
from ganzoo.networks.config import DiscriminatorNormConfig, MinibatchDiscriminationConfig
from ganzoo.networks.image import ImageGANConfig
from ganzoo.nn import (
    HE_GAIN,
    EqualisedConv2d,
    EqualisedLinear,
    MinibatchLogit,
    ModulatedConv2d,
    PixelNorm,
    blur,
    check_labels,
    downsample,
    minibatch_std,
    normalise,
    upsample,
)
from ganzoo.registry import register_family

FILTER = (1, 3, 3, 1)
SLOPE = 0.2  # of the leaky rectifiers below 0
MEAN_DECAY = 0.995  # of the running mean of the styles, a batch


class StyleGAN2Config(MinibatchDiscriminationConfig, DiscriminatorNormConfig, ImageGANConfig):
    """Config of the StyleGAN2 pair."""

    resolution: int = Field(
        1024, ge=8, le=1024, description="Height and width in pixels; a power of two from 8 to 1024."
    )
    latent_dim: int = Field(512, ge=1, le=4096, description="Numbers in a latent vector, and in a style.")
    width: int = Field(
        32, ge=1, le=512, description="Channels of the layers next to the picture; they double towards 4x4."
    )
    max_channels: int = Field(512, ge=1, le=2048, description="No layer gets more channels than this.")
    mapping_layers: int = Field(8, ge=1, le=16, description="Layers that turn latents into styles.")
    mapping_lr_multiplier: float = Field(
        0.01, gt=0, le=1, description="Learning rate of the mapping network, as a share of the generator's."
    )
    style_mixing: float = Field(
        0.9,
        ge=0,
        le=1,
        description="Share of the training samples whose later layers take the style of other latents.",
    )
    minibatch_group: int = Field(
        4,
        ge=1,
        le=256,
        description="Samples that the discriminator's minibatch standard deviation compares; 1 for none.",
    )

    @property
    def hidden_channels(self) -> list[int]:
        """Channels at 4x4, 8x8, ... up to the resolution; 512-512-512-512-512-256-128-64-32 in the paper."""
        levels = self.resolution.bit_length() - 2
        return [min(self.width * 2**level, self.max_channels) for level in reversed(range(levels))]

    @property
    def num_styles(self) -> int:
        """Two a resolution: one for each convolution, and one for the last layer to the picture; 18 in the paper."""
        return 2 * len(self.hidden_channels)


class Mapping(nn.Module):
    """Latents (B, latent_dim) -> styles (B, latent_dim), by fully connected layers that learn slowly.

    Attributes:
        running_mean: (num_classes or 1, latent_dim), the mean style in training.
    """

    def __init__(self, config: StyleGAN2Config) -> None:
        super().__init__()
        size, num_classes = config.latent_dim, config.num_classes
        self.normalise = PixelNorm()
        self.label_embedding = nn.Embedding(num_classes, size) if num_classes is not None else None
        sizes = [size if num_classes is None else 2 * size, *[size] * config.mapping_layers]
        learns = {"gain": HE_GAIN, "lr_multiplier": config.mapping_lr_multiplier}
        self.layers = nn.ModuleList(EqualisedLinear(i, o, **learns) for i, o in zip(sizes, sizes[1:], strict=False))
        # Named as in batch normalisation: averaged over processes, and by the average of the weights.
        self.register_buffer("running_mean", torch.zeros(num_classes or 1, size))

    def forward(self, latents: Tensor, labels: Tensor | None) -> Tensor:
        hidden = self.normalise(latents)
        if self.label_embedding is not None:
            hidden = torch.cat([hidden, self.normalise(self.label_embedding(labels).to(hidden.dtype))], dim=1)
        for layer in self.layers:
            hidden = F.leaky_relu(layer(hidden), SLOPE)
        if self.training:
            self._follow(hidden.detach(), labels)
        return hidden

    @torch.no_grad()
    def _follow(self, styles: Tensor, labels: Tensor | None) -> None:
        """Moves the mean style, of each class that the batch has, towards the batch's."""
        rows = torch.zeros(len(styles), dtype=torch.long, device=styles.device) if labels is None else labels
        sums = torch.zeros_like(self.running_mean).index_add_(0, rows, styles.to(self.running_mean.dtype))
        counts = sums.new_zeros(len(sums)).index_add_(0, rows, sums.new_ones(len(rows)))[:, None]
        self.running_mean.lerp_(sums / counts.clamp(min=1), (1 - MEAN_DECAY) * (counts > 0).to(sums.dtype))


class Noise(nn.Module):
    """Adds one number a pixel to all channels, times a learned strength that begins at 0."""

    def __init__(self, resolution: int) -> None:
        super().__init__()
        self.strength = nn.Parameter(torch.zeros(()))
        self.register_buffer("fixed", torch.randn(1, 1, resolution, resolution))

    def forward(self, hidden: Tensor) -> Tensor:
        noise = self.fixed
        if self.training:
            noise = torch.randn(len(hidden), *noise.shape[1:], device=noise.device, dtype=noise.dtype)
        return hidden + (self.strength * noise).to(hidden.dtype)


class StyledConvolution(nn.Module):
    """Modulated 3x3 convolution, noise, bias, leaky rectifier (paper, figure 2d)."""

    def __init__(self, inputs: int, outputs: int, style_dim: int, resolution: int, *, up: bool) -> None:
        super().__init__()
        self.convolution = ModulatedConv2d(inputs, outputs, 3, style_dim, up=up, gain=HE_GAIN)
        self.noise = Noise(resolution)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, hidden: Tensor, style: Tensor) -> Tensor:
        hidden = self.convolution(hidden, style, self.bias[:, None, None])
        return F.leaky_relu(self.noise(hidden), SLOPE)


class ToPicture(nn.Module):
    """Modulated 1x1 convolution without demodulation, bias."""

    def __init__(self, inputs: int, channels: int, style_dim: int) -> None:
        super().__init__()
        self.convolution = ModulatedConv2d(inputs, channels, 1, style_dim, demodulate=False)
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, hidden: Tensor, style: Tensor) -> Tensor:
        return self.convolution(hidden, style, self.bias[:, None, None])


class StyleGAN2Generator(Generator):
    """A learned 4x4 field, enlarged and drawn upon by styled convolutions; the pictures of all resolutions are added up.

    Latents (B, latent_dim) or styles (B, num_styles, latent_dim), labels (B,) of a conditional model -> pictures
    (B, channels, resolution, resolution): in [-1, 1] outside of training, where what is beyond is cut off.
    """

    def __init__(self, config: StyleGAN2Config) -> None:
        super().__init__(config)
        channels, size = config.hidden_channels, config.latent_dim
        self.mapping = Mapping(config)
        self.start = nn.Parameter(torch.randn(1, channels[0], 4, 4))
        self.layers = nn.ModuleList([StyledConvolution(channels[0], channels[0], size, 4, up=False)])
        for level, (before, after) in enumerate(zip(channels, channels[1:], strict=False)):
            for inputs, up in ((before, True), (after, False)):
                self.layers.append(StyledConvolution(inputs, after, size, 8 << level, up=up))
        self.to_picture = nn.ModuleList(ToPicture(number, config.channels, size) for number in channels)

    @property
    def style_shape(self) -> tuple[int, ...]:
        return (self.config.num_styles, self.config.latent_dim)

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        styles = self.styles(latents, labels)
        hidden = self.start.to(styles.dtype).expand(len(styles), -1, -1, -1)
        hidden = hidden.contiguous(memory_format=torch.channels_last)
        # At every resolution the layer to the picture shares its style with the next resolution's first convolution.
        picture = None
        for number, layer in enumerate(self.layers):
            hidden = layer(hidden, styles[:, number])
            if number % 2 == 0:
                drawn = self.to_picture[number // 2](hidden, styles[:, number + 1])
                picture = drawn if picture is None else drawn + upsample(picture, FILTER)
        return picture if self.training else _cut(picture)

    def styles(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        """Latents (B, latent_dim) -> styles (B, num_styles, latent_dim); mixed in training. Styles stay what they are."""
        check_labels(labels, self.config.num_classes, len(latents))
        if latents.ndim == 3:
            return latents
        styles = self.mapping(latents, labels)[:, None].expand(-1, self.config.num_styles, -1)
        return self._mix(styles, latents, labels) if self.training and self.config.style_mixing else styles

    def _mix(self, styles: Tensor, latents: Tensor, labels: Tensor | None) -> Tensor:
        """Gives some samples' layers, from a random one on, the style of other latents (Karras et al., 2019, 3.1)."""
        batch, layers = styles.shape[:2]
        others = self.mapping(torch.randn_like(latents), labels)[:, None]
        first = torch.randint(1, layers, (batch, 1), device=styles.device)
        is_mixed = torch.rand(batch, 1, device=styles.device) < self.config.style_mixing
        takes_other = is_mixed & (torch.arange(layers, device=styles.device) >= first)
        return torch.where(takes_other[:, :, None], others, styles)

    def truncate(self, latents: Tensor, truncation: float, labels: Tensor | None = None) -> Tensor:
        """Latents or styles -> styles, of whose distance from the mean style the share `truncation` is left.

        Raises:
            UserError: `truncation` is negative.
        """
        if not truncation >= 0:
            raise UserError(
                f"truncation of {self.family} is the share that is left of the distance from the mean style: 0 or more, "
                f"not {truncation}"
            )
        labels = None if labels is None else labels.to(self.device)
        styles = self.styles(latents.to(self.device, self.dtype), labels)
        means = self.mapping.running_mean.to(styles.dtype)
        means = means[:, None] if labels is None else means[labels][:, None]
        return torch.lerp(means.expand_as(styles), styles, truncation).to(latents.device)

    def latent_weight(self) -> Tensor:
        """The matrices that make the layers' scales of the styles, one below the other (Shen and Zhou, 2021, section 3.3)."""
        return torch.cat([layer.convolution.to_scales.weight for layer in (*self.layers, *self.to_picture)])


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions and half the size, beside a 1x1 one (paper, figure 7c)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.keep = EqualisedConv2d(inputs, inputs, 3, gain=HE_GAIN)
        # Both ways' factor 1/sqrt(2), which keeps the variance of their sum, is in their gains.
        self.shrink = EqualisedConv2d(inputs, outputs, 3, stride=2, padding=0, gain=1.0)
        self.skip = EqualisedConv2d(inputs, outputs, 1, bias=False, gain=0.5**0.5)

    def forward(self, pictures: Tensor) -> Tensor:
        hidden = F.leaky_relu(self.keep(pictures), SLOPE)
        # Two zeros at each end: one for the filter's surplus, one for the convolution's.
        hidden = F.leaky_relu(self.shrink(blur(hidden, FILTER, padding=(2, 2))), SLOPE)
        return hidden + self.skip(downsample(pictures, FILTER))


class StyleGAN2Discriminator(Discriminator):
    """Residual blocks from the picture down to 4x4, then two fully connected layers.

    Pictures (B, channels, resolution, resolution), labels (B,) of a conditional model -> one output, logits (B,).
    """

    def __init__(self, config: StyleGAN2Config) -> None:
        super().__init__(config)
        channels = config.hidden_channels[::-1]
        last = channels[-1]
        self.from_picture = EqualisedConv2d(config.channels, channels[0], 1, gain=HE_GAIN)
        self.blocks = nn.ModuleList(ResidualBlock(i, o) for i, o in zip(channels, channels[1:], strict=False))
        self.last = EqualisedConv2d(last + (config.minibatch_group > 1), last, 3, gain=HE_GAIN)
        self.hidden = EqualisedLinear(last * 4 * 4, last, gain=HE_GAIN)
        self.to_logit = EqualisedLinear(last, 1)
        self.label_embedding = nn.Embedding(config.num_classes, last) if config.num_classes is not None else None
        self.minibatch = MinibatchLogit(last, config.minibatch_discrimination)
        within = (layer for block in self.blocks for layer in (block.keep, block.shrink))
        normalise(self, config.discriminator_norm, [*within, self.last, self.hidden])

    def forward(self, samples: Tensor, labels: Tensor | None = None) -> list[DiscriminatorOutput]:
        check_labels(labels, self.config.num_classes, len(samples))
        hidden = F.leaky_relu(self.from_picture(samples), SLOPE)
        features = []
        for block in self.blocks:
            hidden = block(hidden)
            features.append(hidden)
        if self.config.minibatch_group > 1:
            hidden = minibatch_std(hidden, self.config.minibatch_group)
        hidden = F.leaky_relu(self.last(hidden), SLOPE)
        features.append(hidden)
        hidden = F.leaky_relu(self.hidden(hidden.flatten(1)), SLOPE)
        logits = self.to_logit(hidden)[:, 0]
        if self.label_embedding is not None:
            embedded = self.label_embedding(labels).to(hidden.dtype)
            logits = logits + (embedded * hidden).sum(dim=1) / hidden.shape[1] ** 0.5
        return [DiscriminatorOutput(self.minibatch(logits, hidden), features)]


def _cut(pictures: Tensor) -> Tensor:
    """Pictures within [-1, 1]; their gradient is that of the uncut ones, so that no pixel is lost to optimisation."""
    return pictures + (pictures.clamp(-1, 1) - pictures).detach()


@register_family("stylegan2", modality="image", paper="https://arxiv.org/abs/1912.04958")
class StyleGAN2:
    """The paper's training: non-saturating loss, R1 every 16th and path lengths every 4th step; the rest is in the recipes."""

    config = StyleGAN2Config
    generator = StyleGAN2Generator
    discriminator = StyleGAN2Discriminator
    objective = {
        "loss": "non-saturating",
        "penalties": [{"type": "r1", "weight": 10.0, "interval": 16}],
        "path_length": {},
    }
    tiny = {"resolution": 16, "channels": 1, "width": 4, "latent_dim": 8, "mapping_layers": 2}
