"""A name of the catalogue gives the published bytes or nothing, whoever owns the organisation on the Hub."""

import os
from pathlib import Path

import pytest
import torch
from places import ROOT

import ganzoo
from ganzoo.checkpoints.catalogue import catalogue
from ganzoo.cli import run
from ganzoo.errors import CheckpointError
from ganzoo.utils.files import load_tensors, save_tensors
from ganzoo.utils.layout import stale_files

NAME = "r3gan-mnist"
REPO = f"zoo/{NAME}"
FOLDER = ROOT / "hub" / NAME


@pytest.fixture
def repo(hub, monkeypatch):
    """The published checkpoint on the Hub, in the organisation that this test sets."""
    monkeypatch.setenv("GANZOO_ORGANISATION", "zoo")
    ganzoo.push_folder(FOLDER, REPO)
    hub.server.requests.clear()
    return hub.store.repos[REPO]


def load(name=NAME, **options):
    """By a revision, so that the folder of this checkout is not taken."""
    return ganzoo.from_pretrained(name, revision="main", **options)


def images(pipe) -> torch.Tensor:
    return pipe(num_samples=2, seed=3, output_type="pt").images


def refusal(file, call=load, **options) -> str:
    with pytest.raises(CheckpointError) as caught:
        call(**options)
    told = str(caught.value)
    assert told.startswith(f"{file} of '{REPO}' is not the file") and f"load '{REPO}' by this full name" in told
    return told


def changed(file: str, tmp_path: Path) -> bytes:
    """Another content that would load: other weights with their right checksum, or a file that ends in a line more."""
    if not file.endswith(".safetensors"):
        return (FOLDER / file).read_bytes() + b"\n"
    tensors, metadata = load_tensors(FOLDER / file)
    save_tensors(tmp_path / "other.safetensors", {name: tensor * 1.01 for name, tensor in tensors.items()}, metadata)
    return (tmp_path / "other.safetensors").read_bytes()


def test_every_file_but_the_card_is_pinned():
    files = {path.relative_to(FOLDER).as_posix(): path for path in FOLDER.rglob("*") if path.is_file()}
    del files["README.md"]
    assert catalogue()[NAME].files.keys() == files.keys()
    assert all(pin.fits(files[name]) for name, pin in catalogue()[NAME].files.items())
    assert catalogue()[NAME].files["config.json"].size == 270


def test_every_published_file_is_one_that_saving_writes():
    """Or a push over another checkpoint would leave it there."""
    for entry in catalogue().values():
        assert stale_files(entry.files, ()) == sorted(entry.files)


def test_the_organisation_is_one_setting(monkeypatch):
    assert catalogue()[NAME].repo_id == f"ganzoo/{NAME}"
    monkeypatch.setenv("GANZOO_ORGANISATION", "zoo")
    assert catalogue()[NAME].repo_id == REPO


def test_the_right_files_pass(repo, tmp_path):
    pipe = load()
    assert torch.equal(images(pipe), images(ganzoo.from_pretrained(FOLDER)))
    assert pipe.discriminator is not None and pipe.recipe.name == NAME and pipe.metrics
    assert not [check for check in ganzoo.verify(NAME, revision="main") if not check.passed]
    copy = ganzoo.pull(NAME, output=tmp_path / "copy")
    assert {path: (copy / path).read_bytes() for path in catalogue()[NAME].files} == {
        path: (FOLDER / path).read_bytes() for path in catalogue()[NAME].files
    }
    assert (copy / "README.md").is_file()


@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "processor_config.json"])
def test_a_changed_file_is_refused_and_loads_by_its_full_name(repo, tmp_path, file):
    repo.write({file: changed(file, tmp_path)})
    refusal(file)
    assert images(ganzoo.from_pretrained(REPO)).shape == (2, 1, 32, 32)


def test_a_bare_network_is_checked_too(repo, tmp_path):
    repo.write({"model.safetensors": changed("model.safetensors", tmp_path)})
    refusal("model.safetensors", lambda: ganzoo.Generator.from_pretrained(NAME, revision="main"))


def test_a_changed_file_that_is_read_later_is_refused_too(repo, tmp_path):
    repo.write({"discriminator/model.safetensors": changed("discriminator/model.safetensors", tmp_path)})
    pipe = load()
    refusal("discriminator/model.safetensors", lambda: pipe.discriminator)


def test_a_missing_file_is_refused(repo, hub):
    files = {path: blob for path, blob in repo.commit().files.items() if path != "discriminator/config.json"}
    repo.add("refs/heads/main", type(repo.commit())(repo.commit().oid, "less", "", "zoo", files))
    pipe = load()
    refusal("discriminator/config.json", lambda: pipe.discriminator)


def test_a_file_that_was_never_published_is_not_asked_for(hub, monkeypatch):
    monkeypatch.setenv("GANZOO_ORGANISATION", "zoo")
    name = "audio-digit-classifier"
    ganzoo.push_folder(ROOT / "hub" / name, f"zoo/{name}")
    hub.store.repos[f"zoo/{name}"].write({"discriminator/config.json": b"{}"})
    hub.server.requests.clear()
    assert load(name).discriminator is None
    assert not [request for request in hub.server.requests if "discriminator" in request.path]


def test_a_cached_file_that_has_changed_is_refused_offline_and_fetched_again(repo, hub, tmp_path):
    expected = images(load())
    (cached,) = hub.cache.glob("models--zoo--*/snapshots/*/model.safetensors")
    blob = cached.resolve()
    status = blob.stat()
    blob.write_bytes(changed("model.safetensors", tmp_path))
    os.utime(blob, ns=(status.st_atime_ns, status.st_mtime_ns + 1_000_000))
    assert "force_download=True" in refusal("model.safetensors", load, local_files_only=True)
    assert torch.equal(images(load(force_download=True)), expected)


def test_pull_refuses_before_it_writes(repo, tmp_path, capsys):
    repo.write({"recipe.yaml": changed("recipe.yaml", tmp_path), "extra.bin": b"x"})
    refusal("recipe.yaml", lambda: ganzoo.pull(NAME, output=tmp_path / "copy"))
    assert not (tmp_path / "copy").exists()
    assert run(["pull", NAME]) == 1
    assert capsys.readouterr().err.startswith(f"ganzoo: recipe.yaml of '{REPO}' is not the file")
    assert (ganzoo.pull(REPO) / "extra.bin").is_file()
