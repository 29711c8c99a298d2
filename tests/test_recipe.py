"""What a recipe says: decimal numbers, sections that begin anew with their type, names; and what is refused when it is read."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from places import ROOT
from training_helpers import RECIPE, make_trainer

import ganzoo
from ganzoo.augmentation.transforms import random_crop, random_flip
from ganzoo.errors import UserError
from ganzoo.pipelines import GANPipeline
from ganzoo.recipe.objective import OBJECTIVES
from ganzoo.recipe.reading import load_recipe, parse_overrides
from ganzoo.registry import get_family
from ganzoo.training.build import build_trainer
from ganzoo.utils.safe_yaml import dump_yaml, load_yaml


def read(*overrides: str, recipe=RECIPE):
    return load_recipe(recipe, parse_overrides(overrides))


# ------------------------------------------------------------------------------------------------------------- numbers

NOT_DECIMAL = ["010", "1:30", "0x10", "0o7", "1_000", "08", "1e3.5", "true", "on", "'100'"]


@pytest.mark.parametrize("text", ["1000", "1e3", "1E3", "+1000", "1000.0", "1.0e+3"])
def test_a_number_is_decimal_with_or_without_an_exponent(text):
    recipe = read(f"training.steps={text}", f"training.ema_half_life={text}")
    assert (recipe.training.steps, recipe.training.ema_half_life) == (1000, 1000.0)
    assert type(recipe.training.steps) is int and type(recipe.training.ema_half_life) is float


@pytest.mark.parametrize("text", [*NOT_DECIMAL, "2.5"])
def test_whole_numbers_are_refused_by_key(text):
    with pytest.raises(UserError, match="training.steps=.*whole number"):
        read(f"training.steps={text}")


@pytest.mark.parametrize("text", NOT_DECIMAL)
def test_numbers_are_refused_by_key(text):
    with pytest.raises(UserError, match="generator_optimizer.learning_rate=.*must be a number"):
        read(f"generator_optimizer.learning_rate={text}")
    with pytest.raises(UserError, match="generator_optimizer.betas.1=.*must be a number"):
        read(f"generator_optimizer.betas=[0, {text}]")


def test_small_numbers_are_numbers():
    assert read("generator_optimizer.learning_rate=1e-4").generator_optimizer.learning_rate == 1e-4


@pytest.mark.parametrize(("text", "value"), [("true", True), ("no", False), ("On", True), ("FALSE", False)])
def test_truth_is_a_word(text, value):
    assert read(f"training.compile={text}").training.compile is value


@pytest.mark.parametrize("text", ["1", "0", "1.0", "2", "y"])
def test_truth_is_no_number(text):
    with pytest.raises(UserError, match="training.compile=.*true or false"):
        read(f"training.compile={text}")


def test_words_are_text_where_text_is_asked_for():
    recipe = read("data.split=on", "data.name=010", "data.revision=2024-01-01", "card.summary=1:30", "training.seed=7")
    assert (recipe.data.split, recipe.data.name, recipe.data.revision) == ("on", "010", "2024-01-01")
    assert recipe.card.summary == "1:30"
    assert load_recipe(load_yaml(recipe.to_yaml())) == recipe


def test_what_is_written_is_read_back():
    values = {
        "a": ["010", "1e3", "yes", "1:30", "true", "2024-01-01", "null", "", "~", 1e-5, 1000.0, True, None, 5, "x"]
    }
    assert load_yaml(dump_yaml(values)) == values


def test_a_file_reads_numbers_as_an_override_does(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("base: dcgan-digits\nname: mine\ntraining: {steps: 1e3, seed: 7}\n")
    assert load_recipe(path).training.steps == 1000
    path.write_text("base: dcgan-digits\nname: mine\ntraining: {steps: 010}\n")
    with pytest.raises(UserError, match="training.steps='010'"):
        load_recipe(path)


def test_configs_hold_numbers_too():
    config = get_family("dcgan").config.from_dict(
        {"resolution": np.int64(16), "width": 8.0, "dropout": np.float32(0.5)}
    )
    assert (config.resolution, config.width, config.dropout) == (16, 8, 0.5)
    for wrong in ({"resolution": True}, {"width": "8"}, {"width": 8.5}, {"dropout": False}, {"minibatch_std": 1}):
        (key,) = wrong
        with pytest.raises(UserError, match=f"config: {key}="):
            get_family("dcgan").config.from_dict(wrong)
    with pytest.raises(UserError, match="processor: fit=True|processor: margin=True"):
        get_family("dcgan").config.from_dict({}).processor(margin=True)


# --------------------------------------------------------------------------------------------- a type begins its section

ADVERSARIAL = {**RECIPE, "objective": {"loss": "hinge", "penalties": [{"type": "r1", "weight": 3, "interval": 4}]}}
TEXT = {"name": "text", "model": {"family": "seqgan"}, "training": {"steps": 5}}


@pytest.mark.parametrize("stated", [{"reward": "sentence"}, {"type": "policy-gradient", "reward": "sentence"}, None])
@pytest.mark.parametrize("overrides", [("objective.loss=hinge", "objective.type=gumbel")[::step] for step in (1, -1)])
def test_a_type_begins_its_section_in_any_order(stated, overrides):
    recipe = read(*overrides, recipe={**TEXT, **({"objective": stated} if stated else {})})
    assert (recipe.objective.type, recipe.objective.loss) == ("gumbel", "hinge")


def test_the_same_type_goes_on_with_its_section():
    recipe = read("objective.type=adversarial", "objective.penalties.0.type=r1", recipe=ADVERSARIAL)
    assert recipe.objective.loss == "hinge" and recipe.objective.penalties[0].interval == 4


def test_a_type_begins_an_item_of_a_list():
    recipe = read("objective.penalties.0.weight=1", "objective.penalties.0.type=r2", recipe=ADVERSARIAL)
    (penalty,) = recipe.objective.penalties
    assert (penalty.type, penalty.weight, penalty.interval) == ("r2", 1.0, 1)
    with pytest.raises(UserError, match="missing key 'objective.penalties.0.weight'"):
        read("objective.penalties.0.type=r2", recipe=ADVERSARIAL)


def test_a_type_begins_a_section_whose_type_was_left_out():
    stated = {**RECIPE, "generator_optimizer": {"betas": [0, 0.9], "schedule": {"type": "linear", "start": 0.5}}}
    kept = read("generator_optimizer.type=adam", recipe=stated).generator_optimizer
    anew = read("generator_optimizer.type=rmsprop", recipe=stated).generator_optimizer
    assert kept.betas == (0.0, 0.9) and kept.schedule.start == 0.5
    assert anew.betas == (0.5, 0.999) and anew.schedule.type == "constant"
    assert read("generator_optimizer.schedule.type=cosine", recipe=stated).generator_optimizer.schedule.start == 0.0


@pytest.mark.parametrize("said", ["loss: hinge", "type: gumbel, loss: hinge"])
def test_a_file_begins_a_section_by_the_same_rule(tmp_path, said):
    (tmp_path / "below.yaml").write_text(
        f"name: below\nmodel: {{family: relgan}}\nobjective: {{{said}}}\ntraining: {{steps: 5}}\n"
    )
    (tmp_path / "above.yaml").write_text(
        "base: below\nname: above\nobjective: {type: policy-gradient, reward: sentence}\n"
    )
    assert load_recipe(tmp_path / "above.yaml").objective.reward == "sentence"


def test_the_callers_values_stay_as_they_are():
    read(
        "objective.type=adversarial",
        "objective.penalties.0.type=r2",
        "objective.penalties.0.weight=1",
        recipe=ADVERSARIAL,
    )
    assert ADVERSARIAL["objective"] == {"loss": "hinge", "penalties": [{"type": "r1", "weight": 3, "interval": 4}]}


# ----------------------------------------------------------------------------------------------------------------- names


@pytest.mark.parametrize("modality", ["nope", "../hub", "", "imag"])
def test_recipes_of_an_unknown_modality_are_refused(modality, fails):
    with pytest.raises(UserError, match="unknown modality"):
        ganzoo.list_recipes(modality=modality)
    fails("list", "--modality", modality, code=2, said=("unknown modality", "image"))


def test_recipes_of_a_modality_are_those_of_its_folder():
    by_modality = [ganzoo.list_recipes(modality=name) for name in ("audio", "image", "text")]
    assert sorted(sum(by_modality, [])) == ganzoo.list_recipes()
    assert "seqgan-coco" in by_modality[2]


# ------------------------------------------------------------------------------------------------------------ the folder


def test_an_existing_run_of_phases_is_refused_before_anything_is_built(fails, tmp_path):
    (tmp_path / "checkpoints" / "step-00000001").mkdir(parents=True)
    arguments = "train", "seqgan-coco", "data.path=nowhere", "--output", tmp_path
    fails(*arguments, code=2, said=("holds a run already", "--resume"))


@pytest.mark.parametrize("override", ["training.steps=010", "training.steps=true", "training.steps=1:30"])
def test_the_command_line_refuses_numbers_by_key(fails, override):
    fails("train", "dcgan-digits", override, code=2, said=("training.steps=", "decimal digits"))


# ---------------------------------------------------------------------------------------------- losses, penalties, changes

CUBIC = """
import torch
from ganzoo.losses.adversarial import AdversarialLoss

LOSS = AdversarialLoss(
    lambda real, fake, smoothing: {"real": (real - 1).abs().pow(3).mean(), "fake": fake.abs().pow(3).mean()},
    lambda fake, real: (fake - 1).abs().pow(3).mean(),
    boundary=0.5,
)
"""
SIZE = """
from pydantic import Field
from ganzoo.losses.penalties import Penalty, PenaltyConfig


class SizeConfig(PenaltyConfig):
    power: float = Field(2.0, gt=0, description="Of the logits.")


PENALTY = Penalty(
    lambda real_outputs, fake_outputs, power: sum(
        output.logits.abs().pow(power).mean() for output in (*real_outputs, *fake_outputs)
    ),
    ("real_outputs", "fake_outputs"),
    SizeConfig,
)
"""
USES = """
import sys
sys.path.insert(0, "tests")
from training_helpers import RECIPE, make_trainer
from ganzoo.cli import run
changes = {"objective": {"loss": "cubic", "penalties": [{"type": "logit-size", "weight": 2, "power": 3}]}}
trainer = make_trainer(**changes)
assert trainer.train_step(is_logged=True) and trainer.train_step(is_logged=True)
terms = trainer.stats.read()
assert terms["discriminator/loss_logit-size"] > 0, terms
assert trainer.objective.boundary == 0.5
assert run(["info", "dcgan-digits"]) == 0
"""


def test_a_loss_and_a_penalty_are_one_file_each(tmp_path):
    """In a copy of the package, to which nothing but the two files is added."""
    shutil.copytree(ROOT / "ganzoo", tmp_path / "ganzoo", ignore=shutil.ignore_patterns("__pycache__"))
    for folder in ("recipes", "hub", "tests"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    (tmp_path / "ganzoo" / "losses" / "cubic.py").write_text(CUBIC)
    (tmp_path / "ganzoo" / "losses" / "logit_size.py").write_text(SIZE)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    shown = subprocess.run(
        [sys.executable, "-c", USES], cwd=tmp_path, env=environment, text=True, capture_output=True, timeout=120
    )
    assert shown.returncode == 0, shown.stderr
    assert "logit-size" in shown.stdout and "power = 2.0" in shown.stdout and "cubic" in shown.stdout


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("objective.loss=hing", ("objective.loss='hing'", "Did you mean 'hinge'", "wasserstein")),
        (
            "objective.penalties=[{type: gradient-penalti, weight: 1}]",
            ("penalties.0.type=", "'gradient-penalty'", "r1"),
        ),
        ("objective.penalties=[{type: r1, weight: 1, target: 2}]", ("'objective.penalties.0.target'", "interval")),
        ("objective.penalties=[{type: r1, weight: 1, wieght: 2}]", ("penalties.0.wieght", "Did you mean 'weight'")),
        ("objective.penalties=[{weight: 1}]", ("objective.penalties.0", "must say its type", "r1")),
        ("objective.penalties=[r1]", ("objective.penalties.0='r1'", "must be a section with a type")),
        ("objective.feature_matching_of=paris", ("objective.feature_matching_of='paris'", "Did you mean 'pairs'")),
        ("objective.augment=[colour]", ("objective.augment.0='colour'", "Did you mean 'color'")),
        ("objective.type=adversary", ("objective.type='adversary'", "Did you mean 'adversarial'", "gumbel")),
    ],
)
def test_names_in_an_objective_are_refused_with_the_close_ones(fails, override, said):
    fails("train", "dcgan-digits", override, code=2, said=said)


def test_a_penalty_of_a_saved_recipe_may_say_the_target_it_never_had():
    penalties = [{"type": "r1", "weight": 1, "target": 1.0}, {"type": "dragan", "weight": 1, "target": 0.5}]
    r1, dragan = load_recipe(RECIPE, {"objective.penalties": penalties}).objective.penalties
    assert not hasattr(r1, "target") and dragan.target == 0.5


def test_text_takes_the_penalties_that_need_no_derivative_by_samples():
    read("objective={type: gumbel, penalties: [{type: drift, weight: 1}]}", recipe=TEXT)
    with pytest.raises(UserError, match="of the penalties only drift can be used"):
        read("objective={type: gumbel, penalties: [{type: dragan, weight: 1}]}", recipe=TEXT)


@pytest.mark.parametrize(
    ("loss", "boundary"), [("least-squares", 0.5), ("hinge", 0.0), ("wasserstein", None), ("relativistic", None)]
)
def test_a_loss_says_where_real_begins(loss, boundary):
    assert make_trainer(**{"objective.loss": loss}).objective.boundary == boundary


# ------------------------------------------------------------------------------------------------------ what fits together

FITS = {
    "dcgan-digits": {"adversarial"},
    "vanilla-ring": {"adversarial"},
    "wavegan-drums": {"adversarial"},
    "seqgan-oracle": {"gumbel", "likelihood", "policy-gradient"},
    "cot-oracle": {"cooperative", "gumbel", "likelihood", "policy-gradient"},
    "hifigan-digits": {"vocoder"},
    "digit-classifier": {"classification"},
}


@pytest.mark.parametrize("objective", OBJECTIVES.names())
@pytest.mark.parametrize("name", FITS)
def test_an_objective_trains_only_what_it_can(name, objective):
    """Alone: phases that update other networks are refused as well."""
    overrides = {"objective": {"type": objective}, "phases": []}
    if objective in FITS[name]:
        assert load_recipe(name, overrides).objective.type == objective
        return
    with pytest.raises(
        UserError, match=f"objective.type={objective} trains .* family .*What fits it: {min(FITS[name])}"
    ):
        load_recipe(name, overrides)


def test_an_objective_of_a_phase_is_checked_too():
    with pytest.raises(
        UserError, match="phases.0.objective.type=adversarial trains .* 'seqgan', whose generator is none"
    ):
        load_recipe("seqgan-coco", {"phases.0.objective.type": "adversarial"})
    with pytest.raises(
        UserError, match="phases.0.updates the discriminator, but its objective, likelihood, trains the gen"
    ):
        load_recipe("seqgan-coco", {"phases.0.updates": {"discriminator": 1}})


def test_the_command_line_says_which_objectives_fit(fails):
    said = ("dcgan-digits: objective.type=policy-gradient trains a language model", "'dcgan'", "fits it: adversarial")
    fails("train", "dcgan-digits", "objective.type=policy-gradient", "data.path=nowhere", code=2, said=said)


ALLOWED = {
    "dcgan-digits": ("flip", "crop_padding"),
    "digit-classifier": ("flip", "crop_padding"),
    "hifigan-digits": ("segment",),
    "wavegan-drums": (),
    "specgan-digits": (),
    "vanilla-ring": (),
    "seqgan-docs": (),
}


@pytest.mark.parametrize(("key", "value"), [("flip", 0.5), ("crop_padding", 2), ("segment", 1024)])
@pytest.mark.parametrize("name", ALLOWED)
def test_samples_are_varied_only_as_their_processor_allows(name, key, value):
    changes = {"data.flip": 0, "data.crop_padding": 0, "data.segment": None, f"data.{key}": value}
    if key in ALLOWED[name]:
        assert load_recipe(name, changes).data.transforms == {key: value}
        return
    with pytest.raises(UserError, match=f"{name}: data.{key}={value} (cannot be done to|is for networks that)"):
        load_recipe(name, changes)


def test_pictures_that_are_spectrograms_are_sound(fails):
    said = ("data.flip=0.5", "spectrogram processor", "no random changes")
    fails("train", "dcgan-digits", "data.processor={type: spectrogram}", "data.flip=0.5", code=2, said=said)
    fails("train", "wavegan-drums", "data.crop_padding=2", code=2, said=("data.crop_padding=2", "allows data.segment"))


@pytest.mark.parametrize(
    ("name", "overrides", "said"),
    [
        (
            "dcgan-digits",
            {"data.crop_padding": 32, "model.resolution": 32},
            "crop_padding=32 is too much .* 31 at most",
        ),
        (
            "hifigan-digits",
            {"data": {"dataset": "drums", "segment": 4096}, "model.length": 2048},
            "segment=4096 is too much .* 2048 at most",
        ),
    ],
)
def test_a_change_that_is_larger_than_the_sample_is_refused_before_training(name, overrides, said):
    with pytest.raises(UserError, match=said):
        build_trainer(load_recipe(name, {**overrides, "phases": []}), torch.device("cpu"))


def test_a_processor_that_a_checkpoint_brings_is_asked_too(tmp_path):
    generator, discriminator = ganzoo.create("dcgan", resolution=8, channels=1, width=4)
    processor = generator.config.processor(type="spectrogram").fitted(
        [np.random.default_rng(0).uniform(-0.5, 0.5, (1, 2000))]
    )
    GANPipeline(generator, processor, discriminator=discriminator).save_pretrained(tmp_path / "sound")
    recipe = {"name": "more", "model": {"family": "dcgan"}, "init": str(tmp_path / "sound"), "training": {"steps": 1}}
    with pytest.raises(UserError, match="data.flip=0.5 cannot be done to samples of the spectrogram processor"):
        build_trainer(load_recipe({**recipe, "data": {"flip": 0.5}}), torch.device("cpu"))


@pytest.mark.parametrize("change", [random_flip, random_crop])
@pytest.mark.parametrize("shape", [(4, 1, 64), (4, 2), (4, 10)])
def test_changes_of_pictures_refuse_other_samples(change, shape):
    with pytest.raises(UserError, match="is for pictures"):
        change(torch.zeros(shape), 1)


@pytest.mark.parametrize(
    ("name", "overrides", "said"),
    [
        (
            "wavegan-drums",
            {"objective.augment": ["color"]},
            "clips cannot be augmented by 'color'; there is cutout, gain, tr",
        ),
        (
            "dcgan-digits",
            {"objective.augment": ["gain"]},
            "pictures cannot be augmented by 'gain'; there is color, cutout, tr",
        ),
        ("vanilla-ring", {"objective.augment": ["cutout"]}, r"got samples of shape \(2,\)"),
        (
            "vanilla-ring",
            {"objective.ada": {"target": None, "probability": 0.5}},
            r"ada augments pictures .* samples of shape \(2,\)",
        ),
    ],
)
def test_augmentation_that_the_samples_do_not_take_is_refused_before_training(name, overrides, said):
    with pytest.raises(UserError, match=said):
        build_trainer(load_recipe(name, overrides), torch.device("cpu"))
