"""Exact resume: a run that is killed at any moment and resumed ends bit-identical to one that was not."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
from training_helpers import (
    GANZOO,
    PATIENCE,
    checkpoints,
    command_in_process,
    differing,
    environment,
    leftovers,
    state_of,
    train_in_process,
)

import ganzoo
from ganzoo.errors import CheckpointError, UserError
from ganzoo.recipe.reading import load_recipe
from ganzoo.training.build import build_trainer
from ganzoo.training.state import load_checkpoint
from ganzoo.training.trackers import read_rows

KILLS = 20
RUN = {
    "name": "resumed",
    "model": {"family": "dcgan", "resolution": 8, "channels": 1, "width": 4, "latent_dim": 8, "dropout": 0.3},
    "data": {"dataset": "digits", "flip": 0.5, "crop_padding": 1},
    "objective": {"loss": "non-saturating", "penalties": [{"type": "r1", "weight": 1.0, "interval": 3}]},
    "training": {
        "steps": 60,
        "batch_size": 8,
        "precision": "fp32",
        "n_critic": 2,
        "ema_half_life": 100,
        "log_every": 5,
        "sample_every": 10,
        "num_preview_samples": 4,
        "checkpoint_every": 3,
        "keep_checkpoints": 3,
    },
    "evaluation": {"metrics": []},
}
SHORT = {"training.steps": 12}


def train(output, overrides, **options):
    return ganzoo.train(RUN, output=output, quiet=True, **overrides, **options)


@pytest.fixture(autouse=True)
def no_report(monkeypatch):
    # Drawing its curves takes longer than the runs here; test_report.py has it.
    monkeypatch.setattr("ganzoo.training.run.write_report", lambda folder: None)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """A finished run of 60 steps."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    train_in_process(RUN, folder)
    return folder


@pytest.fixture(scope="module")
def short_run(tmp_path_factory):
    """A finished run of 12 steps with the checkpoints 6, 9 and 12; and what it ended with."""
    folder = tmp_path_factory.mktemp("short")
    train_in_process(RUN, folder, SHORT)
    return folder, state_of(folder, 12)


@pytest.fixture
def run_copy(short_run, tmp_path):
    return Path(shutil.copytree(short_run[0], tmp_path / "run"))


# ------------------------------------------------------------------------------------------------------------ killed


def test_twenty_kills_change_nothing(uninterrupted, tmp_path):
    reference = state_of(uninterrupted, 60)
    duration = read_rows(uninterrupted / "metrics.jsonl")[-1]["seconds"]
    delays = random.Random(0)
    kills = kills_in_a_write = rounds = 0
    while kills < KILLS:
        # Usually one round is enough; where the machine is faster than the delays, a second run takes the rest.
        folder, ended, rounds = tmp_path / f"killed-{rounds}", False, rounds + 1
        while not ended:
            moment = None
            if kills < KILLS:
                # From the first step on, over several checkpoints; or from within a checkpoint's writing.
                moment = ("step", delays.uniform(0, duration / 8)) if kills % 2 else ("write", delays.uniform(0, 0.1))
            outcome = train_in_process(RUN, folder, resume=True, kill=moment)
            assert outcome.warnings == []  # a kill never leaves a damaged checkpoint behind
            kills += outcome.killed
            kills_in_a_write += outcome.killed and any(".tmp-step-" in name for name in leftovers(folder))
            ended = not outcome.killed
        assert differing(state_of(folder, 60), reference) == []
        assert checkpoints(folder) == ["step-00000054", "step-00000057", "step-00000060"]
        assert leftovers(folder) == []
        rows = read_rows(folder / "metrics.jsonl")
        assert [row["step"] for row in rows if row["event"] == "train"] == list(range(5, 61, 5))
        assert [row["step"] for row in rows if row["event"] == "samples"] == list(range(10, 61, 10))
        assert rows[-1]["event"] == "end" and rows[-1]["status"] == "finished"
    assert kills_in_a_write >= 3


def test_a_resumed_finished_run_is_left_as_it_is(run_copy, short_run):
    run = train(run_copy, SHORT, resume=True)
    assert run.finished and run.step == 12
    assert differing(state_of(run_copy, 12), short_run[1]) == []
    assert [row["step"] for row in read_rows(run_copy / "metrics.jsonl") if row["event"] == "train"] == [5, 10, 12]


# ----------------------------------------------------------------------------------------------------------- damaged


def cut(name, share):
    def damage(checkpoint):
        path = checkpoint / "training_state" / name
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])

    return damage


def flip_bit(name, place):
    def damage(checkpoint):
        path = checkpoint / "training_state" / name
        content = bytearray(path.read_bytes())
        content[place] ^= 1
        path.write_bytes(content)

    return damage


def write(name, content):
    return lambda checkpoint: (checkpoint / "training_state" / name).write_text(content)


DAMAGES = {
    "empty generator": cut("generator.safetensors", 0.0),
    "generator without its data": cut("generator.safetensors", 0.1),
    "half a discriminator": cut("discriminator.safetensors", 0.5),
    "average without its end": cut("ema.safetensors", 0.999),
    "half the optimisers": cut("optimizers.safetensors", 0.5),
    "flipped bit in the generator": flip_bit("generator.safetensors", -2),
    "flipped bit in the optimisers": flip_bit("optimizers.safetensors", -1000),
    "flipped bit in a tensor's name": flip_bit("optimizers.safetensors", 150),
    "deleted discriminator": lambda checkpoint: (checkpoint / "training_state/discriminator.safetensors").unlink(),
    "deleted state.json": lambda checkpoint: (checkpoint / "training_state/state.json").unlink(),
    "half a state.json": cut("state.json", 0.5),
    "another object in state.json": write("state.json", "{}"),
    "no object in state.json": write("state.json", "[1, 2]"),
    "no JSON in state.json": write("state.json", "\0\1\2"),
    "deleted training state": lambda checkpoint: shutil.rmtree(checkpoint / "training_state"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before(damage, run_copy, short_run):
    damage(run_copy / "checkpoints/step-00000012")
    run = train(run_copy, SHORT, resume=True)
    assert len(run.warnings) == 1
    assert "step-00000012 is damaged" in run.warnings[0] and "falling back to the one before it" in run.warnings[0]
    resumed = [row for row in read_rows(run_copy / "metrics.jsonl") if row["event"] == "resume"]
    assert resumed[-1]["from"] == "step-00000009"
    assert differing(state_of(run_copy, 12), short_run[1]) == []
    assert checkpoints(run_copy) == ["step-00000006", "step-00000009", "step-00000012"]


def test_another_step_in_state_json_is_noticed(run_copy, short_run):
    path = run_copy / "checkpoints/step-00000012/training_state/state.json"
    text = path.read_text()
    assert '"step": 12' in text
    path.write_text(text.replace('"step": 12', '"step": 10'))
    run = train(run_copy, SHORT, resume=True)
    assert len(run.warnings) == 1
    assert differing(state_of(run_copy, 12), short_run[1]) == []


def test_two_damaged_checkpoints_fall_back_to_the_third(run_copy, short_run):
    DAMAGES["half a discriminator"](run_copy / "checkpoints/step-00000012")
    DAMAGES["half a state.json"](run_copy / "checkpoints/step-00000009")
    run = train(run_copy, SHORT, resume=True)
    assert [warning.split()[1] for warning in run.warnings] == ["step-00000012", "step-00000009"]
    assert differing(state_of(run_copy, 12), short_run[1]) == []


def test_with_all_checkpoints_damaged_nothing_is_overwritten(run_copy):
    for checkpoint in (run_copy / "checkpoints").iterdir():
        DAMAGES["half the optimisers"](checkpoint)
    before = checkpoints(run_copy)
    with pytest.raises(CheckpointError, match="none of the 3 checkpoints .* can be read .* another output folder"):
        train(run_copy, SHORT, resume=True)
    assert checkpoints(run_copy) == before


def test_damaged_checkpoints_do_not_crowd_out_good_ones(run_copy):
    # Fallen back, the run is at steps below those of the damaged checkpoints for a while.
    newest, middle, oldest = sorted((run_copy / "checkpoints").iterdir(), reverse=True)
    for checkpoint in (newest, middle):
        DAMAGES["half the optimisers"](checkpoint)
    step = int(oldest.name.removeprefix("step-"))
    train(run_copy, {**SHORT, "training.steps": step + 1}, resume=True)
    assert checkpoints(run_copy) == [oldest.name, f"step-{step + 1:08d}"]


def is_damaged(checkpoint):
    trainer = build_trainer(load_recipe(RUN, SHORT), torch.device("cpu"))[1]
    before = {name: module.state_dict() for name, module in trainer.modules.items()}
    before = {name: {key: tensor.clone() for key, tensor in state.items()} for name, state in before.items()}
    try:
        load_checkpoint(trainer, checkpoint)
    except CheckpointError:
        # Everything is checked before anything is changed.
        assert trainer.step == 0
        for name, module in trainer.modules.items():
            assert all(torch.equal(tensor, before[name][key]) for key, tensor in module.state_dict().items())
        return True
    return False


def test_every_flipped_bit_of_the_training_state_is_noticed(run_copy):
    checkpoint = run_copy / "checkpoints/step-00000012"
    assert not is_damaged(checkpoint)
    places = random.Random(1)
    files = sorted((checkpoint / "training_state").iterdir())
    assert len(files) == 5
    for path in files * 6:
        content = path.read_bytes()
        damaged = bytearray(content)
        # Half of the flips in the first kilobyte: headers are small and easily missed.
        place = places.randrange(min(1000, len(content)) if places.random() < 0.5 else len(content))
        damaged[place] ^= 1 << places.randrange(8)
        path.write_bytes(damaged)
        assert is_damaged(checkpoint), f"bit flip at byte {place} of {path.name}"
        path.write_bytes(content)


def test_a_damaged_public_part_does_not_stop_a_resume(run_copy, short_run):
    (run_copy / "checkpoints/step-00000012/model.safetensors").write_bytes(b"")
    shutil.rmtree(run_copy / "pipeline")
    assert train(run_copy, SHORT, resume=True).warnings == []
    assert (run_copy / "pipeline/model.safetensors").read_bytes() == short_run[1]["pipeline/model.safetensors"]


@pytest.mark.parametrize(
    "change",
    [{"model.width": 5}, {"training.ema_half_life": None}, {"generator_optimizer.type": "rmsprop"}],
    ids=["model", "average", "optimizer"],
)
def test_a_run_of_another_model_is_refused_and_kept(change, run_copy, short_run):
    with pytest.raises(UserError, match="another model, average or optimiser"):
        train(run_copy, {**SHORT, **change}, resume=True)
    assert differing(state_of(run_copy, 12), short_run[1]) == []
    assert len(checkpoints(run_copy)) == 3


# ------------------------------------------------------------------------------------------------------ housekeeping


@pytest.mark.parametrize("keep", [1, 2])
def test_only_the_newest_checkpoints_are_kept(keep, tmp_path):
    train(tmp_path, {**SHORT, "training.keep_checkpoints": keep})
    assert checkpoints(tmp_path) == ["step-00000009", "step-00000012"][-keep:]


def test_leftovers_of_killed_writers_are_removed(run_copy):
    left = [
        run_copy / "checkpoints/.tmp-step-00000015-abcdefgh/training_state",
        run_copy / "checkpoints/.tmp-old-step-00000009-abcdefgh/step-00000009",
        run_copy / ".tmp-pipeline-abcdefgh/discriminator",
    ]
    for folder in left:
        folder.mkdir(parents=True)
        (folder / "half").write_bytes(b"half")
    (run_copy / "samples/.tmp-step-00000010.png-abcdefgh").write_bytes(b"half")
    (run_copy / ".tmp-mine").write_text("not ganzoo's")
    train(run_copy, SHORT, resume=True)
    assert leftovers(run_copy) == [".tmp-mine"]


def test_the_optimisers_state_gets_back_its_memory_format(run_copy):
    # A fused kernel refuses a moment whose memory format is not that of its parameter.
    trainer = build_trainer(load_recipe(RUN, SHORT), torch.device("cpu"))[1]
    load_checkpoint(trainer, run_copy / "checkpoints/step-00000012")
    moments = 0
    for optimizer in trainer.optimizers.values():
        for parameter, state in optimizer.state.items():
            for value in state.values():
                if value.shape == parameter.shape:
                    moments += 1
                    assert value.stride() == parameter.stride()
    assert moments == 2 * sum(1 for network in trainer.networks.values() for _ in network.parameters())


# ------------------------------------------------------------------------------------------------- other ways to train

VARIANTS = {
    "accumulation, cosine, clip_norm": {
        "training.accumulation": 2,
        "generator_optimizer": {"schedule": {"type": "cosine", "warmup": 3}, "clip_norm": 0.5},
        "discriminator_optimizer": {"schedule": {"type": "cosine"}, "clip_norm": 0.5},
    },
    "gradient penalty, instance noise, DiffAugment": {
        "training.n_critic": 1,
        "objective": {
            "loss": "wasserstein",
            "penalties": [{"type": "gradient-penalty", "weight": 10.0}, {"type": "drift", "weight": 0.001}],
            "instance_noise": 0.2,
            "augment": ["color", "translation", "cutout"],
        },
    },
    "conditional": {"model.num_classes": 10},
    "ada, top-k, DRAGAN, minibatch discrimination": {
        "model.minibatch_discrimination": 4,
        "objective": {
            "loss": "hinge",
            "top_k": 0.5,
            "penalties": [{"type": "dragan", "weight": 10.0}],
            "ada": {"target": 0.01, "speed": 300, "interval": 3, "probability": 0.5},
        },
    },
    "bf16, sgd and rmsprop, relativistic": {
        "training.precision": "bf16",
        "generator_optimizer": {"type": "sgd", "momentum": 0.9, "learning_rate": 0.01},
        "discriminator_optimizer": {"type": "rmsprop", "momentum": 0.5},
        "objective.loss": "relativistic",
    },
    "fp16, adamw, spectral norm, no average": {
        "training.precision": "fp16",
        "model.discriminator_norm": "spectral",
        "generator_optimizer.type": "adamw",
        "training.ema_half_life": None,
    },
    "phases": {
        "phases": [
            {"name": "warm-up", "steps": 5, "updates": {"discriminator": 1}},
            {"name": "adversarial", "updates": {"generator": 1, "discriminator": 2}},
        ]
    },
}


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_every_way_to_train_resumes_exactly(variant, tmp_path):
    overrides = {"training.steps": 8, "training.checkpoint_every": 4, "training.sample_every": None, **variant}
    train(tmp_path, overrides)
    reference = state_of(tmp_path, 8)
    # What a kill between the steps 4 and 8 leaves.
    shutil.rmtree(tmp_path / "checkpoints/step-00000008")
    shutil.rmtree(tmp_path / "pipeline")
    run = train(tmp_path, overrides, resume=True)
    rows = read_rows(tmp_path / "metrics.jsonl")
    assert run.warnings == [] and [row["from"] for row in rows if row["event"] == "resume"] == ["step-00000004"]
    assert differing(state_of(tmp_path, 8), reference) == []


def test_a_resumed_run_may_change_its_learning_rate_and_length(run_copy, short_run):
    longer = {**SHORT, "training.steps": 15, "generator_optimizer.learning_rate": 1e-3}
    assert train(run_copy, longer, resume=True).step == 15
    rows = [row for row in read_rows(run_copy / "metrics.jsonl") if row["event"] == "train"]
    assert rows[-1]["step"] == 15 and rows[-1]["generator/learning_rate"] <= 1e-3


# ----------------------------------------------------------------------------------------------------- asked to stop


def test_sigterm_and_ctrl_c_save_and_the_resumed_run_is_exact(uninterrupted, tmp_path):
    overrides = {"training.checkpoint_every": 1000, "training.sample_every": None}
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(load_recipe(RUN, overrides).to_yaml())
    folder = tmp_path / "stopped"
    stopped_at = [0]
    for asked in (signal.SIGTERM, signal.SIGINT):
        command = [*GANZOO, "train", str(recipe), "--output", str(folder), "--resume"]
        process = subprocess.Popen(
            command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        wait_for_row(process, folder / "metrics.jsonl", "train", after=stopped_at[-1])
        process.send_signal(asked)
        output, errors = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, errors
        end = read_rows(folder / "metrics.jsonl")[-1]
        assert (end["event"], end["status"]) == ("end", "interrupted")
        recipe = folder / "recipe.yaml"  # with every override of the first command in it
        assert f"stopped at step {end['step']}; " in output
        assert f"Go on with: ganzoo train {recipe} --output {folder} --resume\n" in output
        assert stopped_at[-1] < end["step"] < 60
        assert checkpoints(folder)[-1] == f"step-{end['step']:08d}"
        stopped_at.append(end["step"])
    run = train(folder, overrides, resume=True)
    assert run.finished
    assert differing(state_of(folder, 60), state_of(uninterrupted, 60)) == []
    rows = read_rows(folder / "metrics.jsonl")
    assert [row["step"] for row in rows if row["event"] == "train"] == list(range(5, 61, 5))


def wait_for_row(process, path, event, *, after):
    deadline = time.monotonic() + PATIENCE
    while not any(row["event"] == event and row["step"] > after for row in read_rows(path)):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline, "the run hangs"
        time.sleep(0.005)


# --------------------------------------------------------------------------------------------------------- disk full


def test_a_checkpoint_that_cannot_be_written_leaves_the_earlier_ones(tmp_path):
    overrides = {**SHORT, "model.width": 24, "training.steps": 6, "training.sample_every": None}
    train(tmp_path, overrides)
    earlier = state_of(tmp_path, 6)
    recipe = tmp_path / "recipe.yaml"
    arguments = ["train", str(recipe), "training.steps=12", "--output", str(tmp_path), "--resume", "--quiet"]
    code, errors = command_in_process(arguments, largest_file=8000)
    assert code == 1
    assert errors.count("\n") == 1 and errors.startswith("ganzoo: cannot write ") and "File too large" in errors
    assert checkpoints(tmp_path) == ["step-00000003", "step-00000006"]
    assert leftovers(tmp_path) == []
    assert differing(state_of(tmp_path, 6), earlier) == []
    # With room again, the run goes on from there.
    assert train(tmp_path, {**overrides, "training.steps": 12}, resume=True).warnings == []


FULL_DISK = """
mount -t tmpfs -o size=8m tmpfs {disk} || exit 77
cp -a {run}/. {disk}
head -c $(( $(df --output=avail -k {disk} | tail -n 1) * 1024 - 65536 )) /dev/zero > {disk}/everything-else
{ganzoo} train {disk}/recipe.yaml training.steps=12 --output {disk} --resume --quiet
code=$?
rm {disk}/everything-else
cp -a {disk}/. {after}
exit $code
"""


def test_a_full_disk_is_one_sentence_and_leaves_the_earlier_checkpoints(tmp_path):
    disk, run, after = (tmp_path / name for name in ("disk", "run", "after"))
    disk.mkdir(), after.mkdir()
    train(run, {**SHORT, "training.steps": 6, "training.sample_every": None})
    script = FULL_DISK.format(disk=disk, run=run, after=after, ganzoo=" ".join(GANZOO))
    if shutil.which("unshare") is None:
        pytest.skip("no unshare to mount a small disk with")
    # A mount of its own name space: nobody else sees it, and it goes with the process.
    done = subprocess.run(["unshare", "-rm", "sh", "-c", script], capture_output=True, text=True, env=environment())
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("no permission to mount a small disk")
    assert done.returncode == 1, done.stderr
    assert done.stderr.count("\n") == 1 and "the disk is full; free some space" in done.stderr
    assert leftovers(after) == []
    assert differing(state_of(after, 6), state_of(run, 6)) == []
    assert train(after, {**SHORT, "training.sample_every": None}, resume=True).warnings == []
