"""Shared by all tests: a Hub of our own, a cache of our own, one thread, tiny trained runs."""

# First, before anything imports huggingface_hub: it sets HF_ENDPOINT.
from hub_fixtures import HOME, hub  # noqa: F401, I001

import os
from pathlib import Path

import pytest


# One thread a process: the suite runs in several processes, and results do not depend on the number of cores.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["GANZOO_CACHE"] = str(HOME / "ganzoo-cache")

TINY_RUN = {
    "model": {"family": "dcgan", "resolution": 8, "channels": 1, "width": 4, "latent_dim": 8},
    "data.processor": {"fit": "crop"},
    "training.steps": 4,
    "training.batch_size": 8,
    "training.precision": "fp32",
    "training.log_every": 2,
    "training.sample_every": 2,
    "training.checkpoint_every": 2,
    "training.num_preview_samples": 4,
    "evaluation": {"metrics": []},
}


@pytest.fixture
def tiny_run():
    """Overrides that turn the `dcgan-digits` recipe into a run of a second."""
    return dict(TINY_RUN)


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory):
    """A finished checkpoint folder of a tiny DCGAN; tests must not change it."""
    import ganzoo

    folder = tmp_path_factory.mktemp("tiny-run")
    ganzoo.train("dcgan-digits", output=folder, quiet=True, **TINY_RUN)
    return folder / "pipeline"


@pytest.fixture
def ok(capsys):
    """Runs a command that must succeed; returns what it printed to stdout."""

    from ganzoo.cli import run

    def command(*arguments: object) -> str:
        code = run([str(argument) for argument in arguments])
        shown = capsys.readouterr()
        assert code == 0, shown.err
        return shown.out

    return command


@pytest.fixture
def fails(capsys):
    """Runs a command that must fail with this code and one line on stderr, in which every `said` occurs; returns it."""

    from ganzoo.cli import run

    def command(*arguments: object, code: int = 2, said: tuple[str, ...] = ()) -> str:
        assert run([str(argument) for argument in arguments]) == code
        message = capsys.readouterr().err
        assert message.startswith("ganzoo: ") and message.count("\n") == 1, message
        assert "Traceback" not in message and "unexpected" not in message, message
        assert all(part in message for part in said), message
        return message

    return command


@pytest.fixture
def inside(tmp_path, monkeypatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
