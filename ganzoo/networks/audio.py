"""What every audio family has, and the base of vocoders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field
from torch import Tensor

from ganzoo.networks.base import Batch, Generator
from ganzoo.networks.config import GANConfig, check_free

if TYPE_CHECKING:
    from ganzoo.processors import Processor
    from ganzoo.sound.spectral import MelConfig


class AudioGANConfig(GANConfig):
    """What every audio family has: clips of `length` samples a channel."""

    length: int = Field(16_384, ge=16, le=2**22, description="Samples of a clip, in each channel.")
    channels: int = Field(1, ge=1, le=8, description="1 mono, 2 stereo.")
    sampling_rate: int = Field(16_000, ge=1000, le=384_000, description="Samples a second, in Hz.")
    latent_dim: int = Field(100, ge=1, le=4096, description="Numbers in a latent vector.")

    @classmethod
    def processor_type(cls, values: Mapping[str, Any], overrides: Mapping[str, Any]) -> str | None:
        return "waveform"

    def processor(self, **overrides: Any) -> Processor:
        from ganzoo.processors import WaveformProcessor

        return WaveformProcessor.from_dict({**self._shape(overrides), **overrides})

    def _packed_field(self) -> str | None:
        return "channels"

    def _shape(self, overrides: Mapping[str, Any]) -> dict[str, Any]:
        """The fields of the processor that are the model's."""
        shape = {"length": self.length, "channels": self.channels, "sampling_rate": self.sampling_rate}
        check_free(shape, overrides)
        return shape


class Vocoder(Generator):
    """Maps log-mel spectrograms (B, n_mels, T) to the waveforms (B, 1, T * hop_length) that they were made of.

    It draws nothing: its condition is the spectrogram of real sound.
    """

    task = "vocoding"
    any_length = True
    draws_latents = False

    mel_config: MelConfig  # what `spectrogram` computes
    context: int  # frames on either side that a frame's samples depend on

    def condition(self, batch: Batch) -> Tensor:
        """The log-mel spectrograms (B, n_mels, T) of the batch's waveforms (B, 1, L)."""
        return self.spectrogram(batch.samples)

    def spectrogram(self, waveforms: Tensor) -> Tensor:
        """Waveforms (B, 1, L) in [-1, 1] -> the log-mel spectrograms (B, n_mels, L // hop_length) to make them from."""
        raise NotImplementedError
