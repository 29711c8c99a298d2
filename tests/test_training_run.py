"""Around the steps: what stops a run, what makes it reproducible, what its folder holds."""

from __future__ import annotations

import json
import math
import random

import numpy as np
import pytest
import torch
from PIL import Image
from training_helpers import EXPLODING, RECIPE, checkpoints, make_trainer

import ganzoo
from ganzoo.cli import run as run_command
from ganzoo.errors import TrainingError, UserError
from ganzoo.recipe.reading import load_recipe
from ganzoo.training.run import RunLoop
from ganzoo.training.state import load_checkpoint
from ganzoo.training.trackers import read_rows
from ganzoo.training.trainer import Trainer


@pytest.fixture(autouse=True)
def no_report(monkeypatch):
    # Drawing its curves takes longer than the runs here; test_report.py has it.
    monkeypatch.setattr("ganzoo.training.run.write_report", lambda folder: None)


def train(output, **options):
    return ganzoo.train(RECIPE, output=output, quiet=True, **options)


# ----------------------------------------------------------------------------------------------------- going wrong


def test_nan_stops_the_run_and_keeps_the_last_good_checkpoint(tmp_path, capsys):
    calm = {f"{role}_optimizer.learning_rate": 0.01 for role in ("generator", "discriminator")}
    train(tmp_path, **{**EXPLODING, **calm, "training.steps": 5})
    recipe = tmp_path / "exploding.yaml"
    recipe.write_text(load_recipe(RECIPE, {**EXPLODING, "training.steps": 500}).to_yaml())
    code = run_command(["train", str(recipe), "--output", str(tmp_path), "--resume", "--quiet"])
    error = capsys.readouterr().err
    assert code == 1 and error.count("\n") == 1
    assert "became NaN or infinite" in error and "step-00000005" in error and "lower learning rates" in error
    assert checkpoints(tmp_path) == ["step-00000005"]
    trainer = make_trainer(**EXPLODING)
    load_checkpoint(trainer, tmp_path / "checkpoints/step-00000005")
    assert trainer.step == 5
    end = read_rows(tmp_path / "metrics.jsonl")[-1]
    assert (end["event"], end["status"]) == ("end", "failed")


def test_nan_between_two_rows_of_the_log_never_gets_into_a_checkpoint(tmp_path):
    options = {**EXPLODING, "training.log_every": 1000, "training.checkpoint_every": 1, "training.steps": 500}
    with pytest.raises(TrainingError, match="the weights became NaN.*The last good checkpoint is kept"):
        train(tmp_path, **options)
    newest = max((tmp_path / "checkpoints").iterdir())
    trainer = make_trainer(**options)
    load_checkpoint(trainer, newest)
    for module in trainer.modules.values():
        assert all(tensor.isfinite().all() for tensor in module.state_dict().values())


def test_without_a_checkpoint_the_error_says_so(tmp_path):
    with pytest.raises(TrainingError, match="There is no checkpoint from before"):
        train(tmp_path, **{**EXPLODING, "training.steps": 500})
    assert not (tmp_path / "checkpoints").exists()


def test_statistics_that_are_not_finite_are_not_saved(tmp_path, monkeypatch):
    # What an overflow in a forward pass leaves although the step itself was skipped.
    def spoiled(self, train_step=Trainer.train_step, **options):
        train_step(self, **options)
        self.networks["generator"].blocks[0][1].running_var.fill_(math.inf)

    monkeypatch.setattr(Trainer, "train_step", spoiled)
    with pytest.raises(TrainingError, match="NaN or infinite by step 2"):
        train(tmp_path, **{"training.steps": 2})


def test_an_overflow_of_fp16_skips_the_step_and_the_run_goes_on(tmp_path):
    # The weight makes the scaled gradients overflow until the scale has fallen.
    run = train(tmp_path, **{"training.precision": "fp16", "objective.feature_matching": 1e4, "training.steps": 4})
    rows = [row for row in read_rows(tmp_path / "metrics.jsonl") if row["event"] == "train"]
    assert run.finished and [row["step"] for row in rows] == [1, 2, 3, 4]
    assert not math.isfinite(float(rows[0]["generator/grad_norm"]))
    state = json.loads((tmp_path / "checkpoints/step-00000004/training_state/state.json").read_text())
    assert state["scalers"]["generator"]["scale"] < 65536
    assert all(tensor.isfinite().all() for tensor in run.pipeline.network.state_dict().values())


# ----------------------------------------------------------------------------------------------------- reproducibility


def test_two_runs_are_equal_bit_by_bit_and_another_seed_differs(tmp_path):
    options = {"training.steps": 4, "model.dropout": 0.2, "objective.augment": ["translation"]}
    for name, seed in (("first", 3), ("second", 3), ("other", 4)):
        torch.manual_seed(len(name))  # the caller's random state does not matter
        train(tmp_path / name, **options, **{"training.seed": seed})
    for file in ("model.safetensors", "discriminator/model.safetensors"):
        first, second, other = (
            (tmp_path / name / "pipeline" / file).read_bytes() for name in ("first", "second", "other")
        )
        assert first == second != other
    losses = [
        [row["generator/loss"] for row in read_rows(tmp_path / name / "metrics.jsonl") if row["event"] == "train"]
        for name in ("first", "second", "other")
    ]
    assert losses[0] == losses[1] != losses[2]


def test_training_leaves_the_callers_random_state_alone(tmp_path):
    torch.manual_seed(1), np.random.seed(1), random.seed(1)
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    train(tmp_path, **{"training.steps": 2, "training.sample_every": 1})
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])
    assert random.getstate() == before[2]
    with pytest.raises(TrainingError):
        train(tmp_path / "failing", **{**EXPLODING, "training.steps": 500})
    assert torch.equal(torch.get_rng_state(), before[0])


def test_watching_a_run_does_not_change_it(tmp_path):
    # Without an average the network that is sampled and measured is the one that is trained: it must stay in train mode.
    options = {"training.steps": 4, "training.ema_half_life": None}
    watched = {
        "training.sample_every": 1,
        "training.log_every": 1,
        "training.checkpoint_every": 1,
        "evaluation": {"metrics": ["frechet_distance"], "num_samples": 16, "embedder": "pixels", "every": 1},
    }
    train(tmp_path / "alone", **options)
    run = train(tmp_path / "watched", **options, **watched)
    assert run.metrics[0]["name"] == "frechet_distance"
    rows = read_rows(tmp_path / "watched/metrics.jsonl")
    assert [row["step"] for row in rows if row["event"] == "evaluation"] == [1, 2, 3, 4]
    alone, watched = (tmp_path / name / "pipeline/model.safetensors" for name in ("alone", "watched"))
    assert alone.read_bytes() == watched.read_bytes()


# -------------------------------------------------------------------------------------------------------------- the run


def test_an_output_folder_that_holds_a_run_is_refused(tmp_path):
    first = train(tmp_path, **{"training.steps": 1})
    assert first.step == 1
    model = (tmp_path / "pipeline/model.safetensors").read_bytes()
    with pytest.raises(UserError, match="holds a run already; pass resume=True"):
        train(tmp_path, **{"training.steps": 2})
    assert (tmp_path / "pipeline/model.safetensors").read_bytes() == model
    assert train(tmp_path, resume=True, **{"training.steps": 2}).step == 2


def test_overrides_reach_the_run_and_wrong_ones_are_refused(tmp_path):
    run = train(tmp_path, **{"training.steps": 2, "model.width": 5, "generator_optimizer.learning_rate": 1e-3})
    assert run.step == 2 and run.pipeline.config.width == 5
    saved = load_recipe(tmp_path / "pipeline/recipe.yaml")
    assert saved.training.steps == 2 and saved.generator_optimizer.learning_rate == 1e-3
    with pytest.raises(UserError, match="Did you mean 'batch_size'"):
        train(tmp_path / "other", **{"training.batchsize": 2})
    assert RECIPE["training"]["steps"] == 20  # the caller's values are not ours to change


def test_the_log_names_the_phase(tmp_path):
    phases = [
        {"name": "warm-up", "steps": 1, "updates": {"discriminator": 1}},
        {"name": "both", "steps": 2, "updates": {"discriminator": 1, "generator": 1}},
    ]
    train(tmp_path, **{"phases": phases, "training.steps": 3})
    rows = [row for row in read_rows(tmp_path / "metrics.jsonl") if row["event"] == "train"]
    assert [row["phase"] for row in rows] == ["warm-up", "both", "both"]
    assert "generator/loss" not in rows[0] and "generator/loss" in rows[1]


def test_the_clock_counts_every_second_once(tmp_path, monkeypatch):
    clock = [100.0]

    def step_of_a_second(self, stop=None, step=RunLoop.step):
        clock[0] += 1
        step(self, stop)

    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    monkeypatch.setattr(RunLoop, "step", step_of_a_second)
    train(tmp_path, **{"training.steps": 12, "training.log_every": 5})
    rows = [row for row in read_rows(tmp_path / "metrics.jsonl") if row["event"] in ("train", "end")]
    # The last step is always logged.
    assert [(row["step"], row["seconds"]) for row in rows] == [(5, 5.0), (10, 10.0), (12, 12.0), (12, 12.0)]


def test_a_conditional_model_needs_labels_and_enough_classes(tmp_path):
    for number in range(4):
        Image.new("L", (8, 8), number).save(tmp_path / f"{number}.png")
    with pytest.raises(UserError, match="num_classes=10, but .* has no labels"):
        make_trainer(**{"model.num_classes": 10, "data.path": str(tmp_path)})
    with pytest.raises(UserError, match="num_classes=5, but the data has 10 classes"):
        make_trainer(**{"model.num_classes": 5})


def test_an_unknown_device_is_refused(tmp_path):
    with pytest.raises(UserError, match="unknown device 'gpu'"):
        train(tmp_path, **{"training.device": "gpu"})
