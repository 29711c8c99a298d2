"""R3GAN: a relativistic GAN with R1 and R2 on modern residual networks without normalisation (Huang et al., 2024).

Paper: https://arxiv.org/abs/2501.05441, section 2 (the loss) and section 3 (the networks, "Config E"). At the paper's size for
CIFAR-10 (width 768, 2 blocks a stage, 64 latents) the generator has 20,732,160 parameters, the discriminator 20,683,776.

Both networks are stages of one resolution each, from 4x4 up or down to it. A residual block is an inverted bottleneck with a
convolution in groups; nothing is normalised: the blocks begin as the identity, and their weights are scaled down by the
number of blocks, as in Fixup (Zhang et al., 2019). Pictures change size by the binomial filter 1-2-1. The generator ends
without a tanh: in training its pictures may leave [-1, 1], in use they are clamped.

A conditional generator has an embedding of the label beside its latents; a conditional discriminator's logit is the inner
product of its last vector with another (Miyato and Koyama, 2018, without the unconditional term).
"""

from __future__ import annotations

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from ganzoo.networks.base import Discriminator, DiscriminatorOutput, Generator
from ganzoo.networks.config import StabilisedConfig
from ganzoo.networks.image import ImageGANConfig
from ganzoo.nn import MinibatchLogit, check_labels, normalise
from ganzoo.nn.grouped import GroupedConv2d
from ganzoo.nn.rectifiers import rectify
from ganzoo.nn.resample import downsample, upsample
from ganzoo.registry import register_family

SLOPE = 0.2  # of the leaky rectifiers
BINOMIAL = (1, 2, 1)
RECTIFIER_GAIN = (2 / (1 + SLOPE**2)) ** 0.5  # keeps the variance through one


class R3GANConfig(StabilisedConfig, ImageGANConfig):
    """Config of the R3GAN pair."""

    resolution: int = Field(32, ge=8, le=512, description="Height and width in pixels; a power of two from 8 to 512.")
    latent_dim: int = Field(64, ge=1, le=4096, description="Numbers in a latent vector.")
    width: int = Field(
        768,
        ge=1,
        le=2048,
        description="Channels of the stages from 4x4 to 32x32 pixels; half as many with each doubling after.",
    )
    blocks: int = Field(2, ge=1, le=16, description="Residual blocks of a stage.")
    expansion: int = Field(2, ge=1, le=8, description="How many times as wide a block is inside.")
    group_width: int = Field(16, ge=1, le=2048, description="Channels of a group of the blocks' 3x3 convolutions.")
    label_dim: int = Field(64, ge=1, le=1024, description="Size of the label embeddings of a conditional model.")

    @property
    def widths(self) -> list[int]:
        """Channels of the stages from 4x4 up."""
        return [max(1, self.width >> max(0, level - 3)) for level in range(self.resolution.bit_length() - 2)]

    @model_validator(mode="after")
    def _groups_fit(self) -> R3GANConfig:
        odd = [width * self.expansion for width in self.widths if width * self.expansion % self.group_width]
        if odd:
            raise ValueError(f"group_width={self.group_width} must divide the {odd[0]} channels inside a block")
        return self


class R3GANGenerator(Generator):
    """A learned 4x4 picture scaled by the latents, then stages of residual blocks, each twice as fine as the last.

    Latents (B, latent_dim), labels (B,) of a conditional model -> pictures (B, channels, resolution, resolution), in [-1, 1]
    outside training.
    """

    def __init__(self, config: R3GANConfig) -> None:
        super().__init__(config)
        widths = config.widths
        conditional = config.num_classes is not None
        self.label_embedding = nn.Embedding(config.num_classes, config.label_dim) if conditional else None
        inputs = config.latent_dim + (config.label_dim if conditional else 0)
        self.basis = nn.Parameter(torch.empty(4, 4, widths[0]))  # channels last, like everything that follows
        self.scale_basis = nn.Linear(inputs, widths[0], bias=False)
        self.stages = nn.ModuleList(_stages(config))
        self.changes = nn.ModuleList(_change(wide, narrow) for wide, narrow in zip(widths, widths[1:], strict=False))
        self.to_image = GroupedConv2d(widths[-1], config.channels, 1, bias=False)
        _init(self, config)
        nn.init.normal_(self.basis)

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        check_labels(labels, self.config.num_classes, len(latents))
        if self.label_embedding is not None:
            latents = torch.cat([latents, self.label_embedding(labels).to(latents.dtype)], dim=1)
        scales = self.scale_basis(latents)
        rows = scales[:, None, None] * self.basis.to(scales.dtype)
        hidden = self.stages[0](rows.permute(0, 3, 1, 2))
        for change, stage in zip(self.changes, self.stages[1:], strict=True):
            # A 1x1 convolution and the filter can change places: it goes first, on a quarter of the pixels.
            hidden = stage(upsample(change(hidden), BINOMIAL))
        pictures = self.to_image(hidden)
        return pictures if self.training else pictures.clamp(-1, 1)

    def latent_weight(self) -> Tensor:
        return self.scale_basis.weight[:, : self.config.latent_dim]


class R3GANDiscriminator(Discriminator):
    """The generator mirrored: stages of residual blocks, each half as fine as the last; a 4x4 kernel a channel; one logit.

    Pictures (B, channels, resolution, resolution), labels (B,) of a conditional model -> one output, logits (B,).
    """

    def __init__(self, config: R3GANConfig) -> None:
        super().__init__(config)
        widths = config.widths[::-1]
        conditional = config.num_classes is not None
        self.from_image = GroupedConv2d(config.channels, widths[0], 1, bias=False)
        self.stages = nn.ModuleList(_stages(config)[::-1])
        self.changes = nn.ModuleList(_change(narrow, wide) for narrow, wide in zip(widths, widths[1:], strict=False))
        self.gather = nn.Parameter(torch.empty(4, 4, widths[-1]))
        self.to_logit = nn.Linear(widths[-1], config.label_dim if conditional else 1, bias=False)
        self.label_embedding = nn.Embedding(config.num_classes, config.label_dim) if conditional else None
        self.minibatch = MinibatchLogit(widths[-1], config.minibatch_discrimination, config.minibatch_std)
        spectral = config.discriminator_norm == "spectral"
        _init(self, config, last=1.0 if spectral else 0.0)  # zero has no largest singular value to divide by
        nn.init.normal_(self.gather, 0.0, 1 / 4)  # fan-in 16
        # Not what a block ends with: it begins at zero, and to divide that by its deviation would blow it up.
        within = (layer for stage in self.stages for block in stage for layer in (block.widen, block.mix))
        normalise(self, config.discriminator_norm, within)

    def forward(self, samples: Tensor, labels: Tensor | None = None) -> list[DiscriminatorOutput]:
        check_labels(labels, self.config.num_classes, len(samples))
        hidden = self.stages[0](self.from_image(samples.contiguous(memory_format=torch.channels_last)))
        features = [hidden]
        for change, stage in zip(self.changes, self.stages[1:], strict=True):
            hidden = stage(change(downsample(hidden, BINOMIAL)))
            features.append(hidden)
        rows = hidden.permute(0, 2, 3, 1)
        vector = self.to_logit((rows * self.gather.to(rows.dtype)).sum((1, 2)))
        if self.label_embedding is None:
            return [DiscriminatorOutput(self.minibatch(vector.squeeze(1), hidden), features)]
        wanted = self.label_embedding(labels).to(vector.dtype)
        logits = (vector * wanted).sum(1) * self.config.label_dim**-0.5
        return [DiscriminatorOutput(self.minibatch(logits, hidden), features)]


class _Block(nn.Module):
    """x + narrow(act(mix(act(widen(x))))): an inverted bottleneck, 3x3 in groups where it is wide (paper, figure 3)."""

    def __init__(self, channels: int, config: R3GANConfig) -> None:
        super().__init__()
        wide = channels * config.expansion
        self.widen = GroupedConv2d(channels, wide, 1)
        self.mix = GroupedConv2d(wide, wide, 3, padding=1, groups=wide // config.group_width)
        self.narrow = GroupedConv2d(wide, channels, 1, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        wide = rectify(self.widen(hidden), SLOPE, inplace=True)
        return hidden + self.narrow(rectify(self.mix(wide), SLOPE, inplace=True))


def _stages(config: R3GANConfig) -> list[nn.Module]:
    """From 4x4 up."""
    return [nn.Sequential(*(_Block(width, config) for _ in range(config.blocks))) for width in config.widths]


def _change(inputs: int, outputs: int) -> nn.Module:
    return nn.Identity() if inputs == outputs else GroupedConv2d(inputs, outputs, 1, bias=False)


def _init(network: nn.Module, config: R3GANConfig, last: float = 0.0) -> None:
    """Weights N(0, gain / sqrt(fan-in)), biases 0.

    In the blocks the gain is the rectifier's times blocks^(-1/4), counted over the whole network, and that of the last
    convolution is 0 (Fixup: Zhang et al., 2019, section 3, with three layers a block); elsewhere it is 1.
    """
    scaled = RECTIFIER_GAIN * (config.blocks * len(config.widths)) ** -0.25
    gains = {"widen": scaled, "mix": scaled, "narrow": last}
    for name, module in network.named_modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            gain = gains.get(name.rpartition(".")[2], 1.0)
            nn.init.normal_(module.weight, 0.0, gain * module.weight[0].numel() ** -0.5)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


@register_family("r3gan", modality="image", paper="https://arxiv.org/abs/2501.05441")
class R3GAN:
    """The paper's loss; its optimisers and schedules are in the recipes."""

    config = R3GANConfig
    generator = R3GANGenerator
    discriminator = R3GANDiscriminator
    objective = {
        "loss": "relativistic",
        "penalties": [{"type": "r1", "weight": 0.05}, {"type": "r2", "weight": 0.05}],
    }
    tiny = {
        "resolution": 16,
        "channels": 1,
        "width": 8,
        "blocks": 1,
        "group_width": 4,
        "latent_dim": 8,
        "label_dim": 4,
    }
