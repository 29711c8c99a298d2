"""Likelihoods of token sequences under a language model: held-out text, own samples, samples under an oracle.

Three numbers belong together (Caccia et al., 2020): how probable real text is for the model (`nll` of held-out text:
does it know all that is said), how probable the model's samples are for the source of the data (`nll_oracle`: is what it
says right), and how many things it says (`entropy`). A lower temperature always improves the second and worsens the
others, so all three are measured at one temperature.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from ganzoo.errors import UserError

# Logits computed at once: 256 MB of float32, however large the vocabulary.
_LOGITS_AT_ONCE = 2**26


class LanguageModel(Protocol):
    """What a likelihood needs. `config`, where there is one, names `eos_token_id` and `vocab_size`."""

    def log_probs(
        self, tokens: Tensor, labels: Tensor | None = None, prompts: Tensor | None = None, *, temperature: float = 1.0
    ) -> Tensor:
        """Natural logarithms (B, T) of the probability of every token, given those before it."""
        ...


class Likelihood(NamedTuple):
    """A negative log-likelihood.

    Attributes:
        mean: Nats per token; `exp` of it is the perplexity.
        standard_error: Of the mean, over sequences: the tokens of one sequence are not independent.
        tokens: How many were scored, the end of each sequence included.
        sequences: How many they are in.
    """

    mean: float
    standard_error: float
    tokens: int
    sequences: int


def nll(
    model: LanguageModel,
    tokens: Tensor,
    *,
    labels: Tensor | None = None,
    prompts: Tensor | None = None,
    temperature: float = 1.0,
    batch_size: int = 256,
) -> Likelihood:
    """Mean negative log-likelihood of sequences in nats per token, up to and including the end of each.

    Args:
        model: A language model; judged in `eval()` mode.
        tokens: (N, T) token ids of any integer type, on any device.
        labels: (N,) of a conditional model.
        prompts: (N, P) token ids of a model that answers.
        temperature: Divides the model's logits: the distribution it samples from at that temperature.
        batch_size: Sequences scored at once; fewer where the vocabulary is large.

    Raises:
        UserError: No sequences, conditions of another number, or a temperature that is not positive.
    """
    _check(tokens, {"labels": labels, "prompts": prompts}, temperature)
    eos, device = _config(model, "eos_token_id"), getattr(model, "device", tokens.device)
    size = max(1, min(batch_size, _LOGITS_AT_ONCE // (tokens.shape[1] * (_config(model, "vocab_size") or 1))))
    sums, counts = [], []
    with _judging(model):
        for start in range(0, len(tokens), size):
            rows, *conditions = (
                None if part is None else part[start : start + size].to(device).long()
                for part in (tokens, labels, prompts)
            )
            mask = _until_end(rows, eos)
            log_probs = model.log_probs(rows, *conditions, temperature=temperature).double()
            sums.append(-torch.where(mask, log_probs, 0.0).sum(dim=1).cpu())
            counts.append(mask.sum(dim=1).cpu())
    return _mean(torch.cat(sums), torch.cat(counts))


def entropy(
    model: Any,
    num_samples: int,
    *,
    seed: int = 0,
    labels: Tensor | None = None,
    prompts: Tensor | None = None,
    temperature: float = 1.0,
    batch_size: int = 256,
) -> Likelihood:
    """Entropy of a generator in nats per token, by Monte Carlo: the negative log-likelihood of its own samples.

    Args:
        model: A language model that draws: `sample_latents(n, generator=)`, and `model(latents, labels, prompts,
            temperature=)` -> (n, T) token ids.
        num_samples: Sequences to draw.
        seed: Of the draw.
        labels: (num_samples,) of a conditional model.
        prompts: (num_samples, P) of a model that answers.
        temperature: Of the draw and of the likelihood alike.
        batch_size: Sequences at once.

    Raises:
        UserError: As `nll`.
    """
    if num_samples < 1:
        raise UserError(f"num_samples must be a positive integer, not {num_samples}")
    generator = torch.Generator().manual_seed(seed)
    drawn = []
    with _judging(model):
        for start in range(0, num_samples, batch_size):
            latents = model.sample_latents(min(batch_size, num_samples - start), generator=generator)
            conditions = (
                None if part is None else part[start : start + batch_size].to(latents.device)
                for part in (labels, prompts)
            )
            drawn.append(model(latents, *conditions, temperature=temperature))
    return nll(model, torch.cat(drawn), labels=labels, prompts=prompts, temperature=temperature, batch_size=batch_size)


def nll_oracle(oracle: LanguageModel, tokens: Tensor, *, batch_size: int = 256) -> Likelihood:
    """Negative log-likelihood of generated sequences under the model that the real data were drawn from (Yu et al., 2017).

    Below the oracle's own entropy it is no quality: the generator repeats what is most probable. The oracle's temperature
    stays 1, whatever the samples were drawn at.

    Args:
        oracle: The source of the data.
        tokens: (N, T) generated token ids.
        batch_size: Sequences scored at once.

    Raises:
        UserError: No sequences.
    """
    return nll(oracle, tokens, batch_size=batch_size)


def _check(tokens: Tensor, conditions: dict[str, Tensor | None], temperature: float) -> None:
    if tokens.ndim != 2 or not tokens.numel() or tokens.is_floating_point():
        raise UserError(f"tokens must be ids of shape (N, T), at least one, not {tokens.dtype} {tuple(tokens.shape)}")
    for name, given in conditions.items():
        if given is not None and len(given) != len(tokens):
            raise UserError(f"{len(given)} {name} for {len(tokens)} sequences; give one for each")
    if not (math.isfinite(temperature) and temperature > 0):
        raise UserError(
            f"a likelihood needs a temperature above 0, not {temperature}: at 0 all but one token is impossible"
        )


def _config(model: Any, name: str) -> int | None:
    return getattr(getattr(model, "config", None), name, None)


def _until_end(tokens: Tensor, eos: int | None) -> Tensor:
    """(B, T) bool: the tokens up to and including the first EOS; all where there is none."""
    if eos is None:
        return torch.ones_like(tokens, dtype=torch.bool)
    ends = (tokens == eos).long()
    return ends.cumsum(dim=1) == ends


def _mean(sums: Tensor, counts: Tensor) -> Likelihood:
    """The ratio of two sums over sequences, and its standard error by linearisation (Cochran, 1977, section 2.11)."""
    total, sequences = int(counts.sum()), len(sums)
    mean = float(sums.sum()) / total
    residuals = sums - mean * counts
    variance = float(residuals.square().sum()) / max(sequences - 1, 1)
    return Likelihood(mean, math.sqrt(sequences * variance) / total, total, sequences)


@contextmanager
def _judging(model: Any) -> Iterator[None]:
    """Without gradients, and without the dropout of a model that is being trained."""
    was_training = getattr(model, "training", False)
    if was_training:
        model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        if was_training:
            model.train()
