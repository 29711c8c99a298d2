"""Embedders: what turns samples into the features that distances compare, and the probabilities that scores read.

A number means nothing without its embedder, so every embedder has a name and every result carries it.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from ganzoo.errors import GanzooError, NotFoundError, UserError, did_you_mean, require
from ganzoo.metrics.validation import check_images

if TYPE_CHECKING:
    from ganzoo.processors import Processor

BUILT_IN = ("pixels", "inception", "log-mel", "clap")
MAX_CLASSES = 100_000


class Embedding(NamedTuple):
    """What an embedder says of a batch.

    Attributes:
        features: `(B, D)` float32.
        probabilities: `(B, K)` float32, rows that sum to 1; None when the embedder knows no classes.
        labels: `(B,)` what each sample is, or was asked to be, where that is known. No embedder sets it.
    """

    features: Tensor
    probabilities: Tensor | None
    labels: Tensor | None = None


class Embedder(Protocol):
    """Anything with a name that maps uint8 images `(B, C, H, W)`, or int16 waveforms `(B, C, L)`, to an `Embedding`.

    It refuses what it is not for: an embedder of pictures has no meaning for sound.
    """

    name: str

    def __call__(self, samples: Tensor) -> Embedding: ...


class PixelEmbedder:
    """The pixels themselves, averaged to at most 16 x 16: needs nothing, knows no classes."""

    name = "pixels"
    max_size = 16

    def __call__(self, images: Tensor) -> Embedding:
        """Maps uint8 images `(B, C, H, W)` to features `(B, C * min(H, 16) * min(W, 16))` in [0, 1]."""
        height, width = (min(size, self.max_size) for size in check_images(images).shape[2:])
        return Embedding(adaptive_avg_pool2d(images.float() / 255, (height, width)).flatten(1), None)


class ClassifierEmbedder:
    """A classifier of ours, of pictures or of sound: the layer before its logits, and its class probabilities."""

    def __init__(
        self, network: nn.Module, processor: Processor, name: str, *, sampling_rate: int | None = None
    ) -> None:
        """Wraps a network.

        Args:
            network: Maps samples of the processor's space to an object with `logits` `(B, K)` and `features` `(B, D)`,
                such as `ganzoo.ClassifierOutput`; it is put into `eval()` mode.
            processor: The one the network was trained with.
            name: Printed and saved with every number.
            sampling_rate: Of the waveforms that it is to hear, in Hz; by default the processor's.
        """
        self.network = network.eval()
        self.processor = processor
        self.name = name
        self.sampling_rate = sampling_rate

    def to(self, device: str | torch.device) -> ClassifierEmbedder:
        """Moves the network; returns itself."""
        self.network.to(device)
        return self

    @torch.no_grad()
    def __call__(self, samples: Tensor) -> Embedding:
        """Maps uint8 images `(B, C, H, W)` of any size, grey or RGB, to features and probabilities; a classifier of sound
        int16 waveforms `(B, C, L)` of any length.
        """
        fitted = self._fit_sound(samples) if self.processor.modality == "audio" else self._fit_image(samples)
        output = self.network(self.processor.normalize(fitted.to(_device(self.network))))
        return Embedding(output.features.float(), output.logits.float().softmax(dim=1))

    def _fit_image(self, images: Tensor) -> Tensor:
        return fit_images(images, *self.processor.sample_shape)

    def _fit_sound(self, waveforms: Tensor) -> Tensor:
        from ganzoo.metrics.audio import fit_waveforms

        return fit_waveforms(waveforms, self.sampling_rate or self.processor.sampling_rate, self.processor)


class ChannelwiseEmbedder:
    """Every channel of a picture seen by itself, as a grey picture: the judge of StackedMNIST.

    The features are those of the channels beside each other; a class is a combination of theirs, so that three digits make a
    thousand. It counts as its channels' numbers do: the first has the highest place.
    """

    def __init__(self, embedder: ClassifierEmbedder) -> None:
        self.embedder = embedder
        self.name = f"channels:{embedder.name}"

    def to(self, device: str | torch.device) -> ChannelwiseEmbedder:
        """Moves the network; returns itself."""
        self.embedder.to(device)
        return self

    def __call__(self, images: Tensor) -> Embedding:
        """Maps uint8 images `(B, C, H, W)` to features `(B, C * D)` and probabilities `(B, K ** C)`.

        Raises:
            UserError: So many channels that their combinations cannot be counted.
        """
        channels = check_images(images).shape[1]
        found = self.embedder(images.flatten(0, 1)[:, None])
        features = found.features.view(len(images), -1)
        classes = found.probabilities.shape[1]
        if classes**channels > MAX_CLASSES:
            raise UserError(f"{channels} channels of {classes} classes each make more than {MAX_CLASSES:,} classes")
        joint, *others = found.probabilities.view(len(images), channels, classes).unbind(dim=1)
        for probabilities in others:
            joint = (joint[:, :, None] * probabilities[:, None, :]).flatten(1)
        return Embedding(features, joint)


class InceptionEmbedder:
    """The Inception-v3 of the published FID, KID and inception scores: pool features (2048) and 1008 probabilities.

    torch-fidelity's port of the original TensorFlow network, with that network's own resizing to 299 x 299; the same
    weights torchmetrics uses. They are downloaded (95 MB) to the cache of `torch.hub` when this is first built.
    """

    name = "inception"

    def __init__(self) -> None:
        """Downloads and loads the network.

        Raises:
            MissingPackageError: torch-fidelity is not installed.
            GanzooError: The weights cannot be downloaded or are damaged.
        """
        package = require(
            "torch_fidelity.feature_extractor_inceptionv3", extra="inception", purpose="the embedder 'inception'"
        )
        try:
            # torch-fidelity unpickles whatever file it finds. This fills the same cache first, checks the hash of
            # what it downloads, and accepts nothing but tensors.
            torch.hub.load_state_dict_from_url(
                package.URL_INCEPTION_V3, map_location="cpu", check_hash=True, weights_only=True
            )
            # Inception scores use the logits without their bias, as the original implementation did.
            self.network = package.FeatureExtractorInceptionV3("inception-v3-compat", ["2048", "logits_unbiased"])
        except OSError as error:
            raise GanzooError(
                f"the Inception weights cannot be downloaded from {package.URL_INCEPTION_V3} ({error}); connect to "
                "the internet, or choose the embedder 'pixels' or a classifier checkpoint; 'inception' also needs: "
                'pip install "ganzoo[inception]"'
            ) from error
        except (EOFError, RuntimeError, pickle.UnpicklingError) as error:
            file = Path(torch.hub.get_dir(), "checkpoints", package.URL_INCEPTION_V3.rpartition("/")[2])
            raise GanzooError(
                f"{file} is damaged or not the published Inception weights; delete it, then try again"
            ) from error

    def to(self, device: str | torch.device) -> InceptionEmbedder:
        """Moves the network; returns itself."""
        self.network.to(device)
        return self

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Embedding:
        """Maps uint8 images `(B, C, H, W)`, grey or RGB, to features `(B, 2048)` and probabilities `(B, 1008)`."""
        height, width = check_images(images).shape[2:]
        features, logits = self.network(fit_images(images, 3, height, width).to(_device(self.network)))
        return Embedding(features, logits.softmax(dim=1))


def fit_images(images: Tensor, channels: int, height: int, width: int) -> Tensor:
    """Gives images another size and number of channels.

    Resizing is bilinear with antialiasing; RGB becomes grey by the mean and grey becomes RGB by repetition. Images
    that fit already come back as they are.

    Args:
        images: uint8 `(B, C, H, W)`.
        channels: Wanted number of channels: C, or 1 from 3, or any from 1.
        height: Wanted height in pixels.
        width: Wanted width in pixels.

    Returns:
        uint8 `(B, channels, height, width)`.

    Raises:
        UserError: Not uint8 images, or a change of channels that has no meaning.
    """
    found = check_images(images).shape[1]
    if found not in (1, channels) and (found, channels) != (3, 1):
        raise UserError(f"images with {found} channels cannot be shown to an embedder that takes {channels}")
    if images.shape[1:] == (channels, height, width):
        return images
    values = images.float()
    if found > channels:
        values = values.mean(dim=1, keepdim=True)
    if values.shape[2:] != (height, width):
        values = interpolate(values, (height, width), mode="bilinear", align_corners=False, antialias=True)
    return values.round().to(torch.uint8).expand(-1, channels, -1, -1)


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
    from ganzoo.metrics.audio import LogMelEmbedder

    if sampling_rate is None:
        raise UserError("the embedder 'log-mel' must be told the sampling rate of what it hears")
    return LogMelEmbedder(sampling_rate)


def _clap(source: str, sampling_rate: int | None) -> Embedder:
    from ganzoo.metrics.audio import CLAP_REPOSITORY, ClapEmbedder

    return ClapEmbedder(source or CLAP_REPOSITORY, sampling_rate=sampling_rate)


def _load_classifier(source: str | Path, sampling_rate: int | None) -> ClassifierEmbedder:
    from ganzoo.checkpoint import load_network, read_processor
    from ganzoo.modeling import Classifier, GANModel
    from ganzoo.repository import open_repository

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


def _device(network: nn.Module) -> torch.device:
    return next(network.parameters()).device
