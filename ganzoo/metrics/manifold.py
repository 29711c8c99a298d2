"""Precision and recall (Kynkäänniemi et al., 2019), density and coverage (Naeem et al., 2020).

All four ask which samples of one set lie in the balls around the samples of the other, where a ball reaches to its
centre's k-th nearest neighbour in its own set. Balls are closed: a sample on the surface lies inside.

Squared distances come from `|x|^2 + |y|^2 - 2 x.y` in float64, a block of rows at a time: in float32 that difference
loses every digit when a cluster is narrow and far from the others.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from ganzoo.embedders.base import Embedding
from ganzoo.errors import UserError
from ganzoo.metrics.metric import Choices, Measurement, Metric
from ganzoo.metrics.validation import check_feature_pair

# Rows of a distance matrix at once: 256 x 10,000 float64 are 20 MB; larger blocks fall out of the cache.
BLOCK_ROWS = 256
# Rounding must not push a sample off the surface it lies on; relative to the largest squared norm a ball contains.
ROUNDING = 1e-14


class PrecisionRecall(NamedTuple):
    """Improved precision and recall.

    Attributes:
        precision: Share of the generated samples that lie in the real set's balls: fidelity.
        recall: Share of the real samples that lie in the generated set's balls: variety.
    """

    precision: float
    recall: float


class DensityCoverage(NamedTuple):
    """Density and coverage.

    Attributes:
        density: Mean number of the real set's balls around a generated sample, divided by k. About 1 when the
            distributions agree, and not bounded by 1.
        coverage: Share of the real set's balls that hold a generated sample.
    """

    density: float
    coverage: float


def precision_recall(generated: Tensor, real: Tensor, *, k: int = 3) -> PrecisionRecall:
    """Improved precision and recall (Kynkäänniemi et al., 2019, equations 1 and 2).

    Args:
        generated: `(N, D)` features.
        real: `(M, D)` features.
        k: A ball reaches to the k-th nearest neighbour, its centre not counted; 3 in the paper.

    Raises:
        UserError: Not more than k samples in a set, different widths, NaN or infinity.
    """
    generated, real = _prepare(generated, real, k)
    generated_reach, real_reach = _reach(generated, k), _reach(real, k)
    in_real, in_generated = [], torch.zeros(len(real), dtype=torch.uint8, device=real.device)
    for rows, distances in _distance_blocks(generated, real):
        in_real.append(_any(distances <= real_reach, dim=1))
        in_generated |= _any(distances <= generated_reach[rows, None], dim=0)
    return PrecisionRecall(_share(torch.cat(in_real)), _share(in_generated))


def density_coverage(generated: Tensor, real: Tensor, *, k: int = 5) -> DensityCoverage:
    """Density and coverage (Naeem et al., 2020, section 3).

    Args:
        generated: `(N, D)` features.
        real: `(M, D)` features.
        k: A ball reaches to the k-th nearest neighbour, its centre not counted; 5 in the paper.

    Raises:
        UserError: Not more than k samples in a set, different widths, NaN or infinity.
    """
    generated, real = _prepare(generated, real, k)
    reach = _reach(real, k)
    pairs, covered = 0, torch.zeros(len(real), dtype=torch.uint8, device=real.device)
    for _, distances in _distance_blocks(generated, real):
        inside = distances <= reach
        pairs += int(inside.count_nonzero())
        covered |= _any(inside, dim=0)
    return DensityCoverage(pairs / (k * len(generated)), _share(covered))


def _prepare(generated: Tensor, real: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Checks both sets and moves them, as float64, to where the real set is centred: norms and rounding get small."""
    if k < 1:
        raise UserError(f"the number of nearest neighbours must be at least 1, not {k}")
    generated, real = check_feature_pair(generated, real, minimum=k + 1)
    centre = real.double().mean(dim=0)
    return generated.double() - centre, real.double() - centre


def _distance_blocks(rows: Tensor, columns: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Yields a slice of `rows` and the squared distances `(block, N)` from these to all `columns`."""
    norms = columns.square().sum(dim=1)
    for start in range(0, len(rows), BLOCK_ROWS):
        block = rows[start : start + BLOCK_ROWS]
        distances = torch.addmm(norms, block, columns.T, alpha=-2).add_(block.square().sum(dim=1, keepdim=True))
        yield slice(start, start + len(block)), distances


def _reach(features: Tensor, k: int) -> Tensor:
    """`(N,)`: the squared radius of each sample's ball, rounded up."""
    radii = []
    for rows, distances in _distance_blocks(features, features):
        distances.diagonal(offset=rows.start).fill_(torch.inf)
        radii.append(distances.topk(k, dim=1, largest=False).values[:, -1])
    squared = torch.cat(radii).clamp(min=0)
    return squared + ROUNDING * (features.norm(dim=1) + squared.sqrt()).square()


def _any(inside: Tensor, dim: int) -> Tensor:
    # `amax` over bytes is twenty times as fast as `any` on a CPU.
    return inside.view(torch.uint8).amax(dim=dim)


def _share(flags: Tensor) -> float:
    return float(flags.double().mean())


def _precision_recall(generated: Embedding, real: Embedding, choices: Choices) -> dict[str, Measurement]:
    found = precision_recall(generated.features, real.features, k=3)
    return {name: Measurement(value, {"k": 3}) for name, value in found._asdict().items()}


def _density_coverage(generated: Embedding, real: Embedding, choices: Choices) -> dict[str, Measurement]:
    found = density_coverage(generated.features, real.features, k=5)
    return {name: Measurement(value, {"k": 5}) for name, value in found._asdict().items()}


METRICS = {
    "precision": Metric(_precision_recall, higher_is_better=True),
    "recall": Metric(_precision_recall, higher_is_better=True),
    "density": Metric(_density_coverage, higher_is_better=True),
    "coverage": Metric(_density_coverage, higher_is_better=True),
}
