"""The Inception-v3 of the published FID, KID and inception scores."""

from __future__ import annotations

import pickle
from pathlib import Path

import torch
from torch import Tensor

from ganzoo.embedders.base import EmbedderKind, Embedding, _device
from ganzoo.embedders.pixels import fit_images
from ganzoo.embedders.validation import check_images
from ganzoo.errors import GanzooError, require
from ganzoo.version import install_command


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
                f"{install_command('inception')}"
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


EMBEDDER = EmbedderKind(lambda source, sampling_rate: InceptionEmbedder())
