"""DCGAN against its paper: sizes, initialisation, resolutions, labels, spectral normalisation."""

from __future__ import annotations

import pytest
import torch
from network_helpers import count
from torch import nn

import ganzoo
from ganzoo.errors import UserError
from ganzoo.families.image.dcgan import DCGANConfig
from ganzoo.nn import JudgeWhole, ProjectLatents


def on_meta(**config):
    with torch.device("meta"):
        return ganzoo.create("dcgan", **config)


@pytest.mark.parametrize(
    ("resolution", "generator_size", "discriminator_size"),
    # The paper's network, as in the reference code of its authors; and the same without the outermost level.
    [(64, 3_576_704, 2_765_568), (32, 1_068_928, 663_296)],
)
def test_parameter_counts(resolution, generator_size, discriminator_size):
    generator, discriminator = on_meta(resolution=resolution, channels=3, latent_dim=100, width=64)
    assert (count(generator), count(discriminator)) == (generator_size, discriminator_size)


def test_defaults_are_the_papers():
    generator, discriminator = on_meta()
    assert (count(generator), count(discriminator)) == (3_576_704, 2_765_568)
    assert DCGANConfig().hidden_channels == [512, 256, 128, 64]


def test_initialisation():
    """Weights N(0, 0.02), batch normalisation N(1, 0.02): means and deviations within five standard errors."""
    torch.manual_seed(0)
    for network in ganzoo.create("dcgan", num_classes=10):
        checked = {"convolution": 0, "norm": 0}
        for module in network.modules():
            if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
                kind, mean, std = "convolution", 0.0, 0.02
                assert module.bias is None
            elif isinstance(module, nn.BatchNorm2d):
                kind, mean, std = "norm", 1.0, 0.02
                assert not module.bias.any()
            else:
                continue
            checked[kind] += 1
            number = module.weight.numel()
            assert module.weight.mean().item() == pytest.approx(mean, abs=5 * std / number**0.5)
            assert module.weight.std().item() == pytest.approx(std, abs=5 * std / (2 * number) ** 0.5)
        assert checked["convolution"] == 5 and checked["norm"] >= 3


@pytest.mark.parametrize("resolution", [8, 16, 32, 64, 128, 256])
@pytest.mark.parametrize(("channels", "num_classes"), [(1, None), (2, 5), (4, None)])
def test_every_power_of_two_and_any_channels(resolution, channels, num_classes):
    config = {"resolution": resolution, "channels": channels, "num_classes": num_classes}
    generator, discriminator = on_meta(**config)
    labels = None if num_classes is None else torch.zeros(2, dtype=torch.long, device="meta")
    samples = generator(torch.zeros(2, 100, device="meta"), labels)
    assert samples.shape == (2, channels, resolution, resolution)
    (output,) = discriminator(samples, labels)
    assert output.logits.shape == (2,)
    assert [feature.shape[-1] for feature in output.features] == [
        resolution >> level for level in range(1, len(output.features) + 1)
    ]
    assert output.features[-1].shape[-1] == 4


@pytest.mark.parametrize("bias", [True, False])
def test_first_and_last_layer_equal_the_convolutions_they_stand_for(bias):
    torch.manual_seed(0)
    project, judge = ProjectLatents(7, 5, 4, bias=bias), JudgeWhole(5, 3, 4, bias=bias)
    latents = torch.randn(2, 7)
    expected = nn.functional.conv_transpose2d(latents[:, :, None, None], project.weight, project.bias)
    torch.testing.assert_close(project(latents), expected)
    assert project(latents).is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(judge(expected), nn.functional.conv2d(expected, judge.weight, judge.bias).flatten(1))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"resolution": 48}, "resolution=48: must be a power of two"),
        ({"resolution": 4}, "resolution=4: input should be greater than or equal to 8"),
        ({"resolution": 512}, "resolution=512: input should be less than or equal to 256"),
        ({"width": 100_000}, "width=100000: input should be less than or equal to 512"),
        ({"discriminator_norm": "spectrall"}, "discriminator_norm='spectrall'.*'spectral'"),
        ({"num_class": 10}, "unknown key 'num_class'. Did you mean 'num_classes'?"),
    ],
)
def test_impossible_configs_are_one_clear_error(config, message):
    with pytest.raises(UserError, match=f"^config of 'dcgan': {message}"):
        ganzoo.create("dcgan", **config)


@pytest.mark.parametrize("generator_norm", ["batch", "instance", "none"])
@pytest.mark.parametrize("discriminator_norm", ["batch", "instance", "spectral", "none"])
def test_normalisations_train(generator_norm, discriminator_norm):
    torch.manual_seed(0)
    generator, discriminator = ganzoo.create(
        "dcgan",
        resolution=16,
        width=4,
        latent_dim=8,
        dropout=0.2,
        generator_norm=generator_norm,
        discriminator_norm=discriminator_norm,
    )
    discriminator(generator(generator.sample_latents(4)))[0].logits.square().sum().backward()
    for network in (generator, discriminator):
        for name, parameter in network.named_parameters():
            assert parameter.grad is not None and parameter.grad.isfinite().all() and parameter.grad.any(), name
    assert any(isinstance(module, nn.BatchNorm2d) for module in generator.modules()) == (generator_norm == "batch")


def test_spectral_norm_is_one_after_a_few_passes():
    """Against the exact singular values; the power iteration goes on at every forward pass of training."""
    torch.manual_seed(0)
    _, discriminator = ganzoo.create("dcgan", resolution=32, channels=1, width=8, discriminator_norm="spectral")
    samples = torch.rand(2, 1, 32, 32) * 2 - 1
    for _ in range(30):
        discriminator.train()(samples)
    discriminator.eval()
    convolutions = [module for module in discriminator.modules() if isinstance(module, nn.Conv2d)]
    assert len(convolutions) == 4
    for convolution in convolutions:
        largest = torch.linalg.svdvals(convolution.weight.detach().flatten(1))[0]
        assert largest.item() == pytest.approx(1.0, abs=0.01)


def test_labels_change_pictures_and_judgement():
    torch.manual_seed(0)
    generator, discriminator = ganzoo.create("dcgan", resolution=16, channels=1, width=8, num_classes=3)
    generator.eval(), discriminator.eval()
    latents = generator.sample_latents(1).expand(3, -1)
    samples = generator(latents, torch.arange(3))
    assert not torch.allclose(samples[0], samples[1], atol=1e-6) and not torch.allclose(
        samples[0], samples[2], atol=1e-6
    )
    (output,) = discriminator(samples[:1].expand(3, -1, -1, -1), torch.arange(3))
    assert len(set(output.logits.tolist())) == 3


def test_conditional_sample_is_that_of_its_label():
    torch.manual_seed(0)
    generator, _ = ganzoo.create("dcgan", resolution=8, width=4, num_classes=3)
    pipeline = ganzoo.GANPipeline(generator, generator.config.processor())
    mixed = pipeline.sample(3, seed=5, labels=[0, 1, 2])
    for label in range(3):
        alone = pipeline.sample(seed=5 + label, labels=label)
        torch.testing.assert_close(alone.samples[0], mixed.samples[label])


@pytest.mark.parametrize(
    ("num_classes", "labels", "message"),
    [
        (None, torch.zeros(4, dtype=torch.long), "unconditional .* takes no labels"),
        (3, None, "class-conditional: pass labels, 4 integers from 0 to 2"),
        (3, torch.zeros(3, dtype=torch.long), "4 integers, got torch.int64 of shape \\(3,\\)"),
        (3, torch.zeros(4), "4 integers, got torch.float32"),
    ],
)
def test_wrong_labels(num_classes, labels, message):
    for network, shape in zip(
        ganzoo.create("dcgan", resolution=8, width=4, num_classes=num_classes), [(4, 100), (4, 3, 8, 8)], strict=True
    ):
        with pytest.raises(UserError, match=message):
            network(torch.zeros(shape), labels)


def test_at_the_start_the_latents_matter_more_than_the_label():
    """Where the label dominates at the start, training ends with one picture a class."""
    torch.manual_seed(0)
    generator, _ = ganzoo.create("dcgan", resolution=16, width=8, num_classes=10)
    generator.eval()
    latents, labels = generator.sample_latents(10), torch.arange(10)
    with torch.no_grad():
        over_latents = generator(latents, torch.full((10,), 3)).std(dim=0).mean()
        over_labels = generator(latents[:1].expand(10, -1), labels).std(dim=0).mean()
    assert over_latents > 3 * over_labels > 0
