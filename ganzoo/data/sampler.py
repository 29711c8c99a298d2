"""Which samples make up a batch, as a pure function of the step: nothing to save, nothing to skip on resume."""

from __future__ import annotations

from functools import lru_cache

import numpy as np


def batch_indices(
    num_samples: int, batch_size: int, batch: int, *, seed: int, rank: int = 0, world_size: int = 1
) -> np.ndarray:
    """Returns the indices of one rank's share of one batch.

    The stream of samples is endless: one permutation of the data set after the other, each a function of
    `(seed, epoch)`. Batch number `batch` takes the next `world_size * batch_size` samples of it, and rank `r` the
    `r`-th contiguous slice of those. A batch may straddle the end of an epoch, so every sample appears exactly once an
    epoch whatever the batch size, and `world_size` ranks of `batch_size` see what one process of
    `world_size * batch_size` would.

    Args:
        num_samples: Size of the data set, at least 1; may be smaller than the batch.
        batch_size: Samples per rank, at least 1.
        batch: Number of the batch since the start of training, from 0.
        seed: Seed of the permutations, at least 0.
        rank: This process, in [0, world_size).
        world_size: Number of processes that share a batch.

    Returns:
        (batch_size,) int64 indices in [0, num_samples).

    Raises:
        ValueError: An argument is out of its range.
    """
    if num_samples < 1 or batch_size < 1 or batch < 0 or seed < 0 or not 0 <= rank < world_size:
        raise ValueError(
            f"no batch with num_samples={num_samples}, batch_size={batch_size}, batch={batch}, seed={seed}, "
            f"rank={rank}, world_size={world_size}"
        )
    indices = np.empty(batch_size, dtype=np.int64)
    position = (batch * world_size + rank) * batch_size
    filled = 0
    while filled < batch_size:
        epoch, start = divmod(position + filled, num_samples)
        piece = _permutation(num_samples, seed, epoch)[start : start + batch_size - filled]
        indices[filled : filled + len(piece)] = piece
        filled += len(piece)
    return indices


@lru_cache(maxsize=4)
def _permutation(num_samples: int, seed: int, epoch: int) -> np.ndarray:
    """The order of one epoch: the ranks of raw 64-bit draws, because NumPy promises never to change that stream
    (it makes no such promise for `Generator.permutation`, and a resumed run may meet another NumPy)."""
    draws = np.random.PCG64(np.random.SeedSequence([seed, epoch])).random_raw(num_samples)
    order = np.argsort(draws, kind="stable")
    order.setflags(write=False)  # shared by every caller through the cache
    return order
