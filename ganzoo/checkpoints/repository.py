"""From a name to files: local folders, the catalogue, and repositories on the Hugging Face Hub.

Everything that touches the network goes through `huggingface_hub`, so `HF_HOME`, `HF_TOKEN`, `HF_ENDPOINT` and
`HF_HUB_OFFLINE` mean what they mean everywhere. A revision is resolved to a commit once per load, by the first file; every
other file comes from that commit.
"""

from __future__ import annotations

import copy
import os
import re
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from ganzoo.checkpoints.catalogue import CatalogueEntry, catalogue
from ganzoo.errors import CheckpointError, GanzooError, NotCachedError, NotFoundError, UserError, did_you_mean, shorten
from ganzoo.utils.layout import CARD_FILE
from ganzoo.version import __version__

REPO_ID = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)


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
        # os.path, unlike pathlib, takes a name that the system refuses (too long, a null byte) for one that is not there.
        return path if os.path.isfile(real) else None

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
        from huggingface_hub.errors import LocalEntryNotFoundError, RemoteEntryNotFoundError

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
            if self._is_known_absent(file):
                return None
            raise _unreachable(self.repo_id, file, self.options.get("cache_dir")) from error
        except RemoteEntryNotFoundError as error:
            # That a file is missing is an answer about one commit, too.
            self.commit = self.commit or error.response.headers.get("X-Repo-Commit")
            return None
        except Exception as error:
            raise explain_hub_error(error, self.name, revision=self.revision) from error
        # .../snapshots/<commit>/<file>
        self.commit = self.commit or Path(path).parents[len(PurePosixPath(file).parts) - 1].name
        return Path(path)

    def _is_known_absent(self, file: str) -> bool:
        """Whether the cache remembers that the repository has no such file."""
        from huggingface_hub import _CACHED_NO_EXIST, try_to_load_from_cache

        cache_dir, revision = self.options.get("cache_dir"), self.commit or self.revision
        return try_to_load_from_cache(self.repo_id, file, cache_dir=cache_dir, revision=revision) is _CACHED_NO_EXIST

    def file(self, file: str) -> Path:
        path = self.find(file)
        if path is None:
            raise NotFoundError(f"'{self.name}' is a Hub repository but not a ganzoo checkpoint: it has no {file}")
        return path


class PublishedRepository(HubRepository):
    """A checkpoint of the catalogue on the Hub: its files are those that the catalogue pins, or refused.

    Those that an installed ganzoo carries are taken from there.
    """

    def __init__(self, entry: CatalogueEntry, revision: str | None, options: dict[str, Any]) -> None:
        super().__init__(entry.repo_id, revision, options)
        self.entry = entry

    def find(self, file: str) -> Path | None:
        if file not in self.entry.files and file != CARD_FILE:
            return None
        carried = LocalRepository(self.entry.folder).find(file) if self.revision is None else None
        if carried is not None:
            return carried
        path = super().find(file)
        check_pin(self.entry, file, path)
        return path


def check_pin(entry: CatalogueEntry, file: str, path: Path | None) -> None:
    """Refuses what a repository holds (at `path`, or nothing) as a file of a published checkpoint, unless it is that file."""
    pin = entry.files.get(file)
    if pin is None or (path is not None and path.is_file() and pin.fits(path)):
        return
    raise CheckpointError(
        f"{file} of '{entry.repo_id}' is not the file that this ganzoo publishes as {entry.name!r} "
        f"(SHA-256 {pin.sha256[:16]}...): load with force_download=True if it was damaged on its way, update "
        f"ganzoo, or load '{entry.repo_id}' by this full name if you trust its owner"
    )


Repository = LocalRepository | HubRepository


class ReachableFiles:
    """A repository as far as it can be read now: what is neither cached nor to be fetched counts as absent, and is noted.

    Attributes:
        missing: The files that were asked for in vain.
    """

    def __init__(self, repository: Repository) -> None:
        self.repository = copy.copy(repository)
        self.name = repository.name
        self.missing: list[str] = []

    def find(self, file: str) -> Path | None:
        try:
            return self.repository.find(file)
        except NotCachedError:
            self.missing += [] if file in self.missing else [file]
            if isinstance(self.repository, HubRepository):  # asked once, and not for every file: the client is patient
                self.repository.options = {**self.repository.options, "local_files_only": True}
            return None

    def file(self, file: str) -> Path:
        return self.repository.file(file)


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
    folder = Path(os.path.expanduser(text))
    entry = catalogue().get(text)
    if os.path.isdir(folder):
        is_checkpoint = (folder / "config.json").exists()
        if entry and is_checkpoint and isinstance(source, str) and not _same(folder, entry.folder):
            raise UserError(
                f"{text!r} is both a folder here and a name of the catalogue; say './{text}' for the folder, "
                f"'{entry.repo_id}' for the published one"
            )
        if not entry or is_checkpoint:
            return LocalRepository(folder)
    if os.path.isfile(folder):
        raise UserError(f"{text} is a file; a checkpoint is the folder that holds config.json and model.safetensors")
    if entry:
        whole = revision is None and all((entry.folder / file).is_file() for file in entry.files)
        return LocalRepository(entry.folder) if whole else PublishedRepository(entry, revision, options)
    repo_id, at, tail = text.partition("@")
    if at and revision is not None and tail != revision:
        raise UserError(f"two revisions for {repo_id}: '@{tail}' and revision={revision!r}; give one")
    if REPO_ID.fullmatch(repo_id) and not text.startswith((".", "~")):
        return HubRepository(repo_id, (tail if at else revision) or None, options)
    names = sorted(catalogue())
    raise NotFoundError(
        f"{shorten(text)} is neither a folder, nor a name of the catalogue, nor 'org/name' on the Hub.{did_you_mean(text, names)}"
        f" The catalogue has: {', '.join(names) or 'nothing yet'}"
    )


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
        return _unreachable(name, "", None)
    if isinstance(error, errors.HfHubHTTPError):
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status in (401, 403):
            return UserError(
                f"the Hub refused access to '{name}' ({status}): set HF_TOKEN to a token with write access"
            )
        return GanzooError(f"the Hub answered with an error for '{name}': {str(error).splitlines()[0]}; try again")
    first = (str(error).splitlines() or [type(error).__name__])[0]
    return GanzooError(f"'{name}': {first}; nothing was changed, try again")


def _unreachable(name: str, file: str, cache_dir: str | Path | None) -> GanzooError:
    cached = _cached_checkpoints(cache_dir)
    if file and name in cached:
        return NotCachedError(
            f"{file} of '{name}' was never fetched and {reason_offline()}; connected, 'ganzoo pull {name}' fetches everything"
        )
    listing = f"cached checkpoints: {', '.join(cached)}" if cached else "no ganzoo checkpoint is cached"
    return NotCachedError(f"'{name}'{file and f' ({file})'} is not cached and {reason_offline()}; {listing}")


def reason_offline() -> str:
    """Why the Hub is not asked, half a sentence."""
    from huggingface_hub import constants

    return "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else "the Hub cannot be reached (or local_files_only)"


def _cached_checkpoints(cache_dir: str | Path | None) -> list[str]:
    """Repositories in the Hub's cache that hold a ganzoo checkpoint."""
    from huggingface_hub import CacheNotFound, constants, scan_cache_dir

    from ganzoo.utils.files import read_json

    try:
        repositories = scan_cache_dir(cache_dir or constants.HF_HUB_CACHE).repos
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


def _same(left: Path, right: Path) -> bool:
    return left.resolve() == right.resolve()
