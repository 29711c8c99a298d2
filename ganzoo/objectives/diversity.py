"""How much a batch of samples differs, for the log."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def diversity_stats(
    generated: Tensor,
    real: Tensor,
    labels: Tensor | None = None,
    *,
    generated_mask: Tensor | None = None,
    real_mask: Tensor | None = None,
) -> dict[str, Tensor]:
    """What a train row says of diversity, generated beside real: of token ids (int64) the distinct shares, else distances.

    Args:
        generated: (B, ...) samples in the networks' space.
        real: (B, ...) likewise.
        labels: (B,) classes of both, of a conditional model: distances are those within classes.
        generated_mask: (B, T) bool, the tokens that count, of token ids.
        real_mask: Likewise.
    """
    if generated.dtype != torch.int64:
        return {"generator/diversity": diversity(generated, labels), "real/diversity": diversity(real, labels)}
    return {
        f"{who}/{name}": share
        for who, tokens, mask in (("generator", generated, generated_mask), ("real", real, real_mask))
        for name, share in distinct_shares(tokens, mask).items()
    }


@torch.no_grad()
def distinct_shares(tokens: Tensor, mask: Tensor | None = None, *, max_samples: int = 64) -> dict[str, Tensor]:
    """How little a batch of token sequences repeats itself. Nothing waits for the device.

    Args:
        tokens: (B, T) token ids, not negative.
        mask: (B, T) bool, the tokens that count; by default all.
        max_samples: Only the first so many sequences are compared: the shares depend on the number.

    Returns:
        0-dim float32 tensors: `distinct_tokens`, different tokens over tokens; `distinct_sentences`, different
        sequences over sequences. 0 where there is nothing to count.
    """
    tokens = tokens[:max_samples].detach()
    if mask is not None:
        tokens = tokens.masked_fill(~mask[:max_samples], -1)
    ordered = torch.cat([tokens.new_full((1,), -1), tokens.flatten()]).sort().values
    different = (ordered[1:] != ordered[:-1]).sum()  # every token but -1 is once unlike the one before it
    same = (tokens[:, None] == tokens[None]).all(dim=2)
    repeated = same.tril(diagonal=-1).any(dim=1).sum()
    return {
        "distinct_tokens": different / (tokens >= 0).sum().clamp(min=1),
        "distinct_sentences": (len(tokens) - repeated) / max(len(tokens), 1),
    }


@torch.no_grad()
def diversity(samples: Tensor, labels: Tensor | None = None, *, max_samples: int = 64) -> Tensor:
    """Mean distance between the samples of a batch, per dimension: sqrt(mean squared difference), averaged over pairs.

    Of samples with classes, over the pairs within a class, if there are any: a conditional generator that draws one picture
    of each class still draws pictures that differ.

    One matrix product, from |a - b|² = |a|² + |b|² - 2ab. Nothing waits for the device and no gradient is kept. Between
    token ids (int64) there are no distances: of them it is the share of distinct tokens, see `distinct_shares`.

    Args:
        samples: (B, ...) tensor of any real dtype.
        labels: (B,) classes, or None.
        max_samples: Only the first so many are compared.

    Returns:
        0-dim float32 tensor on the device of `samples`; 0 for a batch of one. Samples that are independent noise of
        standard deviation s give about s·sqrt(2).
    """
    if samples.dtype == torch.int64:
        return distinct_shares(samples, max_samples=max_samples)["distinct_tokens"]
    flat = samples[:max_samples].detach().float().flatten(1)
    count, dim = flat.shape
    flat = flat - flat.mean(dim=0)  # shorter vectors: less is lost in the subtraction below
    with torch.autocast(flat.device.type, enabled=False):  # a bfloat16 product would be too coarse for it
        products = flat @ flat.T
    norms = products.diagonal()
    distances = (norms[:, None] + norms[None, :] - 2 * products).clamp(min=0).sqrt() / math.sqrt(max(dim, 1))
    pairs = ~torch.eye(count, dtype=torch.bool, device=flat.device)
    if labels is not None:
        classes = labels[:max_samples]
        within = pairs & (classes[:, None] == classes[None, :])
        pairs = torch.where(within.any(), within, pairs)
    return (distances * pairs).sum() / pairs.sum().clamp(min=1)
