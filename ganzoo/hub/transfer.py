"""Sharing checkpoints: push to the Hugging Face Hub, pull from it, and the catalogue of what ganzoo publishes."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ganzoo.checkpoints.catalogue import catalogue
from ganzoo.checkpoints.repository import (
    REPO_ID,
    HubRepository,
    LocalRepository,
    ReachableFiles,
    check_pin,
    explain_hub_error,
)
from ganzoo.errors import NotFoundError, UserError, did_you_mean
from ganzoo.utils.layout import CARD_FILE, OPTIONAL_FILES, stale_files
from ganzoo.version import __version__

# What never leaves the machine: optimiser state is of no use to others, and temporary files to nobody.
NOT_PUBLISHED = ["training_state/**", ".*", "**/.*"]


@dataclass(frozen=True)
class PushResult:
    """What was uploaded, or would be with `dry_run`.

    Attributes:
        repo_id: Repository.
        files: Path in the repository and size in bytes.
        url: The commit or pull request, None for a dry run.
        card: Text of the model card.
        deleted: What the checkpoint that was there before had besides, deleted in the same commit; unknown to a dry run.
    """

    repo_id: str
    files: list[tuple[str, int]]
    url: str | None
    card: str
    deleted: tuple[str, ...] = ()


def push_folder(
    folder: str | Path,
    repo_id: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    commit_message: str | None = None,
    token: str | bool | None = None,
    dry_run: bool = False,
) -> PushResult:
    """Uploads a checkpoint folder to the Hub in one commit; nothing is visible before all of it is there.

    It replaces the checkpoint that was there: files of that one which this one lacks, such as its discriminator, are
    deleted in the same commit. A person's own files stay.

    Args:
        folder: A checkpoint folder; its `training_state/` stays here.
        repo_id: `org/name`; created if it does not exist.
        private: Whether a new repository is private.
        revision: Branch to commit to, made if it does not exist, or a pull request's `refs/pr/N`.
        create_pr: Open a pull request instead of committing.
        token: Hub token; by default the saved one or `HF_TOKEN`.
        dry_run: Check everything and return the list of files, without the network.

    Raises:
        UserError: Malformed repository name, or a card that the Hub would refuse.
        CheckpointError: The folder is no checkpoint.
        GanzooError: The Hub refused or could not be reached.
    """
    from ganzoo.checkpoints.checkpoint import check_folder

    path = Path(folder)
    if not REPO_ID.fullmatch(repo_id):
        raise UserError(f"{repo_id!r} is no repository name; it has the form org/name")
    if create_pr and revision is not None:
        raise UserError("a pull request is always against the main branch; leave the revision out")
    if not path.is_dir():
        raise NotFoundError(f"there is no folder {path}")
    check_folder(path)
    card = _card_to_push(path, repo_id)
    files: dict[str, Path | bytes] = {name: _own_file(path, name) for name in _names_to_push(path)}
    files[CARD_FILE] = card.encode()
    sizes = [(name, len(file) if isinstance(file, bytes) else file.stat().st_size) for name, file in files.items()]
    if dry_run:
        return PushResult(repo_id, sizes, None, card)

    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    api = HfApi(token=token, library_name="ganzoo", library_version=__version__)
    try:
        api.create_repo(repo_id, private=private, exist_ok=True)
        if revision is not None and not revision.startswith("refs/"):
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        stale = stale_files(api.list_repo_files(repo_id, revision=revision), files)
        # Not `upload_folder`, which makes several commits of a large folder.
        commit = api.create_commit(
            repo_id,
            [
                *(CommitOperationAdd(name, file) for name, file in files.items()),
                *(CommitOperationDelete(name, is_folder=False) for name in stale),
            ],
            commit_message=commit_message or f"Upload with ganzoo {__version__}",
            revision=revision,
            create_pr=create_pr,
        )
    except Exception as error:
        raise explain_hub_error(error, repo_id, revision=revision) from error
    return PushResult(repo_id, sizes, str(commit.pr_url or commit.commit_url), card, tuple(stale))


def push_saved(save: Callable[[Path], None], repo_id: str, **options: Any) -> PushResult:
    """Saves with `save(folder)` into a temporary folder and pushes that; see `push_folder`."""
    with tempfile.TemporaryDirectory(prefix="ganzoo-push-") as folder:
        save(Path(folder))
        return push_folder(folder, repo_id, **options)


def pull(
    repo_id: str,
    *,
    revision: str | None = None,
    output: str | Path | None = None,
    token: str | bool | None = None,
    local_files_only: bool = False,
) -> Path:
    """Downloads a whole checkpoint, into the Hub's cache or into the folder `output`. Returns the folder.

    Args:
        repo_id: A name of the catalogue, whose files are then compared with those that it pins, or `org/name[@revision]`.

    Raises:
        NotFoundError: No such repository or revision.
        CheckpointError: A file is not that of the catalogue; nothing is written to `output` then.
        GanzooError: The Hub could not be reached.
    """
    name, at, tail = repo_id.partition("@")
    revision = (tail if at else revision) or None
    entry = catalogue().get(name)
    name = entry.repo_id if entry else name
    if not REPO_ID.fullmatch(name):
        raise NotFoundError(f"{repo_id!r} is no repository name (org/name).{did_you_mean(name, catalogue())}")
    access = {"token": token, "local_files_only": local_files_only}
    try:
        if entry is not None:
            cached = _snapshot(name, revision, None, **access, allow_patterns=[*entry.files, CARD_FILE])
            for file in entry.files:
                check_pin(entry, file, cached / file)
            return cached if output is None else Path(shutil.copytree(cached, output, dirs_exist_ok=True))
        folder = _snapshot(name, revision, output, **access)
    except Exception as error:
        raise explain_hub_error(error, repo_id, revision=revision) from error
    if output is None:
        _remember_absent_files(HubRepository(name, folder.name, access), folder)
    return folder


def _snapshot(name: str, revision: str | None, output: str | Path | None, **options: Any) -> Path:
    from huggingface_hub import snapshot_download

    about = {"library_name": "ganzoo", "library_version": __version__}
    return Path(snapshot_download(name, revision=revision, local_dir=output, **about, **options))


def _remember_absent_files(repository: HubRepository, folder: Path) -> None:
    """Asks once for what this checkpoint lacks of a whole one: the cache then knows it, offline too."""
    files = ReachableFiles(repository)
    for file in OPTIONAL_FILES:
        if not (folder / file).is_file():
            files.find(file)


def _names_to_push(folder: Path) -> list[str]:
    from huggingface_hub.utils import filter_repo_objects

    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return list(filter_repo_objects(names, ignore_patterns=NOT_PUBLISHED))


def _own_file(folder: Path, name: str) -> Path:
    """Refuses links out of the folder: what they lead to is not ours to publish."""
    return LocalRepository(folder).file(name)


def _card_to_push(folder: Path, repo_id: str) -> str:
    """The text of the folder's card, with the repository in its example."""
    from ganzoo.hub.card import address_card
    from ganzoo.hub.metadata import check_card
    from ganzoo.utils.files import read_text

    path = folder / CARD_FILE
    card = read_text(path) if path.is_file() else ""
    problems = check_card(card) if card else ["there is no README.md; save_pretrained of a pipeline writes one"]
    if problems:
        raise UserError(f"the model card of {folder} needs work: {'; '.join(problems)}")
    return address_card(card, repo_id)
