"""Normalisation of a whole network, by name."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import spectral_norm

from ganzoo.nn.layers import normalisation


def normalise(network: nn.Module, kind: str, hidden: Iterable[nn.Module]) -> None:
    """Gives a network, usually a discriminator, the normalisation that its config names.

    Args:
        kind: `"spectral"` for all its weights; `"batch"` or `"layer"` for what every convolution and linear layer in `hidden`
            computes, before the rectifier; `"none"`.
        hidden: Layers, or modules that contain them. Not the first one, behind which the samples' own scale would be lost,
            and not the last, whose output is the judgement (Radford et al., 2016, section 3).
    """
    if kind == "spectral":
        normalise_spectrally(network)
    elif kind != "none":
        for module in hidden:
            for layer in list(module.modules()):
                if isinstance(layer, (nn.modules.conv._ConvNd, nn.Linear)):
                    _normalise_output(layer, kind)


def _normalise_output(layer: nn.Module, kind: str) -> None:
    if isinstance(layer, nn.Linear):
        layer.norm = normalisation(kind, layer.out_features, dimensions=0)
    else:
        layer.norm = normalisation(kind, layer.out_channels, dimensions=len(layer.kernel_size))
    layer.register_forward_hook(_apply_norm)


def _apply_norm(layer: nn.Module, _: tuple, output: Tensor) -> Tensor:
    return layer.norm(output)


def normalise_spectrally(network: nn.Module) -> None:
    """Divides the weight of every convolution, linear layer and embedding by its largest singular value, from now on.

    Miyato et al. (2018, https://arxiv.org/abs/1802.05957), section 2.1: one power iteration in each pass in training; its
    vectors are buffers and travel with the weights. The weight that a layer with equalised learning rate uses is its parameter
    times a constant; what is 1 afterwards is the largest singular value of the weight in use.
    """
    for module in list(network.modules()):
        if isinstance(module, (nn.modules.conv._ConvNd, nn.Linear, nn.Embedding)):
            spectral_norm(module)
            if hasattr(module, "scale"):
                parametrize.register_parametrization(module, "weight", _Times(1 / module.scale))


class _Times(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, weight: Tensor) -> Tensor:
        return weight * self.factor
