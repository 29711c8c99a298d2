"""Checkpoints to and from the Hub, through the real client, against the server of `hub_server`."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants

import ganzoo
from ganzoo.cli import run
from ganzoo.errors import CheckpointError, GanzooError, NotFoundError, UserError
from ganzoo.hub.card import address_card
from ganzoo.hub.metadata import split_card

TINY = {"resolution": 8, "channels": 1, "width": 4, "latent_dim": 8}
NAME = "alice/gan"


def new_checkpoint(folder: Path, seed: int) -> Path:
    """A complete checkpoint of an untrained tiny network, whose outputs depend on the seed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        generator, discriminator = ganzoo.create("dcgan", **TINY)
    pipe = ganzoo.GANPipeline(generator, generator.config.processor(), discriminator=discriminator)
    return pipe.save_pretrained(folder)


@pytest.fixture(scope="module")
def originals(tmp_path_factory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("checkpoints")
    return new_checkpoint(folder / "first", 0), new_checkpoint(folder / "second", 1)


@pytest.fixture
def checkpoint(originals, tmp_path) -> Path:
    """A checkpoint that the test may change."""
    return Path(shutil.copytree(originals[0], tmp_path / "my-gan"))


@pytest.fixture
def other(originals) -> Path:
    """Other weights for the same networks."""
    return originals[1]


def files_of(folder: Path) -> dict[str, bytes]:
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {path: data for path, data in found.items() if not path.startswith(".")}


def published(hub, revision: str = "main", name: str = NAME) -> dict[str, bytes]:
    """What the server holds, without the file that it made itself."""
    files = hub.store.repos[name].commit(revision).files
    return {path: blob.data for path, blob in files.items() if path != ".gitattributes"}


def images(source, **options) -> torch.Tensor:
    return ganzoo.from_pretrained(source, **options)(num_samples=2, seed=3, output_type="pt").images


def message(error: type[Exception], *arguments, call=ganzoo.from_pretrained, **options) -> str:
    """The text of the error that a call must raise: one line."""
    with pytest.raises(error) as caught:
        call(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


class TestPush:
    def test_new_repository_holds_the_folder_in_one_commit(self, hub, checkpoint):
        result = ganzoo.push_folder(checkpoint, NAME)
        expected = files_of(checkpoint)
        card = expected.pop("README.md").decode()
        stored = published(hub)
        assert stored.pop("README.md").decode() == result.card == address_card(card, NAME)
        assert stored == expected
        assert [name for name, _ in result.files] == sorted([*expected, "README.md"])
        commits = list(hub.store.repos[NAME].history())
        assert len(commits) == 2 and commits[0].title == f"Upload with ganzoo {ganzoo.__version__}"
        assert result.url == f"{hub.endpoint}/{NAME}/commit/{commits[0].oid}"
        assert not hub.store.repos[NAME].private

    def test_loads_back_bit_equal(self, hub, checkpoint):
        ganzoo.push_folder(checkpoint, NAME)
        assert torch.equal(images(NAME), images(checkpoint))
        here, there = (ganzoo.Discriminator.from_pretrained(source) for source in (checkpoint, NAME))
        assert all(torch.equal(there.state_dict()[key], value) for key, value in here.state_dict().items())
        assert all(check.passed for check in ganzoo.verify(NAME))

    def test_pipeline_pushes_itself(self, hub, checkpoint):
        pipe = ganzoo.from_pretrained(checkpoint)
        pipe.push_to_hub(NAME, commit_message="Mine")
        assert next(hub.store.repos[NAME].history()).title == "Mine"
        assert torch.equal(images(NAME), images(checkpoint))

    def test_published_card_loads_from_its_own_repository(self, hub, checkpoint):
        before = (checkpoint / "README.md").read_text()
        ganzoo.push_folder(checkpoint, NAME)
        card = published(hub)["README.md"].decode()
        assert 'ganzoo.from_pretrained("alice/gan")' in card
        assert split_card(card)[0] == split_card(before)[0]
        assert (checkpoint / "README.md").read_text() == before
        info = hub.store.repos[NAME].describe()
        assert (info["library_name"], info["pipeline_tag"]) == ("ganzoo", "unconditional-image-generation")

    def test_edited_card_is_published_as_it_is(self, hub, checkpoint):
        card = checkpoint / "README.md"
        card.write_text(card.read_text().replace("## Limitations", "## What it cannot do"))
        ganzoo.push_folder(checkpoint, NAME)
        assert published(hub)["README.md"] == card.read_bytes()

    def test_update_sends_only_what_changed(self, hub, checkpoint, other):
        ganzoo.push_folder(checkpoint, NAME)
        first = hub.store.repos[NAME].commit().oid
        ganzoo.push_folder(checkpoint, NAME)
        assert hub.store.repos[NAME].commit().oid == first, "nothing changed: no commit"
        shutil.copy(other / "model.safetensors", checkpoint / "model.safetensors")
        hub.server.requests.clear()
        ganzoo.push_folder(checkpoint, NAME)
        assert hub.server.kinds().count("lfs_put") == 1
        assert published(hub)["model.safetensors"] == (other / "model.safetensors").read_bytes()
        assert torch.equal(images(NAME, revision=first), images(f"{NAME}@{first}"))
        assert not torch.equal(images(NAME), images(NAME, revision=first))

    @pytest.mark.parametrize("revision", [None, "wide", "pull request"])
    def test_replaces_the_checkpoint_that_was_there_in_one_commit(self, hub, checkpoint, other, tmp_path, revision):
        ganzoo.push_folder(checkpoint, NAME)
        own = {"notes.txt": b"mine", "samples/mine.png": b"a picture", "discriminator/why.md": b"mine, too"}
        hub.store.repos[NAME].write({**own, "samples/grid.wav": b"of a model of sound", "tokenizer.json": b"{}"})
        bare = Path(shutil.copytree(other, tmp_path / "bare"))
        shutil.rmtree(bare / "discriminator")
        where = {"create_pr": True} if revision == "pull request" else {"revision": revision}
        before = len(list(hub.store.repos[NAME].history()))
        result = ganzoo.push_folder(bare, NAME, **where)
        name = {"pull request": "refs/pr/1", None: "main"}.get(revision, revision)
        stored = published(hub, name)
        assert result.deleted == (
            "discriminator/config.json",
            "discriminator/model.safetensors",
            "samples/grid.wav",
            "tokenizer.json",
        )
        assert stored.keys() == files_of(bare).keys() | own.keys()
        assert {path: stored[path] for path in own} == own
        assert len(list(hub.store.repos[NAME].history(name))) == before + 1
        pipe = ganzoo.from_pretrained(NAME, revision=name)
        assert pipe.discriminator is None and torch.equal(images(NAME, revision=name), images(other))
        assert all(check.passed for check in ganzoo.verify(NAME, revision=name))
        if revision is not None:
            assert "discriminator/config.json" in published(hub)

    def test_private_repository_opens_only_with_a_token(self, hub, checkpoint):
        ganzoo.push_folder(checkpoint, "zoo/secret", private=True)
        assert hub.store.repos["zoo/secret"].private
        for token in (False, "hf_bob"):
            refused = message(NotFoundError, "zoo/secret", token=token, cache_dir=hub.home / "stranger")
            assert "'zoo/secret' is not a repository on the Hub, or it is private" in refused
            assert "HF_TOKEN" in refused
        assert torch.equal(images("zoo/secret", token="hf_alice"), images(checkpoint))

    def test_pull_request_leaves_main_alone_and_can_be_updated(self, hub, checkpoint, other):
        ganzoo.push_folder(checkpoint, NAME)
        result = ganzoo.push_folder(other, NAME, create_pr=True, token="hf_bob")
        assert result.url == f"{hub.endpoint}/{NAME}/discussions/1"
        assert torch.equal(images(NAME), images(checkpoint))
        assert torch.equal(images(f"{NAME}@refs/pr/1"), images(other))
        ganzoo.push_folder(checkpoint, NAME, revision="refs/pr/1")
        assert torch.equal(images(NAME, revision="refs/pr/1"), images(checkpoint))

    def test_branch_is_made_when_it_is_new(self, hub, checkpoint, other):
        ganzoo.push_folder(checkpoint, NAME)
        ganzoo.push_folder(other, NAME, revision="wide")
        assert torch.equal(images(NAME), images(checkpoint))
        assert torch.equal(images(f"{NAME}@wide"), images(other))

    def test_pull_request_against_a_branch_is_refused(self, hub, checkpoint):
        assert "main branch" in message(
            UserError, checkpoint, NAME, call=ganzoo.push_folder, create_pr=True, revision="x"
        )

    def test_dry_run_asks_nobody(self, hub, checkpoint):
        result = ganzoo.push_folder(checkpoint, NAME, dry_run=True)
        assert hub.server.requests == [] and result.url is None
        assert dict(result.files)["model.safetensors"] == (checkpoint / "model.safetensors").stat().st_size
        assert 'from_pretrained("alice/gan")' in result.card

    def test_training_state_and_hidden_files_stay_here(self, hub, checkpoint):
        (checkpoint / "training_state").mkdir()
        (checkpoint / "training_state" / "optimizer.safetensors").write_bytes(b"moments")
        (checkpoint / ".env").write_text("HF_TOKEN=hf_secret")
        (checkpoint / "samples" / ".cache").mkdir()
        (checkpoint / "samples" / ".cache" / "x").write_text("x")
        ganzoo.push_folder(checkpoint, NAME)
        assert not [path for path in published(hub) if "training_state" in path or "/." in f"/{path}"]

    def test_refused_before_any_request(self, hub, checkpoint, tmp_path):
        push = ganzoo.push_folder
        assert "org/name" in message(UserError, checkpoint, "gan", call=push)
        assert "no folder" in message(NotFoundError, tmp_path / "absent", NAME, call=push)
        (tmp_path / "empty").mkdir()
        message(GanzooError, tmp_path / "empty", NAME, call=push)
        card = checkpoint / "README.md"
        card.write_text(card.read_text().replace("license: apache-2.0", "license: Apache"))
        assert "Did you mean 'apache-2.0'" in message(UserError, checkpoint, NAME, call=push)
        card.unlink()
        assert "no README.md" in message(UserError, checkpoint, NAME, call=push)
        (checkpoint / "model.safetensors").write_bytes(b"\0" * 100)
        assert "damaged" in message(CheckpointError, checkpoint, NAME, call=push)
        assert hub.server.requests == []

    def test_somebody_elses_repository_is_refused(self, hub, checkpoint):
        for token in ("hf_bob", False):
            refused = message(UserError, checkpoint, NAME, call=ganzoo.push_folder, token=token)
            assert "refused access to 'alice/gan'" in refused and "HF_TOKEN" in refused

    def test_says_who_asks(self, hub, checkpoint):
        ganzoo.push_folder(checkpoint, NAME)
        ganzoo.from_pretrained(NAME)
        asked = [request.user_agent for request in hub.server.requests if request.kind in ("commit", "resolve")]
        assert asked and all(f"ganzoo/{ganzoo.__version__}" in agent for agent in asked)


class TestInterruptedPush:
    def test_cut_connection_does_no_harm(self, hub, checkpoint):
        hub.server.cut("lfs_put")
        ganzoo.push_folder(checkpoint, NAME)
        assert torch.equal(images(NAME), images(checkpoint))

    def test_refused_upload_changes_nothing_and_is_repeated(self, hub, checkpoint, other):
        ganzoo.push_folder(other, NAME)
        before = published(hub)
        hub.server.fail("lfs_put", status=400)
        assert "try again" in message(GanzooError, checkpoint, NAME, call=ganzoo.push_folder)
        hub.server.fail("commit")
        assert "try again" in message(GanzooError, checkpoint, NAME, call=ganzoo.push_folder)
        assert published(hub) == before
        ganzoo.push_folder(checkpoint, NAME)
        assert torch.equal(images(NAME), images(checkpoint))

    def test_killed_command_is_repeated(self, hub, checkpoint, other):
        ganzoo.push_folder(other, NAME)
        before = published(hub)
        hold = hub.server.hold("lfs_put")
        process = hub.start("-m", "ganzoo", "push", str(checkpoint), NAME)
        assert hold.reached.wait(timeout=60)
        process.kill()
        process.communicate()
        hold.release.set()
        assert published(hub) == before
        ganzoo.push_folder(checkpoint, NAME)
        assert torch.equal(images(NAME), images(checkpoint))


class TestLoad:
    @pytest.fixture(autouse=True)
    def _published(self, hub, checkpoint):
        ganzoo.push_folder(checkpoint, NAME)
        hub.server.requests.clear()

    def revisions(self, hub) -> set[str]:
        return {request.path.split("/")[4] for request in hub.server.requests if request.kind == "resolve"}

    def test_downloads_the_network_and_processor_only(self, hub):
        ganzoo.from_pretrained(NAME)
        files = [request.path.split("/", 5)[5] for request in hub.server.requests]
        assert sorted(set(files)) == ["config.json", "model.safetensors", "processor_config.json"]
        assert len(files) == 6, "a HEAD and a GET for each"
        hub.server.requests.clear()
        ganzoo.from_pretrained(NAME)
        assert hub.server.kinds() == ["resolve"], "of a cached checkpoint, only the revision is asked for"

    def test_every_component_comes_from_one_commit(self, hub, checkpoint, other):
        repo = hub.store.repos[NAME]
        commit = repo.commit().oid
        move_main = lambda: repo.write(files_of(other))  # noqa: E731
        hub.server.disturbances["resolve"] = [lambda: None, lambda: None, move_main]
        pipe = ganzoo.from_pretrained(NAME)
        assert repo.commit().oid != commit
        assert torch.equal(pipe(num_samples=2, seed=3, output_type="pt").images, images(checkpoint))
        here = ganzoo.Discriminator.from_pretrained(checkpoint).state_dict()
        assert all(torch.equal(here[key], value) for key, value in pipe.discriminator.state_dict().items())
        assert self.revisions(hub) == {"main", commit}
        assert [request.path.split("/")[4] for request in hub.server.requests].count("main") == 2
        assert torch.equal(images(NAME), images(other))

    def test_missing_first_file_fixes_the_commit_too(self, hub, checkpoint, other):
        repo = hub.store.repos[NAME]
        files = {path: blob for path, blob in repo.commit().files.items() if not path.startswith("discriminator/")}
        bare = repo.add("refs/heads/bare", type(repo.commit())(repo.commit().oid, "bare", "", "alice", files))
        hub.server.disturbances["resolve"] = [lambda: None, lambda: repo.write(files_of(other), "bare")]
        assert "holds the generator" in message(UserError, f"{NAME}@bare", call=ganzoo.Discriminator.from_pretrained)
        assert self.revisions(hub) == {"bare", bare.oid}

    def test_tag_branch_and_commit_name_a_revision(self, hub, checkpoint, other):
        repo = hub.store.repos[NAME]
        repo.refs["refs/tags/v1"] = first = repo.commit().oid
        repo.write(files_of(other))
        for revision in ("v1", first):
            assert torch.equal(images(f"{NAME}@{revision}"), images(checkpoint))
            assert torch.equal(images(NAME, revision=revision), images(checkpoint))
        assert torch.equal(images(NAME), images(other))
        assert "two revisions" in message(UserError, f"{NAME}@v1", revision="main")

    def test_unknown_things_are_named(self, hub):
        assert "'alice/absent' is not a repository on the Hub" in message(NotFoundError, "alice/absent")
        assert "has no revision 'v9'" in message(NotFoundError, f"{NAME}@v9")
        assert "absent.json" in message(NotFoundError, "absent.json")
        hub.store.create("alice/notes", "alice").write({"README.md": b"# Notes\n"})
        assert "not a ganzoo checkpoint: it has no config.json" in message(NotFoundError, "alice/notes")
        hub.store.create("alice/bert", "alice").write({"config.json": b'{"model_type": "bert"}'})
        assert "not of a ganzoo checkpoint" in message(CheckpointError, "alice/bert")

    def test_damaged_download_is_recognised(self, hub, checkpoint):
        weights = bytearray((checkpoint / "model.safetensors").read_bytes())
        weights[-1] ^= 1
        hub.store.repos[NAME].write({"model.safetensors": bytes(weights)})
        assert "checksum" in message(CheckpointError, NAME)

    def test_cache_dir_and_force_download(self, hub, checkpoint, tmp_path):
        images(NAME, cache_dir=tmp_path / "elsewhere")
        assert (tmp_path / "elsewhere" / "models--alice--gan").is_dir() and not hub.cache.exists()
        hub.server.requests.clear()
        images(NAME, cache_dir=tmp_path / "elsewhere", force_download=True)
        fetched = {Path(request.path).name for request in hub.server.requests if request.method == "GET"}
        assert fetched == {"config.json", "model.safetensors", "processor_config.json"}

    def test_cache_below_a_folder_called_snapshots(self, hub, checkpoint, tmp_path):
        assert torch.equal(images(NAME, cache_dir=tmp_path / "snapshots" / "hub"), images(checkpoint))
        assert len(self.revisions(hub)) == 2

    def test_local_files_only(self, hub, checkpoint):
        assert "not cached" in message(NotFoundError, NAME, local_files_only=True)
        images(NAME)
        hub.server.requests.clear()
        assert torch.equal(images(NAME, local_files_only=True), images(checkpoint))
        assert hub.server.requests == []

    def test_pull_brings_everything(self, hub, checkpoint, tmp_path):
        expected = published(hub)
        assert files_of(ganzoo.pull(NAME)) == expected
        target = ganzoo.pull(f"{NAME}@main", output=tmp_path / "copy")
        assert target == tmp_path / "copy" and files_of(target) == expected
        assert torch.equal(images(target), images(checkpoint))
        assert "is not a repository" in message(NotFoundError, "alice/absent", call=ganzoo.pull)
        assert "has no revision 'v9'" in message(NotFoundError, f"{NAME}@v9", call=ganzoo.pull)
        assert "no repository name" in message(NotFoundError, "nonsense", call=ganzoo.pull)

    def test_unreachable_hub_is_said_to_be(self, hub, checkpoint, monkeypatch):
        images(NAME)
        for name in ("ENDPOINT", "HUGGINGFACE_CO_URL_TEMPLATE"):
            monkeypatch.setattr(constants, name, getattr(constants, name).replace(hub.endpoint, "http://127.0.0.1:9"))
        monkeypatch.setattr("time.sleep", lambda seconds: None)  # the client waits 23 s between its attempts
        assert torch.equal(images(NAME), images(checkpoint)), "what is cached needs no Hub"
        refused = message(NotFoundError, "alice/other")
        assert "the Hub cannot be reached" in refused and "cached checkpoints: alice/gan" in refused
        assert "the Hub cannot be reached" in message(NotFoundError, "alice/other", call=ganzoo.pull)
        assert "try again" in message(GanzooError, checkpoint, NAME, call=ganzoo.push_folder)


class TestCommands:
    def test_push(self, hub, checkpoint, capsys):
        assert run(["push", str(checkpoint), NAME, "--dry-run"]) == 0
        said = capsys.readouterr().out
        assert "model.safetensors" in said and 'from_pretrained("alice/gan")' in said
        assert "nothing was uploaded" in said and hub.store.repos == {}
        assert run(["push", str(checkpoint), NAME, "--private", "--message", "First"]) == 0
        assert f"{hub.endpoint}/alice/gan/commit/" in capsys.readouterr().out
        assert hub.store.repos[NAME].private and hub.store.repos[NAME].commit().title == "First"
        assert run(["push", str(checkpoint), NAME, "--revision", "wide"]) == 0
        assert "deleted" not in capsys.readouterr().out
        hub.store.repos[NAME].write({"tokenizer.json": b"{}"})
        assert run(["push", str(checkpoint), NAME]) == 0
        assert "     deleted  tokenizer.json" in capsys.readouterr().out.splitlines()
        assert run(["push", str(checkpoint), "alice/other", "--create-pr"]) == 0
        assert "/discussions/1" in capsys.readouterr().out

    def test_pull_and_use(self, hub, checkpoint, tmp_path, capsys):
        ganzoo.push_folder(checkpoint, NAME)
        assert run(["pull", NAME, "--output", str(tmp_path / "copy")]) == 0
        assert capsys.readouterr().out.strip() == str(tmp_path / "copy")
        assert files_of(tmp_path / "copy") == published(hub)
        assert run(["verify", NAME]) == 0

    def test_mistakes_are_one_line_and_exit_code_2(self, hub, checkpoint, monkeypatch, capsys):
        ganzoo.push_folder(checkpoint, NAME, private=True)
        monkeypatch.delenv("HF_TOKEN")
        for command in (["pull", NAME], ["sample", "alice/absent"], ["push", str(checkpoint), "gan"]):
            assert run(command) == 2
            said = capsys.readouterr().err
            assert said.startswith("ganzoo: ") and said.count("\n") == 1


class TestProcesses:
    """What a process of its own must show: variables that are read at import, and what is imported."""

    LOAD = "import ganzoo; print(ganzoo.from_pretrained('alice/gan')(num_samples=1, seed=0).images[0].size)"

    def test_offline(self, hub, checkpoint):
        shutil.rmtree(checkpoint / "discriminator")
        ganzoo.push_folder(checkpoint, NAME)
        assert ganzoo.from_pretrained(NAME).discriminator is None
        hub.server.requests.clear()
        code = """
import ganzoo
print(ganzoo.from_pretrained("alice/gan").discriminator)
try:
    ganzoo.from_pretrained("alice/other")
except ganzoo.NotFoundError as error:
    print(error)
"""
        cached, uncached = hub.python(code, HF_HUB_OFFLINE="1").splitlines()
        assert cached == "None", "it is remembered that the repository has no discriminator"
        assert uncached == (
            "'alice/other' (config.json) is not cached and HF_HUB_OFFLINE is set; cached checkpoints: alice/gan"
        )
        assert hub.server.requests == []

    def test_offline_saves_what_is_cached_and_names_the_rest(self, hub, checkpoint, tmp_path):
        ganzoo.push_folder(checkpoint, NAME)
        assert ganzoo.from_pretrained(NAME).metrics == []
        code = f"""
import ganzoo
pipe = ganzoo.from_pretrained("alice/gan")
pipe.save_pretrained({str(tmp_path / "saved")!r})
for act in (lambda: pipe.discriminator, lambda: pipe.push_to_hub("alice/new")):
    try:
        act()
    except ganzoo.NotFoundError as error:
        print(error)
"""
        done = hub.run("-c", code, HF_HUB_OFFLINE="1")
        (warning,), (asked, pushed) = done.stderr.splitlines(), done.stdout.splitlines()
        way_out = "connected, 'ganzoo pull alice/gan' fetches everything"
        lost = f"without discriminator/config.json, recipe.yaml of 'alice/gan', never fetched, and HF_HUB_OFFLINE is set; {way_out}"
        assert lost in warning and str(tmp_path / "saved") in warning
        assert (
            asked == f"discriminator/config.json of 'alice/gan' was never fetched and HF_HUB_OFFLINE is set; {way_out}"
        )
        assert lost in pushed and "'alice/new' would be without" in pushed and "alice/new" not in hub.store.repos
        assert torch.equal(images(tmp_path / "saved"), images(checkpoint))
        assert (tmp_path / "saved" / "metrics.json").read_bytes() == (checkpoint / "metrics.json").read_bytes()
        assert not (tmp_path / "saved" / "discriminator").exists()
        ganzoo.pull(NAME)
        done = hub.run("-c", code.partition("for act")[0], HF_HUB_OFFLINE="1")
        assert done.stderr == "" and (tmp_path / "saved" / "discriminator" / "model.safetensors").is_file()

    def test_home_holds_the_cache(self, hub, checkpoint, tmp_path):
        ganzoo.push_folder(checkpoint, NAME)
        assert hub.python(self.LOAD, HF_HOME=str(tmp_path / "fresh")) == "(8, 8)"
        assert (tmp_path / "fresh" / "hub" / "models--alice--gan").is_dir() and not hub.cache.exists()

    def test_automodel_opens_a_checkpoint(self, hub, checkpoint):
        ganzoo.push_folder(checkpoint, NAME)
        code = f"""
import sys, torch, ganzoo
assert "transformers" not in sys.modules and ganzoo.from_pretrained
assert "transformers" not in sys.modules
import ganzoo.integrations.transformers
from transformers import AutoModel
for source in ({NAME!r}, {os.fspath(checkpoint)!r}):
    ours = ganzoo.Generator.from_pretrained(source)
    theirs = AutoModel.from_pretrained(source)
    latents = ours.sample_latents(2)
    print(type(theirs) is type(ours), torch.equal(theirs(latents), ours(latents)), theirs.training)
"""
        assert hub.python(code).splitlines() == ["True True False"] * 2
