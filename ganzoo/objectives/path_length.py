"""Path-length regularisation (Karras et al., 2020b, section 3.2): a step among the styles is a step of one size in the picture.

Paper: https://arxiv.org/abs/1912.04958, equation 4 and appendix B.
"""

from __future__ import annotations

import math

import torch
from pydantic import Field
from torch import Tensor, nn

from ganzoo.networks.base import Generator
from ganzoo.recipe.section import Positive, Section


class PathLength(nn.Module):
    """Keeps |J^T y| near its own running mean a, where J is the derivative of the picture by the styles and y is noise.

    E[(|J^T y| - a)^2] with y ~ N(0, 1 / number of pixels), so that a does not depend on the resolution. With one style a
    layer, the squared length is the mean of the layers' ones. Where a generator has no styles, it is of the latents.

    Attributes:
        mean: a, moved by `1 - decay` of its distance from the batch's mean length at every call.
    """

    def __init__(self, config: PathLengthConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("mean", torch.zeros(()))

    def forward(
        self, generator: Generator, latents: Tensor, labels: Tensor | None = None, condition: Tensor | None = None
    ) -> Tensor:
        """The penalty without its weight, a float32 scalar, differentiable by the generator's parameters.

        Outside of autocast, as every penalty on gradients.

        Args:
            latents: (B, ...), of which the first `batch_share` are used.
            labels: (B,) or None.
            condition: (B, ...) or None.
        """
        count = math.ceil(self.config.batch_share * len(latents))
        rows = (None if part is None else part[:count] for part in (latents, labels, condition))
        lengths = path_lengths(generator, *rows)
        with torch.no_grad():
            self.mean.lerp_(lengths.mean(), self.config.decay)
        return (lengths - self.mean.clone()).square().mean()


def path_lengths(
    generator: Generator, latents: Tensor, labels: Tensor | None = None, condition: Tensor | None = None
) -> Tensor:
    """|J^T y| of each sample, (B,), with a graph."""
    # A compiled network cannot be differentiated twice; what it was compiled of can.
    generator = getattr(generator, "_orig_mod", generator)
    with torch.autocast(latents.device.type, enabled=False):
        styles = generator.styles(latents.float(), labels)
        if not styles.requires_grad:  # latents, not styles
            styles = styles.detach().requires_grad_()
        pictures = generator(styles, labels, *(() if condition is None else (condition,)))
        noise = torch.randn_like(pictures) / math.sqrt(pictures[0, 0].numel())
        (gradients,) = torch.autograd.grad((pictures * noise).sum(), styles, create_graph=True)
    num_styles = gradients[0].numel() // gradients.shape[-1]
    # vector_norm, not the root of a sum: its derivative at 0 is 0 and not NaN.
    return torch.linalg.vector_norm(gradients.flatten(1), dim=1) / math.sqrt(num_styles)


class PathLengthConfig(Section):
    """A term of the generator's loss: a step of one size among the styles changes all pictures equally (Karras et al., 2020b)."""

    weight: float = Field(2.0, gt=0, le=1e6, description="Factor.")
    interval: Positive = Field(
        4, description="Compute it every so many steps, with weight x interval (lazy regularisation)."
    )
    decay: float = Field(
        0.01, gt=0, le=1, description="Share of its distance from a batch's mean by which the running mean moves."
    )
    batch_share: float = Field(0.5, gt=0, le=1, description="Share of the batch that it is computed on.")
