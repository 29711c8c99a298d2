"""From generated and real sentences to numbers that say what the generated ones are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ganzoo.errors import UserError
from ganzoo.metrics.metric import Measurement, choose, result_of
from ganzoo.metrics.records import MetricResult
from ganzoo.metrics.text.metric import TEXT_METRICS, TextMetric
from ganzoo.metrics.text.tokens import TOKENIZERS, Sentences, tokenize


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
    rule = f"{TOKENIZERS[tokenizer].what}, {'lower case' if lowercase else 'case kept'}"
    return [
        result_of(
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
    of_sentences = {name: metric for name, metric in TEXT_METRICS.all().items() if type(metric) is TextMetric}
    if names is None:
        return {
            name: metric for name, metric in of_sentences.items() if train is not None or metric.against != "train"
        }
    chosen = choose([TEXT_METRICS], names)
    for name, metric in chosen.items():
        if name not in of_sentences:
            raise UserError(f"{name} is of a model, not of sentences; use ganzoo.evaluate")
        if train is None and metric.against == "train":
            raise UserError(f"{name} compares with the training text, but none is given")
    return chosen


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
