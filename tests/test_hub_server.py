"""The loopback Hub answers the real client as the Hub does, so that what passes against it means something."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from huggingface_hub import HfApi, ModelCard, hf_hub_download, hf_hub_url, list_models, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import get_session

CARD = "---\nlicense: mit\nlibrary_name: ganzoo\ntags:\n- gan\ndatasets:\n- ylecun/mnist\n---\n# A GAN\n"


@pytest.fixture
def api(hub) -> HfApi:
    return HfApi()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Something like a checkpoint: small text, weights, and a folder inside."""
    folder = tmp_path / "checkpoint"
    (folder / "discriminator").mkdir(parents=True)
    (folder / "README.md").write_text(CARD)
    (folder / "config.json").write_text('{"model_type": "ganzoo"}')
    (folder / "model.safetensors").write_bytes(os.urandom(200_000))
    (folder / "discriminator" / "model.safetensors").write_bytes(os.urandom(50_000))
    return folder


@pytest.fixture
def published(api: HfApi, folder: Path) -> str:
    api.create_repo("alice/gan")
    return api.upload_folder(repo_id="alice/gan", folder_path=folder).oid


def contents(folder: Path) -> dict[str, bytes]:
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {path: data for path, data in found.items() if path != ".gitattributes" and ".cache" not in path}


def test_uploaded_folder_comes_back_byte_for_byte(hub, api, folder, published):
    assert contents(Path(snapshot_download("alice/gan"))) == contents(folder)
    stored = hub.store.repos["alice/gan"].commit().files
    assert {path for path, blob in stored.items() if blob.lfs} == {
        "model.safetensors",
        "discriminator/model.safetensors",
    }
    assert hub.server.kinds().count("lfs_put") == 2


def test_all_regular_mode_needs_no_large_file_storage(hub, api, folder):
    hub.server.all_regular = True
    api.create_repo("alice/gan")
    api.upload_folder(repo_id="alice/gan", folder_path=folder)
    assert contents(Path(snapshot_download("alice/gan"))) == contents(folder)
    assert "lfs_batch" not in hub.server.kinds()


def test_unchanged_folder_makes_no_new_commit(hub, api, folder, published):
    again = api.upload_folder(repo_id="alice/gan", folder_path=folder)
    assert again.oid == published
    assert [commit.commit_id for commit in api.list_repo_commits("alice/gan")][0] == published
    assert hub.server.kinds().count("commit") == 1


def test_second_snapshot_asks_only_for_the_revision(hub, api, published):
    snapshot_download("alice/gan")
    hub.server.requests.clear()
    snapshot_download("alice/gan")
    assert hub.server.kinds() == ["revision"]


def test_model_info_and_listings(api, published):
    info = api.model_info("alice/gan", files_metadata=True)
    assert (info.id, info.sha, info.author, info.private) == ("alice/gan", published, "alice", False)
    assert (info.library_name, info.card_data.license) == ("ganzoo", "mit")
    assert {"gan", "ganzoo", "license:mit", "dataset:ylecun/mnist"} <= set(info.tags)
    sizes = {sibling.rfilename: sibling.size for sibling in info.siblings}
    assert sizes["discriminator/model.safetensors"] == 50_000
    assert api.whoami()["name"] == "alice"
    assert [model.id for model in list_models(filter="ganzoo")] == ["alice/gan"]
    assert [model.id for model in list_models(author="bob")] == []


def test_tree_and_paths_info(api, folder, published):
    top = {entry.path: entry for entry in api.list_repo_tree("alice/gan")}
    assert set(top) == {".gitattributes", "README.md", "config.json", "model.safetensors", "discriminator"}
    weights = folder / "model.safetensors"
    assert top["model.safetensors"].lfs.sha256 == hashlib.sha256(weights.read_bytes()).hexdigest()
    [inside] = api.list_repo_tree("alice/gan", "discriminator")
    assert inside.path == "discriminator/model.safetensors"
    assert [entry.path for entry in api.get_paths_info("alice/gan", ["config.json", "absent"])] == ["config.json"]
    assert "discriminator/model.safetensors" in api.list_repo_files("alice/gan")


def test_metadata_etag_and_ranges(api, folder, published):
    url = hf_hub_url("alice/gan", "model.safetensors")
    data = (folder / "model.safetensors").read_bytes()
    metadata = api.get_hf_file_metadata(url=url)
    assert (metadata.commit_hash, metadata.size) == (published, 200_000)
    assert metadata.etag == hashlib.sha256(data).hexdigest()
    part = get_session().get(url, headers={"Range": "bytes=100-299"})
    assert (part.status_code, part.content) == (206, data[100:300])
    assert part.headers["Content-Range"] == "bytes 100-299/200000"
    assert get_session().get(url, headers={"Range": "bytes=200000-"}).status_code == 416


def test_missing_things_raise_the_right_errors(api, published):
    with pytest.raises(RepositoryNotFoundError):
        api.model_info("alice/absent")
    with pytest.raises(RepositoryNotFoundError):
        hf_hub_download("absent", "config.json")
    with pytest.raises(RevisionNotFoundError):
        hf_hub_download("alice/gan", "config.json", revision="absent")
    with pytest.raises(EntryNotFoundError) as caught:
        hf_hub_download("alice/gan", "absent.json")
    assert not isinstance(caught.value, LocalEntryNotFoundError)


def test_private_repository_exists_only_for_its_owner(hub, api, folder):
    api.create_repo("zoo/gan", private=True)
    api.upload_folder(repo_id="zoo/gan", folder_path=folder)
    assert api.model_info("zoo/gan").private
    assert hf_hub_download("zoo/gan", "config.json")
    for stranger in (False, "hf_bob"):
        with pytest.raises(RepositoryNotFoundError):
            hf_hub_download("zoo/gan", "config.json", token=stranger, cache_dir=hub.home / "other")
        assert list(HfApi(token=stranger).list_models()) == []
    with pytest.raises(HfHubHTTPError, match="Invalid credentials"):
        api.model_info("zoo/gan", token="hf_nobody")


def test_only_the_owner_writes(api, folder, published):
    with pytest.raises(HfHubHTTPError) as caught:
        api.upload_folder(repo_id="alice/gan", folder_path=folder, token="hf_bob")
    assert caught.value.response.status_code == 403
    with pytest.raises(HfHubHTTPError) as caught:
        api.create_repo("bob/gan")
    assert caught.value.response.status_code == 403


def test_creating_twice_and_deleting(api):
    api.create_repo("gan")
    with pytest.raises(HfHubHTTPError) as caught:
        api.create_repo("alice/gan")
    assert caught.value.response.status_code == 409
    assert api.create_repo("alice/gan", exist_ok=True).repo_id == "alice/gan"
    api.delete_repo("alice/gan")
    assert not api.repo_exists("alice/gan")


def test_pull_request_leaves_main_alone(hub, api, folder, published):
    (folder / "config.json").write_text("{}")
    proposed = api.upload_folder(repo_id="alice/gan", folder_path=folder, create_pr=True, token="hf_bob")
    assert (proposed.pr_num, proposed.pr_revision) == (1, "refs/pr/1")
    assert api.model_info("alice/gan").sha == published
    assert Path(hf_hub_download("alice/gan", "config.json", revision="refs/pr/1")).read_text() == "{}"
    refs = api.list_repo_refs("alice/gan", include_pull_requests=True)
    assert [ref.target_commit for ref in refs.pull_requests] == [proposed.oid]


def test_branches_and_tags(api, folder, published):
    api.create_branch("alice/gan", branch="wide")
    api.create_tag("alice/gan", tag="v1.0")
    (folder / "config.json").write_text("{}")
    api.upload_folder(repo_id="alice/gan", folder_path=folder, revision="wide")
    assert api.model_info("alice/gan", revision="v1.0").sha == published
    assert api.model_info("alice/gan", revision=published[:8]).sha == published
    assert api.model_info("alice/gan", revision="wide").sha != published
    refs = api.list_repo_refs("alice/gan")
    assert ({ref.name for ref in refs.branches}, {ref.name for ref in refs.tags}) == ({"main", "wide"}, {"v1.0"})
    api.delete_tag("alice/gan", tag="v1.0")
    api.delete_branch("alice/gan", branch="wide")
    with pytest.raises(RevisionNotFoundError):
        api.model_info("alice/gan", revision="v1.0")


def test_files_can_be_deleted(api, published):
    api.delete_folder("discriminator", "alice/gan")
    api.delete_file("config.json", "alice/gan")
    assert set(api.list_repo_files("alice/gan")) == {".gitattributes", "README.md", "model.safetensors"}
    with pytest.raises(EntryNotFoundError):
        api.delete_file("config.json", "alice/gan")


def test_commit_on_a_stale_parent_is_refused(hub, api, published):
    hub.store.repos["alice/gan"].write({"other.txt": b"meanwhile"})
    upload = {"path_or_fileobj": b"mine", "path_in_repo": "mine.txt", "repo_id": "alice/gan"}
    with pytest.raises(HfHubHTTPError) as caught:
        api.upload_file(**upload, parent_commit=published)
    assert caught.value.response.status_code == 412


def test_card_with_broken_metadata_is_refused(api, published):
    with pytest.raises(ValueError, match="Invalid metadata"):
        api.upload_file(path_or_fileobj=b"---\nlicense: [\n---\n", path_in_repo="README.md", repo_id="alice/gan")
    assert ModelCard.load("alice/gan").data.license == "mit"


def test_cut_connection_is_retried_by_the_client(hub, api, folder):
    api.create_repo("alice/gan")
    hub.server.cut("lfs_put")
    api.upload_folder(repo_id="alice/gan", folder_path=folder)
    assert contents(Path(snapshot_download("alice/gan"))) == contents(folder)
    assert hub.server.kinds().count("lfs_put") == 3


def test_failed_commit_changes_nothing_and_is_repeated(hub, api, folder):
    api.create_repo("alice/gan")
    before = api.model_info("alice/gan").sha
    hub.server.fail("commit")
    with pytest.raises(HfHubHTTPError):
        api.upload_folder(repo_id="alice/gan", folder_path=folder)
    assert api.model_info("alice/gan").sha == before
    api.upload_folder(repo_id="alice/gan", folder_path=folder)
    assert contents(Path(snapshot_download("alice/gan"))) == contents(folder)
    assert hub.server.kinds().count("lfs_put") == 2, "what had arrived is not sent again"


def test_client_killed_while_sending_weights(hub, api, folder):
    api.create_repo("alice/gan")
    before = api.model_info("alice/gan").sha
    hold = hub.server.hold("lfs_put")
    upload = (
        f"from huggingface_hub import HfApi; HfApi().upload_folder(repo_id='alice/gan', folder_path={str(folder)!r})"
    )
    process = hub.start("-c", upload)
    assert hold.reached.wait(timeout=60)
    process.kill()
    process.communicate()
    hold.release.set()
    assert api.model_info("alice/gan").sha == before
    hub.python(upload)
    assert contents(Path(snapshot_download("alice/gan"))) == contents(folder)


def test_subprocess_environment(hub, api, published):
    asked = "from huggingface_hub import HfApi; print(HfApi().model_info('alice/gan').sha)"
    assert hub.python(asked) == published
    offline = hub.run("-c", asked, HF_HUB_OFFLINE="1")
    assert offline.returncode != 0 and "offline" in offline.stderr.lower()
    assert all(request.user_agent for request in hub.server.requests)
