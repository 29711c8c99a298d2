"""How much a set of sentences repeats itself, and its training text."""

from __future__ import annotations

from functools import partial

import numpy as np

from ganzoo.errors import UserError
from ganzoo.metrics.metric import Measurement
from ganzoo.metrics.text.bleu import count_ngrams
from ganzoo.metrics.text.metric import TextMetric
from ganzoo.metrics.text.tokens import Sentences, check_tokenised, encode


def distinct_sentences(samples: Sentences) -> int:
    """How many different sentences there are, equal where all their words are.

    Args:
        samples: Tokenised sentences.

    Raises:
        UserError: Sentences that are strings.
    """
    return len(_set(samples))


def copied_share(samples: Sentences, training: Sentences) -> float:
    """The share in [0, 1] of the samples that stand in the training text word by word.

    Args:
        samples: Tokenised sentences, at least one; one that comes twice counts twice.
        training: Tokenised sentences.

    Raises:
        UserError: No samples, or sentences that are strings.
    """
    check_tokenised(samples)
    if not len(samples):
        raise UserError("a share of no samples is not defined; give at least one")
    known = _set(training)
    return sum(tuple(sentence) in known for sentence in samples) / len(samples)


def distinct_ngrams(samples: Sentences, n: int) -> float:
    """distinct-n (Li et al., 2016): different n-grams divided by all n-grams, in [0, 1].

    It falls with the number of samples: compare numbers of one count only.

    Args:
        samples: Tokenised sentences.
        n: Order; 1 and 2 in the paper.

    Returns:
        The share; 0 where no sentence has n words.

    Raises:
        UserError: Sentences that are strings, or n < 1.
    """
    if n < 1:
        raise UserError(f"n must be at least 1, not {n}")
    corpus = encode(samples)
    *_, ngrams = count_ngrams(corpus, n)
    total = int(np.sum(ngrams.count))
    return (int(ngrams.gram[-1]) + 1) / total if total else 0.0


def _set(sentences: Sentences) -> set[tuple]:
    check_tokenised(sentences)
    return {tuple(sentence) for sentence in sentences}


def _distinct_sentences(samples: Sentences, real: None) -> dict[str, Measurement]:
    count = distinct_sentences(samples)
    return {"distinct_sentences": Measurement(float(count), details={"share": count / len(samples)})}


def _distinct_ngrams(samples: Sentences, real: None, *, n: int) -> dict[str, Measurement]:
    return {f"distinct_{n}": Measurement(distinct_ngrams(samples, n))}


def _copied_share(samples: Sentences, real: Sentences) -> dict[str, Measurement]:
    return {"copied_share": Measurement(copied_share(samples, real))}


METRICS = {
    "distinct_sentences": TextMetric(_distinct_sentences, higher_is_better=True),
    "distinct_1": TextMetric(partial(_distinct_ngrams, n=1), higher_is_better=True),
    "distinct_2": TextMetric(partial(_distinct_ngrams, n=2), higher_is_better=True),
    "copied_share": TextMetric(_copied_share, higher_is_better=False, against="train"),
}
