"""Feature matching: distances between what a discriminator computes of real and of generated samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ganzoo.errors import UserError
from ganzoo.losses.outputs import check_same_shape
from ganzoo.utils.precision import widen

if TYPE_CHECKING:
    from ganzoo.networks.base import DiscriminatorOutput


def feature_matching(
    real_outputs: Sequence[DiscriminatorOutput], fake_outputs: Sequence[DiscriminatorOutput]
) -> Tensor:
    """Compares the discriminator's features of paired real and generated samples, for the generator.

    The mean absolute difference of each layer, added up over an output's layers (Larsen et al. 2016 in L1; Wang et al.
    2018, equation 4; Kumar et al. 2019, equation 3) and averaged over the outputs, as the adversarial losses are.

    Args:
        real_outputs: The discriminator's outputs for real samples; they receive no gradient.
        fake_outputs: Its outputs for generated samples.

    Returns:
        A scalar.

    Raises:
        UserError: The outputs hold no features, or features of unequal shapes.
    """
    return torch.stack(
        [_layer_distances(real.features, fake.features) for real, fake in zip(real_outputs, fake_outputs, strict=True)]
    ).mean()


def mean_feature_matching(
    real_outputs: Sequence[DiscriminatorOutput], fake_outputs: Sequence[DiscriminatorOutput]
) -> Tensor:
    """Compares the mean features of a real batch with those of a generated one, for the generator; no pairs.

    |E f(x) - E f(G(z))|^2 (Salimans et al. 2016, section 3.1), divided by the number of features as in their code, so that
    a weight means the same in any width; added up over an output's layers and averaged over the outputs. For pairs that
    belong together, such as a spectrogram's two waveforms, see `feature_matching`.

    Args:
        real_outputs: The discriminator's outputs for real samples; they receive no gradient.
        fake_outputs: Its outputs for generated samples, of any number.

    Returns:
        A scalar.

    Raises:
        UserError: The outputs hold no features, or features of unequal shapes.
    """
    return torch.stack(
        [
            _layer_distances(real.features, fake.features, over_batch=True)
            for real, fake in zip(real_outputs, fake_outputs, strict=True)
        ]
    ).mean()


def _layer_distances(
    real_features: Sequence[Tensor], fake_features: Sequence[Tensor], *, over_batch: bool = False
) -> Tensor:
    if not real_features:
        raise UserError("Feature matching needs a discriminator that returns features, this one returns none.")
    distances = []
    for real, fake in zip(real_features, fake_features, strict=True):
        real, fake = widen(real.detach()), widen(fake)
        if over_batch:
            real, fake = real.mean(dim=0), fake.mean(dim=0)
        check_same_shape("Feature matching", real, fake)
        distances.append((fake - real).square().mean() if over_batch else (fake - real).abs().mean())
    return torch.stack(distances).sum()


# What `objective.feature_matching_of` may say.
MATCHINGS = {"pairs": feature_matching, "means": mean_feature_matching}
