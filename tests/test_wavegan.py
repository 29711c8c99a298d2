"""WaveGAN against its paper and its authors' code: sizes, padding, phase shuffle, initialisation, lengths, labels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from network_helpers import count
from torch import nn

import ganzoo
from ganzoo.errors import UserError
from ganzoo.families.audio.wavegan import WaveGANConfig
from ganzoo.losses.penalties import gradient_penalty
from ganzoo.nn.audio import NearestConv1d, PhaseShuffle, SameConv1d, SameConvTranspose1d, same_margins

TINY = {"length": 1024, "sampling_rate": 1000, "width": 4, "latent_dim": 8}


def on_meta(**config):
    with torch.device("meta"):
        return ganzoo.create("wavegan", **config)


# ---------------------------------------------------------------------------------------------------- sizes and lengths


@pytest.mark.parametrize(
    ("config", "generator_size", "discriminator_size"),
    # Of the authors' code, counted layer by layer; the last two share the layers, not the strides.
    [
        ({}, 19_065_345, 17_427_969),
        ({"width": 16}, 1_502_337, 1_092_993),
        ({"post_filter": 512}, 19_065_345 + 512, 17_427_969),
        ({"length": 65_536}, 73_149_953, 69_875_201),
        ({"length": 32_768}, 73_149_953, 69_875_201),
    ],
)
def test_parameter_counts(config, generator_size, discriminator_size):
    generator, discriminator = on_meta(**config)
    assert (count(generator), count(discriminator)) == (generator_size, discriminator_size)


def test_defaults_are_the_papers():
    config = WaveGANConfig()
    assert (config.length, config.latent_dim, config.kernel_size, config.phase_shuffle) == (16_384, 100, 25, 2)
    assert config.hidden_channels == [1024, 512, 256, 128, 64]
    assert config.strides == [4, 4, 4, 4, 4]


@pytest.mark.parametrize(
    ("length", "start", "strides"),
    [
        (1024, 16, [4, 4, 4]),
        (2048, 16, [4, 4, 4, 2]),
        (4096, 16, [4, 4, 4, 4]),
        (8192, 16, [4, 4, 4, 4, 2]),
        (8192, 8, [4, 4, 4, 4, 4]),
        (15_360, 15, [4, 4, 4, 4, 4]),
        (16_384, 16, [4, 4, 4, 4, 4]),
        (32_768, 16, [4, 4, 4, 4, 4, 2]),
        (65_536, 16, [4, 4, 4, 4, 4, 4]),
    ],
)
@pytest.mark.parametrize(("channels", "num_classes"), [(1, None), (2, 5)])
def test_every_length_and_any_channels(length, start, strides, channels, num_classes):
    config = {"length": length, "start": start, "width": 8, "channels": channels, "num_classes": num_classes}
    generator, discriminator = on_meta(**config)
    assert generator.config.strides == strides
    labels = None if num_classes is None else torch.zeros(2, dtype=torch.long, device="meta")
    samples = generator(torch.zeros(2, 100, device="meta"), labels)
    assert samples.shape == (2, channels, length)
    (output,) = discriminator(samples, labels)
    assert output.logits.shape == (2,)
    assert [length // feature.shape[-1] for feature in output.features] == np.cumprod(strides).tolist()
    assert output.features[-1].shape[-1] == start


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"length": 10_000}, "length=10000 cannot be made from start=16, only 1024, 2048, .*, 65536"),
        ({"length": 16_384, "start": 12}, "length=16384 cannot be made from start=12, only 1536, 3072, .*, 49152"),
        ({"length": 512}, "length=512: input should be greater than or equal to 1024"),
        ({"length": 131_072}, "length=131072: input should be less than or equal to 65536"),
        ({"start": 8, "phase_shuffle": 9}, "phase_shuffle=9 must not exceed start=8"),
        ({"upsample": "linear"}, "upsample='linear': .*'nearest'"),
        ({"phaseshuffle": 2}, "unknown key 'phaseshuffle'. Did you mean 'phase_shuffle'?"),
    ],
)
def test_impossible_configs_are_one_clear_error(config, message):
    with pytest.raises(UserError, match=f"^config of 'wavegan': {message}"):
        ganzoo.create("wavegan", **config)


# ------------------------------------------------------------------------------------------------------- convolutions


def slow_convolution(signal: np.ndarray, weight: np.ndarray, stride: int, before: int) -> np.ndarray:
    """(C, L), (D, C, k) -> (D, L / stride): one product after another."""
    outputs = np.zeros((len(weight), signal.shape[1] // stride))
    for step in range(outputs.shape[1]):
        for tap in range(weight.shape[2]):
            place = step * stride + tap - before
            if 0 <= place < signal.shape[1]:
                outputs[:, step] += weight[:, :, tap] @ signal[:, place]
    return outputs


@pytest.mark.parametrize(
    ("kernel_size", "stride", "before"), [(25, 4, 10), (25, 2, 11), (4, 4, 0), (25, 1, 12), (512, 1, 255), (6, 3, 1)]
)
def test_padding_is_tensorflows(kernel_size, stride, before):
    """`before` as TensorFlow's documentation of SAME computes it: half of the zeros, rounded down."""
    torch.manual_seed(0)
    assert same_margins(kernel_size, stride) == (before, kernel_size - stride - before)
    layer = SameConv1d(3, 2, kernel_size, stride).double()
    signals = torch.randn(2, 3, 48, dtype=torch.float64)
    weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()[:, None]
    slow = np.stack([slow_convolution(signal, weight, stride, before) + bias for signal in signals.numpy()])
    torch.testing.assert_close(layer(signals).detach(), torch.from_numpy(slow))


@pytest.mark.parametrize(("kernel_size", "stride"), [(25, 4), (25, 2), (4, 4), (6, 3)])
def test_transposed_convolution_is_the_transpose(kernel_size, stride):
    """<conv x, y> = <x, transposed y> for every x and y, if both have one weight and one padding."""
    torch.manual_seed(0)
    down = SameConv1d(3, 2, kernel_size, stride, bias=False).double()
    up = SameConvTranspose1d(2, 3, kernel_size, stride, bias=False).double()
    up.load_state_dict(down.state_dict())
    fine, coarse = torch.randn(4, 3, 48).double(), torch.randn(4, 2, 48 // stride).double()
    assert up(coarse).shape == fine.shape
    torch.testing.assert_close((down(fine) * coarse).sum(), (fine * up(coarse)).sum())


def test_nearest_upsampling_repeats_and_filters():
    torch.manual_seed(0)
    layer = NearestConv1d(3, 2, 25, 4).double()
    signals = torch.randn(1, 3, 8).double()
    repeated = np.repeat(signals[0].numpy(), 4, axis=1)
    slow = slow_convolution(repeated, layer.weight.detach().numpy(), 1, 12) + layer.bias.detach().numpy()[:, None]
    torch.testing.assert_close(layer(signals)[0].detach(), torch.from_numpy(slow))


# ------------------------------------------------------------------------------------------------------ phase shuffle


def shifted(hidden: torch.Tensor, shift: int, n: int) -> torch.Tensor:
    """(C, L), `shift` steps later, by PyTorch's own reflection."""
    padded = F.pad(hidden[None], (n, n), mode="reflect")[0]
    return padded[:, n - shift : n - shift + hidden.shape[1]]


@pytest.mark.parametrize(("n", "length"), [(1, 3), (2, 40), (4, 9)])
def test_phase_shuffle_shifts_every_sample_by_its_own_number(n, length):
    torch.manual_seed(0)
    batch = 3000
    hidden = torch.randn(batch, 3, length)
    shuffled = PhaseShuffle(n)(hidden)
    candidates = range(-n, n + 1)
    equal = torch.stack(
        [torch.stack([shifted(row, shift, n) for row in hidden]).eq(shuffled).all(dim=(1, 2)) for shift in candidates]
    )
    assert (equal.sum(dim=0) == 1).all(), "every sample is exactly one of the shifts, in all channels alike"
    counts = equal.sum(dim=1).double()
    # Chi-square of 2n + 1 equally probable shifts: beyond 35 once in 10,000 even for n = 4.
    expected = batch / (2 * n + 1)
    assert ((counts - expected) ** 2 / expected).sum() < 35
    mean = (counts * torch.tensor(candidates)).sum().item() / batch
    assert mean == pytest.approx(0, abs=5 * (n * (n + 1) / 3 / batch) ** 0.5)


def test_phase_shuffle_is_off_in_eval_and_at_zero():
    hidden = torch.randn(8, 2, 16)
    assert PhaseShuffle(2).eval()(hidden) is hidden
    assert PhaseShuffle(0)(hidden) is hidden
    assert not torch.equal(PhaseShuffle(2)(hidden), hidden)


def test_phase_shuffle_comes_from_the_global_seed():
    hidden, layer = torch.randn(8, 2, 16), PhaseShuffle(2)

    def once(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return layer(hidden)

    assert torch.equal(once(1), once(1)) and not torch.equal(once(1), once(2))


def test_phase_shuffle_differentiates_twice():
    torch.manual_seed(0)
    hidden = torch.randn(3, 2, 6, dtype=torch.float64, requires_grad=True)

    def cubes(hidden: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(0)
        return PhaseShuffle(2)(hidden) ** 3

    assert torch.autograd.gradcheck(cubes, hidden) and torch.autograd.gradgradcheck(cubes, hidden)


@pytest.mark.parametrize(("length", "shuffled"), [(1024, 2), (4096, 3), (16_384, 4), (32_768, 4), (65_536, 4)])
def test_phase_shuffle_follows_the_first_four_layers_but_never_the_last(length, shuffled):
    torch.manual_seed(0)
    _, discriminator = ganzoo.create("wavegan", length=length, width=1)
    lengths = []
    discriminator.phase_shuffle.register_forward_hook(lambda _, inputs, __: lengths.append(inputs[0].shape[-1]))
    discriminator(torch.randn(1, 1, length))
    assert lengths == [length // 4 ** (level + 1) for level in range(shuffled)]


def test_gradient_penalty_goes_through_phase_shuffle():
    torch.manual_seed(0)
    _, discriminator = ganzoo.create("wavegan", **TINY)
    real, fake = torch.rand(2, 4, 1, 1024) * 2 - 1

    def penalty(seed: int) -> torch.Tensor:
        places = torch.Generator().manual_seed(0)
        torch.manual_seed(seed)
        return gradient_penalty(discriminator, real, fake, generator=places)

    first = penalty(1)
    assert torch.equal(first, penalty(1)) and not torch.equal(first, penalty(2))
    first.backward()
    assert all(p.grad.isfinite().all() and p.grad.any() for p in discriminator.parameters() if p.ndim > 1)
    discriminator.eval()
    assert torch.equal(penalty(1), penalty(2))


# ------------------------------------------------------------------------------------------- weights, latents, labels


def test_initialisation():
    """Glorot's range, filled evenly; biases 0."""
    torch.manual_seed(0)
    layers = [module for network in ganzoo.create("wavegan", width=8) for module in network.modules()]
    layers = [module for module in layers if isinstance(module, (nn.Linear, nn.modules.conv._ConvNd))]
    assert len(layers) == 12
    for layer in layers:
        weight, taps = layer.weight, layer.weight[0, 0].numel()
        limit = (6 / (taps * (weight.shape[0] + weight.shape[1]))) ** 0.5
        assert 0.97 * limit < weight.abs().max() <= limit
        assert weight.std().item() == pytest.approx(limit / 3**0.5, rel=5 / weight.numel() ** 0.5)
        assert not layer.bias.any()


def test_latents_are_uniform():
    torch.manual_seed(0)
    generator, _ = ganzoo.create("wavegan", **{**TINY, "latent_dim": 100})
    latents = generator.sample_latents(1000)
    assert latents.shape == (1000, 100) and latents.abs().max() <= 1
    assert latents.mean().item() == pytest.approx(0, abs=0.01)
    counts = torch.histc(latents, 10, -1, 1)
    assert counts.min() > 9_500 and counts.max() < 10_500
    one = generator.sample_latents(2, generator=torch.Generator().manual_seed(3))
    assert torch.equal(one, generator.sample_latents(2, generator=torch.Generator().manual_seed(3)))
    examples = generator.example_inputs(64, torch.Generator().manual_seed(0))["latents"]
    assert 0.9 < examples.abs().max() <= 1


def test_truncation_cuts_the_uniform_distribution():
    torch.manual_seed(0)
    generator, _ = ganzoo.create("wavegan", **TINY)
    pipeline = ganzoo.GANPipeline(generator, generator.config.processor())
    whole, half, none = (pipeline.sample(4, seed=0, truncation=truncation) for truncation in (None, 0.5, 2.0))
    torch.testing.assert_close(half.latents, whole.latents / 2)
    assert torch.equal(none.latents, whole.latents)
    with pytest.raises(UserError, match="truncation must be a positive number"):
        pipeline.sample(1, truncation=0.0)


def test_label_adds_its_projection_of_the_last_features():
    torch.manual_seed(0)
    _, discriminator = ganzoo.create("wavegan", **TINY, num_classes=3)
    discriminator.eval()
    samples = (torch.rand(1, 1, 1024) * 2 - 1).expand(3, -1, -1)
    (output,) = discriminator(samples, torch.arange(3))
    (shared,) = discriminator(samples, torch.zeros(3, dtype=torch.long))
    vectors = discriminator.head.label_vectors.weight
    expected = (vectors - vectors[0]) @ output.features[-1][0].sum(dim=1)
    torch.testing.assert_close(output.logits - shared.logits, expected, rtol=1e-4, atol=1e-5)
    assert expected[1:].abs().min() > 1e-4


def test_label_changes_the_generated_sound():
    torch.manual_seed(0)
    generator, _ = ganzoo.create("wavegan", **TINY, num_classes=3)
    latents = generator.sample_latents(1).expand(3, -1)
    samples = generator(latents, torch.arange(3))
    assert not torch.allclose(samples[0], samples[1], atol=1e-5) and not torch.allclose(
        samples[1], samples[2], atol=1e-5
    )
    lengths = torch.linalg.vector_norm(generator.start.label_embedding.weight, dim=1)
    assert (lengths > 0.7).all() and (lengths < 1.3).all()


def test_post_filter_keeps_the_channels_apart():
    """The sound before it, through numpy's convolution with each channel's taps."""
    torch.manual_seed(0)
    generator, _ = ganzoo.create("wavegan", **TINY, channels=2, post_filter=512)
    assert generator.post_filter.bias is None
    latents = generator.sample_latents(1)
    filtered = generator(latents)[0].detach()
    taps, generator.post_filter = generator.post_filter.weight.detach(), None
    waves = generator(latents)[0].detach()
    for channel in range(2):
        whole = np.convolve(waves[channel].double(), taps[channel, 0].double().flip(0))
        # Tap 255 of 512 lies on the sample itself, so that of the whole convolution 256 steps come before it.
        expected = torch.from_numpy(whole[256 : 256 + 1024]).float()
        torch.testing.assert_close(filtered[channel], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("upsample", ["transposed", "nearest"])
@pytest.mark.parametrize("norm", ["none", "batch"])
def test_variants_train(upsample, norm):
    torch.manual_seed(0)
    config = {**TINY, "upsample": upsample, "generator_norm": norm, "post_filter": 32, "num_classes": 2}
    generator, discriminator = ganzoo.create("wavegan", **config)
    labels = torch.arange(4) % 2
    samples = generator(generator.sample_latents(4), labels)
    assert samples.shape == (4, 1, 1024)
    discriminator(samples, labels)[0].logits.square().sum().backward()
    for network in (generator, discriminator):
        for name, parameter in network.named_parameters():
            assert parameter.grad is not None and parameter.grad.isfinite().all() and parameter.grad.any(), name
    assert any(isinstance(module, nn.BatchNorm1d) for module in generator.modules()) == (norm == "batch")


def test_default_objective_is_the_papers():
    objective = ganzoo.registry.get_family("wavegan").objective
    assert objective == {"loss": "wasserstein", "penalties": [{"type": "gradient-penalty", "weight": 10}]}
