"""What the tests of hostile input share: checkpoints whose files are replaced, and generated cases that are the same every time."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

import ganzoo
from ganzoo.errors import MAX_MESSAGE, GanzooError
from ganzoo.registry import get_family

FAMILIES = ganzoo.list_families(kind="all")
WEIGHTS = "model.safetensors"
SECONDS = 120  # a single test that takes longer hangs


class Cases:
    """So many generated cases of each test: `@cases(150)`; `numbers` says of which test how many."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def __call__(self, number: int) -> Callable[[Any], Any]:
        def decorate(test: Any) -> Any:
            self.numbers[test.__name__] = number
            own = settings(
                max_examples=number,
                derandomize=True,
                deadline=None,
                database=None,
                phases=[Phase.generate, Phase.shrink],
                suppress_health_check=list(HealthCheck),
            )
            return own(test)

        return decorate


NUMBERS = st.sampled_from([-1, 0, 1, 3, 2**31, 2**40, 2**63, 2**64, 10**18, 10**30, 0.5, float("nan"), float("inf")])
TEXTS = st.sampled_from(["", "..", "/etc/passwd", "a\0b", "line\nbreak", "\x1b[31mred", "\ud800", "é", "x" * 3000])
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | NUMBERS | TEXTS
JUNK = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8) | TEXTS, inner, max_size=4),
)


@dataclass(frozen=True)
class Checkpoint:
    """An intact checkpoint folder, whose files a test may replace for a moment."""

    family: str
    folder: Path

    @contextlib.contextmanager
    def replaced(self, name: str, content: bytes) -> Iterator[None]:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        original = path.read_bytes() if path.exists() else None
        path.write_bytes(content)
        try:
            yield
        finally:
            if original is None:
                path.unlink()
            else:
                path.write_bytes(original)

    def read(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()


@dataclass(frozen=True)
class Target:
    """One network of a checkpoint."""

    checkpoint: Checkpoint
    role: str
    state: dict[str, torch.Tensor]

    def __repr__(self) -> str:
        return f"<{self.role} of {self.checkpoint.family}>"

    def file(self, name: str) -> str:
        return f"discriminator/{name}" if self.role == "discriminator" else name

    def load(self) -> Any:
        network = get_family(self.checkpoint.family).networks[self.role]
        return network.from_pretrained(self.checkpoint.folder)

    def loads_intact(self) -> bool:
        """Whether the network loads as it was saved; if not, the error must be one sentence that names the file."""
        try:
            network = self.load()
        except GanzooError as error:
            assert is_sentence(error), str(error)
            return False
        loaded = network.state_dict()
        assert set(loaded) == set(self.state)
        assert all(torch.equal(loaded[name], tensor) for name, tensor in self.state.items())
        return True


def is_sentence(error: GanzooError) -> bool:
    message = str(error)
    return bool(message) and message.isprintable() and len(message) <= MAX_MESSAGE


def refused(action: Callable[[], Any], *named: str, kind: type[GanzooError] = GanzooError) -> str:
    """Runs what must fail, and returns its one sentence, in which every `named` thing occurs."""
    with pytest.raises(kind) as caught:
        action()
    message = str(caught.value)
    assert is_sentence(caught.value), message
    assert all(name in message for name in named), message
    return message
