"""Classes by their names: from the folders of the data into the checkpoint, and back in calls, results and evaluations."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import ganzoo
from ganzoo.cli import run
from ganzoo.data import ArrayDataset
from ganzoo.errors import UserError
from ganzoo.processors import ImageProcessor, TextProcessor, WaveformProcessor

ANIMALS = ("10", "2", "cat", "dog")  # in the order of folders' names, in which 10 comes before 2


@pytest.fixture(autouse=True)
def no_report(monkeypatch):
    monkeypatch.setattr("ganzoo.training.run.write_report", lambda folder: None)


def pictures(folder: Path, names=ANIMALS) -> Path:
    for name in names:
        (folder / name).mkdir(parents=True)
        for index in range(2):
            shade = 60 * ANIMALS.index(name) + 5 * index
            Image.fromarray(np.full((8, 8), shade, np.uint8)).save(folder / name / f"{index}.png")
    return folder


def recipe(folder: Path, **model) -> dict:
    return {
        "name": "animals",
        "model": {"resolution": 8, "channels": 1, "width": 4, "num_classes": 4, **model},
        "data": {"path": str(folder)},
        "training": {"steps": 1, "batch_size": 4, "precision": "fp32"},
    }


@pytest.fixture(scope="module")
def animals(tmp_path_factory):
    """A conditional model trained on folders."""
    folder = tmp_path_factory.mktemp("animals")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ganzoo.training.run.write_report", lambda folder: None)
        told = recipe(pictures(folder / "data"), family="dcgan", latent_dim=8)
        return ganzoo.train(told, output=folder / "run", quiet=True).folder / "pipeline"


def test_the_checkpoint_and_its_card_hold_the_names(animals):
    assert json.loads((animals / "processor_config.json").read_text())["class_names"] == [*ANIMALS]
    assert "| Names of the classes | 0 `10`, 1 `2`, 2 `cat`, 3 `dog` |" in (animals / "README.md").read_text()
    assert all(check.passed for check in ganzoo.verify(animals))


def test_labels_are_names_or_numbers(animals):
    pipe = ganzoo.from_pretrained(animals)
    by_number = pipe(labels=[2, 3, 1], seed=0, output_type="pt")
    by_name = pipe(labels=["cat", "dog", "2"], seed=0, output_type="pt")
    mixed = pipe(labels=["cat", 3, "2"], seed=0, output_type="pt")
    assert by_number.labels.tolist() == by_name.labels.tolist() == mixed.labels.tolist() == [2, 3, 1]
    assert torch.equal(by_number.images, by_name.images) and torch.equal(by_number.images, mixed.images)
    assert pipe(labels="cat", seed=0).labels.tolist() == [2]  # one sample, not one a letter
    assert pipe(num_samples=3, labels="dog", seed=0).labels.tolist() == [3, 3, 3]
    with pytest.raises(UserError, match=r"no class is called 'cta'\. Did you mean 'cat'"):
        pipe(labels=["cta"])
    with pytest.raises(UserError, match="lie between 0 and 3"):
        pipe(labels=[4])


def test_a_model_whose_classes_have_no_names_says_so():
    generator, _ = ganzoo.create("dcgan", resolution=8, channels=1, width=4, num_classes=3)
    with pytest.raises(UserError, match="this model's have no names; give integers from 0 to 2"):
        ganzoo.GANPipeline(generator, generator.config.processor())(labels="cat")
    generator, _ = ganzoo.create("dcgan", resolution=8, channels=1, width=4)
    with pytest.raises(UserError, match="unconditional"):
        ganzoo.GANPipeline(generator, generator.config.processor())(labels="cat")


def test_the_command_line_takes_names(animals, tmp_path, capsys):
    for labels, output in (("cat,2,3", "named"), ("2,2,3", "numbered")):
        assert (
            run(
                [
                    "sample",
                    str(animals),
                    "--num",
                    "3",
                    "--seed",
                    "0",
                    "--labels",
                    labels,
                    "--output",
                    str(tmp_path / output),
                ]
            )
            == 0
        )
    expected = ganzoo.from_pretrained(animals)(labels=["cat", "2", 3], seed=0).images
    for index, picture in enumerate(expected):
        assert np.array_equal(np.array(picture), np.array(Image.open(tmp_path / "named" / f"{index:05d}.png")))
    # What is a class's name is that class: the folder 2, which has the number 1.
    first = ganzoo.from_pretrained(animals)(labels=["2"], seed=0).images[0]
    assert np.array_equal(np.array(first), np.array(Image.open(tmp_path / "numbered" / "00000.png")))
    capsys.readouterr()
    assert run(["sample", str(animals), "--labels", "dgo"]) == 2
    assert "no class is called 'dgo'. Did you mean 'dog'" in capsys.readouterr().err


def test_a_recipe_may_name_classes_that_the_data_only_counts(tmp_path):
    told = recipe(pictures(tmp_path / "data"), family="dcgan", latent_dim=8)
    told["data"]["processor"] = {"class_names": ["ten", "two", "cat", "dog"]}
    done = ganzoo.train(told, output=tmp_path / "run", quiet=True)
    assert done.pipeline(labels="ten").labels.tolist() == [0]


def test_an_unconditional_model_has_no_names(tmp_path):
    told = recipe(pictures(tmp_path / "data"), family="dcgan", latent_dim=8, num_classes=None)
    done = ganzoo.train(told, output=tmp_path / "run", quiet=True)
    assert "class_names" not in (done.folder / "pipeline" / "processor_config.json").read_text()


def test_a_classifier_says_names_and_is_measured_by_them(tmp_path):
    """Of a folder that lacks a class, every class behind it has another number than in training."""
    told = recipe(pictures(tmp_path / "data"), family="image-classifier")
    pipe = ganzoo.train(told, output=tmp_path / "run", quiet=True).pipeline
    judged = pipe([str(tmp_path / "data" / "cat" / "0.png")])
    assert judged.names == [ANIMALS[judged.labels[0]]]
    fewer = pictures(tmp_path / "fewer", ("2", "dog"))
    files = [str(path) for path in sorted(fewer.glob("*/*.png"))]
    right = sum(name == Path(file).parent.name for name, file in zip(pipe(files).names, files, strict=True))
    (accuracy,) = ganzoo.evaluate(pipe, data={"path": str(fewer)})
    assert accuracy.value == right / len(files)
    strange = tmp_path / "strange"
    (strange / "kat").mkdir(parents=True)
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(strange / "kat" / "0.png")
    with pytest.raises(UserError, match=r"the class 'kat', which the model does not know\. Did you mean 'cat'"):
        ganzoo.evaluate(pipe, data={"path": str(strange)})


def test_data_take_the_numbers_of_a_model():
    data = ArrayDataset(np.zeros((3, 1)), labels=np.array([0, 1, 0]), class_names=("2", "dog"))
    assert data.numbered_as(ANIMALS).labels.tolist() == [1, 3, 1]
    assert data.numbered_as(("2", "dog")) is data and data.numbered_as(None) is data


@pytest.mark.parametrize(
    "processor",
    [
        ImageProcessor(resolution=8, channels=1),
        WaveformProcessor(length=64),
        TextProcessor(vocab_size=5, max_length=4),
    ],
    ids=lambda processor: processor.modality,
)
def test_names_change_no_sample(processor):
    """The cache of the data serves both; a file without names is as it was before there were any."""
    named = processor.informed(class_names=("a", "b"), temperature=0.5)
    assert named.class_names == ("a", "b") and named.fingerprint() == processor.fingerprint()
    assert "class_names" not in processor.to_json() and "temperature" not in processor.to_json()
