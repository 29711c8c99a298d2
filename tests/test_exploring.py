"""Walks, class sheets, directions and projections, through the public functions and the command line, on published models."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import ganzoo
from ganzoo.data import load_data
from ganzoo.errors import NotFoundError, UserError
from ganzoo.exploring import class_grid, direction_strip, neighbour_sheet, neighbours, save_animation, save_sheet
from ganzoo.exploring.projection import distances
from ganzoo.exploring.walks import slerp, walk
from ganzoo.processors import ImageProcessor
from ganzoo.recipe.data import DataConfig

STYLED = {"resolution": 16, "channels": 3, "width": 8, "latent_dim": 16, "mapping_layers": 2}


@pytest.fixture(scope="module")
def digits() -> ganzoo.GANPipeline:
    return ganzoo.from_pretrained("dcgan-mnist")


def pipeline_of(family: str, **config) -> ganzoo.GANPipeline:
    torch.manual_seed(0)
    generator, _ = ganzoo.create(family, **config)
    return ganzoo.GANPipeline(generator, generator.config.processor())


@pytest.fixture(scope="module")
def styled() -> ganzoo.GANPipeline:
    return pipeline_of("stylegan2", **STYLED)


@pytest.fixture(scope="module")
def conditional() -> ganzoo.GANPipeline:
    return pipeline_of("dcgan", resolution=16, channels=1, width=4, latent_dim=8, num_classes=3)


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB"))


def cell(sheet: Image.Image, row: int, column: int, side: int) -> np.ndarray:
    """One picture of a sheet, whose pictures are `side` pixels large and two apart."""
    left, top = 2 + column * (side + 2), 2 + row * (side + 2)
    return pixels(sheet.crop((left, top, left + side, top + side)))


def enlarged(image: Image.Image, side: int) -> np.ndarray:
    return pixels(image.convert("RGB").resize((side, side), Image.Resampling.NEAREST))


# ---------------------------------------------------------------------------------------------------------------- walks


def test_slerp_turns_evenly_and_keeps_the_length():
    start, end = torch.tensor([[2.0, 0.0, 0.0]]), torch.tensor([[0.0, 4.0, 0.0]])
    for share in (0.0, 0.25, 0.5, 1.0):
        angle = share * math.pi / 2
        expected = (2 + 2 * share) * torch.tensor([[math.cos(angle), math.sin(angle), 0.0]])
        torch.testing.assert_close(slerp(start, end, share), expected)


def test_slerp_of_parallel_and_opposite_points_is_finite():
    point = torch.tensor([[1.0, 2.0], [0.0, 0.0]])
    torch.testing.assert_close(slerp(point, 2 * point, 0.5), 1.5 * point)
    assert slerp(point, -point, 0.5).isfinite().all()


def test_walk_is_closed_and_its_steps_are_small():
    torch.manual_seed(0)
    points = torch.randn(3, 2, 100)
    steps = walk(points, 20)
    assert steps.shape == (60, 2, 100)
    torch.testing.assert_close(steps[::20], points)
    sizes = (steps - steps.roll(-1, dims=0)).norm(dim=2)
    # A quarter turn of a vector of length 10 in 20 steps, the last one back to the start.
    assert 0.6 < sizes.min() and sizes.max() < 1.0


def test_interpolate_starts_at_the_seeds_samples(digits):
    sheets = ganzoo.interpolate("dcgan-mnist", 3, stops=2, frames=4, seed=7)
    assert len(sheets) == 8
    first, second = (digits(num_samples=3, seed=seed).images for seed in (7, 10))
    for number in range(3):
        row, column = divmod(number, 2)
        assert np.array_equal(cell(sheets[0], row, column, 64), enlarged(first[number], 64))
        difference = cell(sheets[4], row, column, 64).astype(int) - enlarged(second[number], 64)
        assert abs(difference).max() <= 1  # up to the rounding of an interpolation that ends there
    between = pixels(sheets[2])
    assert not np.array_equal(between, pixels(sheets[0])) and not np.array_equal(between, pixels(sheets[4]))


def test_walks_keep_their_class(conditional):
    sheets = ganzoo.interpolate(conditional, 2, stops=2, frames=2, seed=0, labels=[2, 1])
    ends = conditional(num_samples=2, seed=2, labels=[2, 1]).images
    for column in range(2):
        assert abs(cell(sheets[2], 0, column, 64).astype(int) - enlarged(ends[column], 64)).max() <= 1


def test_a_walk_can_be_truncated(styled):
    mean = ganzoo.interpolate(styled, 1, stops=2, frames=3, seed=0, truncation=0.0)
    assert all(np.array_equal(pixels(sheet), pixels(mean[0])) for sheet in mean)


@pytest.mark.parametrize("ending", [".gif", ".webp"])
def test_animations_loop_for_ever(digits, tmp_path, ending):
    sheets = ganzoo.interpolate(digits, 1, stops=2, frames=3, seed=0)
    path = save_animation(sheets, tmp_path / "new" / f"walk{ending}")
    with Image.open(path) as animation:
        assert (animation.n_frames, animation.size, animation.info["loop"]) == (6, sheets[0].size, 0)
        for number, sheet in enumerate(sheets):
            animation.seek(number)
            assert abs(pixels(animation).astype(int) - pixels(sheet)).mean() < 4
            assert animation.info["duration"] == 40


# -------------------------------------------------------------------------------------------------------------- classes


def test_class_grid_has_a_row_a_class_and_a_column_a_seed(conditional):
    sheet = class_grid(conditional, 4, seed=5)
    assert sheet.size == (4 * 66 + 2, 3 * 66 + 2)
    for label in range(3):
        images = conditional(num_samples=4, seed=5, labels=label).images
        for column in range(4):
            assert np.array_equal(cell(sheet, label, column, 64), enlarged(images[column], 64))
    chosen = class_grid(conditional, 4, seed=5, labels=[2])
    assert np.array_equal(pixels(chosen), pixels(sheet.crop((0, 2 * 66, 4 * 66 + 2, 3 * 66 + 2))))


# ----------------------------------------------------------------------------------------------------------- directions


@pytest.mark.parametrize("name", ["digits", "styled", "conditional"])
def test_directions_are_what_the_first_layer_makes_most_of(name, request):
    pipeline = request.getfixturevalue(name)
    weight = pipeline.generator.latent_weight().detach()
    found = ganzoo.directions(pipeline, 5)
    torch.testing.assert_close(found.vectors @ found.vectors.T, torch.eye(5), rtol=0, atol=1e-5)
    torch.testing.assert_close((weight @ found.vectors.T).norm(dim=0), found.strengths, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.strengths, torch.linalg.svdvals(weight)[:5], rtol=1e-4, atol=1e-5)
    assert torch.equal(ganzoo.directions(pipeline, 2).vectors, found.vectors[:2])


def test_latent_weight_is_what_multiplies_latents(conditional, styled):
    """Against the derivative of the first layers themselves."""
    latents = torch.randn(8, requires_grad=True)
    first = conditional.generator.blocks[0][0]
    embedded = torch.zeros(conditional.config.label_dim)

    def project(latents: torch.Tensor) -> torch.Tensor:
        return first(torch.cat([latents, embedded])[None]).flatten()

    jacobian = torch.autograd.functional.jacobian(project, latents)
    torch.testing.assert_close(conditional.generator.latent_weight(), jacobian)
    layers = [*styled.generator.layers, *styled.generator.to_picture]
    rows = [layer.convolution.to_scales for layer in layers]
    jacobian = torch.cat([torch.autograd.functional.jacobian(row, torch.randn(16)) / row.scale for row in rows])
    torch.testing.assert_close(styled.generator.latent_weight(), jacobian)


@pytest.mark.parametrize("name", ["digits", "styled"])
def test_spreads_are_those_of_what_is_drawn(name, request):
    pipeline = request.getfixturevalue(name)
    found = ganzoo.directions(pipeline, 3)
    styles = pipeline.generator.styles(torch.randn(5000, pipeline.config.latent_dim))
    styles = styles if styles.ndim == 2 else styles[:, 0]
    torch.testing.assert_close(found.spreads, (styles @ found.vectors.T).std(dim=0).detach(), rtol=0.15, atol=0)


def test_strong_directions_change_pictures_more_than_weak_ones(digits):
    found = ganzoo.directions(digits, 100)
    drawn = digits.sample(16, seed=0)

    def change(index: int) -> float:
        moved = digits.sample(latents=found.move(drawn.latents, index, 2.0)).samples
        return (moved - drawn.samples).square().mean().item()

    strong, weak = (sum(map(change, indices)) / 5 for indices in (range(5), range(95, 100)))
    assert strong > 4 * weak


@pytest.mark.parametrize("name", ["digits", "styled"])
def test_strip_shows_samples_moved_along_a_direction(name, request):
    pipeline = request.getfixturevalue(name)
    strip = direction_strip(pipeline, 2, index=1, columns=5, reach=2.0, seed=3)
    assert strip.size == (5 * 66 + 2, 2 * 66 + 2)
    found = ganzoo.directions(pipeline, 2)
    styles = pipeline.generator.styles(pipeline.inputs(2, seed=3)[0])
    for row in range(2):
        middle = pipeline(num_samples=2, seed=3).images[row]
        assert abs(cell(strip, row, 2, 64).astype(int) - enlarged(middle, 64)).max() <= 1
        moved = found.move(styles, 1, 1.0).detach()
        right = pipeline(latents=moved).images[row]
        assert abs(cell(strip, row, 3, 64).astype(int) - enlarged(right, 64)).max() <= 1
        assert not np.array_equal(cell(strip, row, 0, 64), cell(strip, row, 4, 64))


# ---------------------------------------------------------------------------------------------------------- projections


def test_distances_are_means_over_a_pyramid():
    samples, target = torch.zeros(2, 1, 8, 8), torch.zeros(1, 1, 8, 8)
    samples[0] += 0.5  # the same at every size
    samples[1, :, ::2, ::2] = 1.0
    samples[1, :, 1::2, 1::2] = -1.0
    # Neighbours cancel out at 4x4: only the full size counts, and half of its pixels.
    torch.testing.assert_close(distances(samples, target), torch.tensor([0.25, 0.25]))


def test_own_samples_are_found_again(digits):
    images = digits(num_samples=1, seed=1234).images
    found = ganzoo.project(images, "dcgan-mnist", steps=100, progress=False)
    assert found.latents.shape == (1, 100) and found.labels is None
    assert found.errors.max() < 0.06
    for image, again, error in zip(images, found.images, found.errors, strict=True):
        squares = (np.asarray(image, float) - np.asarray(again, float)) ** 2 / 255**2
        assert squares.mean() ** 0.5 == pytest.approx(error.item(), abs=0.004)
    made = digits(latents=found.latents).images
    assert all(
        np.array_equal(np.asarray(one), np.asarray(other)) for one, other in zip(made, found.images, strict=True)
    )


def test_projection_is_better_than_the_best_random_sample_and_stays_among_the_latents(digits):
    picture = np.zeros((28, 28), np.uint8)
    picture[6:22, 12:16] = 255  # a one
    found = ganzoo.project(picture, digits, steps=50, progress=False)
    drawn = digits.sample(512, seed=0)
    target = digits.processor.normalize(torch.tensor(digits.processor.encode(picture))[None])
    errors = (drawn.samples - target).square().mean(dim=(1, 2, 3)).sqrt() / 2
    assert found.errors.item() < 0.7 * errors.min().item()
    assert found.latents.norm() <= drawn.latents.norm(dim=1).max() * 1.001
    again, other = (ganzoo.project(picture, digits, steps=2, seed=seed, progress=False).latents for seed in (0, 1))
    assert torch.equal(ganzoo.project(picture, digits, steps=2, progress=False).latents, again)
    assert not torch.equal(again, other)


def test_projection_into_styles(styled):
    image = styled(num_samples=1, seed=5000).images[0]  # not among the starts
    found = ganzoo.project(image, styled, steps=60, progress=False)
    assert found.latents.shape == (1, 6, 16)
    drawn = styled.sample(512, seed=0).samples
    target = styled.processor.normalize(torch.tensor(styled.processor.encode(image))[None])
    assert found.errors.item() < 0.7 * (drawn - target).square().mean(dim=(1, 2, 3)).sqrt().min().item() / 2


def test_projection_of_a_class(conditional):
    images = conditional(num_samples=2, seed=0, labels=[2, 0]).images
    given = ganzoo.project(images, conditional, steps=5, labels=[1, 0], progress=False)
    assert given.labels.tolist() == [1, 0]
    assert ganzoo.project(images, conditional, steps=5, progress=False).labels.shape == (2,)
    with pytest.raises(UserError, match="labels must lie between 0 and 2"):
        ganzoo.project(images, conditional, steps=5, labels=3, progress=False)


def test_projection_leaves_the_model_and_the_random_state_alone(styled):
    before = torch.get_rng_state()
    weights = [parameter.clone() for parameter in styled.generator.parameters()]
    ganzoo.project(np.zeros((16, 16, 3), np.uint8), styled, steps=2, progress=False)
    assert torch.equal(torch.get_rng_state(), before)
    for weight, parameter in zip(weights, styled.generator.parameters(), strict=True):
        assert torch.equal(weight, parameter) and parameter.grad is None and parameter.requires_grad


# ------------------------------------------------------------------------------------------------------------- mistakes


def test_mistakes_are_one_clear_error(digits, conditional, tmp_path):
    sheet = Image.new("RGB", (4, 4))
    for call, message in (
        (lambda: ganzoo.interpolate(digits, 1, stops=0), "stops must be a positive integer"),
        (lambda: ganzoo.interpolate(digits, 1000, stops=100, frames=100), "too many for one animation"),
        (lambda: class_grid(digits), "unconditional: it has no classes"),
        (lambda: ganzoo.directions(digits, 101), "there are 100 directions"),
        (lambda: direction_strip(conditional, index=8), "no direction 8; they are numbered from 0 to 7"),
        (lambda: ganzoo.project([], digits), "no picture to project"),
        (lambda: ganzoo.project("no-such-file.png", digits), "cannot read no-such-file.png"),
        (lambda: ganzoo.directions(_without_weight()), "has no layer that multiplies its latents by a matrix"),
        (lambda: save_animation([sheet], tmp_path / "a.png"), "written as .gif or .webp"),
        (lambda: save_sheet(sheet, tmp_path / "a.gif"), "written as .png"),
    ):
        with pytest.raises(UserError, match=message):
            call()
    assert not any(tmp_path.iterdir())
    with pytest.raises(NotFoundError):
        ganzoo.directions("no-such-model")


def _without_weight() -> ganzoo.GANPipeline:
    class Plain(ganzoo.Generator):
        family = "plain"

    config = pipeline_of("dcgan", resolution=8, width=4).config
    return ganzoo.GANPipeline(Plain(config), config.processor())


def test_sound_and_text_have_no_views():
    sound = pipeline_of("wavegan", length=1024, width=2)
    for view in (ganzoo.interpolate, ganzoo.directions, lambda model: ganzoo.project("picture.png", model)):
        with pytest.raises(UserError, match="^wavegan makes audio; walks, .* are for pictures"):
            view(sound)
        with pytest.raises(UserError, match="^seqgan-coco makes text; walks, .* are for pictures"):
            view("seqgan-coco")


# ---------------------------------------------------------------------------------------------------------- command line


def test_command_interpolates(ok, inside):
    assert ok("sample", "dcgan-mnist", "--num", 2, "--interpolate", 2, "--frames", 3, "--seed", 0) == (
        "samples/dcgan-mnist-walk.gif\n"
    )
    with Image.open("samples/dcgan-mnist-walk.gif") as animation:
        assert animation.n_frames == 6
    arguments = ("--num", 1, "--interpolate", 2, "--frames", 2, "--show", "--output", "walks/one.webp")
    *drawing, last = ok("sample", "dcgan-mnist", *arguments).splitlines()
    assert last == "walks/one.webp" and Path(last).exists() and len(drawing) > 8


def test_command_draws_directions_and_classes(ok, inside, conditional):
    assert ok("sample", "dcgan-mnist", "--num", 2, "--direction", 3, "--seed", 0) == (
        "samples/dcgan-mnist-direction-3.png\n"
    )
    expected = direction_strip("dcgan-mnist", 2, index=3, seed=0)
    assert np.array_equal(pixels(Image.open("samples/dcgan-mnist-direction-3.png")), pixels(expected))
    conditional.save_pretrained(inside / "model")
    assert ok("sample", "model", "--num", 4, "--grid-by-class", "--seed", 5) == "samples/model-classes.png\n"
    found = pixels(Image.open("samples/model-classes.png"))
    assert np.array_equal(found, pixels(class_grid(conditional, 4, seed=5)))


def test_command_draws_neighbours(ok, inside, styled):
    styled.save_pretrained(inside / "model")
    save_pictures(styled(num_samples=6, seed=0).images, inside / "train")
    arguments = ("--num", 2, "--neighbours", 2, "--data", "train", "--seed", 0)
    assert ok("sample", "model", *arguments) == "samples/model-neighbours.png\n"
    found = Image.open("samples/model-neighbours.png")
    assert np.array_equal(cell(found, 1, 0, 64), cell(found, 1, 1, 64))


def test_command_explains_mistakes(fails, inside):
    for arguments, said in (
        (("--interpolate", 2, "--grid-by-class"), "--interpolate and --grid-by-class are different pictures"),
        (("--frames", 3), "--frames is of --interpolate"),
        (("--data", "train"), "--data is of --neighbours"),
        (("--neighbours", 2, "--data", "nowhere"), "nowhere"),
        (("--interpolate", 1), "--interpolate"),
        (("--grid-by-class",), "unconditional"),
        (("--direction", 100), "no direction 100"),
        # Before anything is drawn: none is shown, and the first would take minutes.
        (("--num", 1, "--interpolate", 1000, "--frames", 200, "--show", "--output", "walk.mp4"), ".gif or .webp"),
        (("--direction", 0, "--show", "--output", "folder"), "written as .png"),
        (("--num", 100_000, "--show", "--output", "samples.jpg"), "written as .png"),
    ):
        fails("sample", "dcgan-mnist", *arguments, code=2, said=(said,))
    fails("sample", "seqgan-coco", "--interpolate", 2, code=2, said=("seqgan makes text",))
    assert not any(inside.iterdir())


# ----------------------------------------------------------------------------------------------------------- neighbours


def save_pictures(images: list[Image.Image], folder: Path) -> Path:
    folder.mkdir(parents=True)
    for number, image in enumerate(images):
        image.save(folder / f"{number:03}.png")
    return folder


@pytest.mark.parametrize("flip", [0.0, 0.5])
def test_a_copy_stands_beside_its_original(flip, styled, tmp_path, monkeypatch):
    """The training data are samples of the model itself, mirrored where the recipe mirrors."""
    monkeypatch.setenv("GANZOO_CACHE", str(tmp_path / "cache"))
    images = styled(num_samples=20, seed=0).images
    stored = [image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for image in images] if flip else images
    data = {"path": str(save_pictures(stored[::-1], tmp_path / "train")), "flip": flip}
    sheet = neighbour_sheet(styled, 3, neighbours=2, data=data, seed=4)
    assert sheet.size == (3 * 66 + 2, 3 * 66 + 2)
    for row in range(3):
        assert np.array_equal(cell(sheet, row, 0, 64), enlarged(images[4 + row], 64))
        assert np.array_equal(cell(sheet, row, 1, 64), cell(sheet, row, 0, 64))
        assert not np.array_equal(cell(sheet, row, 2, 64), cell(sheet, row, 0, 64))


@pytest.mark.parametrize("both_ways", [False, True])
def test_places_lead_back_to_the_pictures(both_ways, tmp_path, monkeypatch):
    monkeypatch.setenv("GANZOO_CACHE", str(tmp_path / "cache"))
    noise = np.random.default_rng(0).integers(0, 256, (300, 8, 8, 3), dtype=np.uint8)
    folder = save_pictures([Image.fromarray(pixels) for pixels in noise], tmp_path / "train")
    dataset = load_data(DataConfig(dataset="noise", path=str(folder)), ImageProcessor(resolution=8, channels=3))
    everything = torch.cat(list(neighbours._batches(dataset, both_ways)))
    assert len(everything) == (600 if both_ways else 300)
    for place in (0, 255, 256, 299, *((511, 512, 555, 556, 599) if both_ways else ())):
        assert torch.equal(neighbours._picture(dataset, place, both_ways), everything[place])


def test_what_has_no_neighbours_is_refused(styled, tmp_path, monkeypatch):
    monkeypatch.setenv("GANZOO_CACHE", str(tmp_path / "cache"))
    with pytest.raises(UserError, match="no recipe that names its data"):
        neighbour_sheet(styled, 2)
    data = {"path": str(save_pictures(styled(num_samples=3, seed=0).images, tmp_path / "train"))}
    with pytest.raises(UserError, match="there are 3 others, not the 5 nearest"):
        neighbour_sheet(styled, 2, neighbours=5, data=data)
