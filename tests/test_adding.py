"""The proof that a thing is added by one file: a package of one file each, and nothing of ganzoo edited.

`tests/added/` is that package: a modality (processor, network base, reader, evaluation, templates), a family, an objective, a loss,
a penalty, two metrics, a data set and a task. Each test uses them in a process of its own, as users would.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest
from places import ROOT

ENTRY_POINTS = {
    "ganzoo.processors": {"series": "added.series_processor"},
    "ganzoo.data.readers": {"series": "added.series_reader"},
    "ganzoo.evaluation": {"series": "added.series_evaluation", "forecasting": "added.forecasting"},
    "added.metrics": {"mean_distance": "added.mean_distance"},
    "ganzoo.metrics": {"brightness": "added.brightness"},
    "ganzoo.families": {"walker": "added.walker", "forecaster": "added.forecaster"},
    "ganzoo.losses": {"softer": "added.softer"},
    "ganzoo.penalties": {"squash": "added.squash"},
    "ganzoo.objectives": {"moments": "added.moments"},
    "ganzoo.data.sets": {"waves": "added.waves"},
    "ganzoo.pipelines": {"forecasting": "added.forecasting"},
}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder with the package as pip would install it."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(ROOT / "tests" / "added", folder / "added", ignore=shutil.ignore_patterns("__pycache__"))
    info = folder / "added-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: added\nVersion: 1.0\n")
    groups = (
        "\n".join([f"[{group}]", *(f"{name} = {module}" for name, module in points.items()), ""])
        for group, points in ENTRY_POINTS.items()
    )
    (info / "entry_points.txt").write_text("\n".join(groups))
    return folder


@pytest.fixture
def ganzoo(site, tmp_path):
    """Runs `ganzoo ARGUMENTS`, or a piece of Python, with the package installed; returns what it printed."""

    def run(*arguments: object, code: str | None = None, expected: int = 0) -> str:
        command = ["-c", code] if code is not None else ["-m", "ganzoo"]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), str(ROOT)]), "HF_HUB_OFFLINE": "1"}
        done = subprocess.run(
            [sys.executable, *command, *map(str, arguments)],
            env=environment,
            cwd=tmp_path,
            text=True,
            capture_output=True,
            timeout=300,
        )
        assert done.returncode == expected, done.stdout + done.stderr
        return done.stdout if expected == 0 else done.stderr

    return run


def write_recipe(folder, **changes):
    """A run of two steps of the walker, on .series files."""
    for split in ("train", "test"):
        (folder / "series" / split).mkdir(parents=True)
        for index in range(8):
            (folder / "series" / split / f"{index}.series").write_text(" ".join(str(index / 8) for _ in range(8)))
    values = {
        "name": "walk",
        "model": {"family": "walker", "length": 8},
        "data": {"path": "series"},
        "objective": {"loss": "softer", "penalties": [{"type": "squash", "weight": 0.1, "power": 3}]},
        "training": {"steps": 2, "batch_size": 4, "precision": "fp32", "log_every": 1},
        "evaluation": {"metrics": ["mean_distance"], "num_samples": 8},
        **changes,
    }
    path = folder / "walk.yaml"
    path.write_text(json.dumps(values))
    return path


def test_a_modality_with_its_family_loss_penalty_metric_and_reader(ganzoo, tmp_path):
    assert "walker" in ganzoo("list", "--modality", "series")
    shown = ganzoo("train", write_recipe(tmp_path), "--output", "run", "--quiet")
    assert "mean_distance" in shown and "8 generated vs 8 real series[test]" in shown
    row = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[1])
    assert "discriminator/loss_squash" in row, [*row]
    ganzoo("verify", "run/pipeline")
    card = (tmp_path / "run" / "pipeline" / "README.md").read_text()
    assert "series = pipe(num_samples=4, seed=0).series" in card and "mean_distance" in card
    ganzoo("sample", "run/pipeline", "--num", 3, "--seed", 0, "--output", "drawn.csv")
    assert len((tmp_path / "drawn.csv").read_text().splitlines()) == 3
    assert "mean_distance" in ganzoo("evaluate", "run/pipeline", "--data", "series")


def test_an_objective_on_a_data_set(ganzoo, tmp_path):
    recipe = write_recipe(tmp_path, data={"dataset": "waves"}, objective={"type": "moments", "weight": 2})
    ganzoo("train", recipe, "--output", "run", "--quiet")
    row = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[1])
    assert "generator/loss_moments" in row, [*row]
    message = ganzoo("train", recipe, "objective.wieght=1", "--output", "other", expected=2)
    assert "unknown key 'objective.wieght'. Did you mean 'weight'?" in message


def test_a_task(ganzoo, tmp_path):
    recipe = write_recipe(tmp_path, model={"family": "forecaster", "length": 8})
    ganzoo("train", recipe, "--output", "run", "--quiet")
    code = """
import ganzoo
pipe = ganzoo.from_pretrained("run/pipeline")
print(type(pipe).__name__, len(pipe([1.0, 2.0], seed=0)))
(result,) = ganzoo.evaluate(pipe, data={"path": "series"})
print(result.name)
"""
    assert ganzoo(code=code).split() == ["ForecastPipeline", "10", "mean_distance"]


def test_a_metric_of_pictures(ganzoo):
    code = """
import torch
from ganzoo.metrics import evaluate_samples
dark, bright = torch.zeros(4, 1, 8, 8, dtype=torch.uint8), torch.full((4, 1, 8, 8), 255, dtype=torch.uint8)
(result,) = evaluate_samples(dark, bright, embedder="pixels", metrics=["brightness"])
print(result.value)
"""
    assert float(ganzoo(code=code)) == 1.0


def test_templates_of_a_modality(ganzoo, tmp_path):
    ganzoo("new", "strider", "--modality", "series", "--package", "strider")
    written = (tmp_path / "strider" / "src" / "ganzoo_strider" / "strider.py").read_text()
    assert '@register_family("strider", modality="series"' in written and "class StriderGenerator" in written


def test_a_misspelt_name_finds_what_was_added(ganzoo, tmp_path):
    recipe = write_recipe(tmp_path)
    assert "Did you mean 'softer'" in ganzoo("train", recipe, "objective.loss=soter", expected=2)
    assert "Did you mean 'mean_distance'" in ganzoo("train", recipe, "evaluation.metrics=[mean_distanc]", expected=2)
    assert "Did you mean 'waves'" in ganzoo("train", recipe, "data={dataset: wavs}", expected=2)
