"""From a name to files: local folders, the catalogue, and repositories on the Hugging Face Hub.

Everything that touches the network goes through `huggingface_hub`, so `HF_HOME`, `HF_TOKEN`, `HF_ENDPOINT` and
`HF_HUB_OFFLINE` mean what they mean everywhere. A revision is resolved to a commit once per load, by the first file; every
other file comes from that commit.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from ganzoo import __version__
from ganzoo.catalogue import catalogue
from ganzoo.errors import CheckpointError, GanzooError, NotFoundError, UserError, did_you_mean

# What never leaves the machine: optimiser state is of no use to others, and temporary files to nobody.
NOT_PUBLISHED = ["training_state/**", ".*", "**/.*"]
_REPO_ID = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)


class LocalRepository:
    """A checkpoint folder on this machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = str(folder)

    def find(self, file: str) -> Path | None:
        """The path of `file` (slashes between folders), or None.

        Raises:
            CheckpointError: The name or a symbolic link leads out of the folder.
        """
        parts = PurePosixPath(file)
        if parts.is_absolute() or ".." in parts.parts:
            raise CheckpointError(f"{self.name}: the file name {file!r} leads out of the checkpoint folder")
        path = self.folder / parts
        # The Hub's cache stores files as links into its blobs folder, beside the snapshots: that is the outer limit there.
        cached = self.folder.parent.name == "snapshots" and self.folder.parent.parent.name.startswith("models--")
        limit = (self.folder.parent.parent if cached else self.folder).resolve()
        try:
            real = path.resolve()
        except (OSError, RuntimeError, ValueError) as error:
            raise CheckpointError(f"{path}: {error}") from None
        if not real.is_relative_to(limit):
            raise CheckpointError(
                f"{path} is a symbolic link out of the checkpoint folder; replace it by the file itself"
            )
        return path if real.is_file() else None

    def file(self, file: str) -> Path:
        path = self.find(file)
        if path is None:
            raise NotFoundError(f"{self.name} has no file {file}; it is no complete ganzoo checkpoint")
        return path


@dataclass
class HubRepository:
    """A repository on the Hub; the commit is fixed by the first file that is asked for."""

    repo_id: str
    revision: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    commit: str | None = None

    @property
    def name(self) -> str:
        return self.repo_id if self.revision is None else f"{self.repo_id}@{self.revision}"

    def find(self, file: str) -> Path | None:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

        if file.startswith("/") or ".." in PurePosixPath(file).parts:
            raise CheckpointError(f"{self.name}: the file name {file!r} leads out of the checkpoint")
        try:
            path = hf_hub_download(
                self.repo_id,
                file,
                revision=self.commit or self.revision,
                library_name="ganzoo",
                library_version=__version__,
                **self.options,
            )
        except LocalEntryNotFoundError as error:
            raise _unreachable(self, file) from error
        except EntryNotFoundError:
            return None
        except Exception as error:
            raise explain_hub_error(error, self.name, revision=self.revision) from error
        if self.commit is None:
            self.commit = _commit_of(Path(path))
        return Path(path)

    def file(self, file: str) -> Path:
        path = self.find(file)
        if path is None:
            raise NotFoundError(f"'{self.name}' is a Hub repository but not a ganzoo checkpoint: it has no {file}")
        return path


Repository = LocalRepository | HubRepository


def open_repository(source: str | Path, *, revision: str | None = None, **options: Any) -> Repository:
    """Finds out what `source` means: an existing folder, a name of the catalogue, or `org/name[@revision]`.

    Args:
        revision: Branch, tag or commit of a Hub repository.
        **options: `token`, `cache_dir`, `local_files_only`, `force_download`, for `hf_hub_download`.

    Raises:
        NotFoundError: It means nothing; says which names are close.
        UserError: It means two things.
    """
    text = os.fspath(source)
    folder = Path(text).expanduser()
    entry = catalogue().get(text)
    if folder.is_dir():
        is_checkpoint = (folder / "config.json").exists()
        if entry and is_checkpoint and isinstance(source, str) and not _same(folder, entry.folder):
            raise UserError(
                f"{text!r} is both a folder here and a name of the catalogue; say './{text}' for the folder, "
                f"'{entry.repo_id}' for the published one"
            )
        if not entry or is_checkpoint:
            return LocalRepository(folder)
    if folder.is_file():
        raise UserError(f"{text} is a file; a checkpoint is the folder that holds config.json and model.safetensors")
    if entry:
        in_checkout = entry.folder.is_dir() and revision is None
        return LocalRepository(entry.folder) if in_checkout else HubRepository(entry.repo_id, revision, options)
    repo_id, at, tail = text.partition("@")
    if at and revision is not None and tail != revision:
        raise UserError(f"two revisions for {repo_id}: '@{tail}' and revision={revision!r}; give one")
    if _REPO_ID.fullmatch(repo_id) and not text.startswith((".", "~")):
        return HubRepository(repo_id, (tail if at else revision) or None, options)
    names = sorted(catalogue())
    raise NotFoundError(
        f"{text!r} is neither a folder, nor a name of the catalogue, nor 'org/name' on the Hub.{did_you_mean(text, names)}"
        f" The catalogue has: {', '.join(names) or 'nothing yet'}"
    )


def load_network(source: str | Path, **options: Any) -> Any:
    """Loads the main network of a checkpoint, whatever its role, in `eval()` mode."""
    from ganzoo.modeling import GANModel

    return GANModel.from_pretrained(source, **options)


def load_processor(source: str | Path, **options: Any) -> Any:
    """Loads the processor of a checkpoint."""
    from ganzoo.checkpoint import read_processor

    return read_processor(open_repository(source, **options))


@dataclass(frozen=True)
class PushResult:
    """What was uploaded, or would be with `dry_run`.

    Attributes:
        repo_id: Repository.
        files: Path in the repository and size in bytes.
        url: The commit or pull request, None for a dry run.
        card: Text of the model card.
    """

    repo_id: str
    files: list[tuple[str, int]]
    url: str | None
    card: str


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

    Args:
        folder: A checkpoint folder; its `training_state/` stays here.
        repo_id: `org/name`; created if it does not exist.
        private: Whether a new repository is private.
        revision: Branch to commit to, made if it does not exist.
        create_pr: Open a pull request instead of committing.
        token: Hub token; by default the saved one or `HF_TOKEN`.
        dry_run: Check everything and return the list of files, without the network.

    Raises:
        UserError: Malformed repository name, folder that is no checkpoint, or a card that the Hub would refuse.
        GanzooError: The Hub refused or could not be reached.
    """
    from ganzoo.card import check_card
    from ganzoo.checkpoint import check_folder

    path = Path(folder)
    if not _REPO_ID.fullmatch(repo_id):
        raise UserError(f"{repo_id!r} is no repository name; it has the form org/name")
    if not path.is_dir():
        raise NotFoundError(f"there is no folder {path}")
    check_folder(path)
    card_path = path / "README.md"
    card = card_path.read_text(encoding="utf-8") if card_path.is_file() else ""
    problems = check_card(card) if card else ["there is no README.md; save_pretrained of a pipeline writes one"]
    if problems:
        raise UserError(f"the model card of {path} needs work: {'; '.join(problems)}")
    files = _files_to_push(path)
    if dry_run:
        return PushResult(repo_id, files, None, card)

    from huggingface_hub import HfApi

    api = HfApi(token=token, library_name="ganzoo", library_version=__version__)
    try:
        api.create_repo(repo_id, private=private, exist_ok=True)
        if revision is not None and not create_pr:
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repo_id,
            folder_path=path,
            ignore_patterns=NOT_PUBLISHED,
            revision=revision,
            create_pr=create_pr,
            commit_message=commit_message or f"Upload with ganzoo {__version__}",
        )
    except Exception as error:
        raise explain_hub_error(error, repo_id, revision=revision) from error
    return PushResult(repo_id, files, str(getattr(commit, "pr_url", None) or commit.commit_url), card)


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

    Raises:
        NotFoundError: No such repository or revision.
        GanzooError: The Hub could not be reached.
    """
    from huggingface_hub import snapshot_download

    name, at, tail = repo_id.partition("@")
    revision = tail if at else revision
    if name in catalogue():
        name = catalogue()[name].repo_id
    if not _REPO_ID.fullmatch(name):
        raise NotFoundError(f"{repo_id!r} is no repository name (org/name).{did_you_mean(name, catalogue())}")
    try:
        folder = snapshot_download(
            name,
            revision=revision,
            local_dir=output,
            token=token,
            local_files_only=local_files_only,
            library_name="ganzoo",
            library_version=__version__,
        )
    except Exception as error:
        raise explain_hub_error(error, repo_id, revision=revision) from error
    return Path(folder)


def explain_hub_error(error: Exception, name: str, *, revision: str | None = None) -> GanzooError:
    """Turns what `huggingface_hub` raises into one sentence with the way out."""
    from huggingface_hub import errors

    if isinstance(error, GanzooError):
        return error
    if isinstance(error, errors.GatedRepoError):
        return UserError(f"'{name}' is gated: accept its terms on its page, then set HF_TOKEN")
    if isinstance(error, errors.RepositoryNotFoundError):
        return NotFoundError(
            f"'{name}' is not a repository on the Hub, or it is private and the token does not open it "
            f"(set HF_TOKEN or pass token=).{did_you_mean(name.partition('/')[2], catalogue())}"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return NotFoundError(f"'{name}' has no revision {revision!r}; give a branch, a tag or a commit that exists")
    if isinstance(error, errors.HFValidationError):
        return UserError(f"{name!r} is no repository name: {error}")
    if isinstance(error, errors.LocalEntryNotFoundError):
        return GanzooError(f"'{name}' is not cached and the Hub cannot be reached ({_reason_offline()})")
    if isinstance(error, errors.HfHubHTTPError):
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status in (401, 403):
            return UserError(
                f"the Hub refused access to '{name}' ({status}): set HF_TOKEN to a token with write access"
            )
        return GanzooError(f"the Hub answered with an error for '{name}': {str(error).splitlines()[0]}; try again")
    first = (str(error).splitlines() or [type(error).__name__])[0]
    return GanzooError(f"'{name}': {first}; nothing was changed, try again")


def _unreachable(repository: HubRepository, file: str) -> GanzooError:
    cached = _cached_checkpoints(repository.options.get("cache_dir"))
    listing = f"cached checkpoints: {', '.join(cached)}" if cached else "no ganzoo checkpoint is cached"
    return NotFoundError(f"'{repository.name}' ({file}) is not cached and {_reason_offline()}; {listing}")


def _reason_offline() -> str:
    from huggingface_hub import constants

    return "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else "the Hub cannot be reached (or local_files_only)"


def _cached_checkpoints(cache_dir: str | Path | None) -> list[str]:
    """Repositories in the Hub's cache that hold a ganzoo checkpoint."""
    from huggingface_hub import CacheNotFound, scan_cache_dir

    from ganzoo.files import read_json

    try:
        repositories = scan_cache_dir(cache_dir).repos
    except (CacheNotFound, ValueError, OSError):
        return []
    found = set()
    for repository in repositories:
        for revision in repository.revisions:
            config = Path(revision.snapshot_path) / "config.json"
            try:
                if config.is_file() and read_json(config).get("model_type") == "ganzoo":
                    found.add(repository.repo_id)
            except CheckpointError:
                continue
    return sorted(found)


def _commit_of(path: Path) -> str | None:
    """The commit in a path of the Hub's cache: .../snapshots/<commit>/<file>."""
    parts = path.parts
    return parts[parts.index("snapshots") + 1] if "snapshots" in parts else None


def _files_to_push(folder: Path) -> list[tuple[str, int]]:
    from huggingface_hub.utils import filter_repo_objects

    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return [
        (name, (folder / name).stat().st_size) for name in filter_repo_objects(names, ignore_patterns=NOT_PUBLISHED)
    ]


def _same(left: Path, right: Path) -> bool:
    return left.resolve() == right.resolve()
