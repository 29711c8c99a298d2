"""Data sets from the web, against a server on this machine that may lie, fail, or be gone."""

from __future__ import annotations

import hashlib
import http.server
import threading

import pytest

from ganzoo.data.downloads import Download, fetch
from ganzoo.data.sets import coco_captions
from ganzoo.data.sets.coco_captions import open_download
from ganzoo.errors import GanzooError, NotFoundError
from ganzoo.recipe.data import DataConfig

CONTENT = b"a man rides a horse .\nthe dog sleeps .\n"


class Handler(http.server.BaseHTTPRequestHandler):
    requests: list[str] = []

    def do_GET(self) -> None:
        self.requests.append(self.path)
        found = {"/train.txt": CONTENT, "/other.txt": CONTENT + b"more\n"}.get(self.path)
        self.send_response(200 if found else 404)
        self.send_header("Content-Length", str(len(found or b"")))
        self.end_headers()
        self.wfile.write(found or b"")

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("GANZOO_CACHE", str(tmp_path / "cache"))
    Handler.requests = []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def pinned(url: str, content: bytes = CONTENT) -> Download:
    return Download(url, hashlib.sha256(content).hexdigest(), len(content))


def test_a_file_is_fetched_once_and_again_when_it_is_damaged(server):
    path = fetch(pinned(f"{server}/train.txt"), hint="")
    assert path.read_bytes() == CONTENT
    fetch(pinned(f"{server}/train.txt"), hint="")
    assert len(Handler.requests) == 1
    path.write_bytes(CONTENT[:10])
    assert fetch(pinned(f"{server}/train.txt"), hint="").read_bytes() == CONTENT
    assert len(Handler.requests) == 2


def test_another_file_than_the_pinned_one_is_refused_and_not_kept(server, tmp_path):
    with pytest.raises(GanzooError, match="checksum differs.*data.path=X"):
        fetch(pinned(f"{server}/other.txt"), hint="data.path=X")
    assert not list((tmp_path / "cache").rglob("*.txt"))


@pytest.mark.parametrize("url", ["{server}/gone.txt", "http://127.0.0.1:9/nothing.txt"])
def test_what_cannot_be_fetched_says_how_to_go_on(server, url):
    with pytest.raises(NotFoundError, match="cannot be downloaded.*data.path=X"):
        fetch(pinned(url.format(server=server)), hint="data.path=X")


def test_a_split_is_a_source_of_lines(server, monkeypatch):
    monkeypatch.setitem(coco_captions.DOWNLOADS, "toy", {"train": pinned(f"{server}/train.txt")})
    source = open_download("toy", DataConfig(dataset="toy"), "train")
    assert [text for text, _ in source.iterate()] == ["a man rides a horse .", "the dog sleeps ."]
    assert source.description == "toy" and source.length == 2
    with pytest.raises(NotFoundError, match="has no split 'dev'; there is train"):
        open_download("toy", DataConfig(dataset="toy"), "dev")
