"""HiFi-GAN against its paper and its reference code: sizes, layers, weight norm, conversions, training and its resumption."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import soundfile
import torch
import torch.nn.functional as F
from network_helpers import count
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized
from training_helpers import make_trainer

import ganzoo
from ganzoo.checkpoints.weights import count_parameters, plain_state_dict
from ganzoo.converters.hifigan import discriminator_from_official, from_official, official_config, to_speecht5
from ganzoo.errors import CheckpointError, UserError
from ganzoo.families.audio.hifigan import PRESETS, HiFiGAN, HiFiGANConfig, HiFiGANDiscriminator, HiFiGANGenerator
from ganzoo.training.ema import EMA
from ganzoo.training.state import load_latest, save_checkpoint
from ganzoo.utils.files import save_tensors

# The reference code's config_v1.json, without what concerns its training.
OFFICIAL_V1 = {
    "resblock": "1",
    "upsample_rates": [8, 8, 2, 2],
    "upsample_kernel_sizes": [16, 16, 4, 4],
    "upsample_initial_channel": 512,
    "resblock_kernel_sizes": [3, 7, 11],
    "resblock_dilation_sizes": [[1, 3, 5], [1, 3, 5], [1, 3, 5]],
    "segment_size": 8192,
    "num_mels": 80,
    "n_fft": 1024,
    "hop_size": 256,
    "win_size": 1024,
    "sampling_rate": 22050,
    "fmin": 0,
    "fmax": 8000,
}


def tiny(**changes: object) -> HiFiGANConfig:
    return HiFiGANConfig.from_dict({**HiFiGAN.tiny, **changes})


def noise(config: HiFiGANConfig, frames: int = 20) -> Tensor:
    return torch.randn(2, config.n_mels, frames) - 5


@pytest.fixture(autouse=True)
def fixed_seed() -> None:
    torch.manual_seed(0)


# ------------------------------------------------------------------------------------------------------- sizes and shapes


@pytest.mark.parametrize(
    ("preset", "plain", "normed"),
    [("v1", 13_926_017, 13_936_130), ("v2", 925_985, 928_514), ("v3", 1_462_273, 1_464_322)],
)
def test_generator_sizes_are_those_of_the_reference_code(preset, plain, normed):
    with torch.device("meta"):
        generator, _ = ganzoo.create("hifigan", **PRESETS[preset])
        assert count(generator) == plain
        assert generator(torch.zeros(1, 80, 7)).shape == (1, 1, 7 * 256)
        generator.prepare_for_training()
    assert count(generator) == normed


def test_discriminators_are_those_of_the_reference_code():
    """Counted with their norms, as they are trained: a magnitude for every channel under weight norm, none under spectral."""
    with torch.device("meta"):
        discriminator = HiFiGANDiscriminator(HiFiGANConfig())
        assert count(discriminator) == 41_105_770 - 13_605 + 29_618_821 - 2 * 4_097
        discriminator.prepare_for_training()
    assert count(discriminator.periods) == 41_105_770
    assert [count(scale) for scale in discriminator.scales] == [9_870_209, 9_874_306, 9_874_306]
    assert count_parameters(discriminator) == 70_724_591 - 13_605 - 2 * 4_097


def test_logits_of_a_training_segment():
    """As many as the reference code's discriminators give for 8,192 samples."""
    outputs = HiFiGANDiscriminator(HiFiGANConfig(period_width=1, scale_width=1))(torch.randn(1, 1, 8192))
    assert [output.logits.shape for output in outputs] == [(1, n) for n in (102, 102, 105, 105, 110, 128, 65, 33)]
    assert [len(output.features) for output in outputs] == [6] * 5 + [8] * 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"upsample_rates": (8, 8)}, r"upsample_rates, 8\*8 = 64, must be hop_length, 20"),
        ({"upsample_kernel_sizes": (10,)}, "2 steps and upsample_kernel_sizes 1"),
        ({"upsample_kernel_sizes": (4, 8)}, "a kernel of 4 leaves gaps at the rate 5"),
        ({"upsample_initial_channel": 2}, "upsample_initial_channel=2 cannot be halved 2 times"),
        ({"resblock_kernel_sizes": (3,)}, "resblock_kernel_sizes has 1 blocks"),
        ({"resblock_kernel_sizes": (3, 4)}, "must be odd, not 4"),
        ({"length": 1001}, "length=1001 must be a multiple of hop_length=20"),
        ({"length": 20}, "length=20 is too short for n_fft=64"),
        ({"f_max": 5000.0}, "f_max=5000"),
        ({"win_length": 128}, "win_length=128"),
        ({"num_classes": 3}, "num_classes=3: a vocoder's spectrogram says all"),
        ({"latent_dim": 8}, "unknown key 'latent_dim'"),
        ({"channels": 2}, "channels=2"),
    ],
)
def test_impossible_configs_are_one_clear_error(changes, message):
    with pytest.raises(UserError, match=message):
        tiny(**changes)


def test_wrong_spectrograms_are_refused():
    generator = HiFiGANGenerator(tiny())
    for shape in ((2, 20, 10), (10, 20), (1, 11, 20)):
        with pytest.raises(UserError, match=r"shape \(batch, 10, frames\)"):
            generator(torch.zeros(shape))


# ------------------------------------------------------------------------------------------------------------- the layers


@pytest.mark.parametrize(
    ("rates", "kernels"), [((5, 4), (10, 8)), ((4, 5), (4, 5)), ((20,), (33,)), ((2, 10), (7, 11))]
)
def test_every_frame_becomes_hop_length_samples(rates, kernels):
    config = tiny(upsample_rates=rates, upsample_kernel_sizes=kernels)
    assert HiFiGANGenerator(config)(noise(config, 9)).shape == (2, 1, 180)


def test_generator_of_kind_2_step_by_step():
    """The whole V3-like network once more, from the paper's figure 1 and the reference code's activations."""
    config = tiny(resblock="2")
    generator = HiFiGANGenerator(config).eval()
    mel, weights = noise(config), dict(generator.named_parameters())

    def convolve(name: str, hidden: Tensor, dilation: int = 1) -> Tensor:
        weight = weights[f"{name}.weight"]
        same = (weight.shape[-1] - 1) * dilation // 2
        return F.conv1d(hidden, weight, weights[f"{name}.bias"], padding=same, dilation=dilation)

    hidden = convolve("conv_pre", mel)
    for stage, (rate, kernel) in enumerate(zip((5, 4), (10, 8), strict=True)):
        weight, bias = weights[f"ups.{stage}.weight"], weights[f"ups.{stage}.bias"]
        whole = F.conv_transpose1d(F.leaky_relu(hidden, 0.1), weight, bias, stride=rate)
        # Of the (T - 1) * rate + kernel samples, T * rate from the middle.
        hidden = whole[..., (kernel - rate + 1) // 2 :][..., : hidden.shape[-1] * rate]
        fused = torch.zeros_like(hidden)
        for block, dilations in enumerate(config.resblock_dilation_sizes):
            inner = hidden
            for layer, dilation in enumerate(dilations):
                name = f"resblocks.{2 * stage + block}.convs.{layer}"
                inner = inner + convolve(name, F.leaky_relu(inner, 0.1), dilation)
            fused += inner / 2
        hidden = fused
    expected = torch.tanh(convolve("conv_post", F.leaky_relu(hidden, 0.01)))
    torch.testing.assert_close(generator(mel), expected)


def test_period_discriminator_sees_every_pth_sample():
    """Its column i is the 1-d network of the samples i, i + p, i + 2p, ...; what is missing at the end is reflected."""
    judge = HiFiGANDiscriminator(tiny(periods=(3,), period_width=2)).periods[0]
    waveforms = torch.randn(2, 1, 400)
    padded = torch.cat([waveforms, waveforms[..., -3:-1].flip(-1)], dim=-1)  # to 402 = 3 * 134
    columns = []
    for phase in range(3):
        hidden = padded[..., phase::3]
        for number, layer in enumerate([*judge.convs, judge.conv_post]):
            stride = 3 if number < 4 else 1
            hidden = F.conv1d(hidden, layer.weight[..., 0], layer.bias, stride, layer.weight.shape[2] // 2)
            hidden = hidden if layer is judge.conv_post else F.leaky_relu(hidden, 0.1)
        columns.append(hidden)
    expected = torch.stack(columns, dim=-1).flatten(1)
    torch.testing.assert_close(judge(waveforms).logits, expected)


def test_later_scales_see_the_averaged_waveform():
    discriminator = HiFiGANDiscriminator(tiny(num_scales=3)).eval()
    waveforms = torch.randn(2, 1, 200)
    padded = F.pad(waveforms, (2, 2))
    halved = padded.unfold(-1, 4, 2).mean(dim=-1)  # the zeros of the padding count
    outputs = discriminator(waveforms)
    assert len(outputs) == 2 + 3
    torch.testing.assert_close(outputs[3].logits, discriminator.scales[1](halved).logits)


def test_first_scale_has_spectral_norm_and_nothing_else_before_training():
    discriminator = HiFiGANDiscriminator(tiny())
    normed = [name for name, module in discriminator.named_modules() if is_parametrized(module)]
    assert normed == [*(f"scales.0.convs.{number}" for number in range(7)), "scales.0.conv_post"]


@pytest.mark.parametrize(
    "changes", [{}, {"resblock": "2"}, {"upsample_rates": (2, 10), "upsample_kernel_sizes": (7, 11)}]
)
def test_context_is_how_far_a_frame_reaches(changes):
    """Of a change in one frame, something is heard so far away, and nothing further."""
    config = tiny(**changes)
    generator = HiFiGANGenerator(config).eval().double()
    mel = (torch.randn(1, config.n_mels, 101) - 5).double()
    other = mel.clone()
    other[..., 50] += 10
    changed = (generator(mel) != generator(other)).nonzero()[:, -1] // config.hop_length
    assert max(50 - int(changed.min()), int(changed.max()) - 50) == generator.context


# ------------------------------------------------------------------------------------------------------------ weight norm


def trained(network: nn.Module, steps: int = 3) -> nn.Module:
    """After a few optimiser steps, so that magnitudes and directions are no longer those of the start."""
    network.prepare_for_training()
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        network.replay(**network.train().example_inputs(2, torch.default_generator)).square().sum().backward()
        optimizer.step()
    return network.eval()


@pytest.mark.parametrize("kind", [HiFiGANGenerator, HiFiGANDiscriminator])
def test_weight_norm_is_for_training_only(kind, tmp_path):
    network = kind(tiny()).eval()
    inputs = network.example_inputs(2, torch.default_generator)
    before = network.replay(**inputs)
    keys = list(network.state_dict())
    network.prepare_for_training()
    network.prepare_for_training()  # once more changes nothing
    torch.testing.assert_close(network.eval().replay(**inputs), before, rtol=1e-5, atol=1e-6)
    convolutions = [module for module in network.modules() if isinstance(module, nn.modules.conv._ConvNd)]
    assert all(is_parametrized(module, "weight") for module in convolutions)

    trained(network)
    after = network.replay(**inputs)
    assert (after - before).abs().max() > 1e-3
    assert sorted(plain_state_dict(network)) == sorted(keys)
    network.save_pretrained(tmp_path)
    loaded = kind.from_pretrained(tmp_path)
    assert not any(".original0" in key for key in loaded.state_dict())
    torch.testing.assert_close(loaded.replay(**inputs), after, rtol=0, atol=1e-5)
    assert count_parameters(network) == count(loaded)


def test_average_follows_a_network_with_weight_norm():
    network = HiFiGANGenerator(tiny())
    network.prepare_for_training()
    ema = EMA(network, half_life=10, rampup=1.0)
    start = copy.deepcopy(network.state_dict())
    trained(network)
    ema.update(10, 1000)
    for name, tensor in ema.average.state_dict().items():
        torch.testing.assert_close(tensor, (start[name] + network.state_dict()[name]) / 2)
    mel = noise(network.config)
    assert ema.average(mel).shape == network(mel).shape


# ------------------------------------------------------------------------------------------------------------- conversions


def with_weight_norm(state: dict[str, Tensor], layout: tuple[str, str]) -> dict[str, Tensor]:
    """As the reference code saves it: magnitudes, and directions of any length."""
    normed = {}
    for key, tensor in state.items():
        if key.endswith(".weight") and tensor.ndim > 2:
            layer = key.removesuffix("weight")
            norms = tensor.flatten(1).norm(dim=1).view(-1, *[1] * (tensor.ndim - 1))
            normed |= {f"{layer}{layout[0]}": norms, f"{layer}{layout[1]}": tensor * (1 + torch.rand_like(norms))}
        else:
            normed[key] = tensor
    return normed


OLD = ("weight_g", "weight_v")
NEW = ("parametrizations.weight.original0", "parametrizations.weight.original1")


@pytest.mark.parametrize("layout", [OLD, NEW, None])
def test_official_weights_fit(layout, tmp_path):
    source = HiFiGANGenerator(tiny()).eval()
    state = dict(source.state_dict())
    assert {"conv_pre.weight", "ups.0.bias", "resblocks.3.convs1.0.weight", "conv_post.weight"} <= state.keys()
    state = with_weight_norm(state, layout) if layout else state
    save_tensors(tmp_path / "generator.safetensors", state)
    mel = noise(source.config)
    for weights in (state, {"generator": state}, tmp_path / "generator.safetensors"):
        converted = from_official(weights, source.config)
        torch.testing.assert_close(converted(mel), source(mel), rtol=0, atol=1e-5)


def test_official_discriminators_fit():
    source = HiFiGANDiscriminator(tiny()).eval()
    state = source.state_dict()
    parts = {}
    for name in ("periods", "scales"):
        own = {key.replace(name, "discriminators", 1): value for key, value in state.items() if key.startswith(name)}
        parts[name] = with_weight_norm(own, OLD)
    for new, old in (("weight.original", "weight_orig"), ("weight.0._u", "weight_u"), ("weight.0._v", "weight_v")):
        parts["scales"] = {
            key.replace(f"parametrizations.{new}", old): value for key, value in parts["scales"].items()
        }
    assert {"discriminators.0.convs.0.weight_orig", "discriminators.1.convs.0.weight_g"} <= parts["scales"].keys()
    converted = discriminator_from_official(parts["periods"], parts["scales"], source.config)
    inputs = source.example_inputs(2, torch.default_generator)
    torch.testing.assert_close(converted.replay(**inputs), source.replay(**inputs), rtol=0, atol=1e-5)


def test_official_config():
    config = official_config(OFFICIAL_V1, length=65_536)
    assert config == HiFiGANConfig()
    assert official_config(OFFICIAL_V1).length == 66_304  # three seconds in whole frames
    with pytest.raises(UserError, match="lacks hop_size, num_mels"):
        official_config({key: value for key, value in OFFICIAL_V1.items() if key not in ("hop_size", "num_mels")})


def test_weights_of_another_size_are_refused():
    state = HiFiGANGenerator(tiny()).state_dict()
    with pytest.raises(CheckpointError, match="do not fit the config.*size mismatch"):
        from_official(state, tiny(upsample_initial_channel=32))
    with pytest.raises(CheckpointError, match="holds? conv_pre.weight_g without conv_pre.weight_v"):
        from_official({"conv_pre.weight_g": torch.ones(1)}, tiny())


def test_transformers_computes_the_same():
    generator = trained(HiFiGANGenerator(tiny(upsample_rates=(10, 2), upsample_kernel_sizes=(20, 4))))
    network = to_speecht5(generator)
    mel = noise(generator.config, 30)
    with torch.no_grad():
        found, expected = network(mel.transpose(1, 2)), generator(mel)
    assert expected.std() > 1e-3
    torch.testing.assert_close(found, expected.squeeze(1), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"), [({"resblock": "2"}, "kind 1 only"), ({}, "cannot upsample by 5 with a kernel of 10")]
)
def test_what_transformers_cannot_express(changes, message):
    with pytest.raises(UserError, match=message):
        to_speecht5(HiFiGANGenerator(tiny(**changes)))


# ---------------------------------------------------------------------------------------------------------------- training


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """A folder of a few tones with noise."""
    folder, rng = tmp_path_factory.mktemp("recordings"), np.random.default_rng(0)
    for number in range(6):
        tone = 0.5 * np.sin(np.arange(1100) * 0.1 * (number + 1)) + 0.01 * rng.standard_normal(1100)
        soundfile.write(folder / f"{number}.wav", tone, 8000)
    return folder


def trainer_of(folder, **overrides):
    return make_trainer(
        **{
            "model": {"family": "hifigan", **HiFiGAN.tiny},
            "objective": {"type": "vocoder"},
            "data.path": str(folder),
            "data.segment": 300,
            "training.batch_size": 2,
            **overrides,
        }
    )


def test_resumed_training_is_bit_identical(recordings, tmp_path):
    whole = trainer_of(recordings)
    for _ in range(4):
        whole.train_step()
    first = trainer_of(recordings)
    for _ in range(2):
        first.train_step()
    save_checkpoint(first, tmp_path, keep=1, write_model=lambda folder: None)
    second = trainer_of(recordings)
    assert load_latest(second, tmp_path, warn=pytest.fail) is not None
    for _ in range(2):
        second.train_step()
    assert second.step == whole.step == 4
    assert "generator" in whole.modules and "ema" in whole.modules
    for name, module in whole.modules.items():
        resumed = second.modules[name].state_dict()
        assert any(key.endswith("original0") for key in resumed)
        assert all(torch.equal(tensor, resumed[key]) for key, tensor in module.state_dict().items()), name


def test_the_spectrogram_alone_begins(recordings):
    """A phase without the discriminator, then one with it."""
    trainer = trainer_of(
        recordings,
        phases=[
            {
                "name": "mel",
                "steps": 2,
                "updates": {"generator": 1},
                "objective": {"type": "vocoder", "adversarial": False},
            },
            {"name": "all", "updates": {"discriminator": 1, "generator": 1}},
        ],
    )
    start = copy.deepcopy(trainer.networks["discriminator"].state_dict())
    logged = []
    for _ in range(3):
        trainer.train_step(is_logged=True)
        logged.append(set(trainer.stats.read()))
        state = trainer.networks["discriminator"].state_dict()
        changed = any(not torch.equal(tensor, state[key]) for key, tensor in start.items())
        assert changed == (trainer.step == 3)
    assert "generator/loss_mel" in logged[0] and "generator/loss_adversarial" not in logged[0]
    assert {"generator/loss_adversarial", "generator/loss_feature_matching", "discriminator/loss_fake"} <= logged[2]
