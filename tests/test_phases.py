"""Runs of several phases: their own objectives and optimisers, early stopping, stopping inside a step, and exact resume."""

from __future__ import annotations

import json
import random
import signal
import statistics
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from training_helpers import GANZOO, PATIENCE, differing, environment, make_trainer, state_of, train_in_process

import ganzoo
from ganzoo.data import load_data
from ganzoo.errors import UserError
from ganzoo.recipe.reading import load_recipe
from ganzoo.recipe.sections import PhaseConfig
from ganzoo.training.build import build_trainer
from ganzoo.training.state import STATE_FOLDER, _digest, load_checkpoint, save_checkpoint
from ganzoo.training.trackers import read_rows
from ganzoo.utils.files import CHECKSUM_KEY

WORDS = "a the man woman dog cat horse bird rides sees eats likes on in under with red green small old".split()
ADAM = {"type": "adam", "learning_rate": 0.01, "betas": [0.9, 0.999]}


@pytest.fixture(autouse=True, scope="module")
def no_report():
    # Drawing its curves takes longer than the runs here; test_report_text.py has it.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ganzoo.training.run.write_report", lambda folder: None)
        yield


@pytest.fixture(scope="session")
def sentences(tmp_path_factory):
    """A folder with train.txt and test.txt: 200 and 50 short sentences."""
    folder, source = tmp_path_factory.mktemp("text"), random.Random(0)
    for name, count in (("train", 200), ("test", 50)):
        lines = [" ".join(source.choice(WORDS) for _ in range(source.randint(2, 6))) for _ in range(count)]
        (folder / f"{name}.txt").write_text("\n".join(lines))
    return folder


def recipe(data: Path, **changes: object) -> dict:
    """SeqGAN with its three phases, in a second."""
    values = {
        "name": "phases",
        "model": {
            "family": "seqgan",
            "max_length": 8,
            "embedding_dim": 4,
            "hidden_dim": 6,
            "dropout": 0.2,
            "filter_widths": [1, 2],
            "filter_counts": [4, 4],
        },
        "data": {"path": str(data), "holdout": 0.2, "processor": {"tokenizer": "word"}},
        "objective": {"type": "policy-gradient", "num_rollouts": 2, "baseline": "ewma"},
        "phases": [
            {
                "name": "likelihood",
                "steps": 8,
                "objective": {"type": "likelihood"},
                "updates": {"generator": 1},
                "optimizers": {"generator": ADAM},
                "stop": {"every": 2, "patience": 2},
            },
            {"name": "discriminator", "steps": 3, "updates": {"discriminator": 4}},
            {
                "name": "adversarial",
                "updates": {"generator": 1, "discriminator": 5},
                "optimizers": {"generator": ADAM},
            },
        ],
        "training": {
            "steps": 16,
            "batch_size": 8,
            "precision": "fp32",
            "ema_half_life": 100,
            "log_every": 2,
            "sample_every": 5,
            "num_preview_samples": 4,
            "checkpoint_every": 3,
        },
    }
    return load_recipe(values, changes).model_dump(mode="json")


def test_phases_use_their_own_objective_and_fresh_optimisers(sentences):
    trainer = build_trainer(load_recipe(recipe(sentences)), torch.device("cpu"))[1]
    used = []
    for _ in range(13):
        trainer.train_step()
        used.append((type(trainer.objective).__name__, id(trainer.optimizers["generator"])))
    kinds = [name for name, _ in used]
    assert kinds == ["LikelihoodObjective"] * 8 + ["PolicyGradientObjective"] * 5
    first, second, third = used[7][1], used[8][1], used[11][1]
    assert first == second != third
    # The optimiser of the third phase has made two steps, that of the discriminator 3 * 4 + 2 * 5.
    steps = {
        role: {int(state["step"]) for state in optimizer.state.values()}
        for role, optimizer in trainer.optimizers.items()
    }
    assert steps == {"generator": {2}, "discriminator": {22}}


def test_a_phase_may_begin_with_a_copy_of_another_networks_weights(sentences):
    phases = [
        {"name": "likelihood", "steps": 2, "objective": {"type": "likelihood"}, "updates": {"generator": 1}},
        {"name": "cooperative", "updates": {"discriminator": 1}, "copies": {"discriminator": "generator"}},
    ]
    sizes = {"embedding_dim": 4, "hidden_dim": 6, "mediator_embedding_dim": 4, "mediator_hidden_dim": 6}
    values = recipe(sentences)
    values |= {
        "model": {"family": "cot", "max_length": 8, **sizes},
        "phases": phases,
        "objective": {"type": "cooperative"},
    }
    values["discriminator_optimizer"] = {"type": "sgd", "learning_rate": 1e-12}
    values["training"]["steps"] = 4
    trainer = build_trainer(load_recipe(values), torch.device("cpu"))[1]
    states = [network.state_dict() for network in trainer.networks.values()]
    for step in range(4):
        trainer.train_step()
        same = all(torch.allclose(states[0][name], states[1][name]) for name in states[0])
        assert same == (step >= 2)


def test_a_copy_that_does_not_fit_is_refused(sentences):
    phases = [{"name": "copied", "updates": {"generator": 1}, "copies": {"discriminator": "generator"}}]
    with pytest.raises(UserError, match="begins the discriminator as a copy of the generator, but"):
        make_trainer(phases=phases)


def test_a_phases_schedule_is_that_of_the_phase():
    schedule = {"type": "linear"}
    phases = [
        {"name": "one", "steps": 10, "updates": {"generator": 1}},
        {
            "name": "two",
            "steps": 10,
            "updates": {"generator": 1},
            "optimizers": {"generator": {**ADAM, "schedule": schedule}},
        },
    ]
    trainer = make_trainer(phases=phases)
    rates = []
    for _ in range(20):
        trainer.train_step()
        rates.append(trainer.learning_rate("generator"))
    assert rates[:9] == [2e-4] * 9
    assert rates[10:19] == pytest.approx([0.01 * (1 - step / 10) for step in range(1, 10)])


def test_early_stopping_ends_the_phase_with_the_best_weights(sentences, tmp_path):
    changes = {"phases.0.steps": 200, "phases.0.stop.every": 5, "training.steps": 208, "model.dropout": 0.0}
    changes |= {"phases.0.optimizers.generator.learning_rate": 0.3, "training.checkpoint_every": 1000}
    run = ganzoo.train(recipe(sentences, **changes), output=tmp_path, quiet=True)
    rows = read_rows(tmp_path / "metrics.jsonl")
    found = [row for row in rows if "validation/loss" in row]
    (stop,) = (row for row in rows if row["event"] == "early stop")
    losses = [row["validation/loss"] for row in found]
    assert len(losses) < 40, "a learning rate of 0.3 must overshoot"
    assert losses.index(min(losses)) == len(losses) - 1 - 2  # patience 2
    assert stop["step"] == 200 and stop["validation/best"] == min(losses)
    assert run.step == 208 and run.finished
    assert run.pipeline.training["steps"] == 5 * len(losses) + 8  # those that were made


def test_the_best_weights_are_those_the_next_phase_begins_with(sentences, tmp_path):
    values = recipe(sentences, **{"phases.0.stop.every": 1, "phases.0.stop.patience": 1000, "model.dropout": 0.0})
    trainer = build_trainer(load_recipe(values), torch.device("cpu"))[1]
    held_out = load_data(trainer.recipe.data, trainer.processor, split="holdout")
    losses = []
    for _ in range(8):
        trainer.train_step()
        losses.append(trainer.validate(held_out, None))
        trainer.validation.note(losses[-1], trainer.main_network)
    trainer.take_best()
    assert trainer.validate(held_out, None) == min(losses)


def test_early_stopping_needs_a_loss_that_can_be_validated(sentences, tmp_path):
    values = recipe(sentences)
    values["phases"][0]["objective"] = None
    with pytest.raises(
        UserError,
        match="phases.0.stop: .*policy-gradient, has no loss .* early stopping .*: cooperative, likelihood, vocoder",
    ):
        ganzoo.train(values, output=tmp_path, quiet=True)


def test_the_held_out_share_is_never_trained_on(sentences):
    trainer = build_trainer(load_recipe(recipe(sentences)), torch.device("cpu"))[1]
    held_out = load_data(trainer.recipe.data, trainer.processor, split="holdout")
    assert len(trainer.dataset) + len(held_out) == 200 and len(held_out) == 40


def test_the_discriminator_is_shown_held_out_text_when_samples_are_drawn(uncut):
    rows = [row for row in read_rows(uncut[0] / "metrics.jsonl") if "validation/real_accuracy" in row]
    assert [(row["event"], row["step"], row["phase"]) for row in rows] == [
        ("validation", 10, "discriminator"),
        ("validation", 15, "adversarial"),
        ("validation", 16, "adversarial"),
    ]
    for row in rows:
        for name in ("validation/real_accuracy", "validation/fake_accuracy"):
            assert 0 <= row[name] <= 1 and row[name] * 40 == pytest.approx(round(row[name] * 40), abs=1e-4)


def test_held_out_accuracies_are_those_of_the_networks_and_change_nothing(sentences):
    values = load_recipe(recipe(sentences, **{"model.dropout": 0.5, "model.discriminator_dropout": 0.5}))
    watched, other = (build_trainer(values, torch.device("cpu"))[1] for _ in range(2))
    held_out = load_data(values.data, watched.processor, split="holdout")
    for step in range(14):
        for trainer in (watched, other):
            trainer.train_step()
        torch.manual_seed(step)
        stats = watched.validation_stats(held_out, 30)
        assert bool(stats) == (step >= 8), "likelihood has nothing to say of a discriminator"
    generator, discriminator = watched.networks.values()
    assert generator.training and discriminator.training
    real = watched.processor.normalize(held_out.batch(np.arange(30))[0])
    with torch.no_grad():
        judged = discriminator.eval()(real)[0].logits
        shares = [(discriminator(generator(torch.rand(30, 8)))[0].logits < 0).float().mean().item() for _ in range(50)]
    assert stats["real_accuracy"] == pytest.approx((judged > 0).float().mean().item())
    assert abs(stats["fake_accuracy"] - statistics.fmean(shares)) < 5 * statistics.stdev(shares) + 1e-6
    discriminator.train()
    for trainer in (watched, other):
        assert trainer.train_step()
    for name, module in watched.modules.items():
        for key, value in module.state_dict().items():
            assert torch.equal(value, other.modules[name].state_dict()[key]), (name, key)


def test_a_discriminator_that_learns_by_heart_is_told_of(tmp_path, sentences):
    """Words in random order: nothing tells a sentence from a generated one but having seen it."""
    values = recipe(
        sentences,
        **{
            "model.embedding_dim": 16,
            "model.filter_counts": [64, 64],
            "model.discriminator_dropout": 0.0,
            "data.holdout": 0.5,
            "phases.0.steps": 20,
            "phases.0.stop": None,
            "phases.1.steps": 10,
            "phases.1.updates.discriminator": 10,
            "phases.1.optimizers": {"discriminator": ADAM},
            "training": {"steps": 30, "batch_size": 16, "log_every": 2, "sample_every": 10, "precision": "fp32"},
        },
    )
    values["phases"].pop()
    run = ganzoo.train(values, output=tmp_path, quiet=True)
    rows = read_rows(tmp_path / "metrics.jsonl")
    warnings = [(row["step"], row["name"]) for row in rows if row["event"] == "warning"]
    assert warnings == [(30, "discriminator-memorises")]
    (held,) = (row["validation/real_accuracy"] for row in rows if row["event"] == "validation")
    assert f"{held:.1%} of those that were held out" in run.warnings[0]


@pytest.fixture(scope="module")
def uncut(tmp_path_factory, sentences):
    folder = tmp_path_factory.mktemp("uncut")
    ganzoo.train(recipe(sentences), output=folder, quiet=True)
    return folder, state_of(folder, 16)


def stop_after(updates: int):
    """Answers yes once it was asked so often."""
    asked = []

    def should_stop() -> bool:
        asked.append(1)
        return len(asked) >= updates

    return should_stop


@pytest.mark.parametrize("step, updates", [(9, 1), (9, 3), (11, 1), (12, 2), (14, 5)])
def test_a_step_that_is_left_in_the_middle_is_resumed_there(sentences, tmp_path, step, updates):
    """Two trainers: one goes through, one stops between two updates, is saved, restored elsewhere, and goes on."""
    from ganzoo.training.state import load_checkpoint, save_checkpoint

    values = load_recipe(
        recipe(sentences, **{"objective.negatives_every": 3, "objective.negatives_pool": 2, "phases.0.stop": None})
    )
    whole, first, second = (build_trainer(values, torch.device("cpu"))[1] for _ in range(3))
    for trainer in (whole, first):
        while trainer.step < step:
            assert trainer.train_step()
    assert whole.train_step()
    assert not first.train_step(should_stop=stop_after(updates))
    assert first.update == updates and first.step == step
    path = save_checkpoint(first, tmp_path, keep=1, write_model=lambda folder: None)
    load_checkpoint(second, path)
    assert second.update == updates
    assert second.train_step()
    for name, module in whole.modules.items():
        for key, value in module.state_dict().items():
            assert torch.equal(value, second.modules[name].state_dict()[key]), (name, key)


def test_killed_and_resumed_in_every_phase(sentences, tmp_path, uncut):
    source, kills = random.Random(1), 0
    for attempt in range(12):
        outcome = train_in_process(
            recipe(sentences), tmp_path, resume=attempt > 0, kill=("step", source.uniform(0.02, 0.5))
        )
        kills += outcome.killed
        if not outcome.killed:
            break
    train_in_process(recipe(sentences), tmp_path, resume=True)
    assert kills
    assert differing(state_of(tmp_path, 16), uncut[1]) == []


def test_sigterm_is_heard_inside_a_long_step(sentences, tmp_path):
    import yaml

    values = recipe(sentences, **{"phases.1.updates.discriminator": 5000})
    (tmp_path / "long.yaml").write_text(yaml.safe_dump(values))
    command = [*GANZOO, "train", str(tmp_path / "long.yaml"), "--output", str(tmp_path / "run"), "--quiet"]
    process = subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + PATIENCE
    while not list((tmp_path / "run" / "checkpoints").glob("step-00000006")) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(1.0)
    process.send_signal(signal.SIGTERM)
    start = time.monotonic()
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0 and "stopped at step" in output
    assert time.monotonic() - start < 30


def test_the_time_of_a_run_is_told_before_it_starts(sentences):
    from ganzoo.training.estimate import describe, estimate_seconds

    values = load_recipe(recipe(sentences, **{"phases.1.updates.discriminator": 100}))
    seconds = estimate_seconds(values, torch.device("cpu"))
    assert list(seconds) == ["likelihood", "discriminator", "adversarial"]
    start = time.perf_counter()
    trainer = build_trainer(values, torch.device("cpu"))[1]
    built = time.perf_counter()
    while trainer.step < trainer.total_steps:
        trainer.train_step()
    taken = time.perf_counter() - built
    assert built > start and taken / 5 < sum(seconds.values()) < taken * 5
    assert describe({"a": 30.0, "b": 90.0}) == "about 2 min 00 s on this machine (a 30.0 s, b 1 min 30 s)"


# -------------------------------------------------------------------------------------------------------------- growing


@pytest.mark.parametrize(
    ("progress", "level"), [(0.0, 1.0), (0.125, 1.25), (0.25, 1.5), (0.5, 2.0), (0.75, 2.0), (0.999, 2.0)]
)
def test_a_level_is_faded_in_from_the_one_below(progress, level):
    phase = PhaseConfig(name="16x16", updates={"generator": 1}, level=2, fade_in=0.5)
    assert phase.level_at(progress) == pytest.approx(level)


def test_a_level_without_fading_is_there_at_once():
    phase = {"name": "a phase", "updates": {"generator": 1}}
    assert PhaseConfig(**phase, level=0).level_at(0.0) == 0.0
    assert PhaseConfig(**phase).level_at(0.5) is None


@pytest.mark.parametrize("level", [None, 0])
def test_fading_needs_a_level_to_fade_from(level):
    with pytest.raises(ValueError, match="fade_in needs a level above 0"):
        PhaseConfig(name="a phase", updates={"generator": 1}, level=level, fade_in=0.5)


def test_networks_that_do_not_grow_have_no_levels():
    phases = [{"name": "grow", "level": 1, "updates": {"discriminator": 1, "generator": 1}}]
    with pytest.raises(UserError, match="the networks of this family do not grow; leave level and fade_in out"):
        make_trainer(phases=phases)


# ------------------------------------------------------------------------------------------------------- the stream of samples

UNEQUAL = {
    "phases": [
        {"name": "first", "steps": 7, "updates": {"discriminator": 1, "generator": 1}},
        {"name": "second", "steps": 5, "updates": {"discriminator": 3, "generator": 2}},
        {"name": "third", "updates": {"generator": 2}},
    ],
    "training.steps": 18,
    "data.limit": 64,
}


def given_samples(trainer, steps):
    """The number of each batch of some steps, with the indices of the real samples that it holds."""
    found = {}

    def watch(length, number, seed, indices=trainer.batches._indices):
        found[number] = indices(length, number, seed).tolist()
        return np.array(found[number])

    trainer.batches._indices = watch
    for _ in range(steps):
        trainer.train_step()
    return found


def test_every_sample_comes_once_an_epoch_also_across_phases_of_other_updates():
    batches = given_samples(make_trainer(**UNEQUAL), 18)
    assert list(batches) == list(range(7 * 1 + 5 * 3 + 6 * 2))
    found = sum(batches.values(), [])
    for epoch in range(len(found) // 64):
        assert sorted(found[64 * epoch :][:64]) == list(range(64)), epoch


def test_the_count_of_batches_is_resumed_and_old_checkpoints_go_on_as_they_would_have(tmp_path):
    trainer = make_trainer(**UNEQUAL)
    whole = given_samples(make_trainer(**UNEQUAL), 18)
    before = given_samples(trainer, 9)
    path = save_checkpoint(trainer, tmp_path, keep=1, write_model=lambda folder: None)
    resumed = make_trainer(**UNEQUAL)
    load_checkpoint(resumed, path)
    assert before | given_samples(resumed, 9) == whole
    # Written when the step was multiplied by the updates of its phase.
    file = path / STATE_FOLDER / "state.json"
    values = json.loads(file.read_text())
    del values["batches"], values[CHECKSUM_KEY]
    file.write_text(json.dumps({**values, CHECKSUM_KEY: _digest(file.parent, values)}))
    old = make_trainer(**UNEQUAL)
    load_checkpoint(old, path)
    assert old.batches.given == 9 * 3
