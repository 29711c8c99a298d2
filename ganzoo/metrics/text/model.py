"""Likelihoods: what a model gives to real sentences and to its own, and what an oracle gives to those."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ganzoo.errors import UserError
from ganzoo.metrics.metric import SubjectMetric
from ganzoo.metrics.records import MetricResult

if TYPE_CHECKING:
    from ganzoo.metrics.text.likelihood import Likelihood


def _nll_test(subject: Any) -> MetricResult:
    from ganzoo.metrics.text.likelihood import nll

    real, temperature = subject.real, subject.request.temperature
    found = nll(subject.model, real.tokens, labels=real.labels, prompts=real.prompts, temperature=temperature)
    # A word that the vocabulary lacks is easy to guess: likelihoods of two vocabularies compare only beside this share.
    details = {"unknown_share": subject.unknown_share}
    if subject.characters:  # models with tokens of any kind compare by it
        details["bits_per_character"] = found.mean * found.tokens / math.log(2) / subject.characters
    return _result(subject, "nll_test", found, details, num_real=found.sequences, num_generated=0)


def _entropy(subject: Any) -> MetricResult:
    from ganzoo.metrics.text.likelihood import nll

    written, temperature = subject.written, subject.request.temperature
    found = nll(subject.model, written.tokens, labels=written.labels, prompts=written.prompts, temperature=temperature)
    return _result(subject, "entropy", found, num_real=0, num_generated=found.sequences)


def _nll_oracle(subject: Any) -> MetricResult:
    from ganzoo.metrics.text.likelihood import nll_oracle

    if subject.oracle is None:
        raise UserError(
            f"nll_oracle needs data that an oracle made (data.dataset: oracle); {subject.request.real.description} is "
            "none"
        )
    found = nll_oracle(subject.oracle, subject.written.tokens)
    return _result(subject, "nll_oracle", found, embedder="the oracle", num_real=0, num_generated=found.sequences)


def _result(
    subject: Any,
    name: str,
    found: Likelihood,
    details: dict[str, Any] | None = None,
    *,
    embedder: str = "the model itself",
    **counts: int,
) -> MetricResult:
    spread = {"standard_error": found.standard_error, "tokens": found.tokens}
    perplexity = {"perplexity": math.exp(min(found.mean, 700.0))}
    floor = subject.real_oracle_nll
    details = {**spread, **perplexity, **(details or {})}
    return subject.request.result(name, found.mean, details=details, floor=floor, embedder=embedder, **counts)


METRICS = {
    "nll_test": SubjectMetric(_nll_test, higher_is_better=False),
    "entropy": SubjectMetric(_entropy, higher_is_better=True),
    "nll_oracle": SubjectMetric(_nll_oracle, higher_is_better=False),
}
