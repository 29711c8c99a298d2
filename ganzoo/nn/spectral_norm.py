"""Spectral norm of a whole network (Miyato et al., 2018)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import spectral_norm


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
