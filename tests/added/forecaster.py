"""Forecaster: the family of another task, whose generator goes on with a series.

Paper: none.
"""

from __future__ import annotations

from added.walker import WalkerConfig, WalkerDiscriminator, WalkerGenerator
from ganzoo.registry import register_family


class ForecasterConfig(WalkerConfig):
    """Config of the linear pair."""


class ForecasterGenerator(WalkerGenerator):
    """Latents (B, latent_dim) -> series (B, length)."""

    task = "forecasting"


class ForecasterDiscriminator(WalkerDiscriminator):
    """Series (B, length) -> one output, logits (B,)."""


@register_family("forecaster", modality="series", paper="https://arxiv.org/abs/0000.00000")
class Forecaster:
    config = ForecasterConfig
    generator = ForecasterGenerator
    discriminator = ForecasterDiscriminator
    tiny = {"length": 8}
