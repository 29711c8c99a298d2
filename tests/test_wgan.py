"""WGAN against its papers: sizes, no mixing of samples in the discriminator, the penalty at work, weight clipping."""

from __future__ import annotations

import pytest
import torch
from network_helpers import count
from torch import nn

import ganzoo
from ganzoo.losses.penalties import gradient_penalty
from ganzoo.recipe.reading import load_recipe

TINY = {"resolution": 16, "channels": 1, "generator_width": 8, "discriminator_width": 8, "latent_dim": 8}


def on_meta(**config):
    with torch.device("meta"):
        return ganzoo.create("wgan", **config)


@pytest.mark.parametrize(
    ("config", "sizes"),
    # The narrow pair without normalisation was counted in an independent implementation; layer norm adds a gain and a bias a
    # channel, in the second half of the first block and both of the three others: 7 x 2 x 32.
    [
        ({"generator_width": 64, "discriminator_width": 32, "discriminator_norm": "none"}, (368_771, 66_849)),
        ({"generator_width": 64, "discriminator_width": 32}, (368_771, 66_849 + 7 * 2 * 32)),
        ({"discriminator_norm": "none", "generator_width": 256}, (4_276_739, 1_053_825)),
    ],
)
def test_parameter_counts(config, sizes):
    assert tuple(count(network) for network in on_meta(**config)) == sizes


def test_defaults_are_the_papers():
    config = ganzoo.create("wgan", **{**TINY, "generator_width": 1})[0].config
    default = type(config)()
    assert (default.generator_width, default.discriminator_width, default.latent_dim) == (128, 128, 128)


@pytest.mark.parametrize("norm", ["layer", "none"])
def test_a_samples_judgement_depends_on_it_alone(norm):
    """Also in training: the gradient penalty is one on each sample's own gradient."""
    torch.manual_seed(0)
    _, discriminator = ganzoo.create("wgan", **TINY, discriminator_norm=norm)
    samples = torch.rand(4, 1, 16, 16) * 2 - 1
    (together,) = discriminator.train()(samples)
    for number in range(4):
        (alone,) = discriminator(samples[number : number + 1])
        torch.testing.assert_close(alone.logits, together.logits[number : number + 1], rtol=1e-4, atol=1e-5)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in discriminator.modules())


def test_logit_is_of_the_mean_over_pixels():
    torch.manual_seed(0)
    _, discriminator = ganzoo.create("wgan", **TINY)
    (output,) = discriminator(torch.rand(2, 1, 16, 16))
    pooled = output.features[-1].relu().mean((2, 3))
    torch.testing.assert_close(output.logits, discriminator.to_logit.linear(pooled).flatten())


@pytest.mark.parametrize("norm", ["layer", "none"])
def test_gradient_penalty_is_that_of_finite_differences(norm):
    """Value of the penalty on a straight line of pictures, and its derivative in a weight, both by differences."""
    torch.manual_seed(0)
    _, discriminator = ganzoo.create("wgan", **TINY, discriminator_norm=norm)
    discriminator.double()
    real, fake = torch.rand(2, 2, 1, 16, 16, dtype=torch.float64) * 2 - 1

    def penalty() -> torch.Tensor:
        return gradient_penalty(discriminator, real, fake, generator=torch.Generator().manual_seed(1))

    value = penalty()
    value.backward()
    weight = discriminator.blocks[1].conv1.weight
    place = (0, 0, 1, 1)
    step = 1e-5
    with torch.no_grad():
        weight[place] += step
    after = penalty().item()
    with torch.no_grad():
        weight[place] -= 2 * step
    before = penalty().item()
    assert weight.grad[place].item() == pytest.approx((after - before) / (2 * step), rel=1e-3, abs=1e-8)


def test_weights_stay_clipped(tmp_path):
    """The recipe with clipping, for two steps: every weight of the discriminator within +-0.01, some at it."""
    run = ganzoo.train(
        "wgan-clip-digits",
        output=tmp_path,
        quiet=True,
        **{
            "model.width": 4,
            "model.resolution": 16,
            "data.processor": {"fit": "crop"},
            "training.steps": 2,
            "training.batch_size": 8,
            "training.precision": "fp32",
            "evaluation.metrics": [],
        },
    )
    assert run.finished
    discriminator = ganzoo.Discriminator.from_pretrained(tmp_path / "pipeline")
    largest = max(parameter.abs().max().item() for parameter in discriminator.parameters())
    assert largest == pytest.approx(0.01, rel=1e-6)


def test_recipes_follow_the_papers():
    clip, penalised, residual = (load_recipe(name) for name in ("wgan-clip-digits", "wgan-gp-digits", "wgan-cifar10"))
    assert {recipe.objective.loss for recipe in (clip, penalised, residual)} == {"wasserstein"}
    assert {recipe.training.n_critic for recipe in (clip, penalised, residual)} == {5}
    for optimizer in (clip.generator_optimizer, clip.discriminator_optimizer):
        assert (optimizer.type, optimizer.learning_rate) == ("rmsprop", 5e-5)
    assert (clip.discriminator_optimizer.clip_weights, clip.generator_optimizer.clip_weights) == (0.01, None)
    for recipe in (penalised, residual):
        (penalty,) = recipe.objective.penalties
        assert (penalty.type, penalty.weight, penalty.target) == ("gradient-penalty", 10, 1)
        assert recipe.discriminator_optimizer.betas == (0.0, 0.9)
    assert penalised.model["discriminator_norm"] == "none"
