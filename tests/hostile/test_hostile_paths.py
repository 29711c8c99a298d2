"""Hostile names, links and files, and what the commands say: one sentence, and nothing from outside."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hostile_helpers import SECONDS, WEIGHTS, Cases, Checkpoint, is_sentence, refused
from hypothesis import given
from hypothesis import strategies as st

import ganzoo
from ganzoo.cli import run
from ganzoo.errors import CheckpointError, GanzooError, NotFoundError, UserError
from ganzoo.hub.transfer import push_folder

cases = Cases()


# ------------------------------------------------------------------------------------------------------- names and links

PARTS = st.sampled_from(["..", ".", "", "discriminator", "secret", "~", "a\0b", "\ud800", "\n", "x" * 300, "con", "*"])


@cases(200)
@given(parts=st.lists(PARTS, min_size=1, max_size=5), absolute=st.booleans())
def test_no_subfolder_leads_out_of_the_checkpoint(
    zoo: dict[str, Checkpoint], parts: list[str], absolute: bool
) -> None:
    checkpoint = zoo["dcgan"]
    name = "/".join(parts)
    subfolder = f"{checkpoint.folder.parent}/{name}" if absolute else name
    kept = [part for part in parts if part not in ("", ".")]
    try:
        network = ganzoo.Discriminator.from_pretrained(checkpoint.folder, subfolder=subfolder)
    except GanzooError as error:
        assert is_sentence(error)
        assert absolute or kept != ["discriminator"]
    else:
        assert kept == ["discriminator"] and not absolute and not name.startswith("/")
        assert network.role == "discriminator"


@pytest.mark.parametrize(
    "name", ["..", "../outside", "discriminator/..", "discriminator/../discriminator", "/etc", "//", "a/../../b"]
)
def test_a_name_that_goes_up_or_starts_at_the_root_is_refused(zoo: dict[str, Checkpoint], name: str) -> None:
    folder = zoo["dcgan"].folder
    refused(lambda: ganzoo.Discriminator.from_pretrained(folder, subfolder=name), "leads out of the checkpoint")
    refused(lambda: ganzoo.Generator.from_pretrained("org/gan", subfolder=name), "leads out of the checkpoint")


@cases(150)
@given(source=st.lists(PARTS | st.text(max_size=12), min_size=1, max_size=4).map("/".join))
def test_any_name_of_a_model_is_understood_or_refused(source: str) -> None:
    refused(lambda: ganzoo.from_pretrained(source, local_files_only=True))


@pytest.fixture
def copy(zoo: dict[str, Checkpoint], tmp_path: Path) -> Path:
    """A checkpoint of its own, with something to reach beside it."""
    import shutil

    shutil.copytree(zoo["dcgan"].folder, tmp_path / "outside")
    return Path(shutil.copytree(zoo["dcgan"].folder, tmp_path / "checkpoint"))


FILES = ["config.json", WEIGHTS, "processor_config.json"]


@pytest.mark.parametrize("name", FILES)
def test_a_link_to_a_file_outside_is_refused(copy: Path, name: str) -> None:
    for target in (copy.parent / "outside" / name, Path("..") / "outside" / name, Path("/etc/hostname")):
        (copy / name).unlink()
        (copy / name).symlink_to(target)
        refused(lambda: ganzoo.from_pretrained(copy), name, "symbolic link", kind=CheckpointError)


def test_a_link_to_a_folder_outside_is_refused(copy: Path) -> None:
    import shutil

    shutil.rmtree(copy / "discriminator")
    (copy / "discriminator").symlink_to(copy.parent / "outside" / "discriminator")
    refused(lambda: ganzoo.Discriminator.from_pretrained(copy), "discriminator", "symbolic link", kind=CheckpointError)
    refused(lambda: ganzoo.from_pretrained(copy).discriminator, "discriminator", kind=CheckpointError)


def test_a_link_inside_the_checkpoint_is_fine(copy: Path) -> None:
    (copy / WEIGHTS).rename(copy / "weights")
    (copy / WEIGHTS).symlink_to("weights")
    assert ganzoo.from_pretrained(copy)(num_samples=1, seed=0).images


@pytest.mark.parametrize("name", FILES)
def test_what_is_no_regular_file_is_refused(copy: Path, name: str) -> None:
    path = copy / name
    path.unlink()
    path.symlink_to(name)
    refused(lambda: ganzoo.from_pretrained(copy), name)
    path.unlink()
    refused(lambda: ganzoo.from_pretrained(copy), name, kind=NotFoundError)
    os.mkfifo(path)
    refused(lambda: ganzoo.from_pretrained(copy), name, kind=NotFoundError)
    path.unlink()
    path.mkdir()
    refused(lambda: ganzoo.from_pretrained(copy), name, kind=NotFoundError)


@pytest.mark.parametrize("name", ["recipe.yaml", "metrics.json", "README.md", "test/golden.safetensors"])
def test_what_is_no_regular_file_fails_its_check(copy: Path, name: str) -> None:
    path = copy / name
    path.unlink()
    os.mkfifo(path)
    assert len(ganzoo.verify(copy)) == 7
    path.unlink()
    path.symlink_to("/etc/hostname")
    assert [check.passed for check in ganzoo.verify(copy)].count(False) == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("name", FILES)
def test_an_unreadable_file_is_refused(copy: Path, name: str) -> None:
    (copy / name).chmod(0)
    refused(lambda: ganzoo.from_pretrained(copy), name, kind=CheckpointError)


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    empty, other, foreign = (tmp_path / name for name in ("empty", "other", "foreign"))
    for folder in (empty, other, foreign):
        folder.mkdir()
    (other / "picture.png").write_bytes(b"\x89PNG")
    (foreign / "config.json").write_text('{"model_type": "bert", "hidden_size": 768}')
    (foreign / WEIGHTS).write_bytes(b"")
    for folder in (empty, other):
        refused(lambda folder=folder: ganzoo.from_pretrained(folder), "config.json", kind=NotFoundError)
    refused(lambda: ganzoo.from_pretrained(foreign), "config.json", "ganzoo", kind=CheckpointError)
    refused(lambda: ganzoo.from_pretrained(other / "picture.png"), "is a file", kind=UserError)


def test_a_push_takes_nothing_from_outside(copy: Path) -> None:
    assert push_folder(copy, "alice/gan", dry_run=True).files
    (copy / "samples" / "passwords.png").symlink_to("/etc/passwd")
    refused(
        lambda: push_folder(copy, "alice/gan", dry_run=True), "passwords.png", "symbolic link", kind=CheckpointError
    )


# -------------------------------------------------------------------------------------------------------- the command line


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        (WEIGHTS, b"garbage", 1),
        (WEIGHTS, b"\xff" * 8 + b"{}", 1),
        ("config.json", b'{"model_type": "ganzoo", "family": "dcgan", "role": "generator", "width": 1000000000}', 1),
        ("config.json", b'{"model_type": "ganzoo", "family": "\\ud800\\u001b[31m", "role": "generator"}', 2),
        ("config.json", b"[" * 100_000, 1),
        ("processor_config.json", b'{"processor_type": "pickle"}', 1),
    ],
)
def test_the_commands_say_one_line_and_fail(
    zoo: dict[str, Checkpoint], tmp_path: Path, capsys: pytest.CaptureFixture, name: str, content: bytes, code: int
) -> None:
    folder = str(zoo["dcgan"].folder)
    with zoo["dcgan"].replaced(name, content):
        for command in (["sample", folder, "--output", str(tmp_path / "x.png")], ["info", folder]):
            assert run(command) == code
            shown = capsys.readouterr()
            assert shown.err.startswith("ganzoo: ") and shown.err.count("\n") == 1, shown.err
            assert name in shown.err and "Traceback" not in shown.err and "unexpected" not in shown.err
        assert run(["verify", folder]) == 1
        shown = capsys.readouterr()
        assert "FAIL" in shown.out and shown.err.count("\n") == 1
    assert not (tmp_path / "x.png").exists()


def test_a_hostile_checkpoint_leaves_no_traceback(zoo: dict[str, Checkpoint], tmp_path: Path) -> None:
    """In a process of its own: nothing is printed behind the command's back either."""
    command = [sys.executable, "-c", "from ganzoo.cli import main; main()"]
    with zoo["dcgan"].replaced(WEIGHTS, b"\x08" + b"\0" * 7 + b'{"a":{}}'):
        done = subprocess.run(
            [*command, "sample", str(zoo["dcgan"].folder)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("ganzoo: ") and done.stderr.count("\n") == 1


def test_there_are_enough_cases() -> None:
    assert sum(cases.numbers.values()) >= 350, cases.numbers
