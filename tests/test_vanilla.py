"""The fully connected families: their sizes, points of the plane, and the modes that they cover."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from training_helpers import RECIPE

import ganzoo
from ganzoo.data import load_data
from ganzoo.data.sets.mixtures import MIXTURES
from ganzoo.errors import NotFoundError, UserError
from ganzoo.metrics.modes import count_point_modes, expected_divergence
from ganzoo.nn import Maxout
from ganzoo.processors import PointsProcessor
from ganzoo.recipe.data import DataConfig

POINTS = {
    **RECIPE,
    "name": "points",
    "model": {
        "family": "vanilla",
        "dimensions": 2,
        "latent_dim": 2,
        "generator_widths": [16],
        "discriminator_widths": [8],
    },
    "objective": {**RECIPE["objective"], "packing": 2},
    "data": {"dataset": "ring", "limit": 400},
    "training": {**RECIPE["training"], "steps": 3, "sample_every": 1},
    "evaluation": {"metrics": ["modes", "high_quality", "mode_divergence"], "num_samples": 200},
}


def parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


# ---------------------------------------------------------------------------------------------------------- the networks


def test_pacgans_networks_have_its_sizes():
    """Lin et al. (2018), section 4.1, counted by hand: four layers of 400 with batch norm; three of 200 maxout units of 5."""
    generator, discriminator = ganzoo.create(
        "vanilla",
        dimensions=2,
        latent_dim=2,
        generator_widths=(400,) * 4,
        generator_norm="batch",
        discriminator_widths=(200,) * 3,
    )
    assert parameters(generator) == (2 * 400 + 400) + 3 * (400 * 400 + 400) + 4 * 800 + (400 * 2 + 2)
    assert parameters(discriminator) == (2 * 1000 + 1000) + 2 * (200 * 1000 + 1000) + 201
    packed = type(discriminator)(discriminator.config.packed(3))
    assert parameters(packed) == (6 * 1000 + 1000) + 2 * (200 * 1000 + 1000) + 201


def test_mirza_and_osinderos_networks_have_their_sizes():
    generator, discriminator = ganzoo.create("cgan")
    assert parameters(generator) == 100 * 200 + 200 + 10 * 1000 + 1200 * 1200 + 1200 + 1200 * 1024 + 1024
    picture, label, joint = 1024 * 240 * 5 + 240 * 5, 10 * 50 * 5, 290 * 240 * 4 + 240 * 4
    assert parameters(discriminator) == picture + label + joint + 240 + 1


def test_at_the_start_cgans_pictures_depend_on_latents_as_much_as_on_labels():
    torch.manual_seed(0)
    generator, _ = ganzoo.create("cgan")
    latents, labels = generator.sample_latents(64), torch.arange(64) % 10
    pictures = generator(latents, labels)
    of_labels = (generator(latents, labels.roll(1)) - pictures).square().mean()
    of_latents = (generator(latents.roll(10, 0), labels) - pictures).square().mean()
    assert 0.5 < of_latents / of_labels < 8  # with torch's own start 0.08: every class became one picture


def test_maxout_is_the_largest_of_its_maps():
    layer, inputs = Maxout(3, 4, 2), torch.randn(5, 3)
    weights, biases = layer.linear.weight, layer.linear.bias
    for sample in range(5):
        for unit in range(4):
            maps = [float((inputs[sample] @ weights[row] + biases[row]).detach()) for row in (2 * unit, 2 * unit + 1)]
            assert layer(inputs)[sample, unit].item() == pytest.approx(max(maps), abs=1e-6)


def test_binary_latents_are_signs_and_the_others_normal():
    generator, _ = ganzoo.create(**{"family": "vanilla", **get_tiny(), "latent_dim": 5, "binary_latents": 3})
    latents = generator.sample_latents(4000, generator=torch.Generator().manual_seed(0))
    signs, normal = latents[:, :3], latents[:, 3:]
    assert set(signs.flatten().tolist()) == {-1.0, 1.0}
    # Fair coins, thrown apart from each other: five standard errors of a mean of 4,000.
    bound = 5 / 4000**0.5
    assert signs.mean(dim=0).abs().max() < bound
    assert (signs[:, 0] * signs[:, 1]).mean().abs() < bound
    assert normal.mean().abs() < bound
    assert normal.std() == pytest.approx(1.0, abs=bound)
    cut = generator.truncate(latents, 0.5)
    assert torch.equal(cut[:, :3], signs)
    assert cut[:, 3:].abs().max() <= 0.5


def test_more_binary_latents_than_latents_are_refused():
    with pytest.raises(UserError, match="binary_latents=9 are more than latent_dim=4"):
        ganzoo.create("vanilla", latent_dim=4, binary_latents=9)


def get_tiny():
    return ganzoo.get_family("vanilla").tiny


# ------------------------------------------------------------------------------------------------------------ the points


def test_mixtures_are_what_their_protocol_says():
    data = load_data(DataConfig(dataset="grid"), PointsProcessor(scale=4))
    assert len(data) == 100_000 and data.num_classes == 25 and data.samples.dtype == np.float32
    centres = np.array([(x, y) for x in (-4, -2, 0, 2, 4) for y in (-4, -2, 0, 2, 4)])
    offsets = data.samples - centres[data.labels]
    assert np.abs(offsets.mean(axis=0)).max() < 5 * 0.05 / math.sqrt(100_000)
    assert offsets.std(axis=0) == pytest.approx([0.05, 0.05], rel=0.02)
    assert np.bincount(data.labels) == pytest.approx(4000, rel=0.1)
    ring = load_data(DataConfig(dataset="ring"), PointsProcessor(), split="test")
    assert len(ring) == 2500
    assert np.linalg.norm(ring.samples, axis=1) == pytest.approx(1, abs=0.06)
    with pytest.raises(NotFoundError, match="'ring' has no split 'dev'; there is test, train"):
        load_data(DataConfig(dataset="ring"), PointsProcessor(), split="dev")


def test_perfect_samples_score_what_theory_says():
    points, _ = MIXTURES["grid"].draw(100_000, seed=5)
    found = count_point_modes(torch.tensor(points), torch.tensor(MIXTURES["grid"].centres), 0.05)
    assert found.covered == 25
    assert found.high_quality == pytest.approx(1 - math.exp(-4.5), abs=0.002)  # Rayleigh: P(r < 3 sigma)
    assert found.divergence == pytest.approx(expected_divergence(98_889, 25), abs=3e-4)


def test_modes_are_hit_by_points_within_three_deviations():
    centres = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    points = torch.tensor([[0.0, 2.9], [0.0, -3.1], [10.0, 0.0], [10.0, 1.0], [6.0, 0.0]])
    found = count_point_modes(points, centres, 1.0)
    assert (found.covered, found.counts.tolist(), found.high_quality) == (2, [1, 2, 0], 0.6)
    assert found.divergence == pytest.approx(math.log(3) / 3 - math.log(3) / 3 + (1 / 3) * 0 + sum(
        p * math.log(3 * p) for p in (1 / 3, 2 / 3)))  # fmt: skip
    assert count_point_modes(points + 100, centres, 1.0).divergence == 0


@pytest.mark.parametrize(
    ("raw", "words"), [([1.0], "2 finite"), ([1.0, math.nan], "2 finite"), ("ab", "not str"), ([[1, 2]], "2 finite")]
)
def test_what_is_no_point_is_refused(raw, words):
    with pytest.raises(UserError, match=words):
        PointsProcessor().encode(raw)


def test_points_from_recipe_to_numbers(tmp_path):
    run = ganzoo.train(POINTS, output=tmp_path / "run", quiet=True)
    records = {record["name"]: record for record in run.pipeline.metrics}
    assert records["modes"]["floor"] == 8 and records["high_quality"]["floor"] > 0.95
    assert records["modes"]["parameters"] == {"modes": 8, "sigma": 0.01, "deviations": 3}
    assert sum(records["modes"]["details"]["counts"]) == round(200 * records["high_quality"]["value"])
    assert (tmp_path / "run" / "samples").exists()
    pipe = ganzoo.from_pretrained(tmp_path / "run" / "pipeline")
    points = pipe(num_samples=3, seed=1).points
    assert points.shape == (3, 2) and points[1] == pytest.approx(pipe(num_samples=1, seed=2).points[0], rel=1e-4)
    files = pipe.processor.save_samples(pipe.sample(3, seed=1).samples, tmp_path / "points.csv")
    assert np.loadtxt(files[0], delimiter=",") == pytest.approx(points, rel=1e-5)
    assert pipe.processor.show(torch.zeros(1, 2)).strip() and not pipe.processor.show(torch.full((1, 2), 9.0)).strip()
    (in_folder,) = pipe.processor.save_samples(pipe.sample(3, seed=1).samples, tmp_path / "points")
    assert in_folder == tmp_path / "points" / "samples.csv" and in_folder.read_bytes() == files[0].read_bytes()
    with pytest.raises(UserError, match="points are written as .csv"):
        pipe.processor.save_samples(torch.zeros(1, 2), tmp_path / "points.png")
    with pytest.raises(UserError, match="modes can be counted of the data sets ring and grid, not of digits"):
        ganzoo.evaluate(pipe, data={"dataset": "digits"})
    assert json.loads((tmp_path / "run/pipeline/processor_config.json").read_text())["processor_type"] == "points"


def test_a_dot_is_drawn_where_the_point_is(tmp_path):
    from PIL import Image

    processor = PointsProcessor(scale=4)
    processor.save_preview(torch.tensor([[1.25, 1.25], [-1.25, 0.0], [9.0, 0.0], [math.nan, 0.0]]), tmp_path, "dots")
    picture = np.asarray(Image.open(tmp_path / "dots.png"))
    assert picture[0, -1] == 255 and picture[len(picture) // 2, 0] == 255 and (picture > 0).sum() < 40
