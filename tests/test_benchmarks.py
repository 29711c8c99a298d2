"""Benchmarks are run by hand; a test can say in a second that each can still be imported, and that its recipes are recipes."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
import torch

import ganzoo
from ganzoo.recipe.reading import load_recipe

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.py")), ids=lambda file: file.stem)
def test_a_benchmark_can_be_imported(file, monkeypatch):
    module = imported(file.stem, monkeypatch)
    assert module.__doc__ and (hasattr(module, "main") or file.stem in ("timing", "training_runs"))


@pytest.mark.parametrize("images", [12_800, 102_400])
def test_every_family_of_the_cifar_table_sees_the_same_number_of_pictures(images, monkeypatch):
    module = imported("cifar10", monkeypatch)
    for entry in module.ENTRIES.values():
        recipe = load_recipe(entry.recipe, module.overrides(entry, images, "cifar10"))
        assert recipe.training.steps * recipe.training.n_critic * recipe.training.batch_size == images
        assert sum(phase.steps or 0 for phase in recipe.phases) < recipe.training.steps, "the last phase has some left"


@pytest.mark.parametrize("data", ["ring", "grid"])
def test_the_plain_gan_of_the_modes_is_pacgans(data, monkeypatch):
    module = imported("modes", monkeypatch)
    recipe = load_recipe(f"vanilla-{data}", module.PLAIN)
    generator, discriminator = ganzoo.create(recipe.model.pop("family"), **recipe.model)
    # Lin et al., 2018, section 4.1: z of N(0, I_2); four layers of 400, batch normalised; three of 200 maxouts of 5 pieces.
    widths = 2 * 400 + 3 * 400 * 400 + 4 * 3 * 400 + 400 * 2 + 2
    assert sum(p.numel() for p in generator.parameters()) == widths
    maxouts = (2 + 1) * 1000 + 2 * (200 + 1) * 1000 + 200 + 1
    assert sum(p.numel() for p in discriminator.parameters()) == maxouts
    latents = generator.sample_latents(500, generator=torch.Generator().manual_seed(0))
    assert latents.shape == (500, 2) and len(latents.unique()) == 1000, "normal, not -1 or 1"


def imported(name, monkeypatch):
    file = FOLDER / f"{name}.py"
    monkeypatch.syspath_prepend(str(FOLDER))
    spec = importlib.util.spec_from_file_location(f"benchmark_{file.stem}", file)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module
