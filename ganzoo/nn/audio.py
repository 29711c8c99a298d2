"""Layers of audio networks: TensorFlow's "same" convolutions, phase shuffle, uniform latents, the two ends of a WaveGAN."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganzoo.nn.convolution import Conv2d, ConvTranspose2d
from ganzoo.nn.convolution1d import Conv1d, ConvTranspose1d
from ganzoo.nn.layers import check_labels


def same_margins(kernel_size: int, stride: int) -> tuple[int, int]:
    """Zeros before and after an axis for which a convolution divides its length by the stride: TensorFlow's SAME.

    An odd number of zeros puts one more at the end: (10, 11) for 25 taps and stride 4, (1, 2) for 5 and 2. With 11 on
    both sides, as PyTorch pads, every tap would lie one sample off. The length must be a multiple of the stride.
    """
    zeros = kernel_size - stride
    return zeros // 2, zeros - zeros // 2


class SameConv1d(Conv1d):
    """`nn.Conv1d` of (B, C, L) -> (B, outputs, L / stride), padded as TensorFlow's SAME.

    Args:
        inputs, outputs: Channels.
        kernel_size: Taps, at least `stride`.
        stride: Divides L.
        groups, bias: As in `nn.Conv1d`.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel_size: int, stride: int = 1, *, groups: int = 1, bias: bool = True
    ) -> None:
        super().__init__(inputs, outputs, kernel_size, stride=stride, groups=groups, bias=bias)
        self.margins = same_margins(kernel_size, stride)

    def forward(self, signals: Tensor) -> Tensor:
        return self.with_margins(signals, *self.margins)


class SameConvTranspose1d(ConvTranspose1d):
    """`nn.ConvTranspose1d` of (B, C, L) -> (B, outputs, L x stride): the transpose of `SameConv1d`."""

    def __init__(self, inputs: int, outputs: int, kernel_size: int, stride: int, *, bias: bool = True) -> None:
        # The padding cuts as much off both ends; what is still too much lies at the end.
        margins = same_margins(kernel_size, stride)
        super().__init__(inputs, outputs, kernel_size, stride=stride, padding=margins[0], bias=bias)
        self.margins = margins

    def forward(self, signals: Tensor) -> Tensor:
        return self.with_margins(signals, *self.margins)


class NearestConv1d(SameConv1d):
    """Every sample repeated `scale` times, then a "same" convolution: (B, C, L) -> (B, outputs, L x scale)."""

    def __init__(self, inputs: int, outputs: int, kernel_size: int, scale: int, *, bias: bool = True) -> None:
        super().__init__(inputs, outputs, kernel_size, bias=bias)
        self.scale = scale

    def forward(self, signals: Tensor) -> Tensor:
        return super().forward(signals.repeat_interleave(self.scale, dim=2))


class SameConv2d(Conv2d):
    """`nn.Conv2d` with a square kernel, (B, C, H, W) -> (B, outputs, H / stride, W / stride): TensorFlow's SAME."""

    def __init__(self, inputs: int, outputs: int, kernel_size: int, stride: int, *, bias: bool = True) -> None:
        super().__init__(inputs, outputs, kernel_size, stride=stride, bias=bias)
        self.margins = 2 * same_margins(kernel_size, stride)

    def forward(self, pictures: Tensor) -> Tensor:
        return super().forward(F.pad(pictures, self.margins))


class SameConvTranspose2d(ConvTranspose2d):
    """`nn.ConvTranspose2d`, (B, C, H, W) -> (B, outputs, H x stride, W x stride): the transpose of `SameConv2d`."""

    def __init__(self, inputs: int, outputs: int, kernel_size: int, stride: int, *, bias: bool = True) -> None:
        before, _ = same_margins(kernel_size, stride)
        super().__init__(inputs, outputs, kernel_size, stride=stride, padding=before, bias=bias)

    def forward(self, pictures: Tensor) -> Tensor:
        height, width = (size * stride for size, stride in zip(pictures.shape[2:], self.stride, strict=True))
        return super().forward(pictures)[..., :height, :width]


class PhaseShuffle(nn.Module):
    """Shifts every sample's activations in time by its own random number of steps from -n to n (Donahue et al., 2019, 3.3).

    The discriminator then cannot tell generated sound by the phase of the generator's upsampling artefacts. What a shift
    leaves empty is filled by reflection. Activations (B, C, L), n < L, keep their shape; in `eval()` they stay as they are.

    The paper's code draws one shift for the whole batch; here every sample has its own, so that a batch sees all of them.
    The shifts come from the device's global generator.
    """

    def __init__(self, n: int) -> None:
        super().__init__()
        self.n = n

    def forward(self, hidden: Tensor) -> Tensor:
        if not self.training or self.n == 0:
            return hidden
        batch, channels, length = hidden.shape
        shifts = torch.randint(-self.n, self.n + 1, (batch, 1), device=hidden.device)
        sources = (torch.arange(length, device=hidden.device) - shifts).abs()
        last = length - 1
        sources = last - (last - sources).abs()
        # Whole time steps are moved, of rows that the convolutions have laid so already.
        rows = hidden.transpose(1, 2).reshape(batch * length, channels)
        starts = torch.arange(0, batch * length, length, device=hidden.device)[:, None]
        return rows.index_select(0, (starts + sources).flatten()).view(batch, length, channels).transpose(1, 2)

    def extra_repr(self) -> str:
        return f"n={self.n}"


class DenseStart(nn.Module):
    """A generator's first layer: latents (B, latent_dim) and labels (B,) -> (B, channels, *size), one dense layer.

    A label is an embedding beside the latents (Mirza and Osindero, 2014, section 3.2), of length about 1 at the start
    against the latents' 6: a label as long as the latents would drown them.

    Args:
        latent_dim: Numbers in a latent vector.
        channels: Channels of the result.
        size: Its other axes: (time,) or (frequency, time).
        num_classes: Of a conditional model, else None.
        label_dim: Numbers in a label's embedding.
        bias: Whether the dense layer has one.
    """

    def __init__(
        self,
        latent_dim: int,
        channels: int,
        size: tuple[int, ...],
        *,
        num_classes: int | None,
        label_dim: int,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.shape, self.num_classes = (channels, *size), num_classes
        self.label_embedding = None if num_classes is None else nn.Embedding(num_classes, label_dim)
        inputs = latent_dim + (0 if num_classes is None else label_dim)
        self.dense = nn.Linear(inputs, math.prod(self.shape), bias=bias)

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        check_labels(labels, self.num_classes, len(latents))
        if self.label_embedding is not None:
            latents = torch.cat([latents, self.label_embedding(labels).to(latents.dtype)], dim=1)
        return self.dense(latents).view(len(latents), *self.shape)


class ProjectionHead(nn.Module):
    """A discriminator's last layer: activations (B, channels, *size) and labels (B,) -> logits (B,), one dense layer.

    A label adds the inner product of its vector and the activations summed over `size` (Miyato and Koyama, 2018, equation
    11 and figure 1d). A plane of the label beside the samples, as in a conditional DCGAN, would need a weight for each of
    the 16,384 samples, and phase shuffle would move it; here a class costs `channels` weights.

    Args:
        channels: Channels of the activations.
        size: Their other axes.
        num_classes: Of a conditional model, else None.
    """

    def __init__(self, channels: int, size: tuple[int, ...], *, num_classes: int | None) -> None:
        super().__init__()
        self.dense = nn.Linear(channels * math.prod(size), 1)
        self.label_vectors = None if num_classes is None else nn.Embedding(num_classes, channels)

    def forward(self, hidden: Tensor, labels: Tensor | None = None) -> Tensor:
        logits = self.dense(hidden.flatten(1)).flatten()
        if self.label_vectors is None:
            return logits
        return logits + (self.label_vectors(labels) * hidden.flatten(2).sum(dim=2)).sum(dim=1)


def init_glorot_(network: nn.Module) -> None:
    """TensorFlow's default, which the WaveGAN code uses: weights uniform within +-sqrt(6 / (fan in + fan out)), biases 0.

    The vectors of labels, which that code has not, get a length of about 1 in the generator, and in the discriminator the
    range of the dense layer's weights, whose part they take for their class.
    """
    for module in network.modules():
        if isinstance(module, (nn.Linear, nn.modules.conv._ConvNd)):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, DenseStart) and module.label_embedding is not None:
            _init_uniform(module.label_embedding, (3 / module.label_embedding.embedding_dim) ** 0.5)
        elif isinstance(module, ProjectionHead) and module.label_vectors is not None:
            _init_uniform(module.label_vectors, (6 / (module.dense.in_features + 1)) ** 0.5)


def _init_uniform(embedding: nn.Embedding, limit: float) -> None:
    nn.init.uniform_(embedding.weight, -limit, limit)
