"""WGAN: residual networks for a Wasserstein loss with a gradient penalty (Gulrajani et al., 2017).

Papers: https://arxiv.org/abs/1704.00028, section 4 and appendix F (the residual networks); the loss is that of Arjovsky et al.
(2017, https://arxiv.org/abs/1701.07875).

The networks are those from which SNGAN's were made: the generator is the same, the discriminator (the papers' critic)
averages over the pixels and has no spectral norm. The penalty is one on each sample's gradient, so nothing in the
discriminator may mix samples: layer norm or none, never batch norm (section 4, "No critic batch normalization"); the minibatch
layers, off unless asked for, do.

Weight clipping instead of the penalty is a field of the recipe (`discriminator_optimizer.clip_weights`), and both go with the
DCGAN's networks too: recipes `wgan-clip-digits` and `wgan-gp-digits`.
"""

from __future__ import annotations

from functools import partial
from typing import Literal

from pydantic import Field

from ganzoo.families.image.sngan import ResidualDiscriminator, SNGANConfig, SNGANGenerator
from ganzoo.nn import mean_pixels, normalisation, normalise_spectrally
from ganzoo.registry import register_family


class WGANConfig(SNGANConfig):
    """Config of the WGAN pair; the paper's widths for CIFAR-10 are 128 and 128."""

    generator_width: int = Field(
        128, ge=1, le=1024, description="Channels of the generator's blocks; with doubling, of the last."
    )
    discriminator_norm: Literal["layer", "batch", "spectral", "none"] = Field(
        "layer",
        description="Normalisation in the discriminator: layer = of each sample by itself; batch = over the samples; spectral = of "
        "the weights (Miyato et al., 2018).",
    )


class WGANGenerator(SNGANGenerator):
    """Residual blocks from 4x4 up, each twice as fine as the last.

    Latents (B, latent_dim), labels (B,) of a conditional model -> pictures (B, channels, resolution, resolution) in
    [-1, 1].
    """


class WGANDiscriminator(ResidualDiscriminator):
    """The mean over the pixels; no spectral norm unless it is asked for."""

    pool = staticmethod(mean_pixels)

    def __init__(self, config: WGANConfig) -> None:
        super().__init__(config, partial(normalisation, config.discriminator_norm))
        if config.discriminator_norm == "spectral":
            normalise_spectrally(self)


@register_family("wgan", modality="image", paper="https://arxiv.org/abs/1704.00028")
class WGAN:
    """The paper's loss and penalty; Adam 2e-4 (0, 0.9) and 5 discriminator updates are in the recipes."""

    config = WGANConfig
    generator = WGANGenerator
    discriminator = WGANDiscriminator
    objective = {"loss": "wasserstein", "penalties": [{"type": "gradient-penalty", "weight": 10.0}]}
    tiny = {"resolution": 16, "channels": 1, "generator_width": 8, "discriminator_width": 8, "latent_dim": 8}
