"""What every metric asks of its input, so that a wrong shape or a NaN is a sentence and not a number."""

from __future__ import annotations

import torch
from torch import Tensor

from ganzoo.errors import UserError


def check_features(features: Tensor, name: str, *, minimum: int = 1) -> Tensor:
    """Returns `features`, detached, when they are `(N, D)`, floating-point and finite, and N >= `minimum`.

    Args:
        features: What an embedder returned for a set.
        name: The values in words, e.g. `"generated features"`; it opens the error.
        minimum: Fewest samples the metric is defined for.

    Raises:
        UserError: Not a tensor, another shape or type, too few samples, or NaN or infinity among the values.
    """
    if not isinstance(features, Tensor) or features.ndim != 2 or features.shape[1] == 0:
        found = f"shape {tuple(features.shape)}" if isinstance(features, Tensor) else type(features).__name__
        raise UserError(f"{name} must be a tensor of shape (samples, width), not {found}")
    if not features.is_floating_point():
        raise UserError(f"{name} must be floating-point, not {features.dtype}; embed the samples first")
    if len(features) < minimum:
        raise UserError(f"{name}: this metric needs at least {minimum} samples, not {len(features)}")
    broken = int((~torch.isfinite(features)).any(dim=1).sum())
    if broken:
        raise UserError(f"{name} hold NaN or infinity in {broken} of {len(features)} samples")
    return features.detach()


def check_feature_pair(generated: Tensor, real: Tensor, *, minimum: int = 1) -> tuple[Tensor, Tensor]:
    """Checks both sets by `check_features`, and that they have one width.

    Raises:
        UserError: Either is unfit, or the widths differ.
    """
    generated = check_features(generated, "generated features", minimum=minimum)
    real = check_features(real, "real features", minimum=minimum)
    if generated.shape[1] != real.shape[1]:
        raise UserError(
            f"generated features have width {generated.shape[1]}, but real features have width {real.shape[1]}; "
            "embed both with one embedder, from samples of one shape"
        )
    return generated, real


def check_probabilities(probabilities: Tensor, *, minimum: int = 1) -> Tensor:
    """Returns `probabilities` as float64 when they are `(N, K)` and every row is a distribution.

    Raises:
        UserError: Another shape or type, too few samples, or rows that are not distributions (logits, say).
    """
    probabilities = check_features(probabilities, "probabilities", minimum=minimum).double()
    if bool((probabilities < 0).any()) or bool(((probabilities.sum(dim=1) - 1).abs() > 1e-3).any()):
        raise UserError("probabilities must be non-negative rows that sum to 1; apply softmax to logits first")
    return probabilities
