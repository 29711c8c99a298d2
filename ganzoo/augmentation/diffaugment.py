"""Differentiable augmentation of a discriminator's input: DiffAugment, and plain instance noise.

Real and generated samples go through the same kind of augmentation before the discriminator sees them, and the
generator's gradient flows back through it, so that the discriminator cannot memorise a small data set and yet the
augmentation does not leak into what is generated (Zhao et al. 2020). Every draw comes from the global random number
generator of the samples' device: a step that the trainer has seeded is reproducible.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ganzoo.errors import UserError
from ganzoo.utils.finding import Kind

# The paper's strengths, as fractions of an image's side.
MAX_SHIFT = 1 / 8
CUTOUT_SIZE = 1 / 2


def _uniform(samples: Tensor, low: float, high: float) -> Tensor:
    """Draws one number a sample, (B, 1, 1, 1); in float32 first, because bfloat16 has only 256 steps below 1."""
    draw = torch.rand((len(samples), 1, 1, 1), device=samples.device)
    return (low + (high - low) * draw).to(samples.dtype)


def _integers(samples: Tensor, low: int, high: int) -> Tensor:
    """Draws one integer in [low, high] a sample, (B, 1, 1, 1)."""
    return torch.randint(low, high + 1, (len(samples), 1, 1, 1), device=samples.device)


def _coordinates(samples: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the row numbers (1, 1, H, 1) and the column numbers (1, 1, 1, W)."""
    height, width = samples.shape[2:]
    rows = torch.arange(height, device=samples.device).view(1, 1, height, 1)
    columns = torch.arange(width, device=samples.device).view(1, 1, 1, width)
    return rows, columns


def random_color(samples: Tensor) -> Tensor:
    """Changes brightness, saturation and contrast, each by an amount drawn per sample.

    Brightness is an offset in [-0.5, 0.5]. Saturation scales the distance from the pixel's mean over the channels by
    [0, 2], which leaves a one-channel image as it is. Contrast scales the distance from the image's mean by
    [0.5, 1.5].

    Args:
        samples: (B, C, H, W), any number of channels, in [-1, 1]. The result is not clipped.
    """
    samples = samples + _uniform(samples, -0.5, 0.5)
    samples = torch.lerp(samples.mean(dim=1, keepdim=True), samples, _uniform(samples, 0.0, 2.0))
    return torch.lerp(samples.mean(dim=(1, 2, 3), keepdim=True), samples, _uniform(samples, 0.5, 1.5))


def random_translation(samples: Tensor) -> Tensor:
    """Moves each image by whole pixels, at most an eighth of its side up, down, left and right, and fills with zeros.

    Args:
        samples: (B, C, H, W). An image below 8 pixels is not moved.
    """
    height, width = samples.shape[2:]
    rows, columns = _coordinates(samples)
    max_down, max_right = int(height * MAX_SHIFT), int(width * MAX_SHIFT)
    rows = rows - _integers(samples, -max_down, max_down)
    columns = columns - _integers(samples, -max_right, max_right)
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    # Reading the nearest pixel and blanking it, instead of padding, keeps the gather at the image's own size.
    pixels = rows.clamp(0, height - 1) * width + columns.clamp(0, width - 1)
    moved = samples.flatten(2).gather(2, pixels.flatten(2).expand(-1, samples.shape[1], -1)).view(samples.shape)
    # A gather's result is always laid out contiguously.
    layout = torch.contiguous_format if samples.is_contiguous() else torch.channels_last
    return torch.where(inside, moved, 0.0).contiguous(memory_format=layout)


def random_cutout(samples: Tensor) -> Tensor:
    """Zeroes a square of half the side around a pixel drawn per sample, clipped at the borders.

    Args:
        samples: (B, C, H, W); a rectangle's "square" has half of each of its sides.
    """
    rows, columns = _coordinates(samples)
    return torch.where(_in_random_span(samples, rows) & _in_random_span(samples, columns), 0.0, samples)


def _in_random_span(samples: Tensor, positions: Tensor) -> Tensor:
    """Marks, per sample, the `positions` of one axis that lie in a span of half its length around a random centre."""
    length = positions.numel()
    size = int(length * CUTOUT_SIZE)
    # A span of even size has its centre between two pixels: one more place, so that both borders are clipped alike.
    start = _integers(samples, 0, length - size % 2) - size // 2
    return (positions >= start) & (positions < start + size)


def random_gain(samples: Tensor) -> Tensor:
    """Makes each clip louder or softer, by a factor in [0.5, 1.5], and turns half of them upside down.

    Args:
        samples: (B, C, L).
    """
    gain = 0.5 + torch.rand((len(samples), 1, 1), device=samples.device)
    sign = torch.where(torch.rand_like(gain) < 0.5, -1.0, 1.0)
    return samples * (gain * sign).to(samples.dtype)


def random_delay(samples: Tensor) -> Tensor:
    """Moves each clip in time by at most an eighth of its length, earlier or later, and fills with silence.

    Args:
        samples: (B, C, L). A clip below 8 samples is not moved.
    """
    length = samples.shape[2]
    places = torch.arange(length, device=samples.device)
    largest = int(length * MAX_SHIFT)
    places = places - torch.randint(-largest, largest + 1, (len(samples), 1, 1), device=samples.device)
    inside = (places >= 0) & (places < length)
    moved = samples.gather(2, places.clamp(0, length - 1).expand(-1, samples.shape[1], -1))
    return torch.where(inside, moved, 0.0)


def random_silence(samples: Tensor) -> Tensor:
    """Silences a quarter of each clip around a place drawn per clip: as large a part as `random_cutout` takes of a picture.

    Args:
        samples: (B, C, L).
    """
    length = samples.shape[2]
    size = length // 4
    start = torch.randint(length - size % 2 + 1, (len(samples), 1, 1), device=samples.device) - size // 2
    places = torch.arange(length, device=samples.device)
    return torch.where((places >= start) & (places < start + size), 0.0, samples)


@dataclass(frozen=True)
class Augmentation:
    """A change of samples that gradients go through, by what it is done to; None where it cannot be done.

    Attributes:
        pictures: Of (B, C, H, W).
        clips: Of (B, C, L).
    """

    pictures: Callable[[Tensor], Tensor] | None = None
    clips: Callable[[Tensor], Tensor] | None = None


# Another one is a record here, or `AUGMENTATION` in a file of its own.
AUGMENTATIONS = {
    "color": Augmentation(pictures=random_color),
    "gain": Augmentation(clips=random_gain),
    "translation": Augmentation(pictures=random_translation, clips=random_delay),
    "cutout": Augmentation(pictures=random_cutout, clips=random_silence),
}
DIFF_AUGMENTATIONS = Kind("augmentation", "ganzoo.augmentation", "AUGMENTATION")
_SAMPLES = {3: "pictures", 2: "clips"}


def parse_policy(policy: str) -> tuple[str, ...]:
    """Splits and checks a DiffAugment policy.

    Args:
        policy: Names of augmentations separated by commas, e.g. `"color,translation,cutout"`.

    Returns:
        The names, in the order in which they are applied.

    Raises:
        NotFoundError: An unknown name, or no name at all.
    """
    names = tuple(name.strip() for name in policy.split(","))
    for name in names:
        DIFF_AUGMENTATIONS.module(name)
    return names


def diff_augment(samples: Tensor, policy: str) -> Tensor:
    """Augments a batch of pictures or of clips differentiably (Zhao et al. 2020), every sample by its own random draw.

    Args:
        samples: (B, C, H, W) or (B, C, L) in [-1, 1], any number of channels.
        policy: See `parse_policy`.

    Returns:
        The augmented batch, of the same shape, dtype and memory format.

    Raises:
        UserError: A policy that is not valid for them, or samples that are neither.
    """
    for change in changes_of(samples.shape[1:], parse_policy(policy)):
        samples = change(samples)
    return samples


def changes_of(sample_shape: Sequence[int], names: Sequence[str]) -> list[Callable[[Tensor], Tensor]]:
    """The functions of these augmentations for samples of a shape (C, H, W) or (C, L).

    Raises:
        UserError: One of them cannot be done to such samples, or the samples are neither.
    """
    kind = _SAMPLES.get(len(sample_shape))
    if names and kind is None:
        raise UserError(
            f"DiffAugment is for pictures (B, C, H, W) and clips (B, C, L), got samples of shape {tuple(sample_shape)}."
        )
    functions = {name: getattr(DIFF_AUGMENTATIONS.get(name), kind) for name in names}
    if unfit := [name for name, function in functions.items() if function is None]:
        known = [name for name, record in DIFF_AUGMENTATIONS.all().items() if getattr(record, kind)]
        raise UserError(f"{kind} cannot be augmented by '{unfit[0]}'; there is {', '.join(known)}.")
    return [functions[name] for name in names]


def instance_noise(samples: Tensor, std: float) -> Tensor:
    """Adds Gaussian noise, which makes the real and the generated distribution overlap.

    Sønderby et al. 2017; Arjovsky and Bottou 2017, section 3. The trainer lowers `std` as it goes.

    Args:
        samples: (B, ...), any rank.
        std: Standard deviation of the noise, in the samples' units; 0 returns the samples themselves.

    Returns:
        The noisy batch, of the same shape, dtype and memory format.

    Raises:
        UserError: A negative `std`.
    """
    if std < 0.0:
        raise UserError(f"The standard deviation of instance noise must be 0 or more, got {std}.")
    return samples + std * torch.randn_like(samples) if std else samples
