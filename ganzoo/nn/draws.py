"""Drawing tokens from logits: categorical draws by inverse distribution functions."""

from __future__ import annotations

import math

import torch
from torch import Tensor

# Logits that are worked on at a time: 4 MB of a CPU's cache, or what a GPU easily holds.
_LOGITS_IN_CACHE = 1 << 20


_LOGITS_ON_A_DEVICE = 1 << 28


_FEWEST_ROWS = 16


# Exponentials of logits are taken as they are while every row's sum is far from float32's ends.
_SMALLEST_SUM = 1e-8


_POSITIVE = 1e-300


@torch.no_grad()
def draw_tokens(
    logits: Tensor,
    uniforms: Tensor,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> Tensor:
    """Draws tokens of every row by the inverse of its distribution function.

    Args:
        logits: (B, V), any finite floats; -inf forbids a token.
        uniforms: (B,) in [0, 1), or (B, N) for N draws of every row; equal numbers draw equal tokens.
        temperature: Divides the logits; 0 takes the most probable token.
        top_k: Only the so many most probable tokens.
        top_p: Only the most probable tokens that together reach this probability (Holtzman et al., 2020, section 3.1).

    Returns:
        int64 token ids in the shape of `uniforms`.
    """
    rows = rows_at_a_time(logits.device, logits.shape[1])
    parts = zip(logits.split(rows), uniforms.split(rows), strict=True)
    return torch.cat([_draw(*part, temperature, top_k, top_p) for part in parts])


def _draw(logits: Tensor, uniforms: Tensor, temperature: float, top_k: int | None, top_p: float | None) -> Tensor:
    if temperature == 0:
        return logits.argmax(dim=-1).view(-1, *[1] * (uniforms.ndim - 1)).expand(uniforms.shape)
    logits = logits.float()
    if temperature != 1:
        logits = logits / temperature
    if top_k is not None and top_k < logits.shape[-1]:
        lowest = logits.topk(top_k, dim=-1).values[:, -1:]
        logits = logits.masked_fill(logits < lowest, -torch.inf)
    if top_p is not None and top_p < 1:
        logits = _nucleus(logits, top_p)
    return _search(*_exponentials(logits), uniforms).clamp_(max=logits.shape[1] - 1)


@torch.no_grad()
def inverse_cdf(weights: Tensor, uniforms: Tensor) -> Tensor:
    """The token in whose stretch of the (unnormalised) distribution function `uniforms` falls.

    Args:
        weights: (B, V), not negative, not all 0.
        uniforms: (B,) or (B, N) in [0, 1).

    Returns:
        int64 in the shape of `uniforms`; never a token of weight 0.
    """
    blocks = torch.nn.functional.pad(weights, (0, -weights.shape[1] % _block_size(weights.shape[1])))
    blocks = blocks.view(len(weights), -1, _block_size(weights.shape[1]))
    return _search(blocks, blocks.sum(dim=2).cumsum(dim=1, dtype=torch.float64), uniforms)


def _block_size(vocab_size: int) -> int:
    return 16 * math.ceil(math.sqrt(vocab_size) / 16)


def rows_at_a_time(device: torch.device, vocab_size: int) -> int:
    """Rows of logits that are worked on together: what stays in a CPU's cache, or what a GPU easily holds."""
    return max(_FEWEST_ROWS, (_LOGITS_IN_CACHE if device.type == "cpu" else _LOGITS_ON_A_DEVICE) // vocab_size)


def _exponentials(logits: Tensor) -> tuple[Tensor, Tensor]:
    """exp(logits) up to a factor a row, in blocks (B, K, S) padded by 0, and the sums of the blocks so far (B, K)."""
    size = _block_size(logits.shape[1])
    blocks = logits.new_zeros(len(logits), math.ceil(logits.shape[1] / size), size)

    def exponentiate(values: Tensor) -> Tensor:
        torch.exp(values, out=blocks.flatten(1)[:, : values.shape[1]])
        return blocks.sum(dim=2).cumsum(dim=1, dtype=torch.float64)

    # Looking for the largest logit takes as long as the exponentials, and is hardly ever needed. (A GPU would wait for
    # the answer.)
    if logits.device.type == "cpu" and len(logits):
        sums = exponentiate(logits)
        low, high = sums[:, -1].aminmax()
        if low > _SMALLEST_SUM and high < torch.inf:
            return blocks, sums
    return blocks, exponentiate(logits - logits.amax(dim=1, keepdim=True))


def _search(blocks: Tensor, sums: Tensor, uniforms: Tensor) -> Tensor:
    """The first tokens whose distribution function reaches `uniforms`: weights (B, K, S), block sums so far (B, K)."""
    columns = uniforms if uniforms.ndim == 2 else uniforms[:, None]
    targets = (columns * sums[:, -1:]).clamp_(min=_POSITIVE)
    block = torch.searchsorted(sums, targets).clamp_(max=sums.shape[1] - 1)  # beyond it: not a number
    inside = blocks.gather(1, block[..., None].expand(-1, -1, blocks.shape[2])).cumsum(dim=2, dtype=torch.float64)
    # Counted from the block's end: its weights need not add up to its sum to the last bit.
    targets = inside[..., -1].sub(sums.gather(1, block) - targets).clamp_(min=_POSITIVE)
    offset = torch.searchsorted(inside, targets[..., None])[..., 0]
    return torch.add(offset, block, alpha=blocks.shape[2]).view(uniforms.shape)


def _nucleus(logits: Tensor, top_p: float) -> Tensor:
    ordered, order = logits.sort(dim=-1, descending=True)
    reached = ordered.softmax(dim=-1).cumsum(dim=-1)
    # A token stays while those before it have not reached top_p; the first always does.
    beyond = torch.zeros_like(reached, dtype=torch.bool)
    beyond[:, 1:] = reached[:, :-1] >= top_p
    return logits.masked_fill(torch.zeros_like(beyond).scatter(1, order, beyond), -torch.inf)
