"""What every image family has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field, field_validator

from ganzoo.errors import UserError, shorten
from ganzoo.networks.config import GANConfig, check_free

if TYPE_CHECKING:
    from ganzoo.processors import Processor


class ImageGANConfig(GANConfig):
    """What every image family has: a square picture of `channels` channels in [-1, 1]."""

    resolution: int = Field(
        64, ge=4, le=1024, description="Height and width of the pictures, in pixels; a power of two."
    )
    channels: int = Field(
        3, ge=1, le=64, description="Channels of the pictures: 1 for grey, 3 for RGB, or any other number."
    )
    latent_dim: int = Field(100, ge=1, le=4096, description="Numbers in a latent vector.")

    @field_validator("resolution")
    @classmethod
    def _power_of_two(cls, value: int) -> int:
        if value & (value - 1):
            raise ValueError(f"must be a power of two, not {value}")
        return value

    @classmethod
    def processor_type(cls, values: Mapping[str, Any], overrides: Mapping[str, Any]) -> str | None:
        return overrides.get("type", "image")

    def processor(self, **overrides: Any) -> Processor:
        """The processor of pictures; with `type="spectrogram"` one of sound, whose spectrograms are the pictures.

        Raises:
            UserError: An override that is unknown, wrong, or the model's own.
        """
        from ganzoo.processors import ImageProcessor, SpectrogramProcessor

        kind = overrides.pop("type", "image")
        if kind not in ("image", "spectrogram"):
            raise UserError(f"the processor of an image model is of type image or spectrogram, not {shorten(kind)}")
        if kind == "image":
            shape = {"resolution": self.resolution, "channels": self.channels}
            check_free(shape, overrides)
            return ImageProcessor.from_dict({**shape, **overrides})
        # Half overlap unless told otherwise, as in SpecGAN: 256 and 128 for a picture of 128 bins and frames.
        overrides.setdefault("hop_length", self.resolution)
        if not isinstance(overrides["hop_length"], int):
            raise UserError(f"the processor's hop_length={shorten(overrides['hop_length'])} must be a whole number")
        length = self.resolution * overrides["hop_length"]
        shape = {"length": length, "channels": self.channels, "n_fft": 2 * self.resolution}
        check_free(shape, overrides)
        return SpectrogramProcessor.from_dict({**shape, **overrides})

    def _packed_field(self) -> str | None:
        return "channels"
