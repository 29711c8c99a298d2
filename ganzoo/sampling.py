"""Drawing tokens: categorical draws by inverse distribution functions, and the loops that turn them into sequences.

Every token takes one uniform number, so a sequence is a function of its row of uniforms: the latents of a text generator.
Sample i then depends on its own seed alone, whatever the batch, and `temperature`, `top_k` and `top_p` change the
distribution, not the randomness.

On a CPU the draw, not the network, is what sampling costs: 5,000 exponentials a token. So rows are processed in blocks
whose logits stay in the cache, and a distribution function is searched in two steps: a block of about sqrt(V) tokens by
the sums of the blocks, then a token inside it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ganzoo.errors import UserError

if TYPE_CHECKING:
    from ganzoo.language import TextGenerator

    State = tuple[Tensor, ...]

# Logits that are worked on at a time: 4 MB of a CPU's cache, or what a GPU easily holds.
_LOGITS_IN_CACHE = 1 << 20
_LOGITS_ON_A_DEVICE = 1 << 28
_FEWEST_ROWS = 16
# Exponentials of logits are taken as they are while every row's sum is far from float32's ends.
_SMALLEST_SUM = 1e-8
# Smaller than any weight.
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
    rows, workspace = _rows_at_a_time(logits.device, logits.shape[1]), _Workspace()
    parts = zip(logits.split(rows), uniforms.split(rows), strict=True)
    return torch.cat([_draw(*part, workspace, temperature, top_k, top_p) for part in parts])


def _draw(
    logits: Tensor,
    uniforms: Tensor,
    workspace: _Workspace,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> Tensor:
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
    return _search(*_exponentials(logits, workspace), uniforms)


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


def _rows_at_a_time(device: torch.device, vocab_size: int) -> int:
    return max(_FEWEST_ROWS, (_LOGITS_IN_CACHE if device.type == "cpu" else _LOGITS_ON_A_DEVICE) // vocab_size)


class _Workspace:
    """Memory for exponentials, used again at every draw: fresh pages from the system take longer than they do."""

    def __init__(self) -> None:
        self.memory: Tensor | None = None

    def blocks(self, logits: Tensor) -> Tensor:
        """Room (B, K, S) for the rows of `logits` in blocks; what is beyond the vocabulary is 0."""
        size = _block_size(logits.shape[1])
        shape = (len(logits), math.ceil(logits.shape[1] / size), size)
        if self.memory is None or len(self.memory) < len(logits):
            self.memory = logits.new_zeros(shape)
        return self.memory[: len(logits)]


def _exponentials(logits: Tensor, workspace: _Workspace) -> tuple[Tensor, Tensor]:
    """exp(logits) up to a factor a row, in blocks (B, K, S), and the sums of the blocks so far (B, K)."""
    blocks = workspace.blocks(logits)

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
    """The first tokens whose distribution function reaches `uniforms`: weights (B, K, S), block sums so far (B, K).

    Targets are positive, so that what reaches them has a weight.
    """
    columns = uniforms if uniforms.ndim == 2 else uniforms[:, None]
    targets = (columns * sums[:, -1:]).clamp_(min=_POSITIVE)
    block = torch.searchsorted(sums, targets)
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


@torch.no_grad()
def continue_sequences(
    generator: TextGenerator,
    state: State,
    last: Tensor,
    uniforms: Tensor,
    *,
    ended: Tensor | None = None,
    **how: Any,
) -> Tensor:
    """Draws the rest of sequences: the loop behind `generate` and metrics.

    Args:
        generator: The language model.
        state: Its state before it reads `last`.
        last: (B,) the token each sequence ends with so far (BOS at the start).
        uniforms: (B, S), one number a token to draw.
        ended: (B,) sequences that are over already; they get PAD only.
        **how: `temperature`, `top_k`, `top_p` of `draw_tokens`.

    Returns:
        (B, S) int64: tokens up to and including EOS, then PAD.
    """
    config = generator.config
    drawn = last.new_full(uniforms.shape, config.pad_token_id or 0, dtype=torch.int64)
    rows, workspace = torch.arange(len(last), device=last.device), _Workspace()
    if ended is not None:
        rows, last, *state = _keep(~ended, rows, last, *state)
    for column in range(uniforms.shape[1]):
        if not len(rows):
            break
        last, state = _advance(generator, last, state, uniforms[rows, column], workspace, **how)
        drawn[rows, column] = last
        if config.eos_token_id is not None:
            rows, last, *state = _keep(last != config.eos_token_id, rows, last, *state)
    return drawn


@torch.no_grad()
def rollouts(
    generator: TextGenerator,
    tokens: Tensor,
    num_rollouts: int,
    *,
    labels: Tensor | None = None,
    prompts: Tensor | None = None,
    uniforms: Tensor | None = None,
    rng: torch.Generator | None = None,
    **how: Any,
) -> Tensor:
    """Completes every prefix of sequences several times: Monte-Carlo search (Yu et al., 2017, equation 3).

    All prefixes and rollouts are one batch, which grows by the rollouts of one more prefix a position: no prefix is read
    twice, and the first token after it is drawn `num_rollouts` times from one distribution.

    Args:
        generator: The language model.
        tokens: (B, T) whole sequences.
        num_rollouts: Completions N of every prefix.
        labels: (B,) of a conditional model.
        prompts: (B, P) of a model with a separate prompt.
        uniforms: (T - 1, N, B, T): `uniforms[p, n, b, t]` draws token t of `completed[p, n, b]`, t > p.
        rng: Draws the uniforms where they are not given; by default the global source of the device.
        **how: `temperature`, `top_k`, `top_p` of `draw_tokens`.

    Returns:
        `completed`, (T - 1, N, B, T) int64: `completed[p, n, b]` begins with the first p + 1 tokens of `tokens[b]`; where
        these have an EOS already it is `tokens[b]`.
    """
    batch, length = tokens.shape
    shape = (length - 1, num_rollouts, batch, length)
    if uniforms is None:
        device = tokens.device if rng is None else rng.device
        uniforms = torch.rand(shape, generator=rng, device=device).to(tokens.device)
    elif uniforms.shape[-1] != length or uniforms.numel() != math.prod(shape):
        raise UserError(f"uniforms must be of shape {shape}, not {tuple(uniforms.shape)}")
    completed = tokens.expand(shape).clone()
    flat, uniforms = completed.view(-1, length), uniforms.reshape(-1, length)
    config, numbers = generator.config, torch.arange(num_rollouts, device=tokens.device) * batch
    # The sentences that are not over: they are read once, and give each prefix its state and its distribution.
    sentences = torch.arange(batch, device=tokens.device)
    state, last = generator.begin(batch, labels, prompts), torch.full_like(sentences, config.bos_token_id)
    # The rollouts under way: rows of `flat`, their last tokens, their states.
    rows, words, running, workspace = sentences[:0], last[:0], tuple(part[:0] for part in state), _Workspace()
    for position in range(length):
        if len(rows):
            words, running = _advance(generator, words, running, uniforms[rows, position], workspace, **how)
            flat[rows, position] = words
        if not len(sentences):
            continue
        logits, state = generator.step(last, state)
        if position:
            born = ((position - 1) * num_rollouts * batch + numbers) + sentences[:, None]
            first = draw_tokens(logits, uniforms[born, position], **how)
            if config.pad_token_id is not None:
                flat[born, position:] = config.pad_token_id
            flat[born, position] = first
            rows, words = torch.cat([rows, born.flatten()]), torch.cat([words, first.flatten()])
            repeated = (part.repeat_interleave(num_rollouts, dim=0) for part in state)
            running = tuple(torch.cat(pair) for pair in zip(running, repeated, strict=True))
        last = tokens[sentences, position]
        if config.eos_token_id is not None:
            rows, words, *running = _keep(words != config.eos_token_id, rows, words, *running)
            sentences, last, *state = _keep(last != config.eos_token_id, sentences, last, *state)
    return completed


def _advance(
    generator: TextGenerator, last: Tensor, state: State, uniforms: Tensor, workspace: _Workspace, **how: Any
) -> tuple[Tensor, State]:
    """Reads one token a sequence and draws the next ones, (B,) and (B,) -> (B,), a few rows at a time."""
    rows = _rows_at_a_time(last.device, generator.config.vocab_size)
    parts = []
    for start in range(0, len(last), rows):
        part = slice(start, start + rows)
        logits, after = generator.step(last[part], tuple(tensor[part] for tensor in state))
        parts.append((_draw(logits, uniforms[part], workspace, **how), *after))
    drawn, *after = (torch.cat(column) for column in zip(*parts, strict=True)) if len(parts) > 1 else parts[0]
    return drawn, tuple(after)


def _keep(mask: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
    """The rows of tensors where `mask` (B,) is true."""
    rows = mask.nonzero()[:, 0]
    return tensors if len(rows) == len(mask) else tuple(tensor[rows] for tensor in tensors)
