"""Classifiers of ours as embedders, of whole samples or of each channel by itself."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ganzoo.checkpoints.checkpoint import Checkpoint
from ganzoo.embedders.base import Embedding, _device
from ganzoo.embedders.pixels import fit_images
from ganzoo.errors import UserError
from ganzoo.networks.base import Classifier, GANModel

if TYPE_CHECKING:
    from ganzoo.processors import Processor


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


def load_classifier(source: str | Path, sampling_rate: int | None = None) -> ClassifierEmbedder:
    """The embedder of a classifier's checkpoint: a folder, a name of the catalogue, or `org/name` on the Hub.

    Raises:
        NotFoundError: There is no such checkpoint.
        UserError: It holds something other than a classifier.
    """
    checkpoint = Checkpoint.open(source)
    network, processor = checkpoint.network("", GANModel), checkpoint.processor
    if not isinstance(network, Classifier):
        raise UserError(f"{str(source)!r} holds a {type(network).__name__}; an embedder must be a classifier")
    # A folder's own name, not its path: the name is published with the numbers.
    name = Path(source).resolve().name if Path(source).is_dir() else str(source)
    return ClassifierEmbedder(network, processor, name, sampling_rate=sampling_rate)
