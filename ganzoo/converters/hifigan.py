"""HiFi-GAN's published weights to and from other libraries.

    from safetensors.torch import load_file
    values = json.loads(Path("config_v1.json").read_text())
    generator = from_official(load_file("generator_v1.safetensors"), official_config(values))
    to_speecht5(generator).save_pretrained("for-transformers")

The reference code (github.com/jik876/hifi-gan) publishes pickled files. ganzoo reads no pickle: convert one with
`safetensors.torch.save_file(torch.load(path, weights_only=True)["generator"], target)`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ganzoo.checkpoints.weights import plain_state_dict
from ganzoo.errors import CheckpointError, UserError, require
from ganzoo.networks.audio import Vocoder
from ganzoo.networks.base import Discriminator
from ganzoo.networks.config import GANConfig
from ganzoo.registry import get_family
from ganzoo.utils.files import load_tensors

if TYPE_CHECKING:
    from transformers import SpeechT5HifiGan

# The reference config's names of fields that have others here.
_RENAMED = {"num_mels": "n_mels", "hop_size": "hop_length", "win_size": "win_length", "fmin": "f_min", "fmax": "f_max"}
_SAME = (
    "sampling_rate",
    "n_fft",
    "upsample_rates",
    "upsample_kernel_sizes",
    "upsample_initial_channel",
    "resblock",
    "resblock_kernel_sizes",
    "resblock_dilation_sizes",
)


def official_config(values: Mapping[str, Any], **changes: Any) -> GANConfig:
    """The config of the reference code's `config.json`; what concerns its training is left out.

    Args:
        values: The content of the file.
        **changes: Fields of the family's config that the file does not know, such as `length`.

    Raises:
        UserError: A field is missing or impossible.
    """
    names = {**_RENAMED, **{name: name for name in _SAME}}
    if missing := sorted(names.keys() - values.keys()):
        raise UserError(f"this is not a config of HiFi-GAN's reference code: it lacks {', '.join(missing)}")
    fields = {own: values[name] for name, own in names.items()}
    # Clips of about three seconds, in whole frames.
    length = -(-3 * fields["sampling_rate"] // fields["hop_length"]) * fields["hop_length"]
    return get_family("hifigan").config.from_dict({"length": length, **fields, **changes}, where="HiFi-GAN's config")


def from_official(weights: str | Path | Mapping[str, Any], config: GANConfig) -> Vocoder:
    """A generator with weights of the reference code, in `eval()` mode.

    Args:
        weights: A safetensors file, or a state dict, also inside of `{"generator": ...}`; with weight norm (in either of
            PyTorch's layouts) or without.
        config: Its sizes; see `official_config`.

    Raises:
        CheckpointError: Names or shapes are not those of the config.
    """
    state = _read(weights)
    return _filled(_network("generator", config), _without_weight_norm(state.get("generator", state)))


def discriminator_from_official(
    periods: str | Path | Mapping[str, Any], scales: str | Path | Mapping[str, Any], config: GANConfig
) -> Discriminator:
    """The discriminators with weights of the reference code, to go on with its training; in `eval()` mode.

    Args:
        periods: Its multi-period discriminator, `"mpd"` in its `do_` files: a safetensors file or a state dict.
        scales: Its multi-scale discriminator, `"msd"`.
        config: The config of the generator they belong to.

    Raises:
        CheckpointError: Names or shapes are not those of the config.
    """
    state = {}
    for name, weights in (("periods", periods), ("scales", scales)):
        plain = _without_weight_norm(_read(weights))
        state |= {f"{name}.{key.removeprefix('discriminators.')}": tensor for key, tensor in plain.items()}
    return _filled(_network("discriminator", config), state)


def to_speecht5(generator: Vocoder) -> SpeechT5HifiGan:
    """The same vocoder as `transformers.SpeechT5HifiGan`, for speech models of transformers that end in one.

    It takes spectrograms (B, frames, n_mels), the axes swapped, and gives waveforms (B, samples).

    Raises:
        UserError: transformers cannot express it: residual blocks of kind 2 (V3), or a kernel that exceeds its factor by an
            odd number.
        MissingPackageError: transformers is not installed.
    """
    config = generator.config
    if config.resblock != "1":
        raise UserError("SpeechT5HifiGan has residual blocks of kind 1 only; this vocoder's are of kind 2 (as V3's)")
    steps = list(zip(config.upsample_rates, config.upsample_kernel_sizes, strict=True))
    if odd := [(rate, kernel) for rate, kernel in steps if (kernel - rate) % 2]:
        raise UserError("SpeechT5HifiGan cannot upsample by {} with a kernel of {}".format(*odd[0]))
    # By its module: importing it fails where torchaudio is broken, the package itself does not.
    speecht5 = require(
        "transformers.models.speecht5.modeling_speecht5", extra="audio", purpose="conversion to SpeechT5HifiGan"
    )
    network = speecht5.SpeechT5HifiGan(
        speecht5.SpeechT5HifiGanConfig(
            model_in_dim=config.n_mels,
            sampling_rate=config.sampling_rate,
            upsample_initial_channel=config.upsample_initial_channel,
            upsample_rates=list(config.upsample_rates),
            upsample_kernel_sizes=list(config.upsample_kernel_sizes),
            resblock_kernel_sizes=list(config.resblock_kernel_sizes),
            resblock_dilation_sizes=[list(dilations) for dilations in config.resblock_dilation_sizes],
            leaky_relu_slope=0.1,
            normalize_before=False,
        )
    )
    state = {
        f"upsampler{key.removeprefix('ups')}" if key.startswith("ups.") else key: tensor
        for key, tensor in plain_state_dict(generator).items()
    }
    # It can standardise spectrograms first; this one is told not to.
    state |= {"mean": torch.zeros(config.n_mels), "scale": torch.ones(config.n_mels)}
    return _filled(network, state)


def _network(role: str, config: GANConfig) -> Any:
    return get_family("hifigan").networks[role](config)


def _read(weights: str | Path | Mapping[str, Any]) -> Mapping[str, Any]:
    return weights if isinstance(weights, Mapping) else load_tensors(Path(weights))[0]


def _without_weight_norm(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Folds weight norm away, and gives spectral norm's tensors PyTorch's present names."""
    layouts = (("weight_g", "weight_v"), ("parametrizations.weight.original0", "parametrizations.weight.original1"))
    spectral = {
        "weight_orig": "parametrizations.weight.original",
        "weight_u": "parametrizations.weight.0._u",
        "weight_v": "parametrizations.weight.0._v",
    }
    plain = dict(state)
    for magnitude, direction in layouts:
        for key in [key for key in plain if key.endswith(magnitude)]:
            layer = key.removesuffix(magnitude)
            if f"{layer}{direction}" not in plain:
                raise CheckpointError(f"the weights hold {key} without {layer}{direction}")
            plain[f"{layer}weight"] = torch._weight_norm(plain.pop(f"{layer}{direction}"), plain.pop(key), 0)
    for old, new in spectral.items():
        for key in [key for key in plain if key.endswith(f".{old}")]:
            plain[f"{key.removesuffix(old)}{new}"] = plain.pop(key)
    return plain


def _filled(network: nn.Module, state: Mapping[str, Any]) -> Any:
    try:
        network.load_state_dict(state, strict=True)
    except (RuntimeError, AttributeError, TypeError) as error:
        problems = " ".join(str(error).split())
        raise CheckpointError(f"the weights do not fit the config: {problems}") from None
    return network.eval()
