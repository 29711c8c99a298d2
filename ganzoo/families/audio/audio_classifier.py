"""Audio classifier: a small convolutional network over its own log-mel spectrogram, whose features the metrics compare.

Not a GAN: the embedder behind the inception score, the Fréchet audio distance and their relatives on spoken digits. The
convolutions are those of the image classifier (Springenberg et al., 2015, https://arxiv.org/abs/1412.6806); in training,
bands of frequency and of time are hidden as in SpecAugment (Park et al., 2019, https://arxiv.org/abs/1904.08779).
"""

from __future__ import annotations

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from typing_extensions import Self

from ganzoo.networks.audio import AudioGANConfig
from ganzoo.networks.base import Classifier, ClassifierOutput
from ganzoo.registry import register_family
from ganzoo.sound.spectral import MelConfig, mel_filters, stft_magnitude

# Added to mel magnitudes before the logarithm: what is below is silence.
FLOOR = 1e-4


class AudioClassifierConfig(AudioGANConfig):
    """Config of the classifier."""

    length: int = Field(8192, ge=256, le=2**20, description="Samples of a clip, in each channel.")
    sampling_rate: int = Field(8000, ge=1000, le=384_000, description="Samples a second, in Hz.")
    num_classes: int = Field(10, ge=2, le=100_000, description="Number of classes.")
    n_mels: int = Field(40, ge=8, le=256, description="Mel bands.")
    n_fft: int = Field(256, ge=16, le=8192, description="Samples of a frame of the spectrogram.")
    hop_length: int = Field(64, ge=4, le=4096, description="Samples from one frame to the next.")
    f_min: float = Field(40.0, ge=0, le=192_000, description="Lowest frequency of the mel bands, in Hz.")
    f_max: float | None = Field(
        None,
        gt=0,
        le=192_000,
        description="Highest frequency of the mel bands, in Hz; null for half the sampling rate.",
    )
    width: int = Field(
        16, ge=1, le=256, description="Channels of the first stage; they double at every halving of the size."
    )
    feature_dim: int = Field(128, ge=1, le=2048, description="Size of the feature vector before the logits.")
    dropout: float = Field(0.3, ge=0, lt=1, description="Dropout before the feature layer.")
    mask: float = Field(
        0.2, ge=0, lt=1, description="Largest share of the bands, and of the frames, that training hides in a clip."
    )
    quietest: float = Field(
        0.2, gt=0, le=1, description="Smallest factor by which training turns a clip down; 1 leaves all as they are."
    )
    noise: float = Field(
        0.03, ge=0, le=1, description="Largest standard deviation of the white noise that training adds to a clip."
    )

    @property
    def mel(self) -> MelConfig:
        """The front end."""
        shared = ("sampling_rate", "n_fft", "hop_length", "n_mels", "f_min", "f_max")
        return MelConfig.from_dict({"win_length": self.n_fft, **{name: getattr(self, name) for name in shared}})

    @model_validator(mode="after")
    def _check(self) -> Self:
        shortest = max(self.mel.n_fft, 8 * self.hop_length)
        if self.length < shortest:
            raise ValueError(f"length={self.length} must be at least {shortest}: one n_fft, and eight hops")
        return self


class LogMel(nn.Module):
    """Waveforms (B, C, L) in [-1, 1] -> log(mel magnitudes + 1e-4), (B, C, n_mels, L // hop_length), in float32.

    The filters are saved with the weights: they are part of what was trained, and a loaded network needs no torchaudio.
    """

    def __init__(self, config: MelConfig) -> None:
        super().__init__()
        self.config = config
        filters = torch.empty(config.n_fft // 2 + 1, config.n_mels)
        # Without memory there is nothing to fill: the values come from a checkpoint.
        self.register_buffer("filters", filters if filters.is_meta else mel_filters(config, filters.device).clone())

    def forward(self, waveforms: Tensor) -> Tensor:
        # A logarithm magnifies the rounding of half precision in the quiet bands.
        mel = self.config
        with torch.autocast(waveforms.device.type, enabled=False):
            # Frame t is centred on hop t, as in a vocoder's mel spectrogram.
            padding = mel.padding, mel.n_fft - mel.hop_length - mel.padding
            padded = nn.functional.pad(waveforms.float(), padding, mode="reflect")
            magnitudes = stft_magnitude(padded, mel.n_fft, mel.hop_length)
            return (self.filters.float().T @ magnitudes + FLOOR).log()


class AudioClassifier(Classifier):
    """Two 3x3 convolutions a stage, three stages halving bands and frames; the mean over time, a feature layer, a linear one.

    Waveforms (B, channels, length) in [-1, 1] -> logits (B, num_classes), features (B, feature_dim).
    """

    def __init__(self, config: AudioClassifierConfig) -> None:
        super().__init__(config)
        channels = [config.channels, *(config.width * 2**stage for stage in range(3))]
        layers: list[nn.Module] = []
        for narrow, wide in zip(channels, channels[1:], strict=False):
            layers += [*_conv(narrow, wide), *_conv(wide, wide), nn.MaxPool2d(2)]
        self.front_end = LogMel(config.mel)
        self.norm = nn.BatchNorm2d(config.channels)
        self.stages = nn.Sequential(*layers)
        self.dropout = nn.Dropout(config.dropout)
        self.to_features = nn.Linear(channels[-1] * (config.n_mels // 8), config.feature_dim)
        self.to_logits = nn.Linear(config.feature_dim, config.num_classes)

    def forward(self, samples: Tensor) -> ClassifierOutput:
        config = self.config
        if self.training:
            samples = disturb(samples, quietest=config.quietest, noise=config.noise)
        spectrograms = self.norm(self.front_end(samples).to(samples.dtype))
        if self.training:
            spectrograms = hide_bands(spectrograms, config.mask)
        hidden = self.stages(spectrograms).mean(dim=3).flatten(1)
        features = self.to_features(self.dropout(hidden)).relu()
        return ClassifierOutput(self.to_logits(features), features)


def disturb(waveforms: Tensor, *, quietest: float, noise: float) -> Tensor:
    """Turns each clip down and adds white noise: what is generated is neither as loud nor as clean as recordings.

    Args:
        waveforms: (B, C, L).
        quietest: Factors are drawn from here to 1, uniform in decibels.
        noise: Standard deviations are drawn from 0 to this, most of them small: the square of a uniform number.
    """
    gain, level = torch.rand(2, len(waveforms), 1, 1, device=waveforms.device).to(waveforms.dtype)
    return waveforms * quietest**gain + torch.randn_like(waveforms) * (noise * level.square())


def hide_bands(spectrograms: Tensor, share: float) -> Tensor:
    """Sets one random stretch of the rows and one of the columns of each spectrogram to 0, its mean (SpecAugment).

    Args:
        spectrograms: (B, C, H, W), normalised.
        share: Of the rows and of the columns, the most that a stretch covers; its length is uniform from 0 to this.
    """
    batch, _, *sizes = spectrograms.shape
    rows, columns = (_random_stretch(batch, size, share, spectrograms.device) for size in sizes)
    return spectrograms.masked_fill(rows[:, None, :, None] | columns[:, None, None, :], 0.0)


def _random_stretch(batch: int, size: int, share: float, device: torch.device) -> Tensor:
    """(batch, size) booleans, true in one stretch of each row."""
    length, place = torch.rand(2, batch, 1, device=device)
    length = length * share
    start = place * (1 - length)
    positions = (torch.arange(size, device=device) + 0.5) / size
    return (positions >= start) & (positions < start + length)


def _conv(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]


@register_family("audio-classifier", modality="audio", paper="https://arxiv.org/abs/1904.08779")
class AudioClassifierFamily:
    config = AudioClassifierConfig
    classifier = AudioClassifier
    objective = {"type": "classification"}
    tiny = {"length": 512, "n_mels": 8, "n_fft": 64, "hop_length": 16, "width": 4, "num_classes": 3, "feature_dim": 8}
