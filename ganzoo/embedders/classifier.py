"""Classifiers of ours as embedders, of whole samples or of each channel by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ganzoo.embedders.base import Embedding, _device
from ganzoo.embedders.pixels import fit_images
from ganzoo.embedders.validation import check_images
from ganzoo.errors import UserError

if TYPE_CHECKING:
    from ganzoo.processors import Processor


MAX_CLASSES = 100_000


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
        from ganzoo.embedders.listening import fit_waveforms

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
