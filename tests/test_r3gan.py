"""R3GAN against its paper: sizes, the block, initialisation, identity at the start, resampling, labels, schedules."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from network_helpers import count
from torch import nn

import ganzoo
from ganzoo.errors import UserError
from ganzoo.families.image.r3gan import R3GANConfig
from ganzoo.losses.penalties import PenaltyConfig, zero_centred_penalty
from ganzoo.objectives import Batch, StepContext, build_objective
from ganzoo.recipe.reading import load_recipe
from ganzoo.recipe.recipe import Recipe
from ganzoo.recipe.sections import OptimizerConfig
from ganzoo.training.optimizers import betas_at

TINY = {"resolution": 16, "channels": 2, "width": 8, "blocks": 2, "group_width": 4, "latent_dim": 6, "label_dim": 3}


def on_meta(**config):
    with torch.device("meta"):
        return ganzoo.create("r3gan", **config)


@pytest.mark.parametrize(
    ("config", "sizes"),
    # Counted in the authors' implementation.
    [({"width": 128, "blocks": 1}, (422_272, 414_208)), ({}, (20_732_160, 20_683_776))],
)
def test_parameter_counts(config, sizes):
    assert tuple(count(network) for network in on_meta(**config)) == sizes


def test_widths_are_halved_beyond_32_pixels():
    assert R3GANConfig(resolution=256).widths == [768, 768, 768, 768, 384, 192, 96]
    assert R3GANConfig(resolution=8).widths == [768, 768]


@pytest.mark.parametrize("resolution", [8, 32, 128])
@pytest.mark.parametrize(("channels", "num_classes"), [(1, None), (2, 5), (4, None)])
def test_every_power_of_two_and_any_channels(resolution, channels, num_classes):
    generator, discriminator = on_meta(
        resolution=resolution, channels=channels, num_classes=num_classes, width=32, blocks=1
    )
    labels = None if num_classes is None else torch.zeros(2, dtype=torch.long, device="meta")
    samples = generator(torch.zeros(2, 64, device="meta"), labels)
    assert samples.shape == (2, channels, resolution, resolution)
    (output,) = discriminator(samples, labels)
    assert output.logits.shape == (2,)
    assert [feature.shape[-1] for feature in output.features] == [
        resolution >> level for level in range(len(output.features))
    ]
    assert output.features[-1].shape[-1] == 4


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"width": 20}, "group_width=16 must divide the 40 channels inside a block"),
        ({"width": 64, "resolution": 512, "group_width": 32}, "group_width=32 must divide the 16 channels"),
        ({"resolution": 48}, "resolution=48: must be a power of two"),
        ({"groups": 16}, "unknown key 'groups'"),
    ],
)
def test_impossible_configs_are_one_clear_error(config, message):
    with pytest.raises(UserError, match=f"^config of 'r3gan': .*{message}"):
        ganzoo.create("r3gan", **config)


def test_initialisation():
    """Deviations within five standard errors of gain / sqrt(fan-in), gain sqrt(2 / 1.04) times blocks^(-1/4)."""
    torch.manual_seed(0)
    generator, discriminator = ganzoo.create("r3gan", width=64, blocks=2, num_classes=10)

    def assert_std(tensor: torch.Tensor, expected: float) -> None:
        assert tensor.std().item() == pytest.approx(expected, rel=5 / (2 * tensor.numel()) ** 0.5)

    for network in (generator, discriminator):
        for stage in network.stages:
            for block in stage:
                gain = math.sqrt(2 / 1.04) * 8**-0.25
                assert_std(block.widen.weight, gain / math.sqrt(64))
                assert_std(block.mix.weight, gain / math.sqrt(16 * 9))
                assert not block.narrow.weight.any() and not block.widen.bias.any() and not block.mix.bias.any()
    assert_std(generator.basis, 1.0)
    assert_std(generator.scale_basis.weight, (64 + 64) ** -0.5)
    assert_std(generator.to_image.weight, 64**-0.5)
    assert_std(discriminator.gather, 0.25)
    assert_std(discriminator.to_logit.weight, 64**-0.5)
    assert not any(
        isinstance(m, (nn.BatchNorm2d, nn.GroupNorm)) for m in [*generator.modules(), *discriminator.modules()]
    )


def slow_block(hidden: torch.Tensor, block: nn.Module) -> torch.Tensor:
    """Group by group."""
    wide = F.leaky_relu(F.conv2d(hidden, block.widen.weight, block.widen.bias), 0.2)
    size = block.mix.weight.shape[1]
    groups = [
        F.conv2d(wide[:, first : first + size], block.mix.weight[first : first + size], padding=1)
        for first in range(0, wide.shape[1], size)
    ]
    mixed = F.leaky_relu(torch.cat(groups, dim=1) + block.mix.bias[:, None, None], 0.2)
    return hidden + F.conv2d(mixed, block.narrow.weight)


KERNEL = torch.outer(torch.tensor([1.0, 2, 1]), torch.tensor([1.0, 2, 1])).double() / 16


def halve(hidden: torch.Tensor) -> torch.Tensor:
    """The mean of 3x3 pixels around every second one, weighted 1-2-1; zeros around the picture."""
    kernel = KERNEL.expand(hidden.shape[1], 1, 3, 3)
    return F.conv2d(hidden, kernel, stride=2, padding=1, groups=len(kernel))


def double(hidden: torch.Tensor) -> torch.Tensor:
    """Zeros between the pixels, then 1-2-1 filtering with a gain of 4; each old pixel is followed by the new one."""
    batch, channels, height, width = hidden.shape
    field = hidden.new_zeros(batch, channels, 2 * height, 2 * width)
    field[:, :, 1::2, 1::2] = hidden
    return F.conv2d(field, 4 * KERNEL.expand(channels, 1, 3, 3), padding=1, groups=channels)


def trained(**config) -> tuple[nn.Module, nn.Module]:
    """Networks in float64, none of whose weights is zero any more."""
    torch.manual_seed(0)
    networks = [network.double() for network in ganzoo.create("r3gan", **{**TINY, **config})]
    with torch.no_grad():
        for network in networks:
            for parameter in network.parameters():
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return tuple(networks)


def test_generator_is_its_definition():
    generator, _ = trained()
    latents = torch.randn(3, 6, dtype=torch.float64)
    scales = latents @ generator.scale_basis.weight.T
    hidden = scales[:, :, None, None] * generator.basis.permute(2, 0, 1)
    for number, stage in enumerate(generator.stages):
        hidden = double(hidden) if number else hidden
        for block in stage:
            hidden = slow_block(hidden, block)
    expected = F.conv2d(hidden, generator.to_image.weight)
    torch.testing.assert_close(generator.train()(latents), expected)
    torch.testing.assert_close(generator.eval()(latents), expected.clamp(-1, 1))
    assert expected.abs().max() > 1, "the test should reach what is clamped"


@pytest.mark.parametrize("num_classes", [None, 4])
def test_discriminator_is_its_definition(num_classes):
    _, discriminator = trained(num_classes=num_classes)
    samples = torch.rand(3, 2, 16, 16, dtype=torch.float64) * 2 - 1
    labels = None if num_classes is None else torch.tensor([0, 3, 3])
    hidden = F.conv2d(samples, discriminator.from_image.weight)
    for number, stage in enumerate(discriminator.stages):
        hidden = halve(hidden) if number else hidden
        for block in stage:
            hidden = slow_block(hidden, block)
    depthwise = discriminator.gather.permute(2, 0, 1).unsqueeze(1)
    vector = F.conv2d(hidden, depthwise, groups=8).flatten(1) @ discriminator.to_logit.weight.T
    if num_classes is None:
        expected = vector[:, 0]
    else:
        expected = torch.stack(
            [a @ b for a, b in zip(vector, discriminator.label_embedding.weight[labels], strict=True)]
        )
        expected = expected / math.sqrt(3)
    (output,) = discriminator(samples, labels)
    torch.testing.assert_close(output.logits, expected)


def test_with_fewer_channels_nearer_the_picture():
    """The 1x1 convolutions between the stages stand on the small side of the resampling, with which they commute."""
    torch.manual_seed(0)
    config = {"resolution": 64, "width": 16, "blocks": 1, "group_width": 8, "channels": 1}
    generator, discriminator = (network.double() for network in ganzoo.create("r3gan", **config))
    assert [type(change).__name__ for change in generator.changes] == ["Identity"] * 3 + ["GroupedConv2d"]
    assert [type(change).__name__ for change in discriminator.changes] == ["GroupedConv2d"] + ["Identity"] * 3
    hidden = torch.randn(1, 16, 4, 4, dtype=torch.float64)
    change = generator.changes[-1]
    torch.testing.assert_close(double(change(hidden)), change(double(hidden)))


def test_labels_change_pictures_and_judgement():
    generator, discriminator = trained(num_classes=3)
    samples = generator(torch.randn(1, 6, dtype=torch.float64).expand(3, -1), torch.arange(3))
    assert not torch.allclose(samples[0], samples[1]) and not torch.allclose(samples[0], samples[2])
    (output,) = discriminator(samples[:1].expand(3, -1, -1, -1), torch.arange(3))
    assert len(set(output.logits.tolist())) == 3


# ---------------------------------------------------------------------------------------------- loss and its schedules


def penalties(weight: float, final: float | None, progress: float, precision: str = "fp32") -> dict[str, torch.Tensor]:
    """R1 and R2 of the discriminator's loss at a share of the run."""
    torch.manual_seed(0)
    generator, discriminator = ganzoo.create("r3gan", **TINY)
    options = {"weight": weight, "final_weight": final, "precision": precision}
    recipe = Recipe.from_dict(
        {
            "name": "test",
            "model": {"family": "r3gan"},
            "objective": {"loss": "relativistic", "penalties": [{"type": "r1", **options}, {"type": "r2", **options}]},
            "training": {"steps": 1},
        }
    )
    context = StepContext(
        0, progress, lambda network, number: torch.ones(number, 6), lambda: torch.autocast("cpu", torch.bfloat16)
    )
    batch = Batch(torch.linspace(-1, 1, 4 * 2 * 256).reshape(4, 2, 16, 16), None)
    networks = {"generator": generator, "discriminator": discriminator}
    return build_objective(recipe.objective).discriminator_loss(networks, batch, context).terms


def test_weight_of_a_penalty_falls_along_half_a_cosine():
    start, middle, end = (penalties(0.05, 0.005, progress)["r1"] for progress in (0.0, 0.5, 1.0))
    assert (start / end).item() == pytest.approx(10, rel=1e-4)
    assert (middle / end).item() == pytest.approx(5.5, rel=1e-4)
    constant = PenaltyConfig(type="r1", weight=2.0)
    assert constant.weight_at(0.3) == 2.0


def test_penalties_in_the_trainings_arithmetic():
    """In bfloat16 near the float32 value, and not the same."""
    exact, rough = penalties(1.0, None, 0.0), penalties(1.0, None, 0.0, "training")
    for term in ("r1", "r2"):
        assert rough[term].dtype == torch.float32
        assert rough[term].item() != exact[term].item()
        assert rough[term].item() == pytest.approx(exact[term].item(), rel=0.05)
    assert torch.equal(rough["pair"], exact["pair"])


def test_second_moment_schedule():
    config = OptimizerConfig(betas=(0.0, 0.9), final_beta2=0.99)
    assert betas_at(config, 0, 100) == (0.0, pytest.approx(0.9))
    assert betas_at(config, 50, 100) == (0.0, pytest.approx(0.945))
    assert betas_at(config, 100, 100) == (0.0, pytest.approx(0.99))
    assert betas_at(OptimizerConfig(), 50, 100) == (0.5, 0.999)
    with pytest.raises(ValueError, match="final_beta2 is Adam's"):
        OptimizerConfig(type="sgd", final_beta2=0.99)


def test_recipe_follows_the_authors():
    recipe = load_recipe("r3gan-cifar10")
    generator, discriminator = on_meta(**{key: value for key, value in recipe.model.items() if key != "family"})
    assert (count(generator), count(discriminator)) == (20_732_160, 20_683_776)
    assert recipe.objective.loss == "relativistic"
    assert [(p.type, p.weight, p.final_weight, p.interval) for p in recipe.objective.penalties] == [
        (kind, 0.05, 0.005, 1) for kind in ("r1", "r2")
    ]
    for optimizer in (recipe.generator_optimizer, recipe.discriminator_optimizer):
        assert (optimizer.learning_rate, optimizer.schedule.type, optimizer.schedule.final) == (2e-4, "cosine", 0.25)
        assert (optimizer.betas, optimizer.final_beta2) == ((0.0, 0.9), 0.99)
    assert recipe.training.steps * recipe.training.batch_size == pytest.approx(2e7, rel=1e-4)


def test_what_is_judged_anyway_passes_the_discriminator_once():
    """In one precision: the penalties, and the gradients by the weights, of separate passes."""
    torch.manual_seed(0)
    generator, discriminator = ganzoo.create("r3gan", **TINY)
    networks = {"generator": generator, "discriminator": discriminator}
    batch = Batch(torch.linspace(-1, 1, 4 * 2 * 256).reshape(4, 2, 16, 16), None)

    def context() -> StepContext:
        draw = lambda network, number: torch.linspace(-1, 1, 6 * number).reshape(number, 6)  # noqa: E731
        return StepContext(0, 0.0, draw, lambda: torch.autocast("cpu", enabled=False), keep_graph=True)

    def run(penalties: list[str], **options) -> tuple[dict[str, torch.Tensor], torch.Tensor, int]:
        recipe = {
            "name": "test",
            "model": {"family": "r3gan"},
            "objective": {
                "loss": "relativistic",
                "penalties": [{"type": name, "weight": 3.0} for name in penalties],
                **options,
            },
            "training": {"steps": 1},
        }
        passes = []
        handle = discriminator.register_forward_hook(lambda *_: passes.append(1))
        moment = context()
        loss = build_objective(Recipe.from_dict(recipe).objective).discriminator_loss(networks, batch, moment)
        handle.remove()
        return loss.terms, moment.shared["fake"].detach(), len(passes)

    def gradients(loss: torch.Tensor) -> list[torch.Tensor]:
        return torch.autograd.grad(loss, list(discriminator.parameters()), allow_unused=True)

    plain, fake, passes = run([])
    assert passes == 2
    separate = {
        "r1": 3.0 * zero_centred_penalty(discriminator, batch.samples),
        "r2": 3.0 * zero_centred_penalty(discriminator, fake),
    }
    for chosen in (["r1"], ["r2"], ["r1", "r2"]):
        terms, _, passes = run(chosen)
        assert passes == 2
        for name in chosen:
            assert terms[name].item() == pytest.approx(separate[name].item(), rel=1e-5)
        expected = gradients(
            sum(run([])[0].values()) + sum(3.0 * p for p in _fresh(discriminator, batch, fake, chosen))
        )
        for found, wanted in zip(gradients(sum(terms.values())), expected, strict=True):
            assert (found is None) == (wanted is None)
            if found is not None:
                torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-6)
    # Noise that the losses see is none of the penalty's.
    assert run(["r1", "r2"], instance_noise=0.1, instance_noise_until=1.0)[2] == 4


def _fresh(discriminator, batch: Batch, fake: torch.Tensor, chosen: list[str]) -> list[torch.Tensor]:
    samples = {"r1": batch.samples, "r2": fake}
    return [zero_centred_penalty(discriminator, samples[name]) for name in chosen]
