"""`ganzoo new`: what it writes passes the generic suite at once, in a checkout and as a package."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from places import ROOT

from ganzoo.cli import run
from ganzoo.version import DISTRIBUTION

every_modality = pytest.mark.parametrize("modality", ["image", "audio", "text"])


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what a clone holds, so that the tests can add to it."""
    copy = tmp_path / "checkout"
    for folder in ("ganzoo", "recipes", "tests"):
        shutil.copytree(
            ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__", "my_gan*", "my-gan*")
        )
    (copy / "hub").mkdir()
    for file in [*ROOT.glob("hub/*.json"), *ROOT.glob("hub/*.md")]:
        shutil.copy(file, copy / "hub")
    shutil.copy(ROOT / "pyproject.toml", copy)
    return copy


def python(*arguments: str, cwd: Path, path: list[Path]) -> subprocess.CompletedProcess:
    """Runs Python with the folders of `path` before everything that is installed."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path)), "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=environment, text=True, capture_output=True, timeout=300
    )


def new(*arguments: str, checkout: Path, cwd: Path | None = None) -> subprocess.CompletedProcess:
    return python("-m", "ganzoo", "new", *arguments, cwd=cwd or checkout, path=[checkout])


def run_generic_suite(family: str, *, checkout: Path, path: list[Path]) -> dict[str, list[str]]:
    """Runs `pytest tests/test_families.py -k FAMILY`, which must succeed; returns outcome -> names of the tests."""
    arguments = ("-m", "pytest", "tests/test_families.py", "-k", family, "-v", "-p", "no:cacheprovider")
    done = python(*arguments, cwd=checkout, path=[checkout, *path])
    assert done.returncode == 0, done.stdout + done.stderr
    outcomes: dict[str, list[str]] = {"PASSED": [], "SKIPPED": []}
    for name, outcome in re.findall(r"^tests/test_families.py::(\S+) ([A-Z]+)", done.stdout, re.MULTILINE):
        outcomes[outcome].append(name)
    return outcomes


def generic_tests(modality: str) -> set[str]:
    """The functions of the generic suite that are about GANs of a modality."""
    source = (ROOT / "tests" / "test_families.py").read_text(encoding="utf-8")
    found = re.findall(r"^def (test_\w+)\((.*?)\)", source, re.MULTILINE)
    return {
        name
        for name, arguments in found
        if "classifier" not in name and (modality == "text" or "text_config" not in arguments)
    }


def files_below(folder: Path) -> set[str]:
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@every_modality
def test_in_a_checkout_the_generic_suite_accepts_it_at_once(checkout, modality):
    before = files_below(checkout)
    done = new("my-gan", "--modality", modality, checkout=checkout)
    assert done.returncode == 0, done.stderr
    code = f"ganzoo/families/{modality}/my_gan.py"
    written = {code, f"recipes/{modality}/my-gan.yaml"}
    assert files_below(checkout) - before == written
    for expected in (*written, "pytest tests/test_families.py -k my-gan", "ganzoo train my-gan", "--dry-run"):
        assert expected in done.stdout

    outcomes = run_generic_suite("my-gan", checkout=checkout, path=[])
    # All of the generic tests, most of them with and without classes; nothing is skipped.
    assert {name.partition("[")[0] for name in outcomes["PASSED"]} == generic_tests(modality)
    assert outcomes["SKIPPED"] == []
    for variant in ("unconditional", "conditional"):
        assert sum(f"[my-gan-{variant}" in name for name in outcomes["PASSED"]) >= 15

    # What it wrote is as tidy as the rest of the house.
    for arguments in (("check",), ("format", "--check")):
        tidy = python("-m", "ruff", *arguments, code, cwd=checkout, path=[])
        assert tidy.returncode == 0, tidy.stdout


def test_a_name_that_is_taken_is_refused(checkout):
    before = files_below(checkout)
    for name, message in [
        ("dcgan", "family 'dcgan' exists already"),
        ("image-classifier", "family 'image-classifier' exists already"),
        ("dcgan-digits", "a recipe 'dcgan-digits' exists already"),
    ]:
        done = new(name, "--modality", "image", checkout=checkout)
        assert done.returncode == 2
        assert message in done.stderr and "Traceback" not in done.stderr
    assert files_below(checkout) == before


def test_failure_leaves_nothing_behind(checkout):
    before = files_below(checkout)
    recipes = checkout / "recipes" / "image"
    shutil.rmtree(recipes)
    recipes.write_text("a file where the folder of the recipes should be")
    before = files_below(checkout)
    done = new("my-gan", "--modality", "image", checkout=checkout)
    assert done.returncode == 1 and "cannot write" in done.stderr
    assert files_below(checkout) == before


def test_another_checkout_than_the_running_one_is_refused(checkout, monkeypatch, capsys):
    monkeypatch.chdir(checkout / "tests")
    assert run(["new", "my-gan", "--modality", "image"]) == 2
    message = capsys.readouterr().err
    assert f"{checkout} is a checkout of ganzoo, but this ganzoo runs from" in message and "--package" in message
    assert not (checkout / "recipes" / "image" / "my-gan.yaml").exists()


def install(package: Path, site: Path) -> None:
    """What `pip install` does with a pure package, from the metadata in its pyproject.toml."""
    metadata = (package / "pyproject.toml").read_text(encoding="utf-8")
    (entry_point,) = re.findall(r'\[project.entry-points."ganzoo.families"\]\n([\w-]+) = "([\w.]+)"\n', metadata)
    (source,) = re.findall(r'packages = \["([\w/]+)"\]', metadata)
    shutil.copytree(package / source, site / Path(source).name)
    info = site / "installed-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: installed\nVersion: 0.1.0\n")
    (info / "entry_points.txt").write_text("[ganzoo.families]\n{} = {}\n".format(*entry_point))


@every_modality
def test_a_package_is_found_by_its_entry_point_and_accepted(tmp_path, monkeypatch, capsys, modality):
    monkeypatch.chdir(tmp_path)
    assert run(["new", "my-gan", "--modality", modality]) == 0
    assert "pip install -e ." in capsys.readouterr().out
    package = tmp_path / "my-gan"
    assert files_below(package) == {
        "pyproject.toml",
        "README.md",
        "src/ganzoo_my_gan/__init__.py",
        "src/ganzoo_my_gan/my_gan.py",
        "recipes/my-gan.yaml",
    }
    assert f'dependencies = ["{DISTRIBUTION}>=' in (package / "pyproject.toml").read_text(encoding="utf-8")
    assert not [path for path in files_below(package) if "$" in (package / path).read_text(encoding="utf-8")]
    install(package, tmp_path / "site")
    outcomes = run_generic_suite("my-gan", checkout=ROOT, path=[tmp_path / "site"])
    assert outcomes["SKIPPED"] == ["test_family_has_a_recipe[my-gan]"]  # its recipe is not among those of ganzoo
    passed = {name.partition("[")[0] for name in outcomes["PASSED"]}
    assert passed == {name for name in generic_tests(modality) if "recipe" not in name}

    # With the package installed, its recipe can be read, and the README's networks created.
    readme = (package / "README.md").read_text(encoding="utf-8")
    (create,) = re.findall(r"^.*ganzoo\.create\(.*$", readme, re.MULTILINE)
    code = (
        f"import ganzoo\n{create}\nprint(ganzoo.load_recipe('recipes/my-gan.yaml').model['family'], generator.family)"
    )
    done = python("-c", code, cwd=package, path=[tmp_path / "site", ROOT])
    assert done.stdout.split() == ["my-gan", "my-gan"], done.stderr


def test_package_goes_where_it_is_told(checkout, tmp_path):
    """Inside a checkout too."""
    before = files_below(checkout)
    done = new("star-gan2", "--modality", "image", "--package", str(tmp_path / "deep" / "er"), checkout=checkout)
    assert done.returncode == 0, done.stderr
    assert files_below(checkout) == before
    code = (tmp_path / "deep" / "er" / "src" / "ganzoo_star_gan2" / "star_gan2.py").read_text(encoding="utf-8")
    assert "class StarGan2Generator(Generator):" in code and '@register_family("star-gan2", modality="image"' in code


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["My-GAN", "--modality", "image"], "family name 'My-GAN' must be lower-case letters and digits"),
        (["../evil", "--modality", "image"], "family name '../evil' must be lower-case letters and digits"),
        (["my_gan", "--modality", "image"], "joined by hyphens"),
        (["dcgan", "--modality", "image"], "family 'dcgan' exists already"),
        (["my-gan", "--modality", "video"], "unknown modality 'video'. It is one of audio, image, points, text"),
        (["my-gan"], "Missing option '--modality'"),
        (["my-gan", "--modality", "image", "--package", "taken"], "taken exists already; give a folder that does not"),
    ],
)
def test_mistakes_are_one_sentence_and_write_nothing(tmp_path, monkeypatch, capsys, arguments, message):
    (tmp_path / "taken").mkdir()
    monkeypatch.chdir(tmp_path)
    assert run(["new", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_package_folder_that_cannot_be_written(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    assert run(["new", "my-gan", "--modality", "image", "--package", "file/inside"]) == 1
    assert "cannot write file/inside" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
