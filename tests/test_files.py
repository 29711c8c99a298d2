"""Files and folders are written whole or not at all, at whatever moment a Ctrl-C comes."""

import itertools
import sys
from contextlib import contextmanager, suppress

import pytest

from ganzoo.errors import GanzooError
from ganzoo.utils.files import new_folder, write_bytes


@contextmanager
def interrupted_after(calls: int):
    """Raises KeyboardInterrupt where Python would: when the `calls`-th call into C (a system call, say) returns.

    Yields a list that then holds the name of what was called.
    """
    interrupted = []
    left = calls

    def count(frame, event, called):
        nonlocal left
        left -= event == "c_return"
        if left == 0 and not interrupted:
            interrupted.append(called.__qualname__)
            raise KeyboardInterrupt

    sys.setprofile(count)
    try:
        yield interrupted
    finally:
        sys.setprofile(None)


def write_folder(path, content):
    with new_folder(path) as folder:
        (folder / "inner").mkdir()
        (folder / "inner" / "file").write_bytes(content)


def read_folder(path):
    return (path / "inner" / "file").read_bytes()


@pytest.mark.parametrize("old", [None, b"old"])
@pytest.mark.parametrize(
    "write, read", [(write_bytes, lambda path: path.read_bytes()), (write_folder, read_folder)], ids=["file", "folder"]
)
def test_an_interrupt_at_any_moment_leaves_the_old_or_the_new(tmp_path, write, read, old):
    write(tmp_path / "first" / "target", b"fills the caches of the standard library")
    seen = set()
    for calls in itertools.count(1):
        path = tmp_path / f"{calls}" / "target"
        path.parent.mkdir()
        if old:
            write(path, old)
        with suppress(KeyboardInterrupt, GanzooError), interrupted_after(calls) as interrupted:
            write(path, b"new")
        if not interrupted:
            break
        names = [entry.name for entry in path.parent.iterdir()]
        assert names == ["target"] or (names == [] and not old), (calls, names)
        seen.add(read(path) if names else None)
    assert calls > 20 and seen == {old, b"new"}
