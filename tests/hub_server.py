"""A Hugging Face Hub on 127.0.0.1, for the real `huggingface_hub` client: the HTTP API of model repositories.

    with HubServer() as hub:
        HfApi(endpoint=hub.endpoint, token="hf_alice").create_repo("alice/gan")
        hub.store.repos["alice/gan"]

Large files go through the LFS protocol (the client needs `HF_HUB_DISABLE_XET=1`). Tests can read which requests came
(`hub.requests`), and disturb the coming ones (`fail`, `cut`, `hold`, `before`). Each kind of request is named after
the method of `Handler` that answers it.
"""

from __future__ import annotations

import base64
import json
import re
import threading
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from hub_store import Blob, Commit, HubError, HubStore, Repo, front_matter

LARGE_SUFFIXES = (".safetensors", ".bin", ".wav", ".pt")
LARGE_SIZE = 10 * 2**20
PARTS = {"repo": "[^/]+(?:/[^/]+)?", "revision": "[^/]+", "path": ".+", "name": "[^/]+", "oid": "[0-9a-f]{64}"}
ROUTES: list[tuple[str, re.Pattern[str], str]] = []


class ConnectionCutError(Exception):
    """The request under way is to end without an answer."""


@dataclass(frozen=True)
class Request:
    """One request, as it came."""

    kind: str
    method: str
    path: str
    token: str | None
    user_agent: str


@dataclass
class Reply:
    """An answer; a body that is neither bytes nor str is sent as JSON."""

    body: Any = b""
    status: int = 200
    headers: dict[str, str] | None = None


class Hold:
    """A request stopped half-way: wait for `reached`, then let it go on with `release`."""

    def __init__(self) -> None:
        self.reached, self.release = threading.Event(), threading.Event()

    def __call__(self) -> None:
        self.reached.set()
        self.release.wait(timeout=60)


def route(method: str, template: str) -> Callable:
    """Registers the method that answers `method template`; the names in braces become its arguments."""
    pattern = re.compile(re.sub(r"\{(\w+)\}", lambda part: f"(?P<{part[1]}>{PARTS[part[1]]})", template))

    def register(function: Callable) -> Callable:
        ROUTES.append((method, pattern, function.__name__))
        return function

    return register


class Handler(BaseHTTPRequestHandler):
    """Turns one HTTP request into a call on the store. Routes are tried in the order of their definition."""

    server: HubServer
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # one packet for headers and body
    disable_nagle_algorithm = True

    def log_message(self, *args: object) -> None:
        """Keeps the test's output clean."""

    def do_GET(self) -> None:
        self.store, self.body = self.server.store, b""
        self.query = {key: values[-1] for key, values in parse_qs(urlsplit(self.path).query).items()}
        try:
            answer, arguments = self.match()
            disturbance = self.server.note(self.describe(answer))
            self.read_body(disturbance)
            with self.store.lock:
                self.user = self.store.user(self.token)
                reply = getattr(self, answer)(**arguments) if answer else None
            if reply is None:
                raise HubError(404, f"Not found: {self.path}")
        except ConnectionCutError:
            self.close_connection = True
            return
        except HubError as error:
            codes = {"X-Error-Code": error.code} if error.code else {}
            reply = Reply({"error": error.message}, error.status, {"X-Error-Message": error.message, **codes})
            reply.headers.update(error.headers)
        self.send(reply if isinstance(reply, Reply) else Reply(reply))

    do_HEAD = do_POST = do_PUT = do_DELETE = do_GET

    def match(self) -> tuple[str, dict[str, str]]:
        """Returns the name of the method that answers, and its arguments; an empty name when there is none."""
        method = "GET" if self.command == "HEAD" else self.command
        for candidate, pattern, name in ROUTES:
            found = pattern.fullmatch(urlsplit(self.path).path) if candidate == method else None
            if found:
                return name, {key: unquote(value) for key, value in found.groupdict().items()}
        return "", {}

    def describe(self, kind: str) -> Request:
        return Request(kind, self.command, unquote(self.path), self.token, self.headers.get("User-Agent", ""))

    @property
    def token(self) -> str | None:
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        return token if scheme == "Bearer" and token else None

    def read_body(self, disturbance: Callable[[], None] | None) -> None:
        """Reads the body; a disturbance strikes when half of it is here."""
        length = int(self.headers.get("Content-Length", 0))
        self.body = self.rfile.read(length // 2)
        if disturbance:
            try:
                disturbance()
            except HubError:
                self.rfile.read(length - len(self.body))  # or the rest would be taken for the next request
                raise
        self.body += self.rfile.read(length - len(self.body))
        if len(self.body) < length:
            raise ConnectionCutError

    def json(self) -> dict:
        return json.loads(self.body)

    def send(self, reply: Reply) -> None:
        headers = {"Content-Type": "application/octet-stream", **(reply.headers or {})}
        body = reply.body
        if not isinstance(body, bytes):
            body, headers["Content-Type"] = json.dumps(body).encode(), "application/json"
        self.send_response(reply.status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def repo(self, name: str, write: bool = False) -> Repo:
        return self.store.repo(name, self.user, write=write)

    # Accounts and repositories

    @route("GET", "/api/whoami-v2")
    def whoami(self):
        if self.user is None:
            raise HubError(401, "Invalid username or password.")
        organisations = [{"name": name} for name, users in self.store.members.items() if self.user in users]
        access = {"accessToken": {"displayName": "test", "role": "write"}}
        return {"name": self.user, "type": "user", "orgs": organisations, "auth": access}

    def named(self) -> str:
        """The repository that a create or delete request is about."""
        return f"{self.json().get('organization') or self.user}/{self.json()['name']}"

    @route("POST", "/api/repos/create")
    def create_repo(self):
        name = self.named()
        answer = {"url": f"{self.server.endpoint}/{name}", "name": name, "id": name}
        try:
            self.store.create(name, self.user, private=self.json().get("visibility") == "private")
        except HubError as error:
            # The client reads the address of a repository that exists already from the refusal.
            return Reply({**answer, "error": error.message}, error.status, {"X-Error-Message": error.message})
        return answer

    @route("DELETE", "/api/repos/delete")
    def delete_repo(self):
        del self.store.repos[self.repo(self.named(), write=True).name]
        return {}

    @route("GET", "/api/models")
    def list_models(self):
        wanted = set(parse_qs(urlsplit(self.path).query).get("filter", []))
        models = []
        for repo in self.store.repos.values():
            visible = not repo.private or self.store.may_write(self.user, repo.namespace)
            matches = self.query.get("author", repo.namespace) == repo.namespace
            if visible and matches and self.query.get("search", "") in repo.name:
                models.append(repo.describe())
        models = [model for model in models if wanted <= set(model["tags"])]
        return models[: int(self.query.get("limit", len(models)))]

    @route("GET", "/api/models/{repo}/refs")
    def refs(self, repo):
        def named(prefix):
            refs = self.repo(repo).refs.items()
            found = [(name.removeprefix(prefix), name, oid) for name, oid in refs if name.startswith(prefix)]
            return [{"name": short, "ref": name, "targetCommit": oid} for short, name, oid in found]

        answer = {"branches": named("refs/heads/"), "tags": named("refs/tags/"), "converts": []}
        return {**answer, "pullRequests": named("refs/pr/")} if "include_prs" in self.query else answer

    @route("GET", "/api/models/{repo}/commits/{revision}")
    def commits(self, repo, revision):
        return [
            {"id": commit.oid, "title": commit.title, "message": commit.message, "date": commit.date}
            | {"authors": [{"user": commit.author}]}
            for commit in self.repo(repo).history(revision)
        ]

    @route("GET", "/api/models/{repo}/revision/{revision}")
    def revision(self, repo, revision):
        return self.repo(repo).describe(revision, blobs="blobs" in self.query)

    @route("GET", "/api/models/{repo}/tree/{revision}")
    @route("GET", "/api/models/{repo}/tree/{revision}/{path}")
    def tree(self, repo, revision, path=""):
        return self.repo(repo).commit(revision).entries(path, self.query.get("recursive", "").lower() == "true")

    @route("GET", "/api/models/{repo}")
    def model_info(self, repo):
        return self.repo(repo).describe(blobs="blobs" in self.query)

    @route("POST", "/api/models/{repo}/paths-info/{revision}")
    def paths_info(self, repo, revision):
        is_form = "form" in self.headers.get("Content-Type", "")
        paths = (parse_qs(self.body.decode()) if is_form else self.json()).get("paths", [])
        return [entry for entry in self.repo(repo).commit(revision).entries() if entry["path"] in paths]

    # Branches and tags

    def create_ref(self, repo: Repo, ref: str, start: str) -> dict:
        if ref in repo.refs:
            raise HubError(409, f"Reference {ref} exists already")
        repo.refs[ref] = repo.commit(start).oid
        return {}

    def delete_ref(self, repo: Repo, ref: str) -> dict:
        if repo.refs.pop(ref, None) is None:
            raise HubError(404, f"Reference {ref} does not exist", "RevisionNotFound")
        return {}

    @route("POST", "/api/models/{repo}/branch/{name}")
    def create_branch(self, repo, name):
        start = self.json().get("startingPoint", "main")
        return self.create_ref(self.repo(repo, write=True), f"refs/heads/{name}", start)

    @route("DELETE", "/api/models/{repo}/branch/{name}")
    def delete_branch(self, repo, name):
        return self.delete_ref(self.repo(repo, write=True), f"refs/heads/{name}")

    @route("POST", "/api/models/{repo}/tag/{revision}")
    def create_tag(self, repo, revision):
        return self.create_ref(self.repo(repo, write=True), f"refs/tags/{self.json()['tag']}", revision)

    @route("DELETE", "/api/models/{repo}/tag/{name}")
    def delete_tag(self, repo, name):
        return self.delete_ref(self.repo(repo, write=True), f"refs/tags/{name}")

    # Uploads

    @route("POST", "/api/validate-yaml")
    def validate_yaml(self):
        try:
            metadata = front_matter(self.json()["content"])
        except ValueError as error:
            return Reply({"warnings": [], "errors": [{"message": str(error)}]}, 400)
        return {"warnings": [] if metadata else [{"message": "empty or missing yaml metadata"}], "errors": []}

    def editable(self, name: str) -> Repo:
        """The repository of a commit: proposing a pull request takes a login, but no right to write."""
        if self.user is None:
            raise HubError(401, "Please log in or provide a token")
        return self.repo(name, write="create_pr" not in self.query)

    @route("POST", "/api/models/{repo}/preupload/{revision}")
    def preupload(self, repo, revision):
        present = self.editable(repo).commit(revision).files
        files = []
        for file in self.json()["files"]:
            path, size = file["path"], file["size"]
            is_large = not self.server.all_regular and (path.endswith(LARGE_SUFFIXES) or size >= LARGE_SIZE)
            answer = {"path": path, "uploadMode": "lfs" if is_large else "regular", "shouldIgnore": False}
            files.append(answer | ({"oid": present[path].etag} if path in present else {}))
        return {"files": files}

    @route("POST", "/{repo}.git/info/lfs/objects/batch")
    def lfs_batch(self, repo):
        self.repo(repo)
        objects = []
        for item in self.json()["objects"]:
            upload = {"href": f"{self.server.endpoint}/lfs/{item['oid']}", "header": {}}
            verify = {"href": f"{upload['href']}/verify", "header": {}}
            is_new = item["oid"] not in self.store.objects
            objects.append(item | ({"actions": {"upload": upload, "verify": verify}} if is_new else {}))
        return {"transfer": "basic", "objects": objects}

    @route("PUT", "/lfs/{oid}")
    def lfs_put(self, oid):
        if Blob(self.body).sha256 != oid:
            raise HubError(400, "The content does not have the announced sha256")
        self.store.objects[oid] = self.body
        return b""

    @route("POST", "/lfs/{oid}/verify")
    def lfs_verify(self, oid):
        if len(self.store.objects.get(oid, b"")) != self.json()["size"]:
            raise HubError(404, "Object does not exist")
        return {}

    @route("POST", "/api/models/{repo}/commit/{revision}")
    def commit(self, repo, revision):
        proposal = "create_pr" in self.query
        repo = self.editable(repo)
        header, *operations = [json.loads(line) for line in self.body.splitlines()]
        summary, parent = header["value"], repo.commit(revision)
        if summary.get("parentCommit") and not parent.oid.startswith(summary["parentCommit"]) and not proposal:
            raise HubError(412, "A commit has happened since. Please refresh and try again.")
        files = dict(parent.files)
        for operation in operations:
            self.apply(operation["key"], operation["value"], files)
        ref = repo.open_pull_request() if proposal else repo.ref(revision)
        if ref is None or ref.startswith("refs/tags/"):
            raise HubError(400, f"{revision} is not a branch")
        description = summary.get("description", "")
        commit = repo.add(ref, Commit(parent.oid, summary["summary"], description, self.user or "", files))
        address = f"{self.server.endpoint}/{repo.name}"
        answer = {"success": True, "commitUrl": f"{address}/commit/{commit.oid}", "commitOid": commit.oid}
        return answer | ({"pullRequestUrl": f"{address}/discussions/{ref.rpartition('/')[2]}"} if proposal else {})

    def apply(self, key: str, value: dict, files: dict[str, Blob]) -> None:
        """Carries out one line of a commit."""
        path = value["path"].rstrip("/")
        if key == "file":
            files[path] = Blob(base64.b64decode(value["content"]))
        elif key == "lfsFile":
            if value["oid"] not in self.store.objects:
                raise HubError(400, f"The content of {path} was never uploaded")
            files[path] = Blob(self.store.objects[value["oid"]], lfs=True)
        elif key == "deletedFile" and path in files:
            del files[path]
        elif key == "deletedFolder" and any(name.startswith(f"{path}/") for name in files):
            for name in [name for name in files if name.startswith(f"{path}/")]:
                del files[name]
        else:
            raise HubError(404, "A file with this name doesn't exist", "EntryNotFound")

    # Downloads

    @route("GET", "/{repo}/resolve/{revision}/{path}")
    def resolve(self, repo, revision, path):
        commit = self.repo(repo).commit(revision)
        blob = commit.blob(path)
        headers = {"X-Repo-Commit": commit.oid, "ETag": f'"{blob.etag}"', "Accept-Ranges": "bytes"}
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not wanted:
            return Reply(blob.data, 200, headers)
        first, last = int(wanted[1]), min(int(wanted[2] or len(blob.data)), len(blob.data) - 1)
        if first >= len(blob.data):
            raise HubError(416, "Range not satisfiable", headers={"Content-Range": f"bytes */{len(blob.data)}"})
        headers["Content-Range"] = f"bytes {first}-{last}/{len(blob.data)}"
        return Reply(blob.data[first : last + 1], 206, headers)


class HubServer(ThreadingHTTPServer):
    """The server, on a free port of 127.0.0.1, in threads of its own.

    Attributes:
        store: What the Hub holds.
        requests: What came, in order.
        all_regular: Whether every file is to travel inside the commit, whatever its size.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self.server_port}"
        self.store = HubStore()
        self.lock = threading.Lock()
        self.reset()

    def start(self) -> HubServer:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __enter__(self) -> HubServer:
        return self.start()

    def __exit__(self, *exception: object) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, request: object, client_address: object) -> None:
        """Keeps quiet about clients that were killed on purpose."""

    def reset(self) -> None:
        """Forgets everything: repositories, requests and planned disturbances."""
        self.store.clear()
        self.requests: list[Request] = []
        self.disturbances: dict[str, list[Callable[[], None]]] = defaultdict(list)
        self.all_regular = False

    def note(self, request: Request) -> Callable[[], None] | None:
        """Records a request and takes the disturbance planned for it."""
        with self.lock:
            self.requests.append(request)
            planned = self.disturbances[request.kind]
            return planned.pop(0) if planned else None

    def kinds(self) -> list[str]:
        """What came, as a list of kinds of requests."""
        return [request.kind for request in self.requests]

    def before(self, kind: str, action: Callable[[], None], times: int = 1) -> None:
        """Calls `action` when half of the body of each of the next `times` requests of a kind is here."""
        self.disturbances[kind] += [action] * times

    def fail(self, kind: str, times: int = 1, status: int = 500) -> None:
        """Answers the next requests of a kind with an error."""

        def refuse() -> None:
            raise HubError(status, "Something went wrong on our side")

        self.before(kind, refuse, times)

    def cut(self, kind: str, times: int = 1) -> None:
        """Breaks the connection of the next requests of a kind in the middle of the body."""

        def cut() -> None:
            raise ConnectionCutError

        self.before(kind, cut, times)

    def hold(self, kind: str) -> Hold:
        """Stops the next request of a kind in the middle of its body."""
        self.before(kind, hold := Hold())
        return hold
