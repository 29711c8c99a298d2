"""From an embedder's name to the embedder.

An embedder is a file here with `EMBEDDER = EmbedderKind(...)`, called by the file's name, or `NAME:SOURCE`. Any other name is that
of a classifier's checkpoint.
"""

from __future__ import annotations

from pathlib import Path

from ganzoo.checkpoints.repository import open_repository
from ganzoo.embedders.base import EMBEDDERS, Embedder
from ganzoo.embedders.classifier import load_classifier
from ganzoo.errors import NotFoundError, UserError, did_you_mean


def get_embedder(embedder: str | Path | Embedder, *, sampling_rate: int | None = None) -> Embedder:
    """Returns the embedder of a name, or the object itself when it is one.

    Args:
        embedder: Of pictures `"pixels"`, `"inception"`, `"channels:NAME"` (a classifier that sees each channel alone); of
            sound `"log-mel"`, `"clap"` or `"clap:FOLDER"`; of either a classifier checkpoint: its folder, its name in the
            catalogue, or its `org/name` on the Hub. Networks are loaded here, not before.
        sampling_rate: Of the waveforms that it is to hear, in Hz; by default what its network was trained with.

    Raises:
        NotFoundError: There is no such embedder or checkpoint.
        UserError: The checkpoint holds something other than a classifier, or the object is no embedder; `"log-mel"` without
            a sampling rate.
        MissingPackageError: `"inception"` without its packages.
        GanzooError: The weights of `"inception"` or `"clap"` cannot be downloaded.
    """
    if not isinstance(embedder, str | Path):
        if not callable(embedder) or not isinstance(getattr(embedder, "name", None), str):
            raise UserError(f"an embedder is a name or a callable with a name, not {type(embedder).__name__}")
        return embedder
    name, _, source = str(embedder).partition(":")
    if name in EMBEDDERS.names():
        return EMBEDDERS.get(name).open(source, sampling_rate)
    try:
        return load_classifier(embedder, sampling_rate)
    except NotFoundError as error:
        raise _unknown(str(embedder), error) from error


def check_embedder(embedder: str | Path | Embedder | None) -> None:
    """Refuses a name that is none, without loading a network: a folder and a name of the catalogue must exist, a repository
    on the Hub is not asked for.

    Raises:
        NotFoundError: There is no such embedder; says which there are.
    """
    if not isinstance(embedder, str | Path) or str(embedder).partition(":")[0] in EMBEDDERS.names():
        return
    try:
        open_repository(embedder)
    except NotFoundError as error:
        raise _unknown(str(embedder), error) from error


def _unknown(name: str, error: NotFoundError) -> NotFoundError:
    names = EMBEDDERS.names()
    known = ", ".join(map(repr, names))
    return NotFoundError(f"{error} (an embedder is {known}, or a classifier checkpoint.{did_you_mean(name, names)})")
