"""Intact checkpoints of every family, and an end to tests that hang."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hostile_helpers import FAMILIES, SECONDS, Checkpoint, Target
from training_helpers import fitted_processor

from ganzoo.pipelines import pipeline_class
from ganzoo.recipe.reading import load_recipe
from ganzoo.registry import get_family


@pytest.fixture(scope="session")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Checkpoint]:
    """A complete checkpoint of every registered family, with recipe and metrics."""
    root = tmp_path_factory.mktemp("zoo")
    metric = {
        "name": "kid",
        "value": 0.1,
        "num_real": 10,
        "num_generated": 10,
        "embedder": "pixels",
        "dataset": "digits",
    }
    found = {}
    for name in FAMILIES:
        family = get_family(name)
        config = family.tiny_config()
        torch.manual_seed(0)
        networks = {role: network(config) for role, network in family.networks.items()}
        recipe = {"name": f"{name}-test", "model": {"family": name, **family.tiny}, "training": {"steps": 2}}
        pipeline = pipeline_class(networks[family.main_role])(
            networks[family.main_role],
            fitted_processor(config),
            discriminator=networks.get("discriminator"),
            recipe=load_recipe(recipe),
            metrics=[{**metric, "split": "test", "seed": 0}],
            training={"steps": 2, "batch_size": 4},
        )
        found[name] = Checkpoint(name, pipeline.save_pretrained(root / name))
    return found


@pytest.fixture(scope="session")
def targets(zoo: dict[str, Checkpoint]) -> list[Target]:
    found = []
    for checkpoint in zoo.values():
        for role, network in get_family(checkpoint.family).networks.items():
            state = network.from_pretrained(checkpoint.folder).state_dict()
            found.append(Target(checkpoint, role, {name: tensor.clone() for name, tensor in state.items()}))
    return found


@pytest.fixture(autouse=True)
def no_hang() -> Iterator[None]:
    def stop(number: int, frame: Any) -> None:
        raise AssertionError(f"still running after {SECONDS} seconds")

    previous = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, previous)
