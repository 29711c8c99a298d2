"""What the tests of hostile input share: generated cases that are the same every time, and an end to tests that hang."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings

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


@pytest.fixture(autouse=True)
def no_hang() -> Iterator[None]:
    """In the modules that import it."""

    def stop(number: int, frame: Any) -> None:
        raise AssertionError(f"still running after {SECONDS} seconds")

    previous = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, previous)
