"""The loopback Hub as a fixture.

`huggingface_hub` reads its endpoint when it is imported, so this module starts the server and sets the environment
when it is imported itself. `conftest.py` must therefore begin with, before any import of ganzoo or huggingface_hub:

    from hub_fixtures import hub  # noqa: F401  (a fixture; imported first, because it sets HF_ENDPOINT)

No test can then reach the real Hub, or the caches and the token of the person who runs the tests.
"""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_server import HubServer
from places import ROOT

SERVER = HubServer().start()
HOME = Path(tempfile.mkdtemp(prefix="ganzoo-tests-"))
os.environ.update(
    HF_ENDPOINT=SERVER.endpoint,
    HF_HOME=str(HOME),
    HF_TOKEN="hf_alice",
    HF_HUB_DISABLE_XET="1",
    HF_HUB_DISABLE_TELEMETRY="1",
    HF_HUB_DISABLE_PROGRESS_BARS="1",
    NO_PROXY="127.0.0.1",
)
for variable in ("HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_XET_CACHE", "HF_ASSETS_CACHE", "HF_TOKEN_PATH"):
    os.environ.pop(variable, None)
atexit.register(shutil.rmtree, HOME, ignore_errors=True)


class Hub:
    """An empty Hub and an empty cache for one test.

    Attributes:
        server: The running server: its requests, and its disturbances.
        endpoint: Its URL.
        store: What it holds. Alice (`hf_alice`, whose token the tests use) also belongs to the organisation `zoo`;
            Bob (`hf_bob`) does not.
        home: The `HF_HOME` of the test's subprocesses, whose cache this process shares during the test.
    """

    def __init__(self, home: Path):
        self.server, self.endpoint, self.store = SERVER, SERVER.endpoint, SERVER.store
        self.home = home

    @property
    def cache(self) -> Path:
        return self.home / "hub"

    def environment(self, **changes: str | None) -> dict[str, str]:
        """The environment of a subprocess; a variable set to None is left out."""
        variables = {**os.environ, "HF_HOME": str(self.home), **changes}
        return {name: value for name, value in variables.items() if value is not None}

    def start(self, *arguments: str, **changes: str | None) -> subprocess.Popen:
        """Starts `python ARGUMENTS` and does not wait for it."""
        return subprocess.Popen(
            [sys.executable, *arguments],
            env=self.environment(**changes),
            cwd=ROOT,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(self, *arguments: str, **changes: str | None) -> subprocess.CompletedProcess:
        """Runs `python ARGUMENTS`, e.g. `run("-m", "ganzoo", "list")`, and returns how it ended."""
        process = self.start(*arguments, **changes)
        stdout, stderr = process.communicate(timeout=120)
        return subprocess.CompletedProcess(arguments, process.returncode, stdout, stderr)

    def python(self, code: str, **changes: str | None) -> str:
        """Runs a piece of Python that must succeed, and returns what it printed."""
        done = self.run("-c", code, **changes)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The Hub on 127.0.0.1, emptied for this test."""
    from huggingface_hub import constants

    SERVER.reset()
    fresh = Hub(tmp_path / "hf-home")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(fresh.cache))
    yield fresh
    SERVER.reset()
