"""Progressive GAN against its paper: sizes, the mathematics of fading in, levels in training, checkpoints and averages."""

from __future__ import annotations

import shutil

import pytest
import torch
import torch.nn.functional as F
from network_helpers import count
from safetensors.torch import load_file
from torch import nn
from training_helpers import differing, make_trainer, state_of

import ganzoo
from ganzoo.errors import CheckpointError, UserError
from ganzoo.families.image.progressive import ProgressiveConfig
from ganzoo.nn import EqualisedConv2d, EqualisedLinear, minibatch_std
from ganzoo.utils.files import save_tensors

SMALL = {"resolution": 16, "channels": 2, "latent_dim": 8, "fmap_base": 64, "max_channels": 12}


def on_meta(**config):
    with torch.device("meta"):
        return ganzoo.create("progressive", **config)


@pytest.fixture
def networks():
    torch.manual_seed(0)
    return ganzoo.create("progressive", **SMALL)


def at(network, level):
    network.set_level(level)
    return network


# ------------------------------------------------------------------------------------------------------------ the paper


def test_parameters_of_the_papers_megapixel_networks():
    """Table 2: 23.1 M each, with the layers to and from pictures of the top resolution alone, as of all."""
    generator, discriminator = on_meta(resolution=1024)
    assert generator.config.level_channels == [512, 512, 512, 512, 256, 128, 64, 32, 16]
    assert (count(generator), count(discriminator)) == (23_079_115, 23_087_249)
    below = sum(map(count, generator.to_image[:-1])), sum(map(count, discriminator.from_image[:-1]))
    assert below == (7_608, 10_112)
    assert [round((total - part) / 1e6, 1) for total, part in zip((23_079_115, 23_087_249), below, strict=True)] == [
        23.1,
        23.1,
    ]


@pytest.mark.parametrize(
    ("width", "latent_dim", "generator_size", "discriminator_size"),
    # pytorch_GAN_zoo at 32x32, whose first layer has a bias at each of its 16 pixels instead of one.
    [(512, 512, 20_727_308 - 15 * 512, 20_726_785), (128, 512, 2_085_260 - 15 * 128, 1_298_689)]
    # The widths of the paper's CIFAR-10 network.
    + [(128, 128, 1_298_828 - 15 * 128, 1_298_689)],
)
def test_parameters_at_32_pixels(width, latent_dim, generator_size, discriminator_size):
    generator, discriminator = on_meta(resolution=32, latent_dim=latent_dim, max_channels=width)
    assert (count(generator), count(discriminator)) == (generator_size, discriminator_size)


def test_cifar_widths():
    assert ProgressiveConfig(resolution=32, fmap_base=4096, max_channels=128).level_channels == [128] * 4


def test_every_weight_begins_as_a_standard_normal(networks):
    for network in networks:
        layers = [module for module in network.modules() if isinstance(module, (nn.Linear, nn.Conv2d))]
        assert all(isinstance(layer, (EqualisedLinear, EqualisedConv2d)) for layer in layers)
        weights = torch.cat([layer.weight.flatten() for layer in layers])
        assert weights.std().item() == pytest.approx(1, abs=5 / (2 * len(weights)) ** 0.5)
        assert not any(layer.bias.any() for layer in layers if layer.bias is not None)


def test_only_the_direction_of_the_latents_matters(networks):
    latents = torch.randn(3, 8)
    torch.testing.assert_close(networks[0](5 * latents), networks[0](latents))
    assert networks[0].latent_weight().shape == (12 * 16, 8)


def test_first_layer_is_the_papers_padded_convolution(networks):
    """Table 2: a 4x4 convolution of one pixel padded by three; its constant is that of its fan-in, 16 x the latents."""
    start = networks[0].blocks[0]
    latents = torch.randn(3, 8)
    kernel = start.dense.weight.view(4, 4, 12, 8).flip(0, 1).permute(2, 3, 0, 1) * (2 / (8 * 16)) ** 0.5
    expected = F.leaky_relu(F.conv2d(latents[:, :, None, None], kernel, padding=3), 0.2)
    torch.testing.assert_close(start.after[0](start.dense(latents).view(3, 4, 4, 12).permute(0, 3, 1, 2)), expected)


def test_the_end_of_the_discriminator_sees_how_much_samples_differ(networks):
    discriminator = at(networks[1], 0)
    samples = torch.randn(8, 2, 4, 4)
    hidden = F.leaky_relu(discriminator.from_image[0][0](samples), 0.2)
    rows = discriminator.end.convolution(minibatch_std(hidden, 4)).permute(0, 2, 3, 1).flatten(1)
    expected = discriminator.to_logit(F.leaky_relu(discriminator.end.dense(rows), 0.2))
    torch.testing.assert_close(discriminator(samples)[0].logits, expected.flatten())


def test_without_the_standard_deviation_samples_do_not_see_each_other():
    torch.manual_seed(0)
    _, discriminator = ganzoo.create("progressive", **SMALL, minibatch_group=1)
    samples = torch.randn(4, 2, 16, 16)
    torch.testing.assert_close(discriminator(samples[:2])[0].logits, discriminator(samples)[0].logits[:2])


# ------------------------------------------------------------------------------------------------------------- fading in


@pytest.mark.parametrize("upper", [1, 2])
def test_the_generator_blends_the_pictures_of_two_levels(networks, upper):
    generator, latents = networks[0], torch.randn(3, 8)
    low, high = at(generator, upper - 1)(latents), at(generator, upper)(latents)
    assert low.shape[-1] == 2 << upper and high.shape[-1] == 4 << upper
    for share in (0.25, 0.5, 0.9375):
        expected = (1 - share) * low.repeat_interleave(2, 2).repeat_interleave(2, 3) + share * high
        torch.testing.assert_close(at(generator, upper - 1 + share)(latents), expected)


@pytest.mark.parametrize("upper", [1, 2])
def test_the_discriminator_begins_as_that_of_the_level_below(networks, upper):
    discriminator, samples = networks[1], torch.randn(4, 2, 4 << upper, 4 << upper)
    below = at(discriminator, upper - 1)(F.avg_pool2d(samples, 2))[0].logits
    torch.testing.assert_close(at(discriminator, upper - 1 + 1e-6)(samples)[0].logits, below, rtol=1e-4, atol=1e-4)
    whole = at(discriminator, upper)(samples)[0].logits
    assert not torch.allclose(whole, below, atol=1e-2)
    torch.testing.assert_close(at(discriminator, upper - 1e-6)(samples)[0].logits, whole, rtol=1e-4, atol=1e-4)


def test_the_discriminator_blends_behind_its_uppermost_block(networks):
    discriminator, samples = at(networks[1], 1.25), torch.randn(4, 2, 16, 16)
    through = discriminator.blocks[1](discriminator.from_image[2](samples))
    around = discriminator.from_image[1](F.avg_pool2d(samples, 2))
    torch.testing.assert_close(discriminator(samples)[0].features[0], 0.25 * through + 0.75 * around)


def test_real_pictures_are_blended_as_the_generators(networks):
    generator, samples = networks[0], torch.randn(3, 2, 16, 16)
    assert at(generator, 2).match(samples) is samples
    eight, four = F.avg_pool2d(samples, 2), F.avg_pool2d(samples, 4)
    torch.testing.assert_close(at(generator, 1).match(samples), eight)
    torch.testing.assert_close(at(generator, 0).match(samples), four)
    blended = 0.75 * four.repeat_interleave(2, 2).repeat_interleave(2, 3) + 0.25 * eight
    torch.testing.assert_close(at(generator, 0.25).match(samples), blended)


@pytest.mark.parametrize("level", [1, 0.5])
def test_tanh_bounds_the_pictures_of_each_level_before_they_are_blended(networks, level):
    linear, _ = networks
    generator, _ = ganzoo.create("progressive", **SMALL, output="tanh")
    generator.load_state_dict(linear.state_dict())
    latents = 5 * torch.randn(4, SMALL["latent_dim"])
    expected = at(linear, 1)(latents).tanh()
    if level < 1:
        smaller = at(linear, 0)(latents).tanh().repeat_interleave(2, 2).repeat_interleave(2, 3)
        expected = (smaller + expected) / 2
    torch.testing.assert_close(at(generator, level)(latents), expected)


def test_at_every_level_pictures_in_use_have_the_full_size_and_range(networks):
    generator, discriminator = networks
    generator.eval()
    with torch.no_grad():
        generator.to_image[0].bias.fill_(3.0)
    for level in (0, 0.5, 1, 1.75, 2):
        samples = at(generator, level)(generator.sample_latents(4))
        assert samples.shape == (4, 2, 16, 16) and samples.min() >= -1 and samples.max() <= 1
        full = torch.randn(4, 2, 16, 16)
        (output,) = at(discriminator, level)(full)
        size = 4 << generator.upper_level
        torch.testing.assert_close(discriminator(F.avg_pool2d(full, 16 // size))[0].logits, output.logits)
    assert (at(generator, 0)(generator.sample_latents(4)) == 1).any()


def test_wrong_levels_and_sizes_are_refused(networks):
    for network in networks:
        for level in (-0.5, 2.5, float("nan")):
            with pytest.raises(UserError, match="level must be from 0 to 2"):
                network.set_level(level)
    with pytest.raises(UserError, match="at 16x16 pixels.*not 8x8"):
        networks[1](torch.zeros(4, 2, 8, 8))


# ---------------------------------------------------------------------------------------------------------------- labels


def test_labels_change_pictures_and_judgement():
    torch.manual_seed(0)
    generator, discriminator = ganzoo.create("progressive", **SMALL, num_classes=3)
    latents = generator.sample_latents(1).expand(3, -1)
    samples = generator(latents, torch.arange(3))
    assert (samples[0] - samples[1]).abs().max() > 1e-3 and (samples[0] - samples[2]).abs().max() > 1e-3
    (output,) = discriminator(samples[:1].expand(3, -1, -1, -1), torch.arange(3))
    assert len(set(output.logits.tolist())) == 3 and output.class_logits is None
    # Projection: the difference between two labels is the product of their embeddings' with the features.
    embedded = discriminator.label_embedding.weight / 12**0.5
    expected = (output.features[-1] * embedded).sum(dim=1) - (output.features[-1] * embedded[0]).sum(dim=1)
    plain = discriminator(samples[:1].expand(3, -1, -1, -1), torch.zeros(3, dtype=torch.long))[0].logits
    torch.testing.assert_close(output.logits - plain, expected)


def test_a_classifying_discriminator_judges_without_the_label():
    torch.manual_seed(0)
    _, discriminator = ganzoo.create("progressive", **SMALL, num_classes=3, conditioning="classifier")
    samples = torch.randn(4, 2, 16, 16)
    (first,), (second,) = (discriminator(samples, torch.full((4,), label)) for label in (0, 1))
    assert torch.equal(first.logits, second.logits)
    assert first.class_logits.shape == (4, 3)
    with pytest.raises(UserError, match="class-conditional"):
        discriminator(samples)


# -------------------------------------------------------------------------------------------------------------- training

GROWING = {
    "name": "growing",
    "model": {"family": "progressive", "resolution": 8, "channels": 1, "latent_dim": 6, "fmap_base": 16},
    "data": {"dataset": "digits", "flip": 0.5},
    "objective": {
        "loss": "wasserstein",
        "penalties": [{"type": "gradient-penalty", "weight": 10.0}, {"type": "drift", "weight": 0.001}],
    },
    "phases": [
        {"name": "4x4", "steps": 3, "updates": {"discriminator": 1, "generator": 1}, "level": 0},
        {"name": "8x8", "steps": 9, "updates": {"discriminator": 1, "generator": 1}, "level": 1, "fade_in": 0.667},
    ],
    "training": {
        "steps": 12,
        "batch_size": 8,
        "precision": "fp32",
        "ema_half_life": 20,
        "log_every": 1,
        "sample_every": 2,
        "num_preview_samples": 4,
        "checkpoint_every": 1,
        "keep_checkpoints": 12,
    },
    "evaluation": {"metrics": []},
}


@pytest.fixture(autouse=True)
def no_report(monkeypatch):
    monkeypatch.setattr("ganzoo.training.run.write_report", lambda folder: None)


@pytest.fixture(scope="module")
def grown(tmp_path_factory):
    """A finished run with a checkpoint of every step."""
    folder = tmp_path_factory.mktemp("grown")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ganzoo.training.run.write_report", lambda folder: None)
        assert ganzoo.train(GROWING, output=folder, quiet=True).finished
    return folder


def checkpoint(folder, step):
    return folder / f"checkpoints/step-{step:08d}"


def test_levels_go_up_as_the_phases_say(grown):
    levels = []
    for step in range(1, 13):
        found = {
            name: load_file(checkpoint(grown, step) / f"training_state/{name}.safetensors")["level"].item()
            for name in ("generator", "discriminator", "ema")
        }
        assert len(set(found.values())) == 1
        levels.append(found["ema"])
    # Of a phase's n-th step of 9, (n - 1) / 9 is over; the level is whole when 0.667 is.
    expected = [0.0] * 3 + [min(1.0, place / 9 / 0.667) for place in range(9)]
    assert levels == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("step", [2, 5, 8, 12])
def test_a_checkpoint_of_any_stage_loads_and_samples(grown, step):
    pipeline = ganzoo.from_pretrained(checkpoint(grown, step))
    samples = pipeline.sample(3, seed=0).samples
    assert samples.shape == (3, 1, 8, 8) and samples.std() > 0
    squares = samples.unfold(2, 2, 2).unfold(3, 2, 2).flatten(4)
    whole = bool((squares == squares[..., :1]).all())
    assert whole == (step == 2), "at level 0 pixels are repeated"
    assert pipeline.network.current_level == pytest.approx({2: 0.0, 5: 1 / 9 / 0.667, 8: 4 / 9 / 0.667, 12: 1.0}[step])


@pytest.mark.parametrize("step", [2, 3, 4, 7])
def test_a_run_killed_in_the_middle_of_a_fade_in_resumes_exactly(grown, step, tmp_path):
    """At step 2 before it, at 3 on its threshold, at 4 where nothing is blended yet, at 7 in its middle."""
    reference = state_of(grown, 12)
    folder = shutil.copytree(grown, tmp_path / "killed")
    shutil.rmtree(folder / "pipeline")
    for later in range(step + 1, 13):  # what a kill after this step leaves
        shutil.rmtree(checkpoint(folder, later))
    run = ganzoo.train(GROWING, output=folder, quiet=True, resume=True)
    assert run.warnings == [] and run.finished
    assert differing(state_of(folder, 12), reference) == []


def test_the_average_survives_growth():
    """Against its definition, step by step, for layers of both levels; the upper ones wait at their start until used."""
    trainer = make_trainer(**{key: GROWING[key] for key in ("model", "objective", "phases")}, **{"training.steps": 12})
    network, average = trainer.networks["generator"], trainer.ema.average
    names = ["blocks.0.dense.weight", "to_image.0.weight", "blocks.1.1.weight", "to_image.1.weight"]
    start = {name: network.get_parameter(name).clone() for name in names}
    expected = {name: value.clone() for name, value in start.items()}
    while trainer.step < 12:
        trainer.train_step()
        decay = 0.5 ** (8 / min(100, 0.05 * trainer.samples_seen))
        for name in names:
            expected[name] = decay * expected[name] + (1 - decay) * network.get_parameter(name).detach()
            torch.testing.assert_close(average.get_parameter(name), expected[name], rtol=1e-4, atol=1e-5)
        upper_waits = torch.equal(average.get_parameter("blocks.1.1.weight"), start["blocks.1.1.weight"])
        assert upper_waits == (trainer.step <= 4)  # three steps at 4x4 and the first of the fade-in, at share 0
        assert average.current_level == network.current_level == average.level.item()
    latents = average.sample_latents(2)
    assert average(latents).shape == (2, 1, 8, 8)
    assert not torch.allclose(average(latents), network.eval()(latents))


def test_a_conditional_pair_trains_by_either_way_of_conditioning():
    for conditioning in ("projection", "classifier"):
        model = {**GROWING["model"], "num_classes": 10, "conditioning": conditioning}
        trainer = make_trainer(
            model=model, objective=GROWING["objective"], phases=GROWING["phases"], **{"training.steps": 12}
        )
        trainer.step = 6
        before = {name: value.clone() for name, value in trainer.networks["discriminator"].named_parameters()}
        trainer.train_step()
        moved = {
            name
            for name, value in trainer.networks["discriminator"].named_parameters()
            if not torch.equal(value, before[name])
        }
        assert ("label_embedding.weight" in moved) == (conditioning == "projection")
        assert ("to_classes.weight" in moved) == (conditioning == "classifier")


def test_a_hostile_level_is_refused(networks, tmp_path):
    networks[0].save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    for level in (float("nan"), 1e30, -1.0):
        save_tensors(tmp_path / "model.safetensors", {**tensors, "level": torch.tensor(level)})
        with pytest.raises(CheckpointError, match="level must be from 0 to 2"):
            ganzoo.Generator.from_pretrained(tmp_path)
