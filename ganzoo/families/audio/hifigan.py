"""HiFi-GAN: a vocoder, from log-mel spectrograms to waveforms (Kong et al., 2020).

Paper: https://arxiv.org/abs/2010.05646, section 2 (architecture and losses) and appendix A.1 (the sizes V1, V2, V3, here
`PRESETS`). The generator raises a spectrogram to the waveform's rate by transposed convolutions, each followed by
residual blocks of several kernel sizes whose results are averaged ("multi-receptive field fusion"). The discriminators
look at every p-th sample (period discriminators) and at the waveform at several rates (scale discriminators).

Parameters: generator V1 13,926,017, V2 925,985, V3 1,462,273. The published discriminators are counted with their norms,
as they are after `prepare_for_training`: periods 41,105,770, of which 13,605 are weight norm's magnitudes; scales
29,618,821, with 4,097 magnitudes in each of the last two and spectral norm, which has no parameters, in the first.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm
from torch.nn.utils.parametrize import is_parametrized

from ganzoo.errors import UserError
from ganzoo.networks.audio import AudioGANConfig, Vocoder
from ganzoo.networks.base import Discriminator, DiscriminatorOutput
from ganzoo.nn import check_labels, normalise_spectrally
from ganzoo.nn.convolution1d import Conv1d, ConvTranspose1d
from ganzoo.registry import register_family
from ganzoo.sound.spectral import MelConfig, log_mel

SLOPE = 0.1  # of every leaky ReLU, but the last of the generator

Kernel = Annotated[int, Field(ge=1, le=255)]
Kernels = Annotated[tuple[Kernel, ...], Field(min_length=1, max_length=8)]
Dilations = Annotated[tuple[Annotated[int, Field(ge=1, le=255)], ...], Field(min_length=1, max_length=8)]

# The paper's three sizes (appendix A.1) at 22,050 Hz: `ganzoo.create("hifigan", **PRESETS["v2"])`.
PRESETS: dict[str, dict[str, Any]] = {
    "v1": {},
    "v2": {"upsample_initial_channel": 128},
    "v3": {
        "upsample_initial_channel": 256,
        "upsample_rates": (8, 8, 4),
        "upsample_kernel_sizes": (16, 16, 8),
        "resblock": "2",
        "resblock_kernel_sizes": (3, 5, 7),
        "resblock_dilation_sizes": ((1, 2), (2, 6), (3, 12)),
    },
}


class HiFiGANConfig(AudioGANConfig):
    """Config of the HiFi-GAN pair; by default the paper's V1."""

    latent_dim: ClassVar[int] = 0  # a vocoder draws nothing

    length: int = Field(65_536, ge=16, le=2**22, description="Samples of a stored clip; a multiple of hop_length.")
    channels: int = Field(1, ge=1, le=1, description="Mono: a spectrogram is that of one channel.")
    sampling_rate: int = Field(22_050, ge=1000, le=384_000, description="Samples a second, in Hz.")

    n_mels: int = Field(80, ge=1, le=512, description="Mel bands of the input.")
    n_fft: int = Field(1024, ge=16, le=2**15, description="Samples of a Fourier transform.")
    hop_length: int = Field(256, ge=1, le=2**14, description="Samples from one frame of the input to the next.")
    win_length: int = Field(1024, ge=4, le=2**15, description="Samples under the window; at most n_fft.")
    f_min: float = Field(0.0, ge=0, le=192_000, description="Lower edge of the lowest band, in Hz.")
    f_max: float | None = Field(
        8000.0, gt=0, le=192_000, description="Upper edge of the highest band, in Hz; null for half the sampling rate."
    )

    upsample_rates: Kernels = Field(
        (8, 8, 2, 2), description="Factors by which the generator raises the rate; their product is hop_length."
    )
    upsample_kernel_sizes: Kernels = Field(
        (16, 16, 4, 4), description="Kernels of these steps, at least as long as their factors; twice in the paper."
    )
    upsample_initial_channel: int = Field(
        512, ge=2, le=4096, description="Channels of the generator's first layer; halved at every step."
    )
    resblock: Literal["1", "2"] = Field(
        "1", description="Kind of residual block: 1 has a plain convolution after each dilated one, 2 has none."
    )
    resblock_kernel_sizes: Kernels = Field((3, 7, 11), description="Kernels of the residual blocks beside each other.")
    resblock_dilation_sizes: Annotated[tuple[Dilations, ...], Field(min_length=1, max_length=8)] = Field(
        ((1, 3, 5), (1, 3, 5), (1, 3, 5)), description="Dilations in each of these blocks, one after another."
    )

    periods: Kernels = Field(
        (2, 3, 5, 7, 11), description="Periods of the period discriminators; primes overlap least."
    )
    period_width: int = Field(32, ge=1, le=256, description="Channels of their first layer, 1/32 of the last.")
    num_scales: int = Field(
        3, ge=0, le=6, description="Scale discriminators, each at half the rate of the one before."
    )
    scale_width: int = Field(128, ge=1, le=512, description="Channels of their first layer, 1/8 of the last.")

    @field_validator("num_classes")
    @classmethod
    def _no_classes(cls, value: int | None) -> int | None:
        if value is not None:
            raise ValueError("a vocoder's spectrogram says all; it has no classes, leave num_classes out")
        return value

    @model_validator(mode="after")
    def _possible(self) -> HiFiGANConfig:
        self._check_upsampling()
        if len(self.resblock_kernel_sizes) != len(self.resblock_dilation_sizes):
            raise ValueError(
                f"resblock_kernel_sizes has {len(self.resblock_kernel_sizes)} blocks and resblock_dilation_sizes "
                f"{len(self.resblock_dilation_sizes)}; give each kernel its dilations"
            )
        if even := [size for size in self.resblock_kernel_sizes if size % 2 == 0]:
            raise ValueError(f"resblock_kernel_sizes must be odd, not {even[0]}")
        if self.length % self.hop_length:
            raise ValueError(f"length={self.length} must be a multiple of hop_length={self.hop_length}")
        mel = self.mel
        if self.length <= (mel.n_fft - mel.hop_length) // 2:
            raise ValueError(f"length={self.length} is too short for n_fft={mel.n_fft}")
        return self

    def _check_upsampling(self) -> None:
        rates, kernels = self.upsample_rates, self.upsample_kernel_sizes
        product = math.prod(rates)
        if product != self.hop_length:
            raise ValueError(
                f"the product of upsample_rates, {'*'.join(map(str, rates))} = {product}, must be hop_length, "
                f"{self.hop_length}: a frame of the spectrogram becomes so many samples"
            )
        if len(rates) != len(kernels):
            raise ValueError(
                f"upsample_rates has {len(rates)} steps and upsample_kernel_sizes {len(kernels)}; give each step its kernel"
            )
        for rate, kernel in zip(rates, kernels, strict=True):
            if kernel < rate:
                raise ValueError(f"a kernel of {kernel} leaves gaps at the rate {rate} (upsample_kernel_sizes)")
        if self.upsample_initial_channel >> len(rates) == 0:
            raise ValueError(
                f"upsample_initial_channel={self.upsample_initial_channel} cannot be halved {len(rates)} times"
            )

    @property
    def mel(self) -> MelConfig:
        """The front end: what the generator's input is made by."""
        names = ("sampling_rate", "n_fft", "hop_length", "win_length", "n_mels", "f_min", "f_max")
        return MelConfig.from_dict({name: getattr(self, name) for name in names})


def add_weight_norm(network: nn.Module) -> None:
    """Splits the weights of all convolutions into direction and magnitude (Salimans and Kingma, 2016), for training.

    What the network computes stays the same. Weights that are normalised already are left alone.
    """
    for module in list(network.modules()):
        if isinstance(module, nn.modules.conv._ConvNd) and not is_parametrized(module, "weight"):
            weight_norm(module)


# --------------------------------------------------------------------------------------------------------- generator

# All convolutions keep PyTorch's initialisation. The reference code asks for N(0, 0.01) in most of them, but of weights
# that weight norm computes anew at the next pass, so that its networks start from PyTorch's as well.


class ResidualBlock1(nn.Module):
    """Dilated convolutions, each followed by a plain one, around skip connections (paper, figure 1; (B, C, T) -> same)."""

    def __init__(self, channels: int, kernel: int, dilations: tuple[int, ...]) -> None:
        super().__init__()
        self.convs1 = nn.ModuleList(_same(channels, kernel, dilation) for dilation in dilations)
        self.convs2 = nn.ModuleList(_same(channels, kernel, 1) for _ in dilations)

    def forward(self, hidden: Tensor) -> Tensor:
        for dilated, plain in zip(self.convs1, self.convs2, strict=True):
            # In place where the tensor is the convolution's own: fewer passes over memory.
            inner = F.leaky_relu_(dilated(F.leaky_relu(hidden, SLOPE)), SLOPE)
            hidden = plain(inner).add_(hidden)
        return hidden


class ResidualBlock2(nn.Module):
    """Dilated convolutions around skip connections: the smaller block of V3; (B, C, T) -> same."""

    def __init__(self, channels: int, kernel: int, dilations: tuple[int, ...]) -> None:
        super().__init__()
        self.convs = nn.ModuleList(_same(channels, kernel, dilation) for dilation in dilations)

    def forward(self, hidden: Tensor) -> Tensor:
        for dilated in self.convs:
            hidden = dilated(F.leaky_relu(hidden, SLOPE)).add_(hidden)
        return hidden


def _same(channels: int, kernel: int, dilation: int) -> nn.Conv1d:
    return Conv1d(channels, channels, kernel, dilation=dilation, padding=(kernel - 1) * dilation // 2)


class HiFiGANGenerator(Vocoder):
    """Log-mel spectrograms (B, n_mels, T) -> waveforms (B, 1, T * hop_length) in [-1, 1] (paper, section 2.2).

    The layers have the names of the reference code, so that its published weights fit
    (`ganzoo.converters.hifigan`).
    """

    config: HiFiGANConfig

    def __init__(self, config: HiFiGANConfig) -> None:
        super().__init__(config)
        block = {"1": ResidualBlock1, "2": ResidualBlock2}[config.resblock]
        residual = list(zip(config.resblock_kernel_sizes, config.resblock_dilation_sizes, strict=True))
        channels = config.upsample_initial_channel
        self.conv_pre = Conv1d(config.n_mels, channels, 7, padding=3)
        self.ups, self.resblocks = nn.ModuleList(), nn.ModuleList()
        for rate, kernel in zip(config.upsample_rates, config.upsample_kernel_sizes, strict=True):
            excess = kernel - rate
            # T frames become exactly T * rate; an odd excess is cut one sample more on the left.
            self.ups.append(
                ConvTranspose1d(
                    channels, channels // 2, kernel, rate, padding=(excess + 1) // 2, output_padding=excess % 2
                )
            )
            channels //= 2
            self.resblocks.extend(block(channels, size, dilations) for size, dilations in residual)
        self.conv_post = Conv1d(channels, 1, 7, padding=3)

    @property
    def mel_config(self) -> MelConfig:
        """What `spectrogram` computes."""
        return self.config.mel

    @property
    def context(self) -> int:
        """Frames before and after a frame that its samples depend on: what lies further away changes nothing."""
        config = self.config
        plain = int(config.resblock == "1")  # a convolution without dilation after each dilated one
        residual = zip(config.resblock_kernel_sizes, config.resblock_dilation_sizes, strict=True)
        reach = max(kernel // 2 * sum(dilation + plain for dilation in dilations) for kernel, dilations in residual)
        # From the samples of frame 0 back through the layers.
        first, last = -3, config.hop_length - 1 + 3
        for layer in reversed(self.ups):
            (kernel,), (rate,), (padding,) = layer.kernel_size, layer.stride, layer.padding
            first, last = first - reach, last + reach
            first, last = -((kernel - 1 - padding - first) // rate), (last + padding) // rate
        return max(3 - first, last + 3)

    def prepare_for_training(self) -> None:
        add_weight_norm(self)

    def spectrogram(self, waveforms: Tensor) -> Tensor:
        return log_mel(waveforms.squeeze(1), self.mel_config)

    def forward(self, condition: Tensor, labels: Tensor | None = None) -> Tensor:
        if condition.ndim != 3 or condition.shape[1] != self.config.n_mels:
            raise UserError(
                f"this vocoder takes log-mel spectrograms of shape (batch, {self.config.n_mels}, frames), not "
                f"{tuple(condition.shape)}"
            )
        check_labels(labels, None, len(condition))
        hidden = self.conv_pre(condition)
        number = len(self.resblocks) // len(self.ups)
        for index, upsample in enumerate(self.ups):
            hidden = upsample(F.leaky_relu(hidden, SLOPE))
            first, *others = self.resblocks[index * number : (index + 1) * number]
            fused = first(hidden)
            for block in others:
                fused = fused.add_(block(hidden))
            hidden = fused.div_(number)
        # The reference code's last activation has PyTorch's slope, 0.01; published weights were trained with it.
        return torch.tanh(self.conv_post(F.leaky_relu(hidden)))

    def example_inputs(self, num_samples: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Noise with the range of log-mel spectrograms: made without a front end, so that a checkpoint can be checked
        where that does not run."""
        frames = min(32, self.config.length // self.config.hop_length)
        noise = torch.randn(num_samples, self.config.n_mels, frames, generator=generator)
        return {"condition": (2.0 * noise - 5.0).clamp(math.log(1e-5), 3.0)}


# ---------------------------------------------------------------------------------------------------- discriminators


class PeriodDiscriminator(nn.Module):
    """Judges the samples p apart: the waveform as rows of p samples, convolved along the columns (paper, section 2.3)."""

    def __init__(self, period: int, width: int) -> None:
        super().__init__()
        self.period = period
        channels = [1, *(width * factor for factor in (1, 4, 16, 32, 32))]
        self.convs = nn.ModuleList(
            nn.Conv2d(narrow, wide, (5, 1), (stride, 1), padding=(2, 0))
            for narrow, wide, stride in zip(channels[:-1], channels[1:], (3, 3, 3, 3, 1), strict=True)
        )
        self.conv_post = nn.Conv2d(channels[-1], 1, (3, 1), padding=(1, 0))

    def forward(self, waveforms: Tensor) -> DiscriminatorOutput:
        batch, channels, length = waveforms.shape
        if missing := -length % self.period:
            waveforms = F.pad(waveforms, (0, missing), mode="reflect")
        return _judge(self, waveforms.view(batch, channels, -1, self.period))


class ScaleDiscriminator(nn.Module):
    """Judges the waveform at one rate by grouped convolutions (Kumar et al., 2019, section 3.2; paper, section 2.3)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        layers = (  # channels in and out in units of the width, kernel, stride, groups
            (0, 1, 15, 1, 1),
            (1, 1, 41, 2, 4),
            (1, 2, 41, 2, 16),
            (2, 4, 41, 4, 16),
            (4, 8, 41, 4, 16),
            (8, 8, 41, 1, 16),
            (8, 8, 5, 1, 1),
        )
        self.convs = nn.ModuleList(
            nn.Conv1d(
                inputs * width or 1,
                outputs * width,
                kernel,
                stride,
                padding=kernel // 2,
                # Narrow networks cannot be parted into so many groups.
                groups=math.gcd(groups, inputs * width or 1, outputs * width),
            )
            for inputs, outputs, kernel, stride, groups in layers
        )
        self.conv_post = nn.Conv1d(8 * width, 1, 3, padding=1)

    def forward(self, waveforms: Tensor) -> DiscriminatorOutput:
        return _judge(self, waveforms)


def _judge(network: PeriodDiscriminator | ScaleDiscriminator, hidden: Tensor) -> DiscriminatorOutput:
    """The features include the logits, as in the reference code: feature matching compares these too."""
    features = []
    for convolution in network.convs:
        hidden = F.leaky_relu(convolution(hidden), SLOPE)
        features.append(hidden)
    logits = network.conv_post(hidden)
    return DiscriminatorOutput(logits.flatten(1), [*features, logits])


class HiFiGANDiscriminator(Discriminator):
    """Period and scale discriminators together, periods first.

    Waveforms (B, 1, L) -> one output each, logits (B, N): N is 102, 102, 105, 105, 110 and 128, 65, 33 for the paper's
    networks and training segments of 8,192 samples.
    """

    config: HiFiGANConfig

    def __init__(self, config: HiFiGANConfig) -> None:
        super().__init__(config)
        self.periods = nn.ModuleList(PeriodDiscriminator(period, config.period_width) for period in config.periods)
        self.scales = nn.ModuleList(ScaleDiscriminator(config.scale_width) for _ in range(config.num_scales))
        # The first scale sees the waveform itself; spectral norm made its training stable (paper, section 2.3).
        for scale in self.scales[:1]:
            normalise_spectrally(scale)

    def prepare_for_training(self) -> None:
        add_weight_norm(self)

    def forward(self, samples: Tensor, labels: Tensor | None = None) -> list[DiscriminatorOutput]:
        check_labels(labels, None, len(samples))
        outputs = [judge(samples) for judge in self.periods]
        for number, judge in enumerate(self.scales):
            if number:
                samples = F.avg_pool1d(samples, 4, 2, padding=2)
            outputs.append(judge(samples))
        return outputs


@register_family("hifigan", modality="audio", paper="https://arxiv.org/abs/2010.05646")
class HiFiGAN:
    """The paper's losses; AdamW 2e-4 (0.8, 0.99) and segments of 8,192 samples are in the recipes."""

    config = HiFiGANConfig
    generator = HiFiGANGenerator
    discriminator = HiFiGANDiscriminator
    objective = {"type": "vocoder"}
    # Every kind of layer, an odd kernel excess among them, and an input that does not fill the spectrum.
    tiny = {
        "length": 1000,
        "sampling_rate": 8000,
        "n_mels": 10,
        "n_fft": 64,
        "hop_length": 20,
        "win_length": 64,
        "f_max": 3000.0,
        "upsample_rates": (5, 4),
        "upsample_kernel_sizes": (10, 8),
        "upsample_initial_channel": 16,
        "resblock_kernel_sizes": (3, 5),
        "resblock_dilation_sizes": ((1, 3), (1, 2)),
        "periods": (2, 3),
        "period_width": 1,
        "num_scales": 2,
        "scale_width": 2,
    }
