"""Normalisation by name, initialisation, and the check of labels."""

from __future__ import annotations

import math

from torch import Tensor, nn

from ganzoo.errors import UserError


def normalisation(kind: str, channels: int, dimensions: int = 2) -> nn.Module:
    """The normalisation layer after a convolution of `channels` output channels, or after a linear layer.

    Args:
        kind: `"batch"`, `"instance"` (with learned scale and shift), `"layer"` (over channels and pixels of each sample, with
            learned scale and shift a channel), or `"none"`; `"spectral"` normalises the weights instead, so no layer follows.
        dimensions: Of what is convolved: 2 for pictures, 1 for waveforms; 0 after a linear layer.
    """
    if kind == "batch":
        return (nn.BatchNorm2d if dimensions == 2 else nn.BatchNorm1d)(channels)
    if kind == "instance":
        return nn.InstanceNorm2d(channels, affine=True)
    if kind == "layer":
        return nn.GroupNorm(1, channels)
    return nn.Identity()


class Maxout(nn.Module):
    """Units that are each the largest of several linear maps (Goodfellow et al., 2013): (B, inputs) -> (B, outputs)."""

    def __init__(self, inputs: int, outputs: int, pieces: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs * pieces)
        self.pieces = pieces

    def forward(self, inputs: Tensor) -> Tensor:
        return self.linear(inputs).unflatten(1, (-1, self.pieces)).amax(dim=2)


class ProjectLatents(nn.ConvTranspose2d):
    """A transposed convolution of 1x1 inputs, `(B, C)` -> `(B, outputs, k, k)`, computed as the matrix product that it is.

    Same parameters and values as `nn.ConvTranspose2d(inputs, outputs, k)` on `(B, C, 1, 1)`; three times faster on a CPU,
    whose convolutions are tuned for larger pictures.
    """

    def forward(self, latents: Tensor) -> Tensor:
        # Rows ordered (height, width, channel), so that the result is channels-last without a copy.
        weight = self.weight.permute(0, 2, 3, 1).reshape(self.in_channels, -1)
        pixels = (latents @ weight).view(len(latents), *self.kernel_size, self.out_channels).permute(0, 3, 1, 2)
        return pixels if self.bias is None else pixels + self.bias[:, None, None]


class JudgeWhole(nn.Conv2d):
    """A convolution whose kernel covers its whole input, `(B, C, k, k)` -> `(B, outputs)`, computed as a matrix product.

    Same parameters and values as `nn.Conv2d(inputs, outputs, k)`, which would give `(B, outputs, 1, 1)`.
    """

    def forward(self, hidden: Tensor) -> Tensor:
        rows = hidden.permute(0, 2, 3, 1).reshape(len(hidden), -1)
        weight = self.weight.permute(0, 2, 3, 1).reshape(self.out_channels, -1)
        return nn.functional.linear(rows, weight, self.bias)


def pack(samples: Tensor, together: int) -> Tensor:
    """Lays neighbours of a batch onto each other, to be judged together (PacGAN, Lin et al., 2018, section 3).

    Args:
        samples: (B, C, ...).
        together: m, how many.

    Returns:
        (B / m, m C, ...).

    Raises:
        UserError: m does not divide B.
    """
    if together == 1:
        return samples
    if len(samples) % together:
        raise UserError(
            f"a batch of {len(samples)} samples cannot be packed by {together}; choose a multiple of {together}"
        )
    return samples.reshape(len(samples) // together, together * samples.shape[1], *samples.shape[2:])


def init_he_(network: nn.Module) -> None:
    """Weights that keep the variance through rectifiers (He et al., 2015), biases 0.

    With torch's own start, a third of it a layer, the latents of a deep generator hardly show in what it makes.
    """
    for module in network.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            nn.init.normal_(module.weight, 0.0, math.sqrt(2 / module.weight[0].numel()))
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def init_normal_(network: nn.Module, std: float = 0.02) -> None:
    """DCGAN's initialisation (Radford et al., 2016, section 4; the reference code for the normalisation layers).

    Convolution and linear weights ~ N(0, std), biases 0; normalisation weights ~ N(1, std), biases 0.
    """
    for module in network.modules():
        if isinstance(module, (nn.Linear, nn.modules.conv._ConvNd)):
            nn.init.normal_(module.weight, 0.0, std)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, (nn.BatchNorm2d, nn.InstanceNorm2d)):
            nn.init.normal_(module.weight, 1.0, std)
            nn.init.zeros_(module.bias)


def check_labels(labels: Tensor | None, num_classes: int | None, batch_size: int) -> None:
    """Refuses labels that are missing, superfluous or of the wrong shape (their values are not read: that would wait for
    the device).

    Raises:
        UserError: What is wrong.
    """
    if num_classes is None:
        if labels is not None:
            raise UserError("this model is unconditional (num_classes is null): it takes no labels")
        return
    if labels is None:
        raise UserError(
            f"this model is class-conditional: pass labels, {batch_size} integers from 0 to {num_classes - 1}"
        )
    if labels.shape != (batch_size,) or labels.is_floating_point():
        raise UserError(f"labels must be {batch_size} integers, got {labels.dtype} of shape {tuple(labels.shape)}")
