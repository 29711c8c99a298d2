"""The registry: what it refuses, what it finds, and that looking costs no import."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from places import ROOT

from ganzoo import registry
from ganzoo.errors import NotFoundError, UserError
from ganzoo.networks.base import Classifier, Discriminator, Generator
from ganzoo.networks.image import ImageGANConfig
from ganzoo.registry import family_modality, family_summary, get_family, list_families, register_family

PAPER = "https://arxiv.org/abs/0000.00000"


@pytest.fixture
def empty_slate() -> Iterator[None]:
    """What a test registers is forgotten afterwards."""
    yield
    for name in ("test-gan", "judge"):
        registry._registered.pop(name, None)


def record(**changes: object) -> type:
    """A fresh record class as a contributor would write it; an attribute set to None is left out."""
    parts: dict[str, object] = {
        "config": type("Config", (ImageGANConfig,), {}),
        "generator": type("Net", (Generator,), {}),
        "discriminator": type("Critic", (Discriminator,), {}),
        "tiny": {"resolution": 8},
    }
    parts = {name: part for name, part in {**parts, **changes}.items() if part is not None}
    return type("Record", (), {"__module__": __name__, **parts})


def test_registers_what_the_record_says(empty_slate):
    written = record(objective={"loss": "hinge"})
    assert register_family("test-gan", modality="image", paper=PAPER)(written) is written
    family = get_family("test-gan")
    assert (family.name, family.modality, family.paper) == ("test-gan", "image", PAPER)
    assert family.networks == {"generator": written.generator, "discriminator": written.discriminator}
    assert family.main_role == "generator" and family.is_gan
    assert family.objective == {"loss": "hinge"}
    assert family.tiny_config(channels=1).model_dump() == {**written.config(resolution=8, channels=1).model_dump()}
    assert family.summary == "The registry: what it refuses, what it finds, and that looking costs no import."
    assert (written.generator.family, written.generator.role) == ("test-gan", "generator")
    assert written.generator.config_class is written.config and written.config.family == "test-gan"
    assert "test-gan" in list_families() and "test-gan" not in list_families(kind="classifier")
    assert "test-gan" not in list_families(modality="audio")


def test_a_classifier_is_no_gan(empty_slate):
    judge = record(generator=None, discriminator=None, classifier=type("Judge", (Classifier,), {}))
    register_family("judge", modality="audio", paper=PAPER)(judge)
    assert "judge" in list_families(kind="classifier", modality="audio")
    assert "judge" not in list_families() and get_family("judge").main_role == "classifier"


@pytest.mark.parametrize(
    "name", ["MyGAN", "my_gan", "my--gan", "-gan", "gan-", "2gan", "", "my gan", "../gan", "gän", "g" * 61]
)
def test_malformed_names_are_refused(name):
    with pytest.raises(UserError, match="lower-case letters and digits joined by hyphens"):
        register_family(name, modality="image", paper=PAPER)


def test_malformed_records_are_refused(empty_slate):
    with pytest.raises(UserError, match="modality 'video' is none of audio, image, points, text"):
        register_family("test-gan", modality="video", paper=PAPER)
    with pytest.raises(UserError, match="paper must be an https:// link, not 'arxiv 1511.06434'"):
        register_family("test-gan", modality="image", paper="arxiv 1511.06434")
    for broken, message in [
        (record(generator=None), "must have a generator and a discriminator, or a classifier alone"),
        (record(discriminator=None), "must have a generator and a discriminator, or a classifier alone"),
        (record(classifier=Classifier), "must have a generator and a discriminator, or a classifier alone"),
        (record(tiny=None), "lacks the attribute tiny"),
        (record(config=None, tiny=None), "lacks the attribute config and tiny"),
    ]:
        with pytest.raises(UserError, match=f"family 'test-gan' {message}"):
            register_family("test-gan", modality="image", paper=PAPER)(broken)
    with pytest.raises(NotFoundError):
        get_family("test-gan")


def test_a_clash_is_loud_and_a_reload_is_not(empty_slate):
    builtin = get_family("dcgan")
    with pytest.raises(UserError, match="'dcgan' is already registered by ganzoo.families.image.dcgan"):
        register_family("dcgan", modality="image", paper=PAPER)(record())
    assert get_family("dcgan") is builtin

    def from_module(module: str) -> type:
        config = type("Config", (ImageGANConfig,), {"__module__": module})
        written = record(config=config)
        written.__module__ = module
        return written

    register = register_family("test-gan", modality="image", paper=PAPER)
    register(from_module("json"))  # any module that exists
    again = register(from_module("json"))
    assert get_family("test-gan").config is again.config
    with pytest.raises(UserError, match="'test-gan' is already registered by json; choose another name"):
        register(from_module("csv"))


def test_a_builtin_name_is_taken_before_its_file_is_imported():
    code = f"""
from ganzoo.registry import register_family
from ganzoo.errors import UserError
class Record:
    config = generator = discriminator = object
    tiny = {{}}
try:
    register_family("dcgan", modality="image", paper="{PAPER}")(Record)
except UserError as error:
    print(error)
"""
    assert "already registered by ganzoo.families.image.dcgan" in run_python("-c", code)


def test_a_wrong_name_is_answered_with_the_close_ones():
    with pytest.raises(NotFoundError, match="unknown family 'dc-gan'. Did you mean 'dcgan'.*Known families: .*dcgan"):
        get_family("dc-gan")
    with pytest.raises(NotFoundError, match="unknown family 'xyz'. Known families:"):
        get_family("xyz")
    with pytest.raises(
        UserError, match=r"unknown modality 'images'. Did you mean 'image'\? It is one of audio, image, points, text"
    ):
        list_families(modality="images")
    with pytest.raises(UserError, match="unknown kind 'gans'; it is one of gan, classifier, all"):
        list_families(kind="gans")


def test_what_lists_show_is_what_the_family_is():
    """Lists read the source; the records come from running it."""
    for name in list_families(kind="all"):
        read, family = registry._outline(name), get_family(name)
        assert (read.modality, read.is_gan, read.summary) == (family.modality, family.is_gan, family.summary)
        assert (family_modality(name), family_summary(name)) == (family.modality, family.summary)


# --------------------------------------------------------------------------------------------- families of other packages

FAMILY = f'''"""Star GAN: a family from another package."""

from torch import nn

import ganzoo
from ganzoo.networks.base import Discriminator, DiscriminatorOutput, Generator


class StarConfig(ganzoo.ImageGANConfig):
    pass


class StarGenerator(Generator):
    def __init__(self, config):
        super().__init__(config)
        self.linear = nn.Linear(config.latent_dim, config.channels * config.resolution**2)

    def forward(self, latents, labels=None):
        shape = (-1, self.config.channels, self.config.resolution, self.config.resolution)
        return self.linear(latents).tanh().view(shape)


class StarDiscriminator(Discriminator):
    def __init__(self, config):
        super().__init__(config)
        self.linear = nn.Linear(config.channels * config.resolution**2, 1)

    def forward(self, samples, labels=None):
        hidden = samples.flatten(1)
        return [DiscriminatorOutput(self.linear(hidden).squeeze(1), [hidden])]


@ganzoo.register_family("star-gan", modality="image", paper="{PAPER}")
class StarGAN:
    config = StarConfig
    generator = StarGenerator
    discriminator = StarDiscriminator
    tiny = {{"resolution": 8, "channels": 1, "latent_dim": 4}}
'''

RECIPE = """
name: stars
model: {family: star-gan, resolution: 8, channels: 1, latent_dim: 4}
training: {steps: 2, batch_size: 4, precision: fp32, sample_every: null}
"""


def install(
    folder: Path, *, files: dict[str, str], entry_points: dict[str, str], distribution: str = "star-gan"
) -> None:
    """Lays a package out as pip would: its files, and the dist-info folder with its entry points."""
    info = folder / f"{distribution.replace('-', '_')}-1.0.dist-info"
    lines = [f"{name} = {value}" for name, value in entry_points.items()]
    files = {
        **files,
        f"{info.name}/METADATA": f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n",
        f"{info.name}/entry_points.txt": "\n".join(["[ganzoo.families]", *lines, ""]),
    }
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content, encoding="utf-8")


def run_python(*arguments: str, path: Path | None = None, expected: int = 0) -> str:
    """Runs Python with `path` as an installed folder; returns what it printed (standard error for a failure)."""
    paths = [str(part) for part in (path, ROOT) if part is not None]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, *arguments], env=environment, cwd=path, text=True, capture_output=True, timeout=120
    )
    assert done.returncode == expected, done.stderr
    return done.stdout if expected == 0 else done.stderr


@pytest.fixture
def star_package(tmp_path: Path) -> Path:
    # The package's own __init__ imports torch: listing must not import that either.
    install(
        tmp_path,
        files={"star_package/__init__.py": "import torch\n", "star_package/star.py": FAMILY, "stars.yaml": RECIPE},
        entry_points={"star-gan": "star_package.star"},
    )
    return tmp_path


def test_a_family_of_an_installed_package_works_like_a_builtin_one(star_package):
    code = """
import ganzoo, torch
assert "star-gan" in ganzoo.list_families() and "star-gan" in ganzoo.list_families(modality="image")
assert "star-gan" in ganzoo.list_models("star*")
generator, discriminator = ganzoo.create("star-gan", resolution=8)
assert discriminator(generator(generator.sample_latents(2)))[0].logits.shape == (2,)
run = ganzoo.train("stars.yaml", output="run", quiet=True)
pipe = ganzoo.from_pretrained("run/pipeline")
assert type(pipe.network).__name__ == "StarGenerator" and pipe.recipe.name == "stars"
assert pipe(num_samples=2, seed=0).images[0].size == (8, 8)
assert torch.equal(pipe.network.linear.weight, run.pipeline.network.linear.weight)
assert all(check.passed for check in ganzoo.verify("run/pipeline"))
print("done")
"""
    assert run_python("-c", code, path=star_package).strip() == "done"
    # The checkpoint needs the package, and says so without it.
    message = run_python("-m", "ganzoo", "info", str(star_package / "run" / "pipeline"), expected=2)
    assert "unknown family 'star-gan'" in message and "If another package provides it, install that package" in message


def test_list_shows_it_without_importing_torch(star_package):
    code = """
import sys
from ganzoo.cli import run
code = run(sys.argv[1:])
heavy = {"torch", "star_package", "star_package.star", "numpy", "transformers"} & set(sys.modules)
assert not heavy, heavy
sys.exit(code)
"""
    listing = run_python("-c", code, "list", path=star_package)
    assert "star-gan" in listing and "Star GAN: a family from another package." in listing
    families = json.loads(run_python("-c", code, "list", "--json", path=star_package))["families"]
    summary = "Star GAN: a family from another package."
    assert {"name": "star-gan", "modality": "image", "summary": summary} in families
    assert "star-gan" not in run_python("-c", code, "list", "--modality", "text", path=star_package)


def test_an_entry_point_may_name_the_package(tmp_path):
    """Then only an import finds the family, in whichever module it is."""
    files = {"star_package/__init__.py": "from star_package import star\n", "star_package/star.py": FAMILY}
    install(tmp_path, files=files, entry_points={"star-gan": "star_package"})
    assert "Star GAN: a family from another package." in run_python("-m", "ganzoo", "list", path=tmp_path)


@pytest.mark.parametrize(
    ("files", "entry_points", "message"),
    [
        (
            {"other.py": ""},
            {"dcgan": "other"},
            "family 'dcgan' is defined by ganzoo.families.image.dcgan and by other; uninstall one",
        ),
        ({"other.py": "1 / 0"}, {"odd": "other"}, "family 'odd': loading other failed: division by zero"),
        ({}, {"odd": "gone"}, "family 'odd': loading gone failed: No module named 'gone'"),
        ({"other.py": ""}, {"odd": "other"}, "family 'odd': other was loaded but registers no family of that name"),
    ],
    ids=["name of a builtin family", "broken module", "missing module", "registers nothing"],
)
def test_a_bad_package_is_named(tmp_path, files, entry_points, message):
    install(tmp_path, files=files, entry_points=entry_points)
    assert message in run_python("-m", "ganzoo", "info", "odd", path=tmp_path, expected=2)


def test_two_packages_with_one_name_are_refused(tmp_path):
    for distribution in ("first", "second"):
        files = {f"{distribution}.py": FAMILY}
        install(tmp_path, files=files, entry_points={"star-gan": distribution}, distribution=distribution)
    message = run_python("-m", "ganzoo", "list", path=tmp_path, expected=2)
    assert "family 'star-gan' is defined by second and by first; uninstall one of the two" in message
