"""What a recipe wants to have measured is looked up before the training; what fails after it is no success."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

import ganzoo
from ganzoo.errors import NotFoundError

MODEL = {"family": "dcgan", "resolution": 8, "channels": 1, "width": 4, "latent_dim": 8}


def write_pictures(folder, *splits):
    for split in splits:
        (folder / split).mkdir(parents=True)
        for index in range(8):
            shades = np.random.default_rng(index).integers(0, 255, (8, 8), dtype=np.uint8)
            Image.fromarray(shades).save(folder / split / f"{index}.png")
    return folder


@pytest.fixture
def recipe(tmp_path):
    """A run of two steps on a folder with a training and a test split."""
    values = {
        "name": "x",
        "model": MODEL,
        "data": {"path": str(write_pictures(tmp_path / "pictures", "train", "test"))},
        "training": {"steps": 2, "batch_size": 4, "precision": "fp32"},
        "evaluation": {"metrics": ["frechet_distance"], "num_samples": 8},
    }
    path = tmp_path / "x.yaml"
    path.write_text(json.dumps(values))
    return path


@pytest.mark.parametrize(
    "override, said",
    [
        ("evaluation.split=tset", ("no split 'tset'", "there is test, train")),
        ("evaluation.metrics=[frechet_distnce]", ("'frechet_distnce'", "Did you mean 'frechet_distance'")),
        ("evaluation.metrics=[nll_test]", ("'nll_test'", "frechet_distance")),
        ("evaluation.embedder=digit-clasifier", ("'digit-clasifier'", "Did you mean 'digit-classifier'")),
        ("evaluation.embedder=pixel", ("an embedder is", "Did you mean 'pixels'")),
    ],
)
def test_what_cannot_be_measured_is_refused_before_the_training(recipe, fails, tmp_path, override, said):
    fails("train", recipe, override, "--output", tmp_path / "run", "--quiet", said=said)
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_split_that_is_not_there_is_never_replaced(recipe, tmp_path):
    run = ganzoo.train(recipe, output=tmp_path / "run", quiet=True)
    (result,) = ganzoo.evaluate(run.pipeline)
    assert result.split == "test" and result.floor is not None
    with pytest.raises(NotFoundError, match="no split 'tset'; there is test, train"):
        ganzoo.evaluate(run.pipeline, split="tset")
    (only,) = ganzoo.evaluate(run.pipeline, data={"path": str(write_pictures(tmp_path / "others", "train"))})
    assert only.split == "train" and only.floor is None, "there is no other, and the number says so"


def test_what_is_held_out_comes_before_the_training_split(recipe, tmp_path):
    pictures = write_pictures(tmp_path / "others", "train")
    data = {"data.path": str(pictures), "data.holdout": 0.5}
    run = ganzoo.train(recipe, output=tmp_path / "run", quiet=True, **data)
    (result,) = ganzoo.evaluate(run.pipeline)
    assert result.split == "holdout" and result.num_real == 4


@pytest.mark.parametrize("quiet", [["--quiet"], []], ids=["quiet", "with a bar"])
def test_an_evaluation_that_fails_is_no_success_and_loses_nothing(recipe, tmp_path, capsys, quiet):
    from ganzoo.cli import run

    folder = tmp_path / "run"
    # That these pixels know no classes shows when they are asked for them.
    code = run(["train", str(recipe), "evaluation.metrics=[inception_score]", "--output", str(folder), *quiet])
    shown = capsys.readouterr().err
    assert code == 1
    assert "not measured: inception_score read class probabilities" in shown and "The model is saved" in shown
    assert len(ganzoo.from_pretrained(folder / "pipeline")(num_samples=2, seed=0).images) == 2
