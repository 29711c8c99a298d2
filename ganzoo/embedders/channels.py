"""A classifier that sees every channel of a picture by itself."""

from __future__ import annotations

import torch
from torch import Tensor

from ganzoo.embedders.base import EmbedderKind, Embedding
from ganzoo.embedders.classifier import ClassifierEmbedder, load_classifier
from ganzoo.embedders.validation import check_images
from ganzoo.errors import UserError

MAX_CLASSES = 100_000


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


EMBEDDER = EmbedderKind(lambda source, sampling_rate: ChannelwiseEmbedder(load_classifier(source)))
