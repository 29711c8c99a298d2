"""Kernel inception distance (Bińkowski et al., 2018): an unbiased distance between two sets of features."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ganzoo.embedders.base import Embedding
from ganzoo.errors import UserError
from ganzoo.metrics.metric import Choices, Measurement, Metric
from ganzoo.metrics.validation import check_feature_pair

# Rows of a kernel matrix at once: 256 x 10,000 float64 are 20 MB; larger blocks fall out of the cache.
BLOCK_ROWS = 256


class KID(NamedTuple):
    """A kernel inception distance.

    Attributes:
        mean: The estimate. Unbiased, so it may be slightly negative when the sets are alike.
        standard_error: Of `mean` as an estimate of the distance between the distributions; None for the exact
            estimator, which has no repetitions to learn it from.
        subsets: Number of subsets, 0 for the exact estimator.
        subset_size: Samples of each set in a subset.
    """

    mean: float
    standard_error: float | None
    subsets: int
    subset_size: int


def kernel_inception_distance(
    generated: Tensor, real: Tensor, *, subsets: int | None = 100, subset_size: int = 1000, seed: int = 0
) -> KID:
    """Unbiased squared maximum mean discrepancy under `(x.y / D + 1)^3` (Bińkowski et al., 2018, section 3 and 4).

    Args:
        generated: `(N, D)` features.
        real: `(M, D)` features.
        subsets: Number of random subsets to average over, the published protocol; None for the exact estimator over
            all pairs, which has less variance.
        subset_size: Samples of each set in a subset, drawn without replacement; at most half of the smaller set is
            taken, so that subsets differ.
        seed: Of the subsets.

    Raises:
        UserError: Fewer than 2 samples (4 with subsets), different widths, NaN or infinity, or a number of subsets or
            a subset size below 2.
    """
    if subsets is None:
        generated, real = check_feature_pair(generated, real, minimum=2)
        mean = polynomial_mmd(generated.double(), real.double())
        return KID(mean, None, 0, min(len(generated), len(real)))
    if subsets < 2 or subset_size < 2:
        raise UserError(f"KID needs at least 2 subsets of at least 2 samples, not {subsets} of {subset_size}")
    generated, real = check_feature_pair(generated, real, minimum=4)
    smaller = min(len(generated), len(real))
    size = min(subset_size, smaller // 2)
    random = torch.Generator().manual_seed(seed)
    estimates = torch.empty(subsets, dtype=torch.float64)
    for index in range(subsets):
        first, second = (_draw(features, size, random) for features in (generated, real))
        estimates[index] = polynomial_mmd(first, second)
    # Subsets of one sample overlap, so their spread over sqrt(subsets) says only how well the mean over all subsets is
    # known. The delete-d jackknife (Shao and Wu, 1989) gives the share that comes from the sample being finite.
    factor = size / (smaller - size) + 1 / subsets
    return KID(float(estimates.mean()), float(estimates.std() * factor**0.5), subsets, size)


def polynomial_mmd(generated: Tensor, real: Tensor) -> float:
    """The U-statistic of the squared MMD over all pairs (Gretton et al., 2012, equation 3), in blocks.

    Args:
        generated: `(N, D)` features, N >= 2.
        real: `(M, D)` features, M >= 2. Both are used in the type they have.
    """
    within_generated = (_kernel_sum(generated, generated) - _kernel_diagonal(generated)) / _ordered_pairs(generated)
    within_real = (_kernel_sum(real, real) - _kernel_diagonal(real)) / _ordered_pairs(real)
    across = _kernel_sum(generated, real) / (len(generated) * len(real))
    return float(within_generated + within_real - 2 * across)


def _draw(features: Tensor, size: int, random: torch.Generator) -> Tensor:
    chosen = torch.randperm(len(features), generator=random)[:size]
    return features[chosen.to(features.device)].double()


def _ordered_pairs(features: Tensor) -> int:
    return len(features) * (len(features) - 1)


def _kernel_sum(rows: Tensor, columns: Tensor) -> Tensor:
    scaled = columns.T / rows.shape[1]
    return sum((block @ scaled).add_(1).pow_(3).sum() for block in rows.split(BLOCK_ROWS))


def _kernel_diagonal(features: Tensor) -> Tensor:
    return (features.square().mean(dim=1) + 1).pow(3).sum()


def _kid(generated: Embedding, real: Embedding, choices: Choices) -> dict[str, Measurement]:
    kid = kernel_inception_distance(generated.features, real.features, seed=choices.seed)
    parameters = {"subsets": kid.subsets, "subset_size": kid.subset_size}
    return {"kid": Measurement(kid.mean, parameters, {"standard_error": kid.standard_error})}


METRICS = {"kid": Metric(_kid, higher_is_better=False)}
