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
from typing import Any, Protocol

import torch
from torch import Tensor

from ganzoo.errors import UserError
from ganzoo.nn.draws import _POSITIVE, _SMALLEST_SUM, _block_size, draw_tokens, rows_at_a_time

State = tuple[Tensor, ...]


class LanguageModel(Protocol):
    """What is walked along: a `ganzoo.TextGenerator`, which says more of each."""

    config: Any

    def begin(self, batch_size: int, labels: Tensor | None = None, condition: Tensor | None = None) -> State: ...

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]: ...


# Sequences that are worked on at a time where their logits are not made at once.
_FEATURES_AT_A_TIME = 2048

# Smaller than any uniform number but 0, and than any weight: targets are positive, so that what reaches them has a weight.
_SMALLEST_SHARE = 1e-30


@torch.no_grad()
def continue_sequences(
    generator: LanguageModel,
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
    rows, stepper = torch.arange(len(last), device=last.device), _Stepper(generator, how)
    if ended is not None:
        rows, last, *state = _keep(~ended, rows, last, *state)
    for column in range(uniforms.shape[1]):
        if not len(rows):
            break
        last, state = stepper(last, state, uniforms[rows, column])
        drawn[rows, column] = last
        if config.eos_token_id is not None:
            rows, last, *state = _keep(last != config.eos_token_id, rows, last, *state)
    return drawn


@torch.no_grad()
def rollouts(
    generator: LanguageModel,
    tokens: Tensor,
    num_rollouts: int,
    *,
    labels: Tensor | None = None,
    condition: Tensor | None = None,
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
        condition: (B, P) ids of prompts, of a model that reads them apart.
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
    state, last = generator.begin(batch, labels, condition), torch.full_like(sentences, config.bos_token_id)
    # The rollouts under way: rows of `flat`, their last tokens, their states.
    rows, words, running, stepper = (
        sentences[:0],
        last[:0],
        tuple(part[:0] for part in state),
        _Stepper(generator, how),
    )
    for position in range(length):
        if len(rows):
            words, running = stepper(words, running, uniforms[rows, position])
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


class _Stepper:
    """Reads one token a sequence and draws the next ones, some sequences at a time.

    A generator whose logits are a linear map says so: `projection`, an `nn.Linear`, and `advance(tokens, state)`, a step
    without it, are all that is asked of it then.
    """

    def __init__(self, generator: LanguageModel, how: dict[str, Any]) -> None:
        self.generator, self.how, self.head = generator, how, None
        projection = getattr(generator, "projection", None)
        plain = how.get("temperature") != 0 and how.get("top_k") is None and how.get("top_p") is None
        if projection is not None and plain and projection.weight.device.type == "cpu":
            self.head = _LinearHead(projection, how.get("temperature", 1.0))

    def __call__(self, last: Tensor, state: State, uniforms: Tensor) -> tuple[Tensor, State]:
        """Last tokens (B,), the state before them, and uniforms (B,) -> the next tokens (B,), the state before them."""
        rows = _FEATURES_AT_A_TIME if self.head else rows_at_a_time(last.device, self.generator.config.vocab_size)
        parts = []
        for start in range(0, len(last), rows):
            part = slice(start, start + rows)
            parts.append(self._step(last[part], tuple(tensor[part] for tensor in state), uniforms[part]))
        drawn, *state = (torch.cat(column) for column in zip(*parts, strict=True)) if len(parts) > 1 else parts[0]
        return drawn, tuple(state)

    def _step(self, last: Tensor, state: State, uniforms: Tensor) -> tuple[Tensor, ...]:
        if self.head is not None:
            features, state = self.generator.advance(last, state)
            return self.head.draw(features, uniforms), *state
        logits, state = self.generator.step(last, state)
        return draw_tokens(logits, uniforms, **self.how), *state


class _LinearHead:
    """Draws tokens whose logits are a linear map of features; logits and exponentials never leave a CPU's cache.

    The bias is one more column, and the temperature is in the weights: to begin with a bias, or to divide afterwards, would
    take half as long as the matrix product. What fills up the last block has the bias -inf.
    """

    def __init__(self, projection: torch.nn.Linear, temperature: float) -> None:
        self.vocab_size, features = projection.weight.shape
        self.size = _block_size(self.vocab_size)
        padded = math.ceil(self.vocab_size / self.size) * self.size
        self.weights = torch.zeros(padded, features + 1)
        self.weights[: self.vocab_size, :-1] = projection.weight / temperature
        self.weights[: self.vocab_size, -1] = 0.0 if projection.bias is None else projection.bias / temperature
        self.weights[self.vocab_size :, -1] = -torch.inf
        self.memory = torch.empty(rows_at_a_time(self.weights.device, padded), padded)

    def draw(self, features: Tensor, uniforms: Tensor) -> Tensor:
        """Tokens (B,) of features (B, F) and uniforms (B,); see `_search`, whose steps these are."""
        with torch.autocast("cpu", enabled=False):
            inputs = torch.nn.functional.pad(features.float(), (0, 1), value=1.0)
            shares = uniforms.double().clamp_(min=_SMALLEST_SHARE)[:, None]
            parts = [
                self._choose(*part)
                for part in zip(*(t.split(len(self.memory)) for t in (inputs, shares)), strict=True)
            ]
            totals, block, beyond, chosen = (torch.cat(column) for column in zip(*parts, strict=True))
            inside = chosen.cumsum(dim=1, dtype=torch.float64)
            targets = inside[:, -1:].sub(beyond).clamp_(min=_POSITIVE)
            drawn = torch.add(torch.searchsorted(inside, targets), block, alpha=self.size)[:, 0]
            odd = ~((totals > _SMALLEST_SUM) & (totals < torch.inf))[:, 0]
            for rows in odd.nonzero()[:, 0].split(len(self.memory)):
                drawn[rows] = draw_tokens(inputs[rows] @ self.weights.T, uniforms[rows])
            return drawn.clamp_(max=self.vocab_size - 1)

    def _choose(self, inputs: Tensor, shares: Tensor) -> tuple[Tensor, ...]:
        """The sum of all exponentials, the block in which the target is, how far from its end, and its exponentials."""
        blocks = (
            torch.mm(inputs, self.weights.T, out=self.memory[: len(inputs)]).exp_().view(len(inputs), -1, self.size)
        )
        sums = blocks.sum(dim=2).cumsum(dim=1, dtype=torch.float64)
        targets = sums[:, -1:] * shares
        block = torch.searchsorted(sums, targets).clamp_(max=sums.shape[1] - 1)
        chosen = blocks.gather(1, block[..., None].expand(-1, -1, self.size))[:, 0]
        return sums[:, -1:], block, sums.gather(1, block).sub_(targets), chosen


def _keep(mask: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
    """The rows of tensors where `mask` (B,) is true."""
    rows = mask.nonzero()[:, 0]
    return tensors if len(rows) == len(mask) else tuple(tensor[rows] for tensor in tensors)
