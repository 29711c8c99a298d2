"""From an embedder's name to the embedder."""

from __future__ import annotations

from pathlib import Path

from ganzoo.embedders.base import Embedder
from ganzoo.embedders.classifier import ChannelwiseEmbedder, ClassifierEmbedder
from ganzoo.embedders.inception import InceptionEmbedder
from ganzoo.embedders.pixels import PixelEmbedder
from ganzoo.errors import NotFoundError, UserError, did_you_mean

BUILT_IN = ("pixels", "inception", "log-mel", "clap")


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
    kind, _, source = str(embedder).partition(":")
    if embedder == "pixels":
        return PixelEmbedder()
    if embedder == "inception":
        return InceptionEmbedder()
    if embedder == "log-mel":
        return _log_mel(sampling_rate)
    if kind == "clap":
        return _clap(source, sampling_rate)
    if kind == "channels":
        return ChannelwiseEmbedder(_load_classifier(source, None))
    return _load_classifier(embedder, sampling_rate)


def _log_mel(sampling_rate: int | None) -> Embedder:
    from ganzoo.embedders.log_mel import LogMelEmbedder

    if sampling_rate is None:
        raise UserError("the embedder 'log-mel' must be told the sampling rate of what it hears")
    return LogMelEmbedder(sampling_rate)


def _clap(source: str, sampling_rate: int | None) -> Embedder:
    from ganzoo.embedders.clap import CLAP_REPOSITORY, ClapEmbedder

    return ClapEmbedder(source or CLAP_REPOSITORY, sampling_rate=sampling_rate)


def _load_classifier(source: str | Path, sampling_rate: int | None) -> ClassifierEmbedder:
    from ganzoo.checkpoints.checkpoint import load_network, read_processor
    from ganzoo.checkpoints.repository import open_repository
    from ganzoo.networks.base import Classifier, GANModel

    try:
        repository = open_repository(source)
        network, processor = load_network(repository, GANModel), read_processor(repository)
    except NotFoundError as error:
        hint = did_you_mean(str(source), BUILT_IN)
        known = ", ".join(repr(name) for name in BUILT_IN)
        raise NotFoundError(f"{error} (an embedder is {known}, or a classifier checkpoint.{hint})") from error
    if not isinstance(network, Classifier):
        raise UserError(f"{str(source)!r} holds a {type(network).__name__}; an embedder must be a classifier")
    # A folder's own name, not its path: the name is published with the numbers.
    name = Path(source).resolve().name if Path(source).is_dir() else str(source)
    return ClassifierEmbedder(network, processor, name, sampling_rate=sampling_rate)
