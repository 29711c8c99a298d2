"""How far samples are from their nearest neighbours: are they copies, and are they all alike?

Donahue et al. (2019, https://arxiv.org/abs/1802.04208, section 6.2) compare the mean distance of generated samples to
their nearest neighbours among the training data, |D|_train, and among themselves, |D|_self.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from ganzoo.errors import UserError
from ganzoo.metrics.validation import check_feature_pair, check_features


def nearest_distances(points: Tensor, others: Tensor | Iterable[Tensor]) -> Tensor:
    """The Euclidean distance of each point to the nearest of `others`, a copy's exactly 0.

    Args:
        points: `(N, D)`.
        others: `(M, D)`, or an iterable of such batches, of which only one has to fit in memory.

    Returns:
        `(N,)` float32.

    Raises:
        UserError: Values that are not finite, widths that differ, or no others.
    """
    nearest = torch.full((len(points),), torch.inf)
    for batch in [others] if isinstance(others, Tensor) else others:
        points, batch = check_feature_pair(points, batch)
        nearest = torch.minimum(nearest, _distances(points, batch).amin(dim=1))
    if not nearest.isfinite().all():
        raise UserError("there is nothing to be near to: the other set is empty")
    return nearest


def nearest_indices(points: Tensor, others: Iterable[Tensor], count: int) -> Tensor:
    """Which of `others` are nearest to each point: (N, count) places in their sequence, the nearest first.

    Args:
        points: `(N, D)`.
        others: Batches `(M, D)`, of which only one has to fit in memory.
        count: Neighbours of a point.

    Raises:
        UserError: Values that are not finite, widths that differ, or fewer than `count` others.
    """
    distances, places, seen = torch.empty(len(points), 0), torch.empty(len(points), 0, dtype=torch.long), 0
    for batch in others:
        points, batch = check_feature_pair(points, batch)
        distances = torch.cat([distances, _distances(points, batch)], dim=1)
        places = torch.cat([places, torch.arange(seen, seen + len(batch)).expand(len(points), -1)], dim=1)
        seen += len(batch)
        distances, kept = distances.topk(min(count, distances.shape[1]), largest=False)
        places = places.gather(1, kept)
    if seen < count:
        raise UserError(f"there are {seen} others, not the {count} nearest that are asked for")
    return places


def nearest_distances_within(points: Tensor) -> Tensor:
    """The Euclidean distance of each point of `(N, D)`, N at least 2, to the nearest of the rest: `(N,)` float32.

    Raises:
        UserError: Values that are not finite, or fewer than two points.
    """
    points = check_features(points, "features", minimum=2)
    distances = _distances(points, points).fill_diagonal_(torch.inf)
    return distances.amin(dim=1)


def _distances(points: Tensor, others: Tensor) -> Tensor:
    # The expansion into a matrix product would leave a copy at a distance of rounding errors instead of 0.
    return torch.cdist(points.float(), others.float(), compute_mode="donot_use_mm_for_euclid_dist")
