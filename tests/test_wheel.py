"""What a user of the wheel gets: the package with recipes, catalogue, templates and two checkpoints, and none of the rest."""

import os
import re
import subprocess
import sys
import zipfile

import pytest
from places import ROOT

from ganzoo.version import DISTRIBUTION


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    """The wheel of this checkout, built and unzipped."""
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def test_wheel_carries_recipes_catalogue_templates_and_two_small_checkpoints(unpacked):
    names = {path.relative_to(unpacked).as_posix() for path in unpacked.rglob("*") if path.is_file()}
    recipes = {f"ganzoo/_recipes/{path.relative_to(ROOT / 'recipes')}" for path in (ROOT / "recipes").rglob("*.yaml")}
    assert recipes <= names
    assert {"ganzoo/_hub/catalogue.json", "ganzoo/_hub/card_template.md"} <= names
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/"))]
    carried = {
        name: (unpacked / name).stat().st_size
        for name in names
        if name.startswith("ganzoo/_hub/") and name.count("/") > 2
    }
    assert {name.split("/")[2] for name in carried} == {"stylegan2-mnist", "hifigan-digits"}
    assert sum(carried.values()) < 4_000_000
    for name in carried:
        published = ROOT / "hub" / name.removeprefix("ganzoo/_hub/")
        assert (unpacked / name).read_bytes() == published.read_bytes()


OFFLINE = """
import torch, ganzoo
pipe = ganzoo.from_pretrained("stylegan2-mnist")
print(pipe(num_samples=2, seed=0, output_type="pt").images.shape, pipe.discriminator, pipe.recipe.name)
pipe = ganzoo.from_pretrained("hifigan-digits")
print(pipe.vocode(torch.full((1, pipe.config.n_mels, 8), -5.0)).audios.shape[0])
print([check.name for name in ("stylegan2-mnist", "hifigan-digits") for check in ganzoo.verify(name) if not check.passed])
"""


def test_wheel_samples_without_network(unpacked, tmp_path):
    def run(*command):
        variables = {"PYTHONPATH": str(unpacked), "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "empty")}
        done = subprocess.run(
            [sys.executable, *command], cwd=tmp_path, env={**os.environ, **variables}, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    run("-m", "ganzoo", "sample", "stylegan2-mnist", "--num", "4", "--seed", "0", "--output", "grid.png")
    assert (tmp_path / "grid.png").read_bytes()[1:4] == b"PNG"
    pictures, sounds, unchecked = run("-c", OFFLINE)
    assert pictures == "torch.Size([2, 1, 32, 32]) None stylegan2-mnist" and sounds == "1"
    assert unchecked == "['discriminator']", "the other one is on the Hub"


def test_wheel_works_away_from_the_checkout(unpacked, tmp_path):
    code = (
        "import ganzoo, ganzoo.utils.resources as r; print(ganzoo.__file__); "
        "print(ganzoo.load_recipe('dcgan-digits').name, len(ganzoo.list_models(pretrained=True))); "
        "print(ganzoo.create('dcgan', resolution=8, width=4)[0].config.width)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": str(unpacked)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    where, recipe, width = done.stdout.splitlines()
    assert where.startswith(str(unpacked))
    assert recipe.startswith("dcgan-digits ")
    assert width == "4"


def test_the_name_of_the_distribution_is_that_of_the_project():
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert re.findall(r'^name = "([\w-]+)"', project, re.MULTILINE) == [DISTRIBUTION]
    assert re.findall(r'^dev = \["([\w-]+)\[', project, re.MULTILINE) == [DISTRIBUTION]


HINT = re.compile(r"""pip install (?:-U |--upgrade )?["']?([A-Za-z][\w.-]*)""")


def test_no_hint_installs_a_package_of_somebody_else():
    """On the package index, the name `ganzoo` is a stranger's: hints come from `ganzoo.version.install_command`."""
    assert HINT.findall("pip install ganzoo; pip install -U 'ganzoo[x]'; pip install -e .") == ["ganzoo", "ganzoo"]
    for folder in ("", "ganzoo", "hub", "docs", "recipes", "benchmarks"):
        for path in (ROOT / folder).rglob("*") if folder else ROOT.iterdir():
            if path.is_file() and path.suffix in {"", ".py", ".md", ".toml", ".yaml", ".template", ".json"}:
                assert set(HINT.findall(path.read_text(encoding="utf-8"))) <= {DISTRIBUTION}, path
