"""Adaptive discriminator augmentation (Karras et al. 2020, https://arxiv.org/abs/2006.06676), in plain PyTorch.

Everything that the discriminator sees is augmented, each operation with probability p, and p is as high as it must be for the
discriminator not to know the training set by heart: it rises while real samples are judged real too surely (section 3).
As long as p is below 1, the generator can only match the augmented distribution by matching the real one (section 2.2), which
needs the operations of a sample in one fixed order, the paper's, and each with a draw of its own (appendix B).

Against the paper's pipeline ("bgc": blits, geometry, colour; its best): resampling is bilinear instead of by wavelet filters
at twice the size. Bilinear resampling cannot be differentiated twice by its input, so penalties on the discriminator's
gradient must look at samples that are not augmented, as all those of this package do. Every draw comes from the global random
number generator of the samples' device. On a GPU the gradients of moved pixels are summed in no fixed order: a run that is
resumed there equals one that was not up to rounding, on a CPU bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from ganzoo.errors import UserError
from ganzoo.recipe.section import Positive, Section
from ganzoo.utils.precision import widen

# The paper's strengths, appendix B.
MAX_SHIFT = 1 / 8  # uniform, in whole pixels, of the side
SCALE_STD = 0.2  # of the logarithm to base 2
SHIFT_STD = 1 / 8  # of the side
BRIGHTNESS_STD = 0.2
CONTRAST_STD = 0.5  # of the logarithm to base 2
SATURATION_STD = 1.0  # of the logarithm to base 2


def _sometimes(probability: Tensor, values: Tensor, neutral: float) -> Tensor:
    """One of `values` (B, ...) for a sample that is changed, `neutral` for the others."""
    chosen = torch.rand((len(values), *(1,) * (values.ndim - 1)), device=values.device) < probability
    return torch.where(chosen, values, neutral)


def _uniform(samples: Tensor) -> Tensor:
    """One number in [-1, 1) a sample, (B, 1, 1, 1)."""
    return torch.rand((len(samples), 1, 1, 1), device=samples.device) * 2 - 1


def _normal(samples: Tensor) -> Tensor:
    """One standard-normal number a sample, (B, 1, 1, 1)."""
    return torch.randn((len(samples), 1, 1, 1), device=samples.device)


def flip(samples: Tensor, probability: Tensor) -> Tensor:
    """Mirrors left to right, or not: a coin is thrown for each sample that is chosen.

    Args:
        samples: (B, C, H, W), as for all operations here.
        probability: A number in [0, 1] as a tensor; each sample is chosen with it, independently.
    """
    mirrored = _sometimes(probability, _uniform(samples), -1.0) >= 0
    return torch.where(mirrored, samples.flip(3), samples)


def rotate(samples: Tensor, probability: Tensor) -> Tensor:
    """Turns by 0, 90, 180 or 270 degrees, as chance has it.

    Raises:
        UserError: Pictures that are not square.
    """
    if samples.shape[2] != samples.shape[3]:
        raise UserError(f"quarter turns are for square pictures, not {samples.shape[2]}x{samples.shape[3]}")
    draws = torch.randint(4, (len(samples), 1, 1, 1), device=samples.device)
    turns = _sometimes(probability, draws, 0)
    turned = samples
    for number in (1, 2, 3):
        turned = torch.where(turns == number, samples.rot90(number, (2, 3)), turned)
    return turned


def translate(samples: Tensor, probability: Tensor) -> Tensor:
    """Moves by whole pixels, up to an eighth of the side; what comes in is the reflection of what is there."""
    height, width = samples.shape[2:]
    rows = _reflected(height, _sometimes(probability, _uniform(samples), 0.0)).view(-1, 1, height, 1)
    columns = _reflected(width, _sometimes(probability, _uniform(samples), 0.0)).view(-1, 1, 1, width)
    return _read(samples, rows * width + columns)


def _read(samples: Tensor, pixels: Tensor) -> Tensor:
    """Pictures whose pixels are those of the given numbers, (B, 1, H, W), counted row by row."""
    pixels = pixels.flatten(2).expand(-1, samples.shape[1], -1)
    return samples.flatten(2).gather(2, pixels).view(samples.shape)


def _reflected(length: int, shares: Tensor) -> Tensor:
    """Where each of `length` places comes from, (B, length), after a shift by shares (B, 1, 1, 1) of the largest."""
    shifts = (shares.flatten(1) * MAX_SHIFT * length).round().long()
    places = (torch.arange(length, device=shares.device) - shifts).abs()
    return (length - 1) - ((length - 1) - places).abs()


def geometric(samples: Tensor, probability: Tensor) -> Tensor:
    """Scales, turns, stretches, turns again and moves, each with the probability; one bilinear resampling, reflected edges.

    Scaling and stretching (x by s, y by 1 / s) are by 2^N(0, 0.2^2), moving by N(0, 1/8) of a side. The turns, by any angle,
    are each as likely as makes one of the two happen with the probability.
    """
    batch, _, height, width = samples.shape
    like = {"device": samples.device}
    either = 1 - (1 - probability).clamp(min=0).sqrt()
    scale, stretch = (
        _sometimes(probability, torch.exp2(SCALE_STD * torch.randn(batch, **like)), 1.0) for _ in range(2)
    )
    before, after = (_sometimes(either, math.pi * (2 * torch.rand(batch, **like) - 1), 0.0) for _ in range(2))
    shift = _sometimes(probability, SHIFT_STD * torch.randn(batch, 2, **like), 0.0)
    sides = torch.linspace(width, height, 2, **like)
    # Where each pixel comes from: the inverse of the whole. Every factor is as likely as its inverse, so it is drawn as such.
    linear = _turn(before) * scale[:, None, None] @ (torch.stack([stretch, 1 / stretch], 1)[:, :, None] * _turn(after))
    offset = linear @ (shift * sides)[:, :, None]
    changed = (linear != torch.eye(2, **like)).flatten(1).any(dim=1) | (shift != 0).any(dim=1)
    # From pixels to grid_sample's coordinates, in which either side of the picture is 2 long.
    mapping = torch.cat([linear * sides / sides[:, None], 2 * offset / sides[:, None]], dim=2)
    grid = F.affine_grid(mapping.to(samples.dtype), list(samples.shape), align_corners=False)
    moved = F.grid_sample(samples, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    # What stays where it is does not go through the interpolation, whose rounding would change it.
    return torch.where(changed[:, None, None, None], moved, samples)


def _turn(angles: Tensor) -> Tensor:
    """Rotation matrices (B, 2, 2)."""
    cosine, sine = angles.cos(), angles.sin()
    return torch.stack([torch.stack([cosine, -sine], 1), torch.stack([sine, cosine], 1)], 1)


def color(samples: Tensor, probability: Tensor) -> Tensor:
    """Changes brightness, contrast, the luma's sign, hue and saturation, each with the probability.

    Brightness is an offset of N(0, 0.2^2), contrast a factor 2^N(0, 0.5^2), the luma (mean of the channels) is negated or not,
    hue is a turn of the colours around the grey axis by any angle, saturation a factor 2^N(0, 1) of the distance from grey.
    Pictures without colours (one channel) keep to the first three, hue is for three channels alone. Nothing is clipped.
    """
    channels = samples.shape[1]
    # All of it is one affine map a sample, of each pixel's channels: found on the unit vectors, as if they were a picture.
    offset = _sometimes(probability, BRIGHTNESS_STD * _normal(samples), 0.0)
    colors = torch.eye(channels, device=samples.device).view(1, channels, channels, 1)
    colors = colors * _sometimes(probability, torch.exp2(CONTRAST_STD * _normal(samples)), 1.0)
    negated = _sometimes(probability, (_uniform(samples) >= 0).float(), 0.0)
    colors = colors - 2 * negated * colors.mean(dim=1, keepdim=True)
    if channels == 3:
        colors = _turn_hue(colors, _sometimes(probability, math.pi * _uniform(samples), 0.0))
    if channels > 1:
        saturation = _sometimes(probability, torch.exp2(SATURATION_STD * _normal(samples)), 1.0)
        colors = torch.lerp(colors.mean(dim=1, keepdim=True), colors, saturation)
    linear = colors.squeeze(3)
    constant = linear.sum(dim=2, keepdim=True) * offset.squeeze(3)
    return torch.baddbmm(constant.to(samples.dtype), linear.to(samples.dtype), samples.flatten(2)).view(samples.shape)


def _turn_hue(samples: Tensor, angles: Tensor) -> Tensor:
    """Rodrigues' formula for the axis k = (1, 1, 1) / sqrt(3): x cos + (k cross x) sin + k (k.x) (1 - cos)."""
    cross = (samples.roll(-2, 1) - samples.roll(-1, 1)) / math.sqrt(3)
    grey = samples.mean(dim=1, keepdim=True)
    return samples * angles.cos() + cross * angles.sin() + grey * (1 - angles.cos())


# In the paper's order, which is that in which they are applied.
BLITS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"flip": flip, "rotate": rotate, "translate": translate}
OPERATIONS = {**BLITS, "geometric": geometric, "color": color}


def ada_augment(samples: Tensor, probability: Tensor, policy: Collection[str] = tuple(OPERATIONS)) -> Tensor:
    """Augments a batch of pictures, each by its own draws.

    Args:
        samples: (B, C, H, W) in [-1, 1], any number of channels.
        probability: p, a number in [0, 1] as a tensor; with 0 the samples come back as they are, bit for bit.
        policy: Names of `OPERATIONS`; their order is the paper's, whatever the order here.

    Returns:
        The augmented batch, of the same shape, dtype and memory format; differentiable by `samples`, once.

    Raises:
        UserError: Samples that are no pictures; quarter turns of pictures that are not square.
    """
    check_pictures(samples.shape[1:])
    layout = torch.contiguous_format if samples.is_contiguous() else torch.channels_last
    with torch.autocast(samples.device.type, enabled=False):
        augmented = _blit(widen(samples), probability, [BLITS[name] for name in BLITS if name in policy])
        for name, operation in OPERATIONS.items():
            if name in policy and name not in BLITS:
                augmented = operation(augmented, probability)
    return augmented.to(samples.dtype, memory_format=layout)


def check_pictures(sample_shape: Sequence[int]) -> None:
    """Raises a UserError if samples of this shape are no pictures (C, H, W)."""
    if len(sample_shape) != 3:
        raise UserError(f"ada augments pictures (B, C, H, W), not samples of shape {tuple(sample_shape)}")


def _blit(samples: Tensor, probability: Tensor, operations: Sequence[Callable[[Tensor, Tensor], Tensor]]) -> Tensor:
    """Applies operations that only move pixels: first to the pixels' numbers, then to the pictures, all at once."""
    if not operations:
        return samples
    height, width = samples.shape[2:]
    pixels = (
        torch.arange(height * width, device=samples.device).view(1, 1, height, width).expand(len(samples), -1, -1, -1)
    )
    for operation in operations:
        pixels = operation(pixels, probability)
    return _read(samples, pixels)


class AugmentProbability(nn.Module):
    """The probability p, and what it is adapted by: r_t = E[sign D(real)] (section 3, equation 1).

    Its state is three buffers and no plain number, so that it is saved, resumed and averaged over the processes with the
    rest of the run, and the host never waits for it.
    """

    def __init__(self, config: AdaConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("probability", torch.tensor(config.probability if config.rise == 0 else 0.0))
        self.register_buffer("signs", torch.zeros(()))
        self.register_buffer("count", torch.zeros(()))

    def observe(self, real_logits: Sequence[Tensor], num_samples: int, boundary: float = 0.0) -> None:
        """Takes in what the discriminator says of real samples.

        Args:
            real_logits: Of each of its outputs, any shape.
            num_samples: Of how many samples.
            boundary: It calls a sample real above this.
        """
        signs = [(logits.detach() - boundary).sign().float().mean() for logits in real_logits]
        self.signs += torch.stack(signs).mean() * num_samples
        self.count += num_samples

    def begin_step(self, step: int, progress: float, num_processes: int = 1) -> None:
        """Changes p as the step demands; to be called once in each, before anything is augmented.

        By as much as the samples judged since the last change make up of `speed`; up if more than `target` of their signs
        (real minus generated) were right. With no target, p is a function of the run's progress.

        Args:
            step: Of the run, from 0.
            progress: Share of the run that is over.
            num_processes: Of the run; the sums were averaged over them, and each saw as much as this one.
        """
        config = self.config
        if config.target is None:
            if config.rise:
                done = min(1.0, progress / config.rise)
                self.probability.fill_(config.probability * (1 - math.cos(math.pi * done)) / 2)
            return
        if step % config.interval:
            return
        overconfidence = self.signs / self.count.clamp(min=1)
        change = (overconfidence - config.target).sign() * self.count * (num_processes / config.speed)
        self.probability.add_(change).clamp_(0, 1)
        self.signs.zero_()
        self.count.zero_()


class AdaConfig(Section):
    """Adaptive augmentation of pictures (Karras et al., 2020): as much of it as keeps the discriminator from overfitting."""

    target: float | None = Field(
        0.6,
        gt=0,
        lt=1,
        description="Mean sign of real samples' logits above which more is augmented, below which less; null for a fixed "
        "probability.",
    )
    speed: Positive = Field(
        500_000, description="Real samples the discriminator judges while the probability could go from 0 to 1."
    )
    interval: Positive = Field(4, description="Steps between two changes of the probability.")
    policy: tuple[Literal[tuple(OPERATIONS)], ...] = Field(
        tuple(OPERATIONS),
        min_length=1,
        description="What is done to a sample, each with the probability.",
    )
    probability: float = Field(0.0, ge=0, le=1, description="At the start; without a target, from `rise` on.")
    rise: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Without a target: share of the run in which the probability rises from 0, as half a cosine.",
    )

    @model_validator(mode="after")
    def _possible(self) -> AdaConfig:
        if self.target is not None and self.rise:
            raise ValueError("rise is for a probability without a target; set target to null, or leave rise out")
        if self.target is None and not self.probability:
            raise ValueError("without a target nothing would ever be augmented; set probability")
        return self
