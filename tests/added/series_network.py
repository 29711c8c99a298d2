"""The network base of series."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from added.series_processor import SeriesProcessor
from ganzoo.networks.config import GANConfig, check_free


class SeriesGANConfig(GANConfig):
    """What every family of series has."""

    length: int = Field(16, ge=2, le=4096, description="Numbers of a series.")
    latent_dim: int = Field(4, ge=1, le=4096, description="Numbers in a latent vector.")

    def processor(self, **overrides: Any) -> SeriesProcessor:
        check_free({"length": self.length}, overrides)
        return SeriesProcessor.from_dict({"length": self.length, **overrides})
