"""Files that are written whole or not at all, and tensors with a checksum."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ganzoo.errors import CheckpointError, GanzooError
from ganzoo.utils.layout import stale_files

if TYPE_CHECKING:
    import torch

CHECKSUM_KEY = "sha256"
# Far more than any text or header of a checkpoint needs, far less than hurts.
MAX_TEXT_BYTES = 1 << 20
MAX_HEADER_BYTES = 8 << 20
LFS_POINTER = b"version https://git-lfs.github.com/spec/"
# torch.save's zip archive, and a bare pickle of protocol 2 to 5.
PICKLES = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
PICKLED = (
    "pickled weights, which ganzoo never opens, because a pickle can run code: load them where they come from, and save "
    "the state_dict with safetensors.torch.save_file as model.safetensors"
)
TEMPORARY = ".tmp-"  # how the names of unfinished files and folders begin
_HEADER_LENGTH_BYTES = 8


class Files(Protocol):
    """Where files are by their names: a folder, or a repository on the Hub."""

    name: str

    def find(self, file: str) -> Path | None:
        """The path of `file` (slashes between folders), or None."""

    def file(self, file: str) -> Path:
        """The same, or a NotFoundError."""


@contextlib.contextmanager
def explained_os_errors(target: Path) -> Iterator[None]:
    """Turns "disk full" and "permission denied" into one sentence that names the folder."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise GanzooError(
                f"cannot write {target}: the disk is full; free some space or choose another folder"
            ) from error
        raise GanzooError(f"cannot write {target}: {error.strerror or error}") from error


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file through a temporary neighbour, fsynced and renamed: a reader sees the old file or the new one."""
    with explained_os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = _neighbour(path)
        try:
            with open(temporary, "xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def write_text(path: Path, content: str) -> None:
    write_bytes(path, content.encode("utf-8"))


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yields a temporary folder that becomes `path` when the block ends without an error.

    The rename is the last step, after an fsync of the folder and those in it: whoever sees `path` sees all of it. An
    existing `path` is moved aside first and removed afterwards.
    """
    with explained_os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary, old = _neighbour(path), _neighbour(path, "old-")
        try:
            temporary.mkdir()
            yield temporary
            for folder in (temporary, *(child for child in temporary.rglob("*") if child.is_dir())):
                sync_folder(folder)
            if path.exists():
                os.replace(path, old)
            os.replace(temporary, path)
            sync_folder(path.parent)
            shutil.rmtree(old, ignore_errors=True)
        except BaseException:
            if old.exists() and not path.exists():
                os.replace(old, path)
            shutil.rmtree(old, ignore_errors=True)
            shutil.rmtree(temporary, ignore_errors=True)
            raise


@contextlib.contextmanager
def replaced_files(folder: Path) -> Iterator[Path]:
    """Yields a temporary folder whose files take the place of the checkpoint in `folder`, when the block ends without an error.

    What that checkpoint had and the new one lacks is removed; a person's own files stay. Each file is moved whole.
    """
    with explained_os_errors(folder):
        temporary = _neighbour(folder / "checkpoint")  # inside: another file system may begin at `folder`
        try:
            temporary.mkdir(parents=True)
            yield temporary
            written = _files_in(temporary)
            stale = stale_files(_files_in(folder), written)
            for name in stale:
                (folder / name).unlink()
            for parent in {(folder / name).parent for name in stale} - {folder}:
                if not any(parent.iterdir()):
                    parent.rmdir()
            for name in written:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                os.replace(temporary / name, folder / name)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _files_in(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())


def _neighbour(path: Path, prefix: str = "") -> Path:
    """A free name beside `path`, known before anything has it: a Ctrl-C at any moment can then be cleaned up after."""
    return path.with_name(f"{TEMPORARY}{prefix}{path.name}-{secrets.token_hex(4)}")


def remove_leftovers(path: Path) -> None:
    """Removes what killed writers of `path` (whose last part may be a pattern) have left beside it."""
    for leftover in path.parent.glob(f"{TEMPORARY}*{path.name}-*"):
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


def sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_text(path: Path) -> str:
    """Reads a UTF-8 text of at most 1 MiB.

    Raises:
        CheckpointError: It is no such thing.
    """
    try:
        if path.stat().st_size > MAX_TEXT_BYTES:
            raise CheckpointError(f"{path} is larger than {MAX_TEXT_BYTES:,} bytes; it is no ganzoo file")
        content = path.read_bytes()
        _refuse_pointer(path, content)
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path} is damaged: not UTF-8 text ({error})") from None
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from None


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object of at most 1 MiB.

    Raises:
        CheckpointError: It is no such thing.
    """
    try:
        value = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged: not valid JSON ({error})") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} is damaged: it holds a {type(value).__name__}, not an object")
    return value


def save_tensors(path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Writes tensors as safetensors, with the SHA-256 of their bytes in the file's metadata.

    safetensors itself notices a truncated file but not a flipped bit; the checksum makes `load_tensors` notice both.
    """
    from safetensors.torch import save

    content = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    start = _HEADER_LENGTH_BYTES + int.from_bytes(content[:_HEADER_LENGTH_BYTES], "little")
    data = memoryview(content)[start:]
    # The header is put together here, because safetensors' own order of metadata changes from call to call: equal tensors
    # are to make equal files.
    note = {"format": "pt", **(metadata or {}), CHECKSUM_KEY: hashlib.sha256(data).hexdigest()}
    header = json.dumps({"__metadata__": note, **json.loads(content[_HEADER_LENGTH_BYTES:start])}).encode()
    header += b" " * (-len(header) % 8)  # the data must begin at a multiple of 8
    write_bytes(path, b"".join([len(header).to_bytes(_HEADER_LENGTH_BYTES, "little"), header, data]))


class TensorFile:
    """A safetensors file, opened and checked; nothing is read into memory before `load`.

    Raises:
        CheckpointError: The file is missing, truncated, malformed, or its checksum does not match.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        _check_beginning(path)
        with self._opened() as file:
            self.metadata: dict[str, str] = file.metadata() or {}
            slices = {name: file.get_slice(name) for name in file.keys()}
            self.shapes = {name: tuple(part.get_shape()) for name, part in slices.items()}
            self.dtypes = {name: part.get_dtype() for name, part in slices.items()}

    def load(self) -> dict[str, torch.Tensor]:
        """The tensors, mapped from the file; compared with the checksum where there is one (other tools write none)."""
        import torch

        with self._opened() as file:
            tensors = {name: file.get_tensor(name) for name in file.offset_keys()}
        if expected := self.metadata.get(CHECKSUM_KEY):
            # In the order of their places, without a gap, as the format demands: together they are the data of the file.
            digest = hashlib.sha256()
            for tensor in tensors.values():
                digest.update(tensor.reshape(-1).view(torch.uint8).numpy())
            if digest.hexdigest() != expected:
                raise CheckpointError(f"{self.path} is damaged: its checksum does not match; fetch or copy it again")
        return tensors

    @contextlib.contextmanager
    def _opened(self) -> Iterator[Any]:
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(str(self.path), framework="pt") as file:
                yield file
        except FileNotFoundError:
            raise CheckpointError(f"{self.path} is missing") from None
        except (SafetensorError, OSError, ValueError) as error:
            raise CheckpointError(f"{self.path} is damaged or not a safetensors file ({error})") from None


def _check_beginning(path: Path) -> None:
    try:
        with open(path, "rb") as file:
            beginning = file.read(len(LFS_POINTER))
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing") from None
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from None
    _refuse_pointer(path, beginning)
    if int.from_bytes(beginning[:_HEADER_LENGTH_BYTES], "little") > MAX_HEADER_BYTES:
        # Only then: a length of 640 begins as a pickle does.
        if beginning.startswith(PICKLES):
            raise CheckpointError(f"{path} holds {PICKLED}")
        raise CheckpointError(f"{path} is damaged: its header claims more than {MAX_HEADER_BYTES:,} bytes")


def _refuse_pointer(path: Path, content: bytes) -> None:
    if content.startswith(LFS_POINTER):
        raise CheckpointError(
            f"{path} is a Git LFS pointer instead of the file itself: run 'git lfs install' and 'git lfs pull' in that folder"
        )


def load_tensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Reads a file of `save_tensors`: tensors and metadata."""
    file = TensorFile(path)
    return file.load(), file.metadata
