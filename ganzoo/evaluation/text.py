"""Measuring text: the sentences that a model writes, and the probabilities that it gives to real ones.

Real sentences are the original lines: decoded ids would turn every unknown word into the same token, which then matches
falsely."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ganzoo.evaluation.base import Evaluation
from ganzoo.metrics.text.metric import TEXT_METRICS, TextMetric
from ganzoo.networks.text import token_mask
from ganzoo.processors.tokenizer import UNK

if TYPE_CHECKING:
    from ganzoo.evaluation.request import Request
    from ganzoo.metrics.records import MetricResult
    from ganzoo.metrics.text.likelihood import LanguageModel

_ORDERS = (2, 3, 4, 5)
DEFAULT_METRICS = (
    *(f"bleu_{n}" for n in _ORDERS),
    *(f"self_bleu_{n}" for n in _ORDERS),
    *("distinct_sentences", "copied_share", "nll_test", "entropy", "forward_nll", "reverse_nll"),
)
# Token ids without words: sentences do not repeat and n-grams say little, but the source's likelihood is exact.
ORACLE_METRICS = ("nll_oracle", "nll_test", "entropy", "distinct_sentences", "copied_share")


class Written(NamedTuple):
    """What the model wrote, or people: ids (N, T), and what they were conditioned on."""

    tokens: Tensor
    labels: Tensor | None
    prompts: Tensor | None


class Subject:
    """A model and the text it is measured on; each part is made when it is first needed."""

    def __init__(self, request: Request) -> None:
        self.request, self.model = request, request.pipeline.network

    @cached_property
    def real(self) -> Written:
        """The split's token ids with their prompts, and its labels where the model takes them."""
        processor = self.request.pipeline.processor
        stored, labels = self.request.real.batch(np.arange(len(self.request.real)))
        tokens, prompts = processor.parts(processor.normalize(stored))
        return Written(tokens, labels if self.model.config.num_classes is not None else None, prompts)

    @cached_property
    def written(self) -> Written:
        """The model's samples; one that answers is given the split's prompts in turn."""
        request = self.request
        prompts = self.real.prompts
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
        return nll_oracle(self.oracle, self.real.tokens).mean

    @cached_property
    def unknown_share(self) -> float:
        """Share of the real tokens that stand for words which the vocabulary lacks."""
        backend, tokens = self.request.pipeline.processor.backend, self.real.tokens
        unknown = None if backend is None else backend.token_to_id(UNK)
        counted = token_mask(tokens, self.model.config)
        return 0.0 if unknown is None else float((tokens == unknown)[counted].float().mean())

    def worded(self, metrics: Mapping[str, TextMetric]) -> list[MetricResult]:
        """Metrics of sentences."""
        from ganzoo.metrics.text import evaluate_texts

        request, real = self.request, self.request.real
        needs_train = request.has_floor or any(metric.against == "train" for metric in metrics.values())
        processor = request.pipeline.processor
        tokenizer, lowercase = processor.counted if self.oracle is None else ("whitespace", True)
        results = evaluate_texts(
            processor.decode(self.written.tokens, "text"),
            self.sentences(real.split),
            train=self.sentences(request.data.split) if needs_train else None,
            metrics=list(metrics),
            tokenizer=tokenizer,
            lowercase=lowercase,
            seed=request.seed,
            dataset=real.description,
            split=real.split,
        )
        return results if request.has_floor else [dataclasses.replace(result, floor=None) for result in results]

    @cached_property
    def characters(self) -> int | None:
        """Characters of the real texts as they are read; None where the tokens do not hold all of a text."""
        processor = self.request.pipeline.processor
        return sum(map(len, processor.decode(self.real.tokens, "text"))) if processor.reads_all else None

    def sentences(self, split: str) -> list[str]:
        """The original lines of a split, of a model that answers the answers; of an oracle's data, the ids."""
        from ganzoo.data import open_source

        request = self.request
        if self.oracle is not None:  # stored as they were drawn, and costly to draw again
            dataset = request.real if split == request.real.split else request.load(split)
            return request.pipeline.processor.decode(dataset.batch(np.arange(len(dataset)))[0], "text")
        lines = islice(open_source(request.data, split).iterate(), request.data.limit)
        return [raw[-1] if isinstance(raw, tuple) else raw for raw, _ in lines]


EVALUATION = Evaluation(
    Subject,
    lambda subject: DEFAULT_METRICS if subject.oracle is None else ORACLE_METRICS,
    (TEXT_METRICS,),
    parameters=lambda request: {"temperature": request.temperature},
)
