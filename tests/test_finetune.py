"""Runs that begin with a checkpoint: `init` in the recipe."""

import pytest
import torch
from training_helpers import RECIPE

import ganzoo
from ganzoo.errors import NotFoundError, UserError
from ganzoo.recipe.reading import load_recipe
from ganzoo.training.build import build_trainer

SHORT = {"training.steps": 2, "training.checkpoint_every": 2, "training.sample_every": None}


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    return ganzoo.train(RECIPE, output=tmp_path_factory.mktemp("first") / "run", quiet=True, **SHORT)


def trainer(**overrides):
    return build_trainer(load_recipe(RECIPE, overrides), torch.device("cpu"))[1]


def test_both_networks_begin_with_the_checkpoint(first):
    begun = trainer(init=str(first.folder / "pipeline"), **{"training.seed": 7})
    for role, network in (("generator", first.pipeline.network), ("discriminator", first.pipeline.discriminator)):
        expected = network.state_dict()
        for name, tensor in begun.networks[role].state_dict().items():
            assert torch.equal(tensor, expected[name].to(tensor)), (role, name)
        assert begun.networks[role].training
        assert all(parameter.requires_grad for parameter in begun.networks[role].parameters())
    for name, tensor in begun.ema.average.state_dict().items():
        assert torch.equal(tensor, first.pipeline.network.state_dict()[name])


def test_a_discriminator_that_was_not_published_is_new(first, tmp_path):
    first.pipeline.network.save_pretrained(tmp_path)
    first.pipeline.processor.save_pretrained(tmp_path)
    begun, other = trainer(init=str(tmp_path)), trainer()
    for name, tensor in other.networks["discriminator"].state_dict().items():
        assert begun.networks["discriminator"].state_dict()[name].shape == tensor.shape
    weight = next(iter(first.pipeline.discriminator.state_dict().values()))
    assert not torch.equal(next(iter(begun.networks["discriminator"].state_dict().values())), weight)


def test_it_trains_and_resumes_like_any_other(first, tmp_path):
    start = {"init": str(first.folder / "pipeline"), **SHORT, "training.steps": 4}
    whole = ganzoo.train(RECIPE, output=tmp_path / "whole", quiet=True, **start)
    again = ganzoo.train(RECIPE, output=tmp_path / "whole", quiet=True, resume=True, **start)
    for name, tensor in whole.pipeline.network.state_dict().items():
        assert torch.equal(tensor, again.pipeline.network.state_dict()[name])
    saved = (whole.folder / "pipeline" / "recipe.yaml").read_text()
    assert "init: pipeline" in saved and str(first.folder) not in saved


def test_a_text_model_keeps_its_vocabulary(tmp_path):
    lines = tmp_path / "lines.txt"
    lines.write_text("a man riding a wave\n" * 20 + "a zebra without a quxword\n" * 20)
    changes = {"data.dataset": "folder", "data.path": str(lines), "data.holdout": 0, "init": "mle-coco"}
    begun = build_trainer(load_recipe("mle-coco", {**changes, "phases": []}), torch.device("cpu"))[1]
    published = ganzoo.from_pretrained("mle-coco")
    assert begun.networks["generator"].config == published.network.config
    assert begun.processor.decode(torch.tensor(begun.dataset.samples[:1]).long(), "text") == ["a man riding a wave"]


@pytest.mark.parametrize(
    ("overrides", "error", "words"),
    [
        ({"model.resolution": 64}, UserError, ["model.resolution is 64", "leave model.resolution out"]),
        ({"init": "mle-coco"}, UserError, ["mle-coco", "model.family"]),
        ({"init": "no-such-checkpoint"}, NotFoundError, ["no-such-checkpoint"]),
        ({"init": 3}, UserError, ["init"]),
    ],
)
def test_what_does_not_fit_is_said_in_one_sentence(first, overrides, error, words):
    with pytest.raises(error) as caught:
        trainer(**{"init": str(first.folder / "pipeline"), **overrides})
    assert all(word in str(caught.value) for word in words), caught.value
