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
from ganzoo.files import load_tensors
from ganzoo.training.trackers import read_rows

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


@pytest.fixture(autouse=True)
def no_report(monkeypatch):
    # Drawing its curves takes longer than the runs here; test_report.py has it.
    monkeypatch.setattr("ganzoo.training.run.write_report", lambda folder: None)


@pytest.fixture(scope="module")
def under_torchrun(tmp_path_factory):
    """Folders of two runs by two processes: of RUN, and of RECIPE with the changes PLAIN."""
    folder = tmp_path_factory.mktemp("torchrun")
    jobs = [
        {"recipe": RUN, "output": str(folder / "run"), "overrides": {}},
        {"recipe": RECIPE, "output": str(folder / "plain"), "overrides": {**PLAIN, "training.batch_size": 4}},
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


# ------------------------------------------------------------------------------------------------------------ resume


def start_two(output, *, resume=False):
    """Starts both processes of RUN, as torchrun would."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return [Run(RUN, output, resume=resume, variables={**shared, "RANK": str(rank)}) for rank in (0, 1)]


def test_two_killed_processes_resume_exactly(under_torchrun, tmp_path):
    reference = state_of(under_torchrun / "run/rank-0", 50)
    delays = random.Random(0)
    for kill in range(5):
        runs = start_two(tmp_path, resume=True)
        if runs[0].wait_for("write" if kill % 2 else "step"):
            time.sleep(delays.uniform(0, 0.15))
        # Stopped first, or the one that is killed second would notice and fail by itself.
        for run in runs:
            os.kill(run.process.pid, signal.SIGSTOP)
        for run in runs:
            run.process.kill()
        assert [run.join().killed for run in runs] == [True, True]
    outcomes = [run.join() for run in start_two(tmp_path, resume=True)]
    assert [(outcome.step, outcome.warnings) for outcome in outcomes] == [(50, [])] * 2
    assert differing(state_of(tmp_path, 50), reference) == []
    assert leftovers(tmp_path) == []
    rows = read_rows(tmp_path / "metrics.jsonl")
    assert [row["step"] for row in rows if row["event"] == "train"] == list(range(5, 51, 5))


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
