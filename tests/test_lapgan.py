"""LAPGAN against its paper: the pyramid and its inverse, which level works on what, training level by level."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from training_helpers import differing, make_trainer, state_of

import ganzoo
from ganzoo.errors import UserError
from ganzoo.families.image.lapgan import LAPGANConfig, expand, from_pyramid, laplacian_pyramid, reduce
from ganzoo.networks.base import Batch

SMALL = {
    "resolution": 16,
    "start": 4,
    "channels": 2,
    "latent_dim": 6,
    "width": 5,
    "generator_units": 12,
    "discriminator_units": 12,
    "dropout": 0.0,
}


@pytest.fixture
def networks():
    torch.manual_seed(0)
    return ganzoo.create("lapgan", **SMALL)


# ------------------------------------------------------------------------------------------------------------ the pyramid


@pytest.mark.parametrize("levels", [0, 1, 2, 3])
def test_pyramid_of_bytes_is_inverted_bit_by_bit(levels):
    """Averages of four and bilinear weights of sixteenths: of whole numbers nothing is ever rounded."""
    torch.manual_seed(0)
    pictures = torch.randint(256, (3, 2, 32, 16)).float()
    pyramid = laplacian_pyramid(pictures, levels)
    sizes = [(32 >> level, 16 >> level) for level in range(levels, -1, -1)]
    assert [tuple(part.shape[2:]) for part in pyramid] == [sizes[0], *sizes[1:]]
    assert torch.equal(from_pyramid(pyramid), pictures)


def test_pyramid_of_any_pictures_is_inverted_to_rounding():
    torch.manual_seed(0)
    pictures = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(from_pyramid(laplacian_pyramid(pictures, 4)), pictures, rtol=0, atol=1e-6)


def test_bands_are_what_the_smaller_picture_lacks():
    torch.manual_seed(0)
    pictures = torch.randn(2, 1, 8, 8)
    small, band = laplacian_pyramid(pictures, 1)
    squares = pictures.numpy().reshape(2, 1, 4, 2, 4, 2)
    np.testing.assert_allclose(small.numpy(), squares.mean(axis=(3, 5)), atol=1e-6)
    torch.testing.assert_close(band, pictures - expand(small))
    # A flat picture has no detail, and a ramp has none but at its ends.
    assert not laplacian_pyramid(torch.full((1, 1, 8, 8), 0.7), 2)[2].abs().gt(1e-6).any()
    ramp = torch.arange(8.0).expand(1, 1, 8, 8)
    assert not laplacian_pyramid(ramp, 1)[1][..., 1:-1].abs().gt(1e-6).any()


def test_expanding_in_one_dimension_is_three_quarters_and_a_quarter():
    row = torch.tensor([0.0, 4.0, 8.0]).expand(1, 1, 3, 3)
    assert expand(row)[0, 0, 0].tolist() == [0.0, 1.0, 3.0, 5.0, 7.0, 8.0]


def test_pictures_that_cannot_be_halved_are_refused():
    with pytest.raises(UserError, match=r"\(12, 16\) pixels cannot be halved 3 times"):
        laplacian_pyramid(torch.zeros(1, 1, 12, 16), 3)


# ------------------------------------------------------------------------------------------------------------ the networks


def test_sizes_of_the_papers_dense_layers():
    with torch.device("meta"):
        generator, discriminator = ganzoo.create("lapgan", resolution=32, channels=3)
    shapes = [tuple(layer.weight.shape) for layer in generator.levels[0].layers[::2]]
    assert shapes == [(1200, 100), (1200, 1200), (192, 1200)]
    first, second = (layer[0].weight.shape for layer in discriminator.levels[0].layers)
    assert (tuple(first), tuple(second)) == ((600, 192), (600, 600))
    assert LAPGANConfig(resolution=32).sizes == [8, 16, 32]
    assert LAPGANConfig(resolution=32).latent_sizes == [100, 256, 1024]


def test_one_vector_holds_the_noise_of_all_levels(networks):
    generator = networks[0]
    latents = generator.sample_latents(3, generator=torch.Generator().manual_seed(1))
    assert latents.shape == (3, 6 + 64 + 256)
    picture = generator.levels[0](latents[:, :6], None)
    assert picture.shape == (3, 2, 4, 4)
    for share, level in ((latents[:, 6:70], 1), (latents[:, 70:], 2)):
        coarse = expand(picture)
        picture = coarse + generator.levels[level](share, coarse, None)
    torch.testing.assert_close(generator(latents), picture)
    torch.testing.assert_close(generator.eval()(latents), picture.clamp(-1, 1))


def test_in_training_a_level_sharpens_real_pictures(networks):
    generator = networks[0]
    samples, latents = torch.rand(3, 2, 16, 16), generator.sample_latents(3)
    for level in (2, 1, 0):
        generator.set_level(level)
        real = generator.match(samples)
        assert torch.equal(real, samples if level == 2 else F.avg_pool2d(samples, 4 >> level))
        made = generator(latents, None, generator.condition(Batch(real, None)))
        if level == 0:
            expected = generator.levels[0](latents[:, :6], None)
        else:
            coarse = expand(reduce(real))
            noise = latents.split([6, 64, 256], dim=1)[level]
            expected = coarse + generator.levels[level](noise, coarse, None)
        torch.testing.assert_close(made, expected)
        used = {name.split(".")[1] for name, p in generator.named_parameters() if _reaches(made, p)}
        assert used == {str(level)}


def _reaches(output, parameter):
    return torch.autograd.grad(output.sum(), parameter, retain_graph=True, allow_unused=True)[0] is not None


def test_only_the_levels_own_discriminator_judges(networks):
    discriminator, samples = networks[1], torch.rand(3, 2, 16, 16)
    for level in range(3):
        discriminator.set_level(level)
        (output,) = discriminator(samples)
        own = F.avg_pool2d(samples, 4 >> level) if level < 2 else samples
        torch.testing.assert_close(output.logits, discriminator.levels[level](own, None)[0].flatten())
        torch.testing.assert_close(discriminator(own)[0].logits, output.logits)
        used = {name.split(".")[1] for name, p in discriminator.named_parameters() if _reaches(output.logits, p)}
        assert used == {str(level)}


def test_below_the_top_pictures_in_use_are_the_smooth_ones(networks):
    generator = networks[0].eval()
    latents = generator.sample_latents(2)
    generator.set_level(1)
    small = generator.train()(latents)
    assert small.shape == (2, 2, 8, 8)
    torch.testing.assert_close(generator.eval()(latents), expand(small).clamp(-1, 1))


def test_at_the_start_pictures_depend_on_their_latents_and_bands_are_small():
    torch.manual_seed(0)
    generator, _ = ganzoo.create("lapgan", resolution=16, channels=1, num_classes=10)
    latents, labels = generator.sample_latents(10), torch.full((10,), 3)
    with torch.no_grad():
        first = generator.levels[0](latents[:, :100], labels)
        assert 0.5 < first.std(dim=0).mean() < 2
        others = generator.levels[0](latents[:1, :100].expand(10, -1), torch.arange(10))
        assert first.std(dim=0).mean() > 2 * others.std(dim=0).mean() > 0
        band = generator.levels[1](latents[:, 100:], expand(first), labels)
        assert 0.02 < band.std() < 0.4 * first.std()


def test_latent_weight_is_what_multiplies_the_coarsest_levels_latents():
    generator, _ = ganzoo.create("lapgan", **SMALL, num_classes=3)
    first = generator.levels[0]
    units = torch.eye(6)
    labels = torch.ones(6, dtype=torch.long)
    beside = torch.cat([units, first.label_embedding(labels)], dim=1)
    nothing = torch.cat([0 * units, first.label_embedding(labels)], dim=1)
    weight = generator.latent_weight()
    torch.testing.assert_close(weight[:, :6], (first.layers[0](beside) - first.layers[0](nothing)).T)
    assert weight.shape == (12, 6 + 8 * 8 + 16 * 16)
    assert not weight[:, 6:].any()


def test_levels_are_whole(networks):
    for network in networks:
        with pytest.raises(UserError, match="fades none in"):
            network.set_level(0.5)
        with pytest.raises(UserError, match="level must be from 0 to 2"):
            network.set_level(3)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"start": 12}, "start=12: must be a power of two"),
        ({"start": 32, "resolution": 32}, "start=32 must be below resolution=32"),
        ({"kernel_size": 4}, "kernel_size=4: must be odd"),
    ],
)
def test_impossible_configs_are_one_clear_error(config, message):
    with pytest.raises(UserError, match=message):
        ganzoo.create("lapgan", **config)


def test_labels_change_every_level():
    torch.manual_seed(0)
    generator, discriminator = ganzoo.create("lapgan", **SMALL, num_classes=3)
    samples = torch.rand(1, 2, 16, 16).expand(3, -1, -1, -1)
    for level in range(3):
        for network in (generator, discriminator):
            network.set_level(level)
        latents = generator.sample_latents(1).expand(3, -1)
        made = generator(latents, torch.arange(3), generator.match(samples))
        assert (made[0] - made[1]).abs().max() > 1e-4 and (made[0] - made[2]).abs().max() > 1e-4
        assert len(set(discriminator(samples, torch.arange(3))[0].logits.tolist())) == 3


# -------------------------------------------------------------------------------------------------------------- training

BOTH = {"discriminator": 1, "generator": 1}
RUN = {
    "name": "pyramid",
    "model": {"family": "lapgan", "resolution": 8, "start": 4, "channels": 1, "latent_dim": 6, "width": 4},
    "data": {"dataset": "digits"},
    "objective": {"loss": "non-saturating"},
    "phases": [
        {"name": "4x4", "level": 0, "steps": 4, "updates": BOTH},
        {"name": "8x8", "level": 1, "steps": 4, "updates": BOTH},
    ],
    "training": {
        "steps": 8,
        "batch_size": 8,
        "precision": "fp32",
        "ema_half_life": 20,
        "log_every": 1,
        "sample_every": 4,
        "num_preview_samples": 4,
        "checkpoint_every": 2,
        "keep_checkpoints": 4,
    },
    "evaluation": {"metrics": []},
}


def test_a_phase_moves_its_own_level_alone():
    trainer = make_trainer(**{key: RUN[key] for key in ("model", "objective", "phases")}, **{"training.steps": 8})
    for level in (0, 1):
        before = {
            role: {name: p.clone() for name, p in network.named_parameters()}
            for role, network in trainer.networks.items()
        }
        for _ in range(4):
            trainer.train_step()
        for role, network in trainer.networks.items():
            moved = {
                name.split(".")[1] for name, p in network.named_parameters() if not torch.equal(p, before[role][name])
            }
            assert moved == {str(level)}, role
        assert trainer.main_network.current_level == level


def test_the_objective_has_real_pictures_sharpened():
    """With bands of nothing, what the generator makes in training are the real pictures without their detail."""
    trainer = make_trainer(**{key: RUN[key] for key in ("model", "objective", "phases")}, **{"training.steps": 8})
    trainer.step = 4
    trainer.train_step()
    with torch.no_grad():
        for parameter in trainer.networks["generator"].levels[1].to_band.parameters():
            parameter.zero_()
    (batch,) = trainer.batches.of_update(0)
    context = trainer._context(False)
    context.keep_graph = True
    trainer.objective.discriminator_loss(trainer.networks, batch, context)
    torch.testing.assert_close(context.shared["fake"], expand(reduce(batch.samples)))


def test_a_killed_run_resumes_exactly_and_every_stage_samples(tmp_path, monkeypatch):
    monkeypatch.setattr("ganzoo.training.run.write_report", lambda folder: None)
    ganzoo.train(RUN, output=tmp_path / "whole", quiet=True)
    reference = state_of(tmp_path / "whole", 8)
    for step, level in ((2, 0), (4, 0), (6, 1)):
        stage = tmp_path / f"whole/checkpoints/step-{step:08d}"
        assert load_file(stage / "model.safetensors")["level"] == level
        assert ganzoo.from_pretrained(stage).sample(3, seed=0).samples.shape == (3, 1, 8, 8)
        folder = shutil.copytree(tmp_path / "whole", tmp_path / f"killed-{step}")
        shutil.rmtree(folder / "pipeline")
        for later in range(step + 2, 9, 2):
            shutil.rmtree(folder / f"checkpoints/step-{later:08d}")
        assert ganzoo.train(RUN, output=folder, quiet=True, resume=True).warnings == []
        assert differing(state_of(folder, 8), reference) == []
