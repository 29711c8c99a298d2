"""SpecGAN against its paper and its authors' code: sizes, padding, pictures of any proportion, processor, labels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from network_helpers import count
from torch import nn

import ganzoo
from ganzoo.errors import UserError
from ganzoo.families.audio.specgan import SpecGANConfig
from ganzoo.nn.audio import SameConv2d, SameConvTranspose2d

TINY = {"length": 128, "sampling_rate": 1000, "n_fft": 32, "hop_length": 8, "width": 4, "latent_dim": 8}


def on_meta(**config):
    with torch.device("meta"):
        return ganzoo.create("specgan", **config)


def test_parameter_counts_are_wavegans():
    """5 x 5 taps are 25, and 4 x 4 places are 16."""
    generator, discriminator = on_meta()
    assert (count(generator), count(discriminator)) == (19_065_345, 17_427_969)
    config = SpecGANConfig()
    assert (config.picture_size, config.start_size) == ((128, 128), (4, 4))
    assert config.hidden_channels == [1024, 512, 256, 128, 64]


@pytest.mark.parametrize(
    ("n_fft", "hop_length", "length", "picture", "start"),
    [
        (256, 128, 16_384, (128, 128), (4, 4)),
        (256, 128, 8192, (128, 64), (4, 2)),
        (256, 64, 8192, (128, 128), (4, 4)),
        (256, 128, 4096, (128, 32), (4, 1)),
        (64, 32, 4096, (32, 128), (1, 4)),
        (16, 8, 64, (8, 8), (4, 4)),
        (128, 50, 3200, (64, 64), (4, 4)),
    ],
)
@pytest.mark.parametrize(("channels", "num_classes"), [(1, None), (2, 5)])
def test_pictures_of_any_proportion(n_fft, hop_length, length, picture, start, channels, num_classes):
    config = {"n_fft": n_fft, "hop_length": hop_length, "length": length}
    generator, discriminator = on_meta(**config, channels=channels, num_classes=num_classes, width=4)
    labels = None if num_classes is None else torch.zeros(2, dtype=torch.long, device="meta")
    samples = generator(torch.zeros(2, 100, device="meta"), labels)
    assert samples.shape == (2, channels, *picture)
    assert samples.shape[1:] == generator.config.processor().network_shape
    (output,) = discriminator(samples, labels)
    assert output.logits.shape == (2,) and output.features[-1].shape[2:] == start


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"n_fft": 300}, "n_fft=300 must be a power of two"),
        ({"length": 16_000}, "length=16000 must be hop_length=128 times a power of two"),
        ({"length": 12_288}, "length=12288 must be hop_length=128 times a power of two"),
        ({"hop_length": 256}, "hop_length=256 must be at most half of n_fft=256"),
        (
            {"length": 2048},
            r"the spectrogram would have 128 frequencies \(n_fft / 2\) and 16 frames .* at most 4 times",
        ),
        ({"phase_shuffle": 2}, "unknown key 'phase_shuffle'"),
    ],
)
def test_impossible_configs_are_one_clear_error(config, message):
    with pytest.raises(UserError, match=f"^config of 'specgan': {message}"):
        ganzoo.create("specgan", **config)


def test_processor_has_the_models_settings():
    config = SpecGANConfig(length=8192, sampling_rate=8000, n_fft=128, hop_length=64, channels=2)
    processor = config.processor(iterations=4)
    assert (processor.processor_type, processor.n_fft, processor.hop_length) == ("spectrogram", 128, 64)
    assert (processor.length, processor.channels, processor.sampling_rate) == (8192, 2, 8000)
    assert processor.iterations == 4
    for name in ("n_fft", "hop_length", "length"):
        with pytest.raises(UserError, match=f"the processor's {name} is the model's; set model.{name} instead"):
            config.processor(**{name: 64})


def test_padding_is_tensorflows():
    """One row and column of zeros before, two after; every product on its own."""
    torch.manual_seed(0)
    layer = SameConv2d(2, 3, 5, 2).double()
    pictures = torch.randn(2, 2, 8, 6, dtype=torch.float64)
    padded = np.zeros((2, 2, 11, 9))
    padded[:, :, 1:9, 1:7] = pictures
    weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
    slow = np.empty((2, 3, 4, 3))
    for row in range(4):
        for column in range(3):
            window = padded[:, :, 2 * row : 2 * row + 5, 2 * column : 2 * column + 5]
            slow[:, :, row, column] = np.einsum("bcij,dcij->bd", window, weight) + bias
    torch.testing.assert_close(layer(pictures).detach(), torch.from_numpy(slow))


def test_transposed_convolution_is_the_transpose():
    """<conv x, y> = <x, transposed y> for every x and y, if both have one weight and one padding."""
    torch.manual_seed(0)
    down = SameConv2d(3, 2, 5, 2, bias=False).double()
    up = SameConvTranspose2d(2, 3, 5, 2, bias=False).double()
    up.load_state_dict(down.state_dict())
    fine, coarse = torch.randn(4, 3, 8, 12).double(), torch.randn(4, 2, 4, 6).double()
    assert up(coarse).shape == fine.shape
    torch.testing.assert_close((down(fine) * coarse).sum(), (fine * up(coarse)).sum())


def test_initialisation():
    """Glorot's range, filled evenly; biases 0."""
    torch.manual_seed(0)
    layers = [module for network in ganzoo.create("specgan", width=8) for module in network.modules()]
    layers = [module for module in layers if isinstance(module, (nn.Linear, nn.modules.conv._ConvNd))]
    assert len(layers) == 12
    for layer in layers:
        weight, taps = layer.weight, layer.weight[0, 0].numel()
        limit = (6 / (taps * (weight.shape[0] + weight.shape[1]))) ** 0.5
        assert 0.97 * limit < weight.abs().max() <= limit
        assert weight.std().item() == pytest.approx(limit / 3**0.5, rel=5 / weight.numel() ** 0.5)
        assert not layer.bias.any()


def test_labels_change_spectrograms_and_judgement():
    torch.manual_seed(0)
    generator, discriminator = ganzoo.create("specgan", **TINY, num_classes=3)
    latents = generator.sample_latents(1).expand(3, -1)
    assert latents.abs().max() <= 1
    samples = generator(latents, torch.arange(3))
    assert not torch.allclose(samples[0], samples[1], atol=1e-5) and not torch.allclose(
        samples[1], samples[2], atol=1e-5
    )
    (output,) = discriminator(samples[:1].expand(3, -1, -1, -1), torch.arange(3))
    assert len(set(output.logits.tolist())) == 3
    vectors, features = discriminator.head.label_vectors.weight, output.features[-1][0]
    expected = (vectors - vectors[0]) @ features.sum(dim=(1, 2))
    torch.testing.assert_close(output.logits - output.logits[0], expected, rtol=1e-4, atol=1e-5)


def test_discriminator_is_the_same_in_training_and_eval():
    """No phase shuffle: that of the paper is WaveGAN's."""
    torch.manual_seed(0)
    _, discriminator = ganzoo.create("specgan", **TINY)
    samples = discriminator.example_inputs(4, torch.default_generator)["samples"]
    assert samples.shape == (4, 1, 16, 16)
    assert torch.equal(discriminator.train()(samples)[0].logits, discriminator.eval()(samples)[0].logits)


def test_pipeline_returns_sound():
    torch.manual_seed(0)
    generator, _ = ganzoo.create("specgan", **TINY)
    time = np.arange(128) / 1000
    tones = [np.sin(2 * np.pi * frequency * time)[None].astype(np.float32) for frequency in (50, 100, 200)]
    pipeline = ganzoo.GANPipeline(generator, generator.config.processor().fitted(tones))
    output = pipeline(3, seed=0, output_type="np")
    assert output.audios.shape == (3, 1, 128) and output.audios.dtype == np.float32
    assert np.isfinite(output.audios).all() and output.audios.std() > 0
    assert np.array_equal(output.audios, pipeline(3, seed=0, output_type="np").audios)
