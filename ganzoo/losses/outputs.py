"""What losses share: how they go over a discriminator's outputs, and the check that what is compared has one shape."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

from ganzoo.errors import UserError

if TYPE_CHECKING:
    from ganzoo.networks.base import DiscriminatorOutput

LossValue = TypeVar("LossValue", Tensor, dict[str, Tensor])


def check_same_shape(what: str, real: Tensor, fake: Tensor) -> None:
    # Broadcasting (B,) against (B, 1) would quietly compare every sample with every other one.
    if real.shape != fake.shape:
        raise UserError(
            f"{what} needs real and generated tensors of one shape, got {tuple(real.shape)} and {tuple(fake.shape)}."
        )


def average_over_outputs(loss: Callable[..., LossValue], *outputs: Sequence[DiscriminatorOutput]) -> LossValue:
    """Applies a loss of logits to every output of a discriminator, and averages.

    With `loss = adversarial_loss(name)`, `average_over_outputs(loss.discriminator, real_outputs, fake_outputs)` and
    `average_over_outputs(loss.generator, fake_outputs)`.

    Args:
        loss: Takes one logits tensor per list in `outputs`, in that order; returns a scalar or a dict of scalars.
        *outputs: What the discriminator returned for one or several batches, each a list of the same length.

    Returns:
        The mean of the loss over the outputs; for a dict, of each of its terms.
    """
    values = [loss(*(output.logits for output in group)) for group in zip(*outputs, strict=True)]
    if isinstance(values[0], dict):
        return {term: torch.stack([value[term] for value in values]).mean() for term in values[0]}
    return torch.stack(values).mean()
