"""What a Hugging Face Hub remembers: accounts, repositories, immutable commits and large files, in memory.

`hub_server` speaks HTTP in front of it; tests read it directly to see what really arrived.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from functools import cached_property
from pathlib import PurePosixPath
from types import MappingProxyType

import yaml

MAIN = "refs/heads/main"
FRONT_MATTER = re.compile(r"\A\s*---\r?\n(.*?)\r?\n---[ \t]*(?:\r?\n|\Z)", re.DOTALL)


class HubError(Exception):
    """An answer that is not 2xx; `code` is the Hub's `X-Error-Code`, by which its client chooses the exception."""

    def __init__(self, status: int, message: str, code: str = "", headers: Mapping[str, str] | None = None):
        super().__init__(message)
        self.status, self.message, self.code, self.headers = status, message, code, dict(headers or {})


def front_matter(readme: str) -> dict:
    """Returns the metadata block of a card; raises ValueError if it is not a YAML mapping."""
    match = FRONT_MATTER.match(readme)
    try:
        metadata = yaml.safe_load(match[1]) if match else {}
    except yaml.YAMLError as error:
        raise ValueError(f"the metadata is not YAML: {error}") from error
    if not isinstance(metadata or {}, dict):
        raise ValueError("the metadata is not a mapping")
    return metadata or {}


@dataclass(frozen=True)
class Blob:
    """One file's content, and whether git or the large-file storage holds it."""

    data: bytes
    lfs: bool = False

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @property
    def pointer(self) -> bytes:
        """What git itself stores for a large file."""
        return (
            f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {len(self.data)}\n".encode()
        )

    @cached_property
    def git_oid(self) -> str:
        content = self.pointer if self.lfs else self.data
        return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()

    @property
    def etag(self) -> str:
        """The id by which the client recognises unchanged content."""
        return self.sha256 if self.lfs else self.git_oid

    def entry(self, path: str) -> dict:
        """The file as `tree` and `paths-info` describe it."""
        entry = {"type": "file", "path": path, "oid": self.git_oid, "size": len(self.data)}
        if self.lfs:
            entry["lfs"] = {"oid": self.sha256, "size": len(self.data), "pointerSize": len(self.pointer)}
        return entry


@dataclass(frozen=True)
class Commit:
    """A snapshot of every file, which nothing can change afterwards."""

    parent: str | None
    title: str
    message: str
    author: str
    files: Mapping[str, Blob]
    date: str = field(default_factory=lambda: datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ"))

    @cached_property
    def oid(self) -> str:
        tree = {path: blob.git_oid for path, blob in sorted(self.files.items())}
        described = [self.parent, self.title, self.message, self.author, self.date, tree]
        return hashlib.sha1(json.dumps(described).encode()).hexdigest()

    def blob(self, path: str) -> Blob:
        if path not in self.files:
            # The commit's id must come along, or the client does not remember that the file is absent.
            raise HubError(404, f"Entry not found: {path}", "EntryNotFound", {"X-Repo-Commit": self.oid})
        return self.files[path]

    def entries(self, folder: str = "", recursive: bool = True) -> list[dict]:
        """The files and folders below `folder`."""
        prefix = f"{folder}/" if folder else ""
        inside = {path: blob for path, blob in self.files.items() if path.startswith(prefix)}
        if folder and not inside:
            raise HubError(404, f"{folder} does not exist", "EntryNotFound", {"X-Repo-Commit": self.oid})
        folders = {str(parent) for path in inside for parent in PurePosixPath(path).parents}
        found = [blob.entry(path) for path, blob in inside.items()]
        for path in folders:
            if path != "." and path.startswith(prefix):
                oid = hashlib.sha1(f"{self.oid} {path}".encode()).hexdigest()
                found.append({"type": "directory", "path": path, "oid": oid, "size": 0})
        if not recursive:
            found = [entry for entry in found if "/" not in entry["path"].removeprefix(prefix)]
        return sorted(found, key=lambda entry: entry["path"])

    def metadata(self) -> dict:
        """The card's metadata block; empty when there is none."""
        return front_matter(self.files["README.md"].data.decode()) if "README.md" in self.files else {}


class Repo:
    """A model repository: commits by id, and names (branches, tags, pull requests) that point at them."""

    def __init__(self, name: str, private: bool, author: str):
        self.name, self.private = name, private
        self.commits: dict[str, Commit] = {}
        self.refs: dict[str, str] = {}
        attributes = Blob(b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n")
        self.add(MAIN, Commit(None, "initial commit", "", author, {".gitattributes": attributes}))

    @property
    def namespace(self) -> str:
        return self.name.partition("/")[0]

    def ref(self, revision: str) -> str | None:
        """Returns the full name of the branch, tag or pull request that `revision` names."""
        candidates = (f"refs/heads/{revision}", f"refs/tags/{revision}", revision)
        return next((name for name in candidates if name in self.refs), None)

    def commit(self, revision: str = "main") -> Commit:
        """Returns the commit at a branch, tag, pull request, or (abbreviated) commit id."""
        ref = self.ref(revision)
        if ref:
            return self.commits[self.refs[ref]]
        if len(revision) >= 7:
            for oid, commit in self.commits.items():
                if oid.startswith(revision):
                    return commit
        raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")

    def add(self, ref: str, commit: Commit) -> Commit:
        """Records a commit and moves `ref` to it."""
        commit = replace(commit, files=MappingProxyType(dict(commit.files)))
        self.commits[commit.oid] = commit
        self.refs[ref] = commit.oid
        return commit

    def write(self, files: Mapping[str, bytes], revision: str = "main", title: str = "edit") -> Commit:
        """Commits files as somebody else would, behind the back of the client under test."""
        parent = self.commit(revision)
        added = {path: Blob(data, lfs=path.endswith(".safetensors")) for path, data in files.items()}
        merged = {**parent.files, **added}
        return self.add(f"refs/heads/{revision}", Commit(parent.oid, title, "", self.namespace, merged))

    def history(self, revision: str = "main") -> Iterator[Commit]:
        """Yields the commits from `revision` back to the first."""
        commit = self.commit(revision)
        yield commit
        while commit.parent:
            commit = self.commits[commit.parent]
            yield commit

    def open_pull_request(self) -> str:
        """Returns the name of a new pull request's branch."""
        number = 1 + sum(name.startswith("refs/pr/") for name in self.refs)
        return f"refs/pr/{number}"

    def describe(self, revision: str = "main", blobs: bool = False) -> dict:
        """The repository as `model_info` returns it."""
        commit = self.commit(revision)
        card = commit.metadata()
        tags = [*card.get("tags", []), *(card[key] for key in ("library_name", "pipeline_tag") if card.get(key))]
        tags += [f"dataset:{dataset}" for dataset in card.get("datasets", [])]
        tags += [f"license:{card['license']}"] if "license" in card else []
        siblings = []
        for path, blob in sorted(commit.files.items()):
            sibling = {"rfilename": path}
            if blobs:
                sibling.update(size=len(blob.data), blobId=blob.git_oid)
            if blobs and blob.lfs:
                sibling["lfs"] = {"sha256": blob.sha256, "size": len(blob.data), "pointerSize": len(blob.pointer)}
            siblings.append(sibling)
        first = list(self.history(commit.oid))[-1]
        return {
            "_id": hashlib.sha1(self.name.encode()).hexdigest()[:24],
            "id": self.name,
            "modelId": self.name,
            "author": self.namespace,
            "sha": commit.oid,
            "createdAt": first.date,
            "lastModified": commit.date,
            "private": self.private,
            "gated": False,
            "disabled": False,
            "downloads": 0,
            "likes": 0,
            "tags": list(dict.fromkeys(tags)),
            "pipeline_tag": card.get("pipeline_tag"),
            "library_name": card.get("library_name"),
            "cardData": card,
            "siblings": siblings,
        }


class HubStore:
    """The whole Hub. `tokens` maps an access token to its user, `members` an organisation to those who may write."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.tokens = {"hf_alice": "alice", "hf_bob": "bob"}
        self.members = {"zoo": {"alice"}}
        self.clear()

    def clear(self) -> None:
        """Forgets every repository and upload."""
        with self.lock:
            self.repos: dict[str, Repo] = {}
            self.objects: dict[str, bytes] = {}

    def user(self, token: str | None) -> str | None:
        """Returns who a token belongs to, None for an anonymous caller."""
        if token is None:
            return None
        if token not in self.tokens:
            raise HubError(401, "Invalid credentials in Authorization header")
        return self.tokens[token]

    def may_write(self, user: str | None, namespace: str) -> bool:
        return user is not None and (user == namespace or user in self.members.get(namespace, ()))

    def repo(self, name: str, user: str | None = None, *, write: bool = False) -> Repo:
        """Returns a repository that `user` may read (or write): one he may not even see does not exist for him."""
        repo = self.repos.get(name)
        if repo is None or (repo.private and not self.may_write(user, repo.namespace)):
            raise HubError(404 if user else 401, "Repository not found", "RepoNotFound")
        if write and user is None:
            raise HubError(401, "Please log in or provide a token")
        if write and not self.may_write(user, repo.namespace):
            raise HubError(403, f"You don't have the rights to write to {name}")
        return repo

    def create(self, name: str, user: str | None, *, private: bool = False) -> Repo:
        namespace = name.partition("/")[0]
        if user is None:
            raise HubError(401, "Please log in or provide a token")
        if not self.may_write(user, namespace):
            raise HubError(403, f"You don't have the rights to create a model under the namespace {namespace}")
        if name in self.repos:
            raise HubError(409, "You already created this model repo")
        self.repos[name] = Repo(name, private, user)
        return self.repos[name]
