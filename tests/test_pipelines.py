"""The public API as people call it: what comes out, what a seed means, what is refused and how."""

from __future__ import annotations

import json
import math
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import ganzoo
from ganzoo.errors import CheckpointError, GanzooError, NotFoundError, UserError
from ganzoo.metrics import MetricResult
from ganzoo.pipelines import ClassifierPipeline, GANPipeline
from ganzoo.processors import ImageProcessor
from ganzoo.registry import get_family
from ganzoo.utils.files import load_tensors

LATENT_DIM = 8
TINY = {"resolution": 8, "channels": 1, "width": 4, "latent_dim": LATENT_DIM}


def build(**config) -> GANPipeline:
    """A pipeline of freshly initialised networks, the same ones every time."""
    torch.manual_seed(0)
    generator, discriminator = ganzoo.create("dcgan", **{**TINY, **config})
    torch.nn.init.normal_(generator.to_image.weight, std=0.5)  # pictures with contrast
    return GANPipeline(generator, generator.config.processor(), discriminator=discriminator)


@pytest.fixture(scope="module")
def pipe() -> GANPipeline:
    return build()


@pytest.fixture(scope="module")
def conditional() -> GANPipeline:
    return build(num_classes=3)


@pytest.fixture(scope="module")
def classifier() -> ClassifierPipeline:
    torch.manual_seed(0)
    family = get_family("image-classifier")
    config = family.tiny_config(channels=3)
    return ClassifierPipeline(family.networks["classifier"](config), config.processor())


def pixels(pipeline: GANPipeline, *args, **kwargs) -> torch.Tensor:
    return pipeline(*args, output_type="pt", **kwargs).images


# ---------------------------------------------------------------------------------------------------------- what comes out


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB"), (4, "RGBA")])
def test_output_types(channels, mode):
    pipe = build(channels=channels)
    pictures = pipe(num_samples=3, seed=0).images
    array = pipe(num_samples=3, seed=0, output_type="np").images
    tensor = pipe(num_samples=3, seed=0, output_type="pt").images
    assert isinstance(pictures, list) and [(p.mode, p.size) for p in pictures] == [(mode, (8, 8))] * 3
    assert isinstance(array, np.ndarray) and array.dtype == np.float32 and array.shape == (3, 8, 8, channels)
    assert tensor.dtype == torch.float32 and tensor.shape == (3, channels, 8, 8)
    assert 0 <= array.min() < 0.4 and 0.6 < array.max() <= 1
    assert np.array_equal(array, tensor.permute(0, 2, 3, 1).numpy())
    stored = np.stack([np.asarray(picture).reshape(8, 8, channels) for picture in pictures])
    assert np.abs(stored / 255 - array).max() <= 0.5 / 255 + 1e-6


def test_output_carries_what_made_it(pipe, conditional):
    drawn = pipe(num_samples=2, seed=5)
    assert drawn.labels is None and drawn.latents.shape == (2, LATENT_DIM)
    assert torch.equal(pixels(pipe, latents=drawn.latents), pixels(pipe, num_samples=2, seed=5))
    assert conditional(num_samples=4, seed=0).labels.shape == (4,)


def test_one_sample_is_the_default(pipe):
    assert len(pipe().images) == 1


@pytest.mark.parametrize("channels", [2, 5])
def test_pictures_that_pil_cannot_hold(channels, tmp_path):
    pipe = build(channels=channels)
    assert pipe(num_samples=2, output_type="np").images.shape == (2, 8, 8, channels)
    assert pixels(pipe, num_samples=2).shape == (2, channels, 8, 8)
    with pytest.raises(UserError, match=f"picture of {channels} channels is no PIL image; ask for output_type='np'"):
        pipe(num_samples=2)
    pipe.save_pretrained(tmp_path)  # with a preview all the same
    assert Image.open(tmp_path / "samples" / "grid.png").size[0] > 8
    assert all(check.passed for check in ganzoo.verify(tmp_path))


def test_unknown_output_type(pipe):
    with pytest.raises(UserError, match="unknown output_type 'jpeg'; it is one of pil, np, pt"):
        pipe(output_type="jpeg")


@pytest.mark.parametrize(
    "arguments", [{"num_samples": 0}, {"num_samples": 2.0}, {"num_samples": True}, {"batch_size": 0}]
)
def test_impossible_counts(pipe, arguments):
    with pytest.raises(UserError, match=f"{next(iter(arguments))} must be a positive integer"):
        pipe(**arguments)


# -------------------------------------------------------------------------------------------------------------------- seeds


def test_sample_i_has_seed_plus_i(pipe):
    together = pipe(num_samples=5, seed=40)
    for index in range(5):
        alone = pipe(num_samples=1, seed=40 + index)
        assert torch.equal(alone.latents[0], together.latents[index])
    singles = torch.cat([pixels(pipe, seed=40 + index) for index in range(5)])
    torch.testing.assert_close(singles, pixels(pipe, num_samples=5, seed=40), atol=1e-5, rtol=0)


@pytest.mark.parametrize("batch_size", [1, 3, 7, 100])
def test_batch_size_changes_nothing(conditional, batch_size):
    expected = conditional(num_samples=7, seed=1, output_type="pt")
    found = conditional(num_samples=7, seed=1, output_type="pt", batch_size=batch_size)
    assert torch.equal(found.latents, expected.latents) and torch.equal(found.labels, expected.labels)
    torch.testing.assert_close(found.images, expected.images, atol=1e-5, rtol=0)


def test_list_of_generators_gives_each_sample_its_own(conditional):
    expected = conditional(num_samples=3, seed=10, output_type="pt")
    found = conditional(generator=[torch.Generator().manual_seed(10 + index) for index in range(3)], output_type="pt")
    assert torch.equal(found.latents, expected.latents) and torch.equal(found.labels, expected.labels)
    reversed_order = conditional(generator=[torch.Generator().manual_seed(12 - index) for index in range(3)])
    assert torch.equal(reversed_order.latents.flip(0), expected.latents)


def test_one_generator_is_drawn_from_in_turn(pipe):
    generator = torch.Generator().manual_seed(3)
    first, second = pipe(num_samples=4, generator=generator).latents, pipe(num_samples=2, generator=generator).latents
    whole = pipe(num_samples=6, generator=torch.Generator().manual_seed(3)).latents
    assert torch.equal(torch.cat([first, second]), whole)
    assert torch.equal(whole[0], pipe(seed=3).latents[0])
    small_batches = pipe(num_samples=6, generator=torch.Generator().manual_seed(3), batch_size=1).latents
    assert torch.equal(small_batches, whole)


def test_without_a_seed_samples_differ(pipe):
    assert not torch.equal(pipe(num_samples=2).latents, pipe(num_samples=2).latents)


@pytest.mark.parametrize("seed", [0, 2**32, 2**63 - 3])
def test_large_seeds(pipe, seed):
    assert torch.equal(pipe(num_samples=2, seed=seed).latents[1], pipe(seed=seed + 1).latents[0])


@pytest.mark.parametrize("seed", [-1, 2**63 - 1, 2**64, 1.5, "0"])
def test_seeds_that_are_none(pipe, seed):
    with pytest.raises(UserError, match="seed must be an integer from 0"):
        pipe(num_samples=2, seed=seed)


def test_contradictions(pipe):
    latents, generator = torch.zeros(2, LATENT_DIM), torch.Generator()
    for arguments in ({"seed": 0, "generator": generator}, {"seed": 0, "latents": latents}):
        with pytest.raises(UserError, match="give one of seed, generator and latents"):
            pipe(2, **arguments)
    with pytest.raises(UserError, match="2 generators for 3 samples"):
        pipe(num_samples=3, generator=[generator, generator])
    for wrong in (torch.zeros(3, LATENT_DIM), torch.zeros(2, LATENT_DIM + 1), torch.zeros(2, LATENT_DIM, 1, 1)):
        with pytest.raises(UserError, match=r"latents must have the shape \(2, 8\)"):
            pipe(num_samples=2, latents=wrong)


def test_the_global_random_state_is_never_touched(conditional, classifier, tmp_path):
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    conditional(num_samples=3)
    conditional(num_samples=3, seed=7, truncation=0.5)
    conditional(num_samples=3, generator=torch.Generator().manual_seed(0), labels=[1])
    conditional.save_pretrained(tmp_path / "gan")
    classifier.save_pretrained(tmp_path / "classifier")
    classifier(Image.new("RGB", (8, 8)))
    ganzoo.from_pretrained(tmp_path / "gan").discriminator  # noqa: B018
    ganzoo.verify(tmp_path / "gan")
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1].tolist(), random.getstate()) == before[1:]


# ------------------------------------------------------------------------------------------------------------------- labels


def test_one_label_is_for_all(conditional):
    assert conditional(num_samples=4, seed=0, labels=2).labels.tolist() == [2, 2, 2, 2]
    assert conditional(labels=2, seed=0).labels.tolist() == [2]
    assert conditional(labels=torch.tensor(2), seed=0).labels.tolist() == [2]


def test_a_list_of_labels_is_repeated(conditional):
    assert conditional(num_samples=5, seed=0, labels=[0, 2]).labels.tolist() == [0, 2, 0, 2, 0]
    for labels in ([0, 2, 1], (0, 2, 1), torch.tensor([0, 2, 1]), np.array([0, 2, 1])):
        assert conditional(labels=labels, seed=0).labels.tolist() == [0, 2, 1]


def test_labels_decide_the_picture_and_not_the_latents(conditional):
    zero, one = (conditional(seed=0, labels=label, output_type="pt") for label in (0, 1))
    assert torch.equal(zero.latents, one.latents) and not torch.equal(zero.images, one.images)


def test_labels_left_out_come_from_the_seed(conditional):
    drawn = conditional(num_samples=300, seed=0).labels
    assert torch.equal(drawn[100:200], conditional(num_samples=100, seed=100).labels)
    assert torch.bincount(drawn, minlength=3).min() > 70


@pytest.mark.parametrize("labels", [3, -1, [0, 1, 2, 3], [0, 10**12]])
def test_labels_out_of_range(conditional, labels):
    with pytest.raises(UserError, match="labels must lie between 0 and 2"):
        conditional(num_samples=4, labels=labels)


@pytest.mark.parametrize("labels", [1.5, [], [0.0], [[0, 1]], [[0], [1, 2]], [0] * 5, 10**30, [None], {}])
def test_labels_that_are_none(conditional, labels):
    with pytest.raises(UserError, match="labels must be an integer or a list of 1 to 4 integers"):
        conditional(num_samples=4, labels=labels)


def test_a_name_of_a_model_whose_classes_have_none(conditional):
    with pytest.raises(
        UserError, match="no class is called '12': this model's have no names; give integers from 0 to 2"
    ):
        conditional(num_samples=4, labels="12")


def test_labels_of_an_unconditional_model(pipe):
    with pytest.raises(UserError, match="unconditional: it takes no labels"):
        pipe(labels=0)


# --------------------------------------------------------------------------------------------------------------- truncation


@pytest.mark.parametrize("cut", [0.1, 0.5, 1.0, 2.0, 4.0])
def test_truncated_latents_have_the_moments_of_the_truncated_normal(pipe, cut):
    """Var = 1 - 2 t phi(t) / (2 Phi(t) - 1), the normal distribution conditioned on |z| <= t; mean and skewness 0."""
    normal = torch.randn(200_000, generator=torch.Generator().manual_seed(0))
    values = pipe.generator.truncate(normal, cut).double()
    mass = math.erf(cut / math.sqrt(2))
    variance = 1 - 2 * cut * math.exp(-cut * cut / 2) / math.sqrt(2 * math.pi) / mass
    assert values.abs().max() <= cut
    assert values.var().item() == pytest.approx(variance, rel=0.01)
    assert values.mean().abs() < 4 * math.sqrt(variance / len(values))
    inside = normal.double()[normal.abs() <= cut]  # what resampling would give has the same quantiles
    for quantile in (0.05, 0.25, 0.75, 0.95):
        expected = np.quantile(inside.numpy(), quantile)
        assert np.quantile(values.numpy(), quantile) == pytest.approx(expected, abs=0.02 * cut)
    assert torch.equal(values.argsort()[:100], normal.argsort()[:100]) or cut < 1  # one latent stays one draw


def test_truncation_of_a_call(pipe):
    free, cut = pipe(num_samples=50, seed=0), pipe(num_samples=50, seed=0, truncation=0.3)
    assert free.latents.abs().max() > 2 and cut.latents.abs().max() <= 0.3
    assert torch.equal(cut.latents, pipe.generator.truncate(free.latents, 0.3))
    assert torch.equal(pixels(pipe, latents=cut.latents), pixels(pipe, num_samples=50, seed=0, truncation=0.3))
    wide = pipe(num_samples=50, seed=0, truncation=8.0).latents
    torch.testing.assert_close(wide, free.latents, atol=1e-5, rtol=1e-5)


def test_truncation_keeps_far_latents_inside(pipe):
    far = torch.tensor([[-40.0, -9.0, -6.0, 0.0, 6.0, 9.0, 40.0, 1.0]])
    values = pipe.generator.truncate(far, 0.7)[0]
    assert values[3].abs() < 1e-9 and values.abs().max() <= 0.7 and torch.isfinite(values).all()
    assert values[0] == pytest.approx(-0.7) and values[6] == pytest.approx(0.7)


@pytest.mark.parametrize("truncation", [0, -1.0, float("nan")])
def test_impossible_truncation(pipe, truncation):
    with pytest.raises(UserError, match="truncation must be a positive number"):
        pipe(truncation=truncation)


# ------------------------------------------------------------------------------------------------------- loading and saving


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-6), (torch.float32, 0), (torch.float16, 0.01), (torch.bfloat16, 0.05)]
)
def test_types(pipe, tmp_path, dtype, tolerance):
    pipe.save_pretrained(tmp_path)
    loaded = ganzoo.from_pretrained(tmp_path, dtype=dtype)
    assert loaded.network.dtype == dtype and not loaded.network.training
    found, expected = pixels(loaded, num_samples=4, seed=0), pixels(pipe, num_samples=4, seed=0)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, atol=tolerance, rtol=0)
    loaded.save_pretrained(tmp_path / "again")
    assert all(check.passed for check in ganzoo.verify(tmp_path / "again"))


def test_a_device_and_a_type_that_are_none(tmp_path, pipe):
    pipe.save_pretrained(tmp_path)
    assert ganzoo.from_pretrained(tmp_path, device="cpu").device.type == "cpu"
    assert ganzoo.from_pretrained(tmp_path).to("cpu").device.type == "cpu"
    with pytest.raises(UserError, match="the device 'gpu' cannot be used"):
        ganzoo.from_pretrained(tmp_path, device="gpu")
    with pytest.raises(UserError, match=r"dtype must be a floating-point type such as torch.bfloat16, not torch.int8"):
        ganzoo.from_pretrained(tmp_path, dtype=torch.int8)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_gpu_that_is_not_there(tmp_path, pipe):
    pipe.save_pretrained(tmp_path)
    with pytest.raises(UserError, match="the device 'cuda' cannot be used"):
        ganzoo.from_pretrained(tmp_path, device="cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_draws_the_same(conditional, tmp_path):
    conditional.save_pretrained(tmp_path)
    on_gpu = ganzoo.from_pretrained(tmp_path, device="cuda")
    found = on_gpu(num_samples=6, seed=3, truncation=1.0, output_type="pt")
    expected = conditional(num_samples=6, seed=3, truncation=1.0, output_type="pt")
    assert on_gpu.device.type == found.images.device.type == "cuda"
    assert torch.equal(found.latents, expected.latents) and torch.equal(found.labels, expected.labels)
    torch.testing.assert_close(found.images.cpu(), expected.images, atol=5e-3, rtol=0)
    with pytest.raises(UserError, match="pass a CPU generator"):
        on_gpu(generator=torch.Generator("cuda"))
    on_gpu.save_pretrained(tmp_path / "again")
    assert all(check.passed for check in ganzoo.verify(tmp_path / "again"))


RESULT = MetricResult(
    name="kid",
    value=0.1,
    num_real=9,
    num_generated=9,
    embedder="pixels",
    dataset="digits",
    split="test",
    seed=0,
    parameters={"degree": 3},
    floor=0.01,
)


def test_a_trained_checkpoint_survives_loading_and_saving(tiny_checkpoint, tmp_path):
    first = ganzoo.from_pretrained(tiny_checkpoint)
    first.metrics = [RESULT.to_dict()]
    first.save_pretrained(tmp_path / "one")
    second = ganzoo.from_pretrained(tmp_path / "one")
    second.save_pretrained(tmp_path / "two")
    third = ganzoo.from_pretrained(tmp_path / "two")
    assert third.recipe == first.recipe and third.recipe.name == "dcgan-digits"
    assert third.training == first.training and third.training["steps"] == 4
    assert third.processor == first.processor and third.config == first.config
    assert third.metrics == first.metrics and MetricResult(**third.metrics[0]) == RESULT
    for mine, theirs in ((first.network, third.network), (first.discriminator, third.discriminator)):
        ours, others = mine.state_dict(), theirs.state_dict()
        assert ours.keys() == others.keys() and all(torch.equal(ours[name], others[name]) for name in ours)
    files = {path.relative_to(tmp_path / "one").as_posix() for path in (tmp_path / "one").rglob("*") if path.is_file()}
    assert {"recipe.yaml", "metrics.json", "README.md", "samples/grid.png", "test/golden.safetensors"} <= files
    for name in files - {"README.md"}:
        left, right = tmp_path / "one" / name, tmp_path / "two" / name
        if name.endswith(".safetensors"):  # the order of a header's metadata is not ours
            left, right = load_tensors(left), load_tensors(right)
            assert left[1] == right[1] and all(torch.equal(left[0][key], right[0][key]) for key in left[0] | right[0])
        else:
            assert left.read_bytes() == right.read_bytes(), name


def test_saving_over_itself(tiny_checkpoint, tmp_path):
    folder = Path(shutil.copytree(tiny_checkpoint, tmp_path / "gan"))
    before = {path: path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    pipe = ganzoo.from_pretrained(folder)
    expected = pixels(pipe, num_samples=2, seed=0)
    for _ in range(2):
        pipe.save_pretrained(folder)
    assert {path: path.stat().st_size for path in folder.rglob("*") if path.is_file()} == before
    assert torch.equal(pixels(ganzoo.from_pretrained(folder), num_samples=2, seed=0), expected)
    assert all(check.passed for check in ganzoo.verify(folder))


def test_a_new_pipeline_saves_without_recipe_and_metrics(tmp_path):
    pipe = build()
    assert (pipe.recipe, pipe.metrics, pipe.training, pipe.repository) == (None, [], None, None)
    assert pipe.save_pretrained(tmp_path / "deep" / "folder") == tmp_path / "deep" / "folder"
    loaded = ganzoo.from_pretrained(tmp_path / "deep" / "folder")
    assert (loaded.recipe, loaded.metrics, loaded.training) == (None, [], None)
    loaded.metrics = []
    assert loaded.metrics == []


def test_metrics_can_be_taken_back(tiny_checkpoint, tmp_path):
    pipe = ganzoo.from_pretrained(tiny_checkpoint)
    pipe.metrics = [RESULT.to_dict()]
    pipe.save_pretrained(tmp_path)
    measured = ganzoo.from_pretrained(tmp_path)
    measured.metrics = []
    measured.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "metrics.json").read_text())["metrics"] == []


def test_places_that_cannot_be_written(pipe, tmp_path):
    file = tmp_path / "file"
    file.write_text("kept")
    with pytest.raises(UserError, match="is a file; give a folder"):
        pipe.save_pretrained(file)
    with pytest.raises(GanzooError, match="cannot write .*Not a directory"):
        pipe.save_pretrained(file / "gan")
    with pytest.raises(GanzooError, match="cannot write .*Not a directory"):
        pipe.generator.save_pretrained(file / "gan")
    assert file.read_text() == "kept"
    if Path("/proc/self").exists():  # read-only even for root
        with pytest.raises(GanzooError, match="cannot write /proc/gan"):
            pipe.save_pretrained("/proc/gan")


def test_networks_save_and_load_alone(pipe, tmp_path):
    pipe.generator.save_pretrained(tmp_path / "generator")
    pipe.discriminator.save_pretrained(tmp_path / "discriminator")
    assert sorted(path.name for path in (tmp_path / "generator").iterdir()) == ["config.json", "model.safetensors"]
    generator = ganzoo.Generator.from_pretrained(tmp_path / "generator")
    latents = torch.randn(3, LATENT_DIM, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(generator(latents), pipe.generator(latents))
    assert ganzoo.Discriminator.from_pretrained(tmp_path / "discriminator").role == "discriminator"
    with pytest.raises(NotFoundError, match="has no file processor_config.json"):
        ganzoo.from_pretrained(tmp_path / "generator")


def test_the_wrong_class_is_said(tiny_checkpoint, classifier, tmp_path):
    classifier.save_pretrained(tmp_path / "judge")
    alone = tiny_checkpoint / "discriminator"
    for load, source, message in (
        (ganzoo.Generator.from_pretrained, alone, "holds the discriminator of 'dcgan', not a Generator"),
        (ganzoo.Classifier.from_pretrained, tiny_checkpoint, "holds the generator of 'dcgan', not a Classifier"),
        (ganzoo.Generator.from_pretrained, tmp_path / "judge", "holds the classifier of 'image-classifier', not a"),
        (ganzoo.Discriminator.from_pretrained, tmp_path / "judge", "not a Discriminator"),
        (ganzoo.GANPipeline.from_pretrained, tmp_path / "judge", "makes a ClassifierPipeline, not a GANPipeline"),
        (ganzoo.ClassifierPipeline.from_pretrained, tiny_checkpoint, "makes a GANPipeline, not a ClassifierPipeline"),
        (ganzoo.from_pretrained, alone, "holds a discriminator alone; load it with ganzoo.Discriminator"),
        (
            get_family("image-classifier").networks["classifier"].from_pretrained,
            tiny_checkpoint,
            "not a ImageClassifier",
        ),
    ):
        with pytest.raises(UserError, match=message):
            load(source)
    assert type(ganzoo.Generator.from_pretrained(tiny_checkpoint)) is get_family("dcgan").networks["generator"]
    assert type(ganzoo.Discriminator.from_pretrained(tiny_checkpoint)) is get_family("dcgan").networks["discriminator"]
    assert type(ganzoo.GANPipeline.from_pretrained(tiny_checkpoint)) is GANPipeline
    with pytest.raises(UserError, match="has no argument 'trust'"):
        ganzoo.Generator.from_pretrained(tiny_checkpoint, trust=True)


def test_the_wrong_class_is_said_before_the_weights_are_read(classifier, tmp_path):
    classifier.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(UserError, match="makes a ClassifierPipeline, not a GANPipeline$"):
        ganzoo.GANPipeline.from_pretrained(tmp_path)


def test_names_that_mean_two_things_or_nothing(tiny_checkpoint, tmp_path, monkeypatch):
    from ganzoo.checkpoints.catalogue import catalogue

    name = next(iter(catalogue()))
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).mkdir()
    assert ganzoo.from_pretrained(name).network.family == catalogue()[name].family  # an empty folder is no checkpoint
    (tmp_path / name).rmdir()
    shutil.copytree(tiny_checkpoint, tmp_path / name)
    with pytest.raises(UserError, match=f"'{name}' is both a folder here and a name of the catalogue; say './{name}'"):
        ganzoo.from_pretrained(name)
    for source in (f"./{name}", Path(name), tmp_path / name, str(tmp_path / name)):
        assert ganzoo.from_pretrained(source).network.family == "dcgan"
    with pytest.raises(UserError, match="is a file; a checkpoint is the folder that holds"):
        ganzoo.from_pretrained(tmp_path / name / "config.json")
    with pytest.raises(NotFoundError, match=f"Did you mean '{name}'"):
        ganzoo.from_pretrained(name[:-1])
    for nothing in ("", "~nobody-of-that-name/gan", "x" * 5000, "a/b/c", "./missing", "null\0byte"):
        with pytest.raises(
            NotFoundError, match="neither a folder, nor a name of the catalogue|has no file config.json"
        ):
            ganzoo.from_pretrained(nothing)
    with pytest.raises(UserError, match="two revisions for org/gan: '@main' and revision='v1'"):
        ganzoo.from_pretrained("org/gan@main", revision="v1")


def test_a_processor_must_fit_its_network(tiny_checkpoint, tmp_path):
    folder = Path(shutil.copytree(tiny_checkpoint, tmp_path / "gan"))
    ImageProcessor(resolution=16, channels=1).save_pretrained(folder)
    with pytest.raises(CheckpointError, match=r"processor_config.json is for samples of shape \(1, 16, 16\)"):
        ganzoo.from_pretrained(folder)
    config = ganzoo.from_pretrained(tiny_checkpoint).config
    assert config.processor(fit="pad").fit == "pad"
    with pytest.raises(UserError, match="set model.resolution instead"):
        config.processor(resolution=16)


# --------------------------------------------------------------------------------------------------------------- classifiers


def test_classifier_pipeline(classifier, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)
    pictures = [Image.fromarray(array) for array in noise]
    judged = classifier(pictures)
    assert judged.probabilities.shape == (5, 3) and judged.features.shape == (5, 8)
    torch.testing.assert_close(judged.probabilities.sum(dim=1), torch.ones(5))
    assert torch.equal(judged.labels, judged.probabilities.argmax(dim=1)) and judged.labels.dtype == torch.int64
    with torch.no_grad():
        space = torch.from_numpy(noise).permute(0, 3, 1, 2).float() / 127.5 - 1
        torch.testing.assert_close(judged.probabilities, classifier.network(space).logits.softmax(dim=1))
    torch.testing.assert_close(classifier(pictures, batch_size=2).probabilities, judged.probabilities)
    pictures[0].save(tmp_path / "picture.png")
    for same in (
        noise[0],
        tmp_path / "picture.png",
        str(tmp_path / "picture.png"),
        (tmp_path / "picture.png").read_bytes(),
    ):
        torch.testing.assert_close(classifier(same).probabilities, judged.probabilities[:1])
    classifier.save_pretrained(tmp_path / "judge")
    loaded = ganzoo.from_pretrained(tmp_path / "judge")
    assert isinstance(loaded, ClassifierPipeline) and loaded.discriminator is None
    assert torch.equal(loaded(pictures).probabilities, judged.probabilities)
    assert all(check.passed for check in ganzoo.verify(tmp_path / "judge"))


def test_classifier_pipeline_refuses(classifier, tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(UserError, match="there is no picture to classify"):
        classifier([])
    with pytest.raises(UserError, match="cannot read .*text.png as a picture"):
        classifier([tmp_path / "text.png"])
    with pytest.raises(UserError, match="cannot read .*missing.png as a picture"):
        classifier(tmp_path / "missing.png")


def test_saving_samples(pipe, tmp_path):
    drawn = pipe.sample(3, seed=0).samples
    assert pipe.processor.save_samples(drawn, tmp_path / "sheet.PNG") == [tmp_path / "sheet.PNG"]
    paths = pipe.processor.save_samples(drawn, tmp_path / "folder")
    assert [path.name for path in paths] == ["00000.png", "00001.png", "00002.png"]
    expected = pipe(num_samples=3, seed=0).images
    assert all(np.array_equal(np.asarray(Image.open(p)), np.asarray(e)) for p, e in zip(paths, expected, strict=True))
    with pytest.raises(UserError, match="pictures are written as .png"):
        pipe.processor.save_samples(drawn, tmp_path / "sheet.jpg")
    (tmp_path / "v1.5").mkdir()  # a folder with a dot in its name is a folder
    assert len(pipe.processor.save_samples(drawn, tmp_path / "v1.5")) == 3
