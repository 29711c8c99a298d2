"""How a class label acts inside a network: on the normalisation of a generator, on the logit of a discriminator."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ConditionalBatchNorm2d(nn.Module):
    """Batch normalisation with a gain and a bias for each class (Dumoulin et al., 2017, equation 5).

    (B, C, H, W) and labels (B,) -> gain[label] * (x - mean) / std + bias[label]. Starts as plain batch normalisation.

    Args:
        channels: C.
        num_classes: Labels are 0 to num_classes - 1.
    """

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.gain = nn.Embedding(num_classes, channels)
        self.bias = nn.Embedding(num_classes, channels)
        nn.init.ones_(self.gain.weight)
        nn.init.zeros_(self.bias.weight)

    def forward(self, hidden: Tensor, labels: Tensor) -> Tensor:
        normalised = self.norm(hidden)
        gain, bias = (table(labels).to(normalised.dtype)[:, :, None, None] for table in (self.gain, self.bias))
        return torch.addcmul(bias, normalised, gain)


class Projection(nn.Module):
    """A discriminator's last layer with a label: w^T h + b + e[label]^T h (Miyato and Koyama, 2018, equation 5).

    Features (B, D) and labels (B,), or None where there are no classes -> logits (B,).

    Args:
        features: D.
        num_classes: Labels are 0 to num_classes - 1; None for none, which leaves w^T h + b.
    """

    def __init__(self, features: int, num_classes: int | None) -> None:
        super().__init__()
        self.linear = nn.Linear(features, 1)
        self.embedding = None if num_classes is None else nn.Embedding(num_classes, features)

    def forward(self, features: Tensor, labels: Tensor | None = None) -> Tensor:
        logits = self.linear(features).squeeze(1)
        if self.embedding is None:
            return logits
        return logits + (self.embedding(labels).to(features.dtype) * features).sum(1)
