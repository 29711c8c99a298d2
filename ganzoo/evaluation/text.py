"""Measuring text: the sentences that a model writes, and the probabilities that it gives to real ones."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ganzoo.errors import UserError, did_you_mean, shorten
from ganzoo.networks.text import Text, split_prompts, token_mask
from ganzoo.processors.tokenizer import UNK

if TYPE_CHECKING:
    from ganzoo.evaluation.request import Request
    from ganzoo.metrics.records import MetricResult
    from ganzoo.metrics.text.likelihood import LanguageModel, Likelihood

_ORDERS = (2, 3, 4, 5)
DEFAULT_METRICS = (
    *(f"bleu_{n}" for n in _ORDERS),
    *(f"self_bleu_{n}" for n in _ORDERS),
    *("distinct_sentences", "copied_share", "nll_test", "entropy", "forward_nll", "reverse_nll"),
)
# Token ids without words: sentences do not repeat and n-grams say little, but the source's likelihood is exact.
ORACLE_METRICS = ("nll_oracle", "nll_test", "entropy", "distinct_sentences", "copied_share")


def evaluate_text(request: Request) -> list[MetricResult]:
    """Generated sentences against real ones as they were written, and likelihoods of what the model reads and writes.

    Real sentences are the original lines: decoded ids would turn every unknown word into the same token, which then
    matches falsely.

    Raises:
        UserError: An unknown metric, or `nll_oracle` where the data has no oracle.
    """
    from ganzoo.metrics.text import TEXT_METRICS

    subject = Subject(request)
    names = request.metrics or (DEFAULT_METRICS if subject.oracle is None else ORACLE_METRICS)
    known = {**MODEL_METRICS, **TEXT_METRICS}
    for name in names:
        if name not in known:
            hint = did_you_mean(name, known)
            raise UserError(f"there is no text metric {shorten(name)}.{hint} The text metrics are: {', '.join(known)}")
    results = {name: MODEL_METRICS[name](subject) for name in names if name in MODEL_METRICS}
    results |= {result.name: result for result in _of_sentences(subject, [n for n in names if n in TEXT_METRICS])}
    parameters = {"temperature": request.temperature}
    return [
        dataclasses.replace(results[name], parameters={**results[name].parameters, **parameters}) for name in names
    ]


class Written(NamedTuple):
    """What the model wrote: ids (N, T), and what they were conditioned on."""

    tokens: Tensor
    labels: Tensor | None
    prompts: Tensor | None


class Subject:
    """A model and the text it is measured on; each part is made when it is first needed."""

    def __init__(self, request: Request) -> None:
        self.request, self.model = request, request.pipeline.network

    @cached_property
    def real(self) -> tuple[Text, Tensor | None]:
        """The split's token ids with their prompts, and its labels where the model takes them."""
        stored, labels = self.request.real.batch(np.arange(len(self.request.real)))
        text = split_prompts(self.request.pipeline.processor.normalize(stored), self.model.config)
        return text, labels if self.model.config.num_classes is not None else None

    @cached_property
    def written(self) -> Written:
        """The model's samples; one that answers is given the split's prompts in turn."""
        request = self.request
        prompts = self.real[0].prompts if self.model.config.max_prompt_length else None
        if prompts is not None:
            prompts = prompts[torch.arange(request.num_samples) % len(prompts)]
        drawn = request.pipeline.sample(
            request.num_samples, prompt=prompts, seed=request.seed, temperature=request.temperature
        )
        return Written(drawn.samples, drawn.labels, prompts)

    @cached_property
    def oracle(self) -> LanguageModel | None:
        """The language model that the data was drawn from, where it was; then the data is token ids without words."""
        from ganzoo.data import open_source

        data = self.request.data
        if open_source(data, self.request.real.split).vocab_size is None:
            return None
        from ganzoo.data.sets.oracle import Oracle

        return Oracle.from_file(Path(data.path).expanduser()) if data.path else Oracle.from_seed(int(data.name or 0))

    @cached_property
    def real_oracle_nll(self) -> float | None:
        """What the oracle says of real sequences: its entropy, and no model can do better than it."""
        from ganzoo.metrics.text.likelihood import nll_oracle

        if self.oracle is None or not self.request.floor:
            return None
        return nll_oracle(self.oracle, self.real[0].tokens).mean

    @cached_property
    def unknown_share(self) -> float:
        """Share of the real tokens that stand for words which the vocabulary lacks."""
        backend, tokens = self.request.pipeline.processor.backend, self.real[0].tokens
        unknown = None if backend is None else backend.token_to_id(UNK)
        counted = token_mask(tokens, self.model.config)
        return 0.0 if unknown is None else float((tokens == unknown)[counted].float().mean())

    def sentences(self, split: str) -> list[str]:
        """The original lines of a split, of a model that answers the answers; of an oracle's data, the ids."""
        from ganzoo.data import open_source

        request = self.request
        if self.oracle is not None:  # stored as they were drawn, and costly to draw again
            dataset = request.real if split == request.real.split else request.load(split)
            return request.pipeline.processor.decode(dataset.batch(np.arange(len(dataset)))[0], "text")
        lines = islice(open_source(request.data, split).iterate(), request.data.limit)
        return [raw[-1] if isinstance(raw, tuple) else raw for raw, _ in lines]


def _of_sentences(subject: Subject, names: list[str]) -> list[MetricResult]:
    from ganzoo.metrics.text import TEXT_METRICS, evaluate_texts

    if not names:
        return []
    request, real = subject.request, subject.request.real
    needs_train = request.has_floor or any(TEXT_METRICS[name].against == "train" for name in names)
    results = evaluate_texts(
        request.pipeline.processor.decode(subject.written.tokens, "text"),
        subject.sentences(real.split),
        train=subject.sentences(request.data.split) if needs_train else None,
        metrics=names,
        tokenizer="nltk" if subject.oracle is None else "whitespace",
        seed=request.seed,
        dataset=real.description,
        split=real.split,
    )
    return results if request.has_floor else [dataclasses.replace(result, floor=None) for result in results]


# ------------------------------------------------------------------------------------------------- likelihoods


def _nll_test(subject: Subject) -> MetricResult:
    from ganzoo.metrics.text.likelihood import nll

    text, labels = subject.real
    temperature = subject.request.temperature
    found = nll(subject.model, text.tokens, labels=labels, prompts=text.prompts, temperature=temperature)
    # A word that the vocabulary lacks is easy to guess: likelihoods of two vocabularies compare only beside this share.
    details = {"unknown_share": subject.unknown_share}
    return _result(subject, "nll_test", found, details, num_real=found.sequences, num_generated=0)


def _entropy(subject: Subject) -> MetricResult:
    from ganzoo.metrics.text.likelihood import nll

    written, temperature = subject.written, subject.request.temperature
    found = nll(subject.model, written.tokens, labels=written.labels, prompts=written.prompts, temperature=temperature)
    return _result(subject, "entropy", found, num_real=0, num_generated=found.sequences)


def _nll_oracle(subject: Subject) -> MetricResult:
    from ganzoo.metrics.text.likelihood import nll_oracle

    if subject.oracle is None:
        raise UserError(
            f"nll_oracle needs data that an oracle made (data.dataset: oracle); {subject.request.real.description} is "
            "none"
        )
    found = nll_oracle(subject.oracle, subject.written.tokens)
    return _result(subject, "nll_oracle", found, embedder="the oracle", num_real=0, num_generated=found.sequences)


def _result(
    subject: Subject,
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


MODEL_METRICS: dict[str, Callable[[Subject], MetricResult]] = {
    "nll_test": _nll_test,
    "entropy": _entropy,
    "nll_oracle": _nll_oracle,
}
