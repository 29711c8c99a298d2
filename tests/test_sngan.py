"""SNGAN against its papers: sizes, spectral norm of every layer, widths, labels by projection or classifier."""

from __future__ import annotations

import pytest
import torch
from network_helpers import count
from torch import nn

import ganzoo
from ganzoo.errors import UserError
from ganzoo.families.image.sngan import SNGANConfig
from ganzoo.nn import ConditionalBatchNorm2d
from ganzoo.objectives import Batch, StepContext, build_objective
from ganzoo.recipe.recipe import Recipe

TINY = {"resolution": 16, "channels": 1, "generator_width": 8, "discriminator_width": 8, "latent_dim": 8}


def on_meta(**config):
    with torch.device("meta"):
        return ganzoo.create("sngan", **config)


@pytest.mark.parametrize(
    ("config", "generator_size", "discriminator_size"),
    # The paper's network for CIFAR-10, and the same narrower; the conditional one is Miyato and Koyama's. Counted in two
    # independent implementations.
    [
        ({}, 4_276_739, 1_053_825),
        ({"generator_width": 64, "discriminator_width": 32}, 368_771, 66_849),
        ({"num_classes": 10}, 4_304_387, 1_055_105),
    ],
)
def test_parameter_counts(config, generator_size, discriminator_size):
    generator, discriminator = on_meta(**config)
    assert (count(generator), count(discriminator)) == (generator_size, discriminator_size)


def test_widths_of_the_papers_network_for_128_pixels():
    """Tables 5 and 6 of the paper: 1024 channels at 4x4, 64 next to the picture; five halvings and a last block."""
    config = SNGANConfig(resolution=128, widths="doubling", generator_width=64, discriminator_width=64)
    assert config.generator_widths == [1024, 1024, 512, 256, 128, 64]
    assert config.discriminator_widths == [(64 << level, True) for level in range(5)] + [(1024, False)]


def test_constant_widths():
    config = SNGANConfig(resolution=32)
    assert config.generator_widths == [256] * 4
    assert config.discriminator_widths == [(128, True), (128, True), (128, False), (128, False)]


@pytest.mark.parametrize("resolution", [16, 32, 64, 128])
@pytest.mark.parametrize("widths", ["constant", "doubling"])
@pytest.mark.parametrize(("channels", "num_classes"), [(4, None), (2, 5)])
def test_every_power_of_two_and_any_channels(resolution, widths, channels, num_classes):
    generator, discriminator = on_meta(
        resolution=resolution,
        channels=channels,
        num_classes=num_classes,
        widths=widths,
        generator_width=8,
        discriminator_width=8,
    )
    labels = None if num_classes is None else torch.zeros(2, dtype=torch.long, device="meta")
    samples = generator(torch.zeros(2, 128, device="meta"), labels)
    assert samples.shape == (2, channels, resolution, resolution)
    (output,) = discriminator(samples, labels)
    assert output.logits.shape == (2,)
    assert output.features[-1].shape[-1] == (8 if widths == "constant" else 4)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"resolution": 48}, "resolution=48: must be a power of two"),
        ({"resolution": 8}, "resolution=8: input should be greater than or equal to 16"),
        ({"widths": "double"}, "widths='double'.*'doubling'"),
        ({"width": 64}, "unknown key 'width'. Did you mean 'widths'?"),
    ],
)
def test_impossible_configs_are_one_clear_error(config, message):
    with pytest.raises(UserError, match=f"^config of 'sngan': {message}"):
        ganzoo.create("sngan", **config)


@pytest.mark.parametrize("conditioning", ["projection", "auxiliary"])
def test_spectral_norm_of_every_layer_is_one_after_a_few_passes(conditioning):
    """Against the exact singular values; the power iteration goes on at every forward pass of training."""
    torch.manual_seed(0)
    _, discriminator = ganzoo.create("sngan", **TINY, num_classes=3, conditioning=conditioning)
    samples, labels = torch.rand(2, 1, 16, 16) * 2 - 1, torch.tensor([0, 2])
    for _ in range(40):
        discriminator.train()(samples, labels)
    discriminator.eval()
    layers = [m for m in discriminator.modules() if isinstance(m, (nn.Conv2d, nn.Linear, nn.Embedding))]
    # First block 3, plain blocks 2 each; the last layer, and the embedding or the classifier.
    assert len(layers) == 3 + 2 + 2 + 1 + 1
    for layer in layers:
        largest = torch.linalg.svdvals(layer.weight.detach().flatten(1))[0]
        assert largest.item() == pytest.approx(1.0, abs=0.01)


def test_classes_have_their_own_gains_in_the_blocks_and_not_after_them():
    generator, _ = on_meta(**TINY, num_classes=3)
    conditional = [m for m in generator.modules() if isinstance(m, ConditionalBatchNorm2d)]
    assert len(conditional) == 2 * len(generator.blocks)
    assert generator.norm.affine


def test_labels_change_pictures_and_judgement():
    torch.manual_seed(0)
    generator, discriminator = ganzoo.create("sngan", **TINY, num_classes=3)
    for block in generator.blocks:
        nn.init.normal_(block.norm1.gain.weight)
    generator.eval(), discriminator.eval()
    samples = generator(generator.sample_latents(1).expand(3, -1), torch.arange(3))
    assert not torch.allclose(samples[0], samples[1], atol=1e-6)
    (output,) = discriminator(samples[:1].expand(3, -1, -1, -1), torch.arange(3))
    assert len(set(output.logits.tolist())) == 3 and output.class_logits is None


def test_auxiliary_classifier_is_trained_and_does_not_see_the_labels():
    torch.manual_seed(0)
    generator, discriminator = ganzoo.create("sngan", **TINY, num_classes=3, conditioning="auxiliary")
    samples = torch.rand(6, 1, 16, 16) * 2 - 1
    labels = torch.arange(6) % 3
    discriminator.eval()
    (first,), (second,) = discriminator(samples, labels), discriminator(samples, labels.flip(0))
    assert torch.equal(first.logits, second.logits) and torch.equal(first.class_logits, second.class_logits)
    assert first.class_logits.shape == (6, 3)
    recipe = Recipe.from_dict(
        {"name": "t", "model": {"family": "sngan"}, "training": {"steps": 1}, "objective": {"loss": "hinge"}}
    )
    objective = build_objective(recipe.objective)
    networks = {"generator": generator, "discriminator": discriminator.train()}
    context = StepContext(0, 0.0, lambda network, number: network.sample_latents(number), torch.enable_grad)
    for role in ("discriminator", "generator"):
        terms = getattr(objective, f"{role}_loss")(networks, Batch(samples, labels), context).terms
        assert terms["class"] > 0
    terms["class"].backward()
    assert generator.project.weight.grad.any()


def test_latent_weight_is_the_first_layers():
    torch.manual_seed(0)
    generator, _ = ganzoo.create("sngan", **TINY)
    assert generator.latent_weight().shape == (16 * 8, 8)
