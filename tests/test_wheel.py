"""What a user of the wheel gets: the package with recipes, catalogue and templates, and none of the rest."""

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


def test_wheel_carries_recipes_catalogue_and_templates_but_no_weights(unpacked):
    names = {path.relative_to(unpacked).as_posix() for path in unpacked.rglob("*") if path.is_file()}
    recipes = {f"ganzoo/_recipes/{path.relative_to(ROOT / 'recipes')}" for path in (ROOT / "recipes").rglob("*.yaml")}
    assert recipes <= names
    assert {"ganzoo/_hub/catalogue.json", "ganzoo/_hub/card_template.md"} <= names
    assert not [name for name in names if name.endswith(".safetensors") or name.startswith(("tests/", "benchmarks/"))]


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
