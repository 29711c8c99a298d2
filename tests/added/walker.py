"""Walker: a linear GAN of series.

Paper: https://arxiv.org/abs/0000.00000
"""

from __future__ import annotations

from torch import Tensor, nn

from added.series_network import SeriesGANConfig
from ganzoo.networks.base import Discriminator, DiscriminatorOutput, Generator
from ganzoo.nn import check_labels
from ganzoo.registry import register_family


class WalkerConfig(SeriesGANConfig):
    """Config of the linear pair."""


class WalkerGenerator(Generator):
    """Latents (B, latent_dim) -> series (B, length)."""

    def __init__(self, config: WalkerConfig) -> None:
        super().__init__(config)
        self.linear = nn.Linear(config.latent_dim, config.length)

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        check_labels(labels, self.config.num_classes, len(latents))
        return self.linear(latents).tanh()


class WalkerDiscriminator(Discriminator):
    """Series (B, length) -> one output, logits (B,)."""

    def __init__(self, config: WalkerConfig) -> None:
        super().__init__(config)
        self.hidden = nn.Linear(config.length, 8)
        self.logit = nn.Linear(8, 1)

    def forward(self, samples: Tensor, labels: Tensor | None = None) -> list[DiscriminatorOutput]:
        check_labels(labels, self.config.num_classes, len(samples))
        features = self.hidden(samples).relu()
        return [DiscriminatorOutput(self.logit(features)[:, 0], [features])]


@register_family("walker", modality="series", paper="https://arxiv.org/abs/0000.00000")
class Walker:
    config = WalkerConfig
    generator = WalkerGenerator
    discriminator = WalkerDiscriminator
    tiny = {"length": 8}
