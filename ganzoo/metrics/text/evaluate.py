"""From generated and real sentences to numbers that say what the generated ones are."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from ganzoo.errors import UserError, did_you_mean, shorten
from ganzoo.metrics.metric import Measurement
from ganzoo.metrics.records import MetricResult
from ganzoo.metrics.text.bleu import _SELF, _TEST, _TRAIN, ORDERS
from ganzoo.metrics.text.diversity import (
    _copied_share,
    _distinct_ngrams,
    _distinct_sentences,
)
from ganzoo.metrics.text.language_model import _MODEL, _forward_nll, _reverse_nll
from ganzoo.metrics.text.metric import TextMetric
from ganzoo.metrics.text.tokens import Sentences, tokenize

TEXT_METRICS: dict[str, TextMetric] = {
    **{f"bleu_{n}": _TEST for n in ORDERS},
    **{f"bleu_train_{n}": _TRAIN for n in ORDERS},
    **{f"self_bleu_{n}": _SELF for n in ORDERS},
    "distinct_sentences": TextMetric(_distinct_sentences, higher_is_better=True),
    "copied_share": TextMetric(_copied_share, higher_is_better=False, against="train"),
    "forward_nll": TextMetric(_forward_nll, higher_is_better=False, against="train", protocol=_MODEL),
    "reverse_nll": TextMetric(_reverse_nll, higher_is_better=False, against="test", protocol=_MODEL),
    "distinct_1": TextMetric(partial(_distinct_ngrams, n=1), higher_is_better=True),
    "distinct_2": TextMetric(partial(_distinct_ngrams, n=2), higher_is_better=True),
}


def evaluate_texts(
    generated: Sequence[str],
    test: Sequence[str],
    *,
    train: Sequence[str] | None = None,
    metrics: Sequence[str] | None = None,
    tokenizer: str = "nltk",
    lowercase: bool = True,
    seed: int = 0,
    dataset: str | None = None,
    split: str | None = None,
) -> list[MetricResult]:
    """Measures generated sentences against real ones.

    With training text, every result has the row of real text as its floor: the training text in place of the generated
    one or, for metrics that compare with the training text, the test text. As most metrics depend on the number of
    sentences, that real text is thinned to at most as many as were generated.

    Args:
        generated: The sentences to measure; an empty string is a sentence without words.
        test: Real sentences that were not trained on.
        train: Real sentences that were trained on.
        metrics: Names of `TEXT_METRICS`; the results come in this order. By default all that the given texts allow.
        tokenizer: See `tokenize`; recorded.
        lowercase: See `tokenize`; recorded.
        seed: Of the generated sentences, and of which real ones are left after thinning; recorded.
        dataset: Where the real sentences are from; recorded.
        split: Which part of it `test` is; recorded. For metrics that compare with `train` it is "train".

    Raises:
        UserError: An unknown metric or tokeniser, a metric that compares with training text when none is given, an
            empty text, or one that is no sequence of strings.
        MissingPackageError: The tokeniser is not installed.
    """
    chosen = _choose(metrics, train)
    texts = {"generated": generated, "test": test, "train": train}
    for name, text in texts.items():
        if text is not None and not len(text):
            raise UserError(f"the {name} text has no sentences")
    words = {name: tokenize(text, tokenizer, lowercase) for name, text in texts.items() if text is not None}
    found = _compute(chosen, words["generated"], words)
    floors = _floors(chosen, words, seed) if train is not None else {}
    rule = f"{tokenizer} words, {'lower case' if lowercase else 'case kept'}"
    return [
        _result(
            name,
            found[name],
            floors.get(name),
            num_real=len(words[metric.against]) if metric.against else 0,
            num_generated=len(generated),
            embedder=", ".join(filter(None, (rule, metric.protocol))),
            dataset=dataset,
            split="train" if metric.against == "train" else split,
            seed=seed,
        )
        for name, metric in chosen.items()
    ]


def _choose(names: Sequence[str] | None, train: Sequence[str] | None) -> dict[str, TextMetric]:
    if names is None:
        return {
            name: metric for name, metric in TEXT_METRICS.items() if train is not None or metric.against != "train"
        }
    if isinstance(names, str):
        names = [names]
    if not names:
        raise UserError(f"name at least one text metric of: {', '.join(TEXT_METRICS)}")
    for name in names:
        if name not in TEXT_METRICS:
            known, hint = ", ".join(TEXT_METRICS), did_you_mean(name, TEXT_METRICS)
            raise UserError(f"there is no text metric {shorten(name)}.{hint} The text metrics are: {known}")
        if train is None and TEXT_METRICS[name].against == "train":
            raise UserError(f"{name} compares with the training text, but none is given")
    return {name: TEXT_METRICS[name] for name in names}


def _compute(metrics: dict[str, TextMetric], samples: Sentences, real: dict[str, Sentences]) -> dict[str, Measurement]:
    found: dict[str, Measurement] = {}
    # dict.fromkeys: each shared computation once, in a fixed order.
    for compute, against in dict.fromkeys((metric.compute, metric.against) for metric in metrics.values()):
        found |= compute(samples, real[against] if against else None)
    return found


def _floors(metrics: dict[str, TextMetric], words: dict[str, Sentences], seed: int) -> dict[str, Measurement]:
    """What real text scores in place of the generated: the training text or, against that, the test text."""
    floors = {}
    for name in ("train", "test"):
        samples = _thin(words[name], len(words["generated"]), seed)
        own = {key: metric for key, metric in metrics.items() if (metric.against == "train") == (name == "test")}
        for key, floor in _compute(own, samples, words).items():
            floors[key] = floor._replace(details={"num_reference": len(samples)})
    return floors


def _thin(sentences: Sentences, count: int, seed: int) -> Sentences:
    """At most `count` sentences, chosen at random: a file may be sorted."""
    if len(sentences) <= count:
        return sentences
    return [sentences[index] for index in np.random.default_rng(seed).permutation(len(sentences))[:count]]


def _result(name: str, found: Measurement, floor: Measurement | None, **protocol: object) -> MetricResult:
    import torch

    from ganzoo.version import __version__

    return MetricResult(
        name=name,
        value=found.value,
        parameters=dict(found.parameters),
        details=found.details | (floor.details if floor else {}),
        floor=floor.value if floor else None,
        ganzoo_version=__version__,
        torch_version=str(torch.__version__),
        **protocol,
    )
