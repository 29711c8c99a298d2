"""Two processes that train one model: bit-identical to each other, equal to one process, and resumed exactly."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from test_phases import recipe as recipe_of_phases
from test_phases import sentences  # noqa: F401
from training_helpers import (
    NO_BATCH_STATISTICS,
    PATIENCE,
    RECIPE,
    Run,
    checkpoints,
    differing,
    environment,
    leftovers,
    state_of,
)

import ganzoo
from ganzoo.registry import get_family
from ganzoo.training.trackers import read_rows
from ganzoo.utils.files import load_tensors

WORKER = Path(__file__).with_name("distributed_worker.py")
# Everything that could make processes drift apart: statistics and dropout of their own data, double backward.
RUN = {
    **RECIPE,
    "name": "distributed",
    "model": {**RECIPE["model"], "generator_norm": "batch", "discriminator_norm": "spectral", "dropout": 0.3},
    "data": {"dataset": "digits", "flip": 0.5, "crop_padding": 1},
    "objective": {"loss": "non-saturating", "penalties": [{"type": "r1", "weight": 1.0, "interval": 2}]},
    "training": {**RECIPE["training"], "steps": 50, "batch_size": 4, "log_every": 5, "checkpoint_every": 5},
}
# Nothing that depends on how samples are shared out.
PLAIN = {
    **NO_BATCH_STATISTICS,
    "model.num_classes": 10,
    "objective.penalties": [{"type": "r1", "weight": 1.0, "interval": 2}],
    "discriminator_optimizer": {"learning_rate": 1e-3, "clip_norm": 0.5},
    "training.n_critic": 2,
    "training.steps": 10,
}

# Text in phases: likelihood that overshoots and is stopped early, warm-up, policy gradient with rollouts and a moving average.
TEXT = {
    "phases.0.optimizers.generator.learning_rate": 0.3,
    "phases.0.stop": {"every": 1, "patience": 1},
    "training.batch_size": 4,
    "training.sample_every": 1,
}

# Sound: shifts of phase, of time and of loudness drawn in every process; and a vocoder, which draws no latents.
SOUND = {
    **RECIPE,
    "name": "distributed-sound",
    "model": {
        "family": "wavegan",
        "length": 1024,
        "sampling_rate": 8000,
        "start": 4,
        "width": 2,
        "latent_dim": 8,
        "num_classes": 3,
    },
    "data": {"dataset": "drums", "limit": 32},
    "objective": {
        "loss": "wasserstein",
        "penalties": [{"type": "gradient-penalty", "weight": 10}],
        "augment": ["gain", "translation"],
    },
    "training": {**RECIPE["training"], "steps": 6, "batch_size": 4, "n_critic": 2},
}
VOCODER = {
    **SOUND,
    "name": "distributed-vocoder",
    "model": {"family": "hifigan", **get_family("hifigan").tiny},
    "data": {"dataset": "drums", "limit": 32},
    "objective": {"type": "vocoder"},
}


# Lazy penalties of both networks with a running mean, and augmentation that adapts to what all processes see.
STYLED = {
    **RECIPE,
    "name": "distributed-styled",
    "model": {"family": "stylegan2", **get_family("stylegan2").tiny},
    "objective": {
        "loss": "non-saturating",
        "penalties": [{"type": "r1", "weight": 0.1, "interval": 2}],
        "path_length": {"interval": 2},
        "ada": {"target": 0.1, "interval": 2, "probability": 0.5, "speed": 400},
    },
    "training": {**RECIPE["training"], "steps": 12, "batch_size": 4},
}


@pytest.fixture(autouse=True)
def no_report(monkeypatch):
    # Drawing its curves takes longer than the runs here; test_report.py has it.
    monkeypatch.setattr("ganzoo.training.run.write_report", lambda folder: None)


@pytest.fixture(scope="module")
def text_recipe(sentences):  # noqa: F811
    return recipe_of_phases(sentences, **TEXT)


@pytest.fixture(scope="module")
def under_torchrun(tmp_path_factory, text_recipe):
    """Folders of runs by two processes: of RUN, of RECIPE with the changes PLAIN, and of other families."""
    folder = tmp_path_factory.mktemp("torchrun")
    jobs = [
        {"recipe": RUN, "output": str(folder / "run"), "overrides": {}},
        {"recipe": RECIPE, "output": str(folder / "plain"), "overrides": {**PLAIN, "training.batch_size": 4}},
        {"recipe": text_recipe, "output": str(folder / "text"), "overrides": {}},
        {"recipe": SOUND, "output": str(folder / "sound"), "overrides": {}},
        {"recipe": VOCODER, "output": str(folder / "vocoder"), "overrides": {}},
        {"recipe": STYLED, "output": str(folder / "styled"), "overrides": {}},
    ]
    (folder / "jobs.json").write_text(json.dumps(jobs))
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    done = subprocess.run(
        [*command, str(WORKER), str(folder / "jobs.json")],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_after_fifty_steps_both_processes_hold_the_same_bits(under_torchrun):
    first, second = ((under_torchrun / f"run/state-{rank}.safetensors").read_bytes() for rank in (0, 1))
    assert first == second
    tensors, _ = load_tensors(under_torchrun / "run/state-0.safetensors")
    for part in ("running_mean", "original", "_u", "exp_avg_sq", "ema.blocks"):
        assert any(part in name for name in tensors), f"nothing was compared of {part}"
    assert int(tensors["generator.blocks.0.1.num_batches_tracked"]) == 50
    assert all(tensor.isfinite().all() for tensor in tensors.values())


def test_only_the_first_process_writes(under_torchrun):
    assert not (under_torchrun / "run/rank-1").exists()
    assert checkpoints(under_torchrun / "run/rank-0") == ["step-00000040", "step-00000045", "step-00000050"]
    assert (under_torchrun / "run/rank-0/pipeline/model.safetensors").exists()


def test_two_processes_equal_one_with_the_joined_batch(under_torchrun, tmp_path):
    ganzoo.train(RECIPE, output=tmp_path, quiet=True, **PLAIN, **{"training.batch_size": 8})
    both, _ = load_tensors(under_torchrun / "plain/state-0.safetensors")
    assert (under_torchrun / "plain/state-1.safetensors").read_bytes() == (
        under_torchrun / "plain/state-0.safetensors"
    ).read_bytes()
    state = tmp_path / "checkpoints/step-00000010/training_state"
    compared = 0
    for name in ("generator", "discriminator", "ema", "optimizers"):
        for key, tensor in load_tensors(state / f"{name}.safetensors")[0].items():
            torch.testing.assert_close(
                both[key if name == "optimizers" else f"{name}.{key}"], tensor, rtol=1e-3, atol=1e-5
            )
            compared += 1
    assert compared == len(both)
    rows, expected = (
        [row for row in read_rows(folder / "metrics.jsonl") if row["event"] == "train"]
        for folder in (under_torchrun / "plain/rank-0", tmp_path)
    )
    assert len(rows) == len(expected) == 10
    # The log shows the mean over the processes, not what the first has seen. (Diversity is that of its own samples.)
    for row, other in zip(rows, expected, strict=True):
        assert row["samples_seen"] == other["samples_seen"]
        for name in row:
            if "/loss" in name or name.endswith(("_norm", "_accuracy")):
                assert row[name] == pytest.approx(other[name], rel=1e-3, abs=1e-5), name


def test_text_in_phases_ends_with_the_same_bits_in_both_processes(under_torchrun):
    first, second = ((under_torchrun / f"text/state-{rank}.safetensors").read_bytes() for rank in (0, 1))
    assert first == second
    tensors, _ = load_tensors(under_torchrun / "text/state-0.safetensors")
    for part in ("generator.", "discriminator.", "ema.", "best.", "objective1_generator.total", "exp_avg_sq"):
        assert any(name.startswith(part) or part in name for name in tensors), f"nothing was compared of {part}"
    assert all(tensor.isfinite().all() for tensor in tensors.values())
    assert tensors["objective1_generator.weight"].item() == pytest.approx(1 - 0.99**5), "five policy gradient steps"


@pytest.mark.parametrize(
    ("job", "parts"),
    [
        ("sound", ("generator.", "discriminator.", "ema.")),
        ("vocoder", ("original0", "ema.")),
        ("styled", ("mapping", "probability", "mean")),
    ],
)
def test_other_families_end_with_the_same_bits_in_both_processes(job, parts, under_torchrun):
    first, second = ((under_torchrun / f"{job}/state-{rank}.safetensors").read_bytes() for rank in (0, 1))
    assert first == second
    tensors, _ = load_tensors(under_torchrun / f"{job}/state-0.safetensors")
    for part in parts:
        assert any(part in name for name in tensors), f"nothing was compared of {part}"
    assert all(tensor.isfinite().all() for tensor in tensors.values())


def test_augmentation_has_adapted(under_torchrun):
    tensors, _ = load_tensors(under_torchrun / "styled/state-0.safetensors")
    assert 0 < tensors["objective0_discriminator.probability"].item() != 0.5


def test_text_is_validated_and_judged_by_both_processes_together(under_torchrun):
    rows = read_rows(under_torchrun / "text/rank-0/metrics.jsonl")
    losses = [row["validation/loss"] for row in rows if "validation/loss" in row]
    (stop,) = (row for row in rows if row["event"] == "early stop")
    assert losses[-1] > min(losses) == losses[-2] == stop["validation/best"], "a learning rate of 0.3 overshoots"
    judged = [row for row in rows if "validation/fake_accuracy" in row]
    assert [row["step"] for row in judged] == list(range(9, 17))
    # 40 held-out texts, the same for both; and each has generated 40 of its own.
    real, fake = (
        [row[f"validation/{name}_accuracy"] * count for row in judged] for name, count in (("real", 40), ("fake", 80))
    )
    assert [*real, *fake] == pytest.approx([round(number) for number in (*real, *fake)], abs=1e-3)
    assert any(round(number) % 2 for number in fake), "the accuracy is that of one process"


# ------------------------------------------------------------------------------------------------------------ resume


def start_two(output, recipe=RUN, *, resume=False):
    """Starts both processes of a recipe, as torchrun would."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return [Run(recipe, output, resume=resume, variables={**shared, "RANK": str(rank)}) for rank in (0, 1)]


def kill_two(runs, moment, delay):
    """Kills both processes so long after the first step, or the first checkpoint, has begun."""
    if runs[0].wait_for(moment):
        time.sleep(delay)
    # Stopped first, or the one that is killed second would notice and fail by itself.
    for run in runs:
        os.kill(run.process.pid, signal.SIGSTOP)
    for run in runs:
        run.process.kill()
    assert [run.join().killed for run in runs] == [True, True]


def test_two_killed_processes_resume_exactly(under_torchrun, tmp_path):
    reference = state_of(under_torchrun / "run/rank-0", 50)
    delays = random.Random(0)
    for kill in range(5):
        kill_two(start_two(tmp_path, resume=True), "write" if kill % 2 else "step", delays.uniform(0, 0.15))
    outcomes = [run.join() for run in start_two(tmp_path, resume=True)]
    assert [(outcome.step, outcome.warnings) for outcome in outcomes] == [(50, [])] * 2
    assert differing(state_of(tmp_path, 50), reference) == []
    assert leftovers(tmp_path) == []
    rows = read_rows(tmp_path / "metrics.jsonl")
    assert [row["step"] for row in rows if row["event"] == "train"] == list(range(5, 51, 5))


def test_two_killed_processes_resume_text_in_phases_exactly(under_torchrun, text_recipe, tmp_path):
    found = []
    for delay in (0.02, 0.0, 0.1):  # each goes on from a later checkpoint than the one before
        kill_two(start_two(tmp_path, text_recipe, resume=True), "write", delay)
        found += checkpoints(tmp_path)[-1:] if (tmp_path / "checkpoints").exists() else []
    outcomes = [run.join() for run in start_two(tmp_path, text_recipe, resume=True)]
    assert [(outcome.step, outcome.warnings) for outcome in outcomes] == [(16, [])] * 2
    assert found, "no kill came after a checkpoint"
    assert differing(state_of(tmp_path, 16), state_of(under_torchrun / "text/rank-0", 16)) == []
    rows = [(row["step"], row["event"]) for row in read_rows(tmp_path / "metrics.jsonl")]
    for event in ("train", "validation", "early stop"):
        steps = [step for step, name in rows if name == event]
        reference = read_rows(under_torchrun / "text/rank-0/metrics.jsonl")
        assert steps == [row["step"] for row in reference if row["event"] == event]


def test_a_signal_to_one_process_stops_both_and_saves(under_torchrun, tmp_path):
    runs = start_two(tmp_path)
    assert runs[1].wait_for("step")
    os.kill(runs[1].process.pid, signal.SIGTERM)
    stopped = [run.join() for run in runs]
    assert not any(outcome.killed or outcome.finished for outcome in stopped)
    step = stopped[0].step
    assert step == stopped[1].step < 50 and checkpoints(tmp_path)[-1] == f"step-{step:08d}"
    assert all(run.join().finished for run in start_two(tmp_path, resume=True))
    assert differing(state_of(tmp_path, 50), state_of(under_torchrun / "run/rank-0", 50)) == []
