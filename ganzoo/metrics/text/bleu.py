"""Sentence BLEU against whole corpora, exactly and in one pass (Papineni et al., 2002; self-BLEU: Zhu et al., 2018).

BLEU clips the count of an n-gram at its largest count in any one reference. That maximum is a property of the
references, not of the hypothesis: one table of it per order serves all hypotheses. In self-BLEU the references are all
other samples, so an n-gram's maximum without the sample itself is the best count of all, or, for the sample that holds
the best, the second best.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from ganzoo.errors import UserError, shorten
from ganzoo.metrics.metric import Measurement
from ganzoo.metrics.text.metric import TextMetric
from ganzoo.metrics.text.tokens import Encoded, Sentences, encode

ORDERS = (2, 3, 4, 5)
# Method 1 of Chen and Cherry (2014), as nltk has it: no matches count as this many.
EPSILON = 0.1


class NGrams(NamedTuple):
    """The n-grams of a corpus, one entry for each n-gram and sentence that holds it, sorted by both.

    Attributes:
        gram: `(E,)` number of the n-gram, contiguous from 0.
        sentence: `(E,)` index of the sentence.
        count: `(E,)` how often it stands there.
    """

    gram: np.ndarray
    sentence: np.ndarray
    count: np.ndarray


def bleu(hypotheses: Sentences, references: Sentences, *, orders: Sequence[int] = ORDERS) -> dict[int, np.ndarray]:
    """BLEU-n of each hypothesis against all references (Papineni et al., 2002, section 2).

    Uniform weights; an order without a match is smoothed by method 1 of Chen and Cherry (2014), 0.1 matches; brevity
    penalty by the reference of the closest length, the shorter of two. Equal to `nltk.translate.bleu_score.
    sentence_bleu(references, hypothesis, [1 / n] * n, SmoothingFunction().method1)`, also where a hypothesis is empty
    (0), has no known word (0), or has fewer than n words (0.1 of 1).

    It rises with the number of references: compare numbers of one count only.

    Args:
        hypotheses: N tokenised sentences.
        references: M tokenised sentences.
        orders: The n.

    Returns:
        For each order `(N,)` float64 in [0, 1]. The usual figure is the mean.

    Raises:
        UserError: No hypotheses or no references; sentences that are strings; an order that is no positive integer.
    """
    _check(orders, hypotheses=len(hypotheses), references=len(references))
    corpus = encode([*hypotheses, *references])
    lengths, reference_lengths = np.split(corpus.lengths, [len(hypotheses)])
    matches = [_clip(ngrams, len(hypotheses)) for ngrams in count_ngrams(corpus, max(orders))]
    return _scores(matches, lengths, _closest_length(lengths, reference_lengths), orders)


def self_bleu(samples: Sentences, *, orders: Sequence[int] = ORDERS) -> dict[int, np.ndarray]:
    """BLEU-n of each sample against all other samples (Zhu et al., 2018): high where samples repeat each other.

    Smoothing and brevity penalty are those of `bleu`. It rises with the number of samples.

    Args:
        samples: N tokenised sentences.
        orders: The n.

    Returns:
        For each order `(N,)` float64 in [0, 1].

    Raises:
        UserError: Fewer than 2 samples; samples that are strings; an order that is no positive integer.
    """
    _check(orders, samples=len(samples))
    if len(samples) < 2:
        raise UserError("self-BLEU compares samples with each other and needs at least 2")
    corpus = encode(samples)
    matches = [_clip_by_others(ngrams, len(samples)) for ngrams in count_ngrams(corpus, max(orders))]
    return _scores(matches, corpus.lengths, _closest_other_length(corpus.lengths), orders)


def count_ngrams(corpus: Encoded, highest: int) -> Iterator[NGrams]:
    """Yields the n-grams of order 1, 2, ..., `highest`; no n-gram reaches over the end of a sentence.

    An n-gram is numbered by the rank of its pair (number of its first n - 1 tokens, last token): exact, with no hash
    that could collide, and small enough for the pair to fit into 64 bits.
    """
    sentence = np.repeat(np.arange(len(corpus.lengths)), corpus.lengths)
    end = np.repeat(corpus.offsets[1:], corpus.lengths)
    start, gram = np.arange(len(corpus.tokens)), corpus.tokens
    for n in range(1, highest + 1):
        if n > 1:
            inside = start + n <= end[start]
            start, prefix = start[inside], gram[inside]
            gram = np.unique(prefix * corpus.size + corpus.tokens[start + n - 1], return_inverse=True)[1]
        pairs, count = np.unique(gram * len(corpus.lengths) + sentence[start], return_counts=True)
        yield NGrams(*np.divmod(pairs, len(corpus.lengths)), count)


def _clip(ngrams: NGrams, num_hypotheses: int) -> np.ndarray:
    """Matches `(num_hypotheses,)` of the first sentences with the rest."""
    own = ngrams.sentence < num_hypotheses
    most = np.zeros(ngrams.gram.max(initial=-1) + 1, np.int64)
    np.maximum.at(most, ngrams.gram[~own], ngrams.count[~own])
    clipped = np.minimum(ngrams.count[own], most[ngrams.gram[own]])
    return np.bincount(ngrams.sentence[own], clipped, minlength=num_hypotheses)


def _clip_by_others(ngrams: NGrams, num_samples: int) -> np.ndarray:
    """Matches `(num_samples,)` of each sample with all others.

    With the entries of an n-gram sorted by count, each but the last has one after it that does not clip it; the last is
    clipped by the one before it, to nothing if it is alone.
    """
    order = np.lexsort((ngrams.count, ngrams.gram))
    gram, count = ngrams.gram[order], ngrams.count[order]
    last = np.diff(gram, append=-1) != 0
    alone = last & (np.diff(gram, prepend=-1) != 0)
    clipped = np.where(last, np.roll(count, 1), count)
    clipped[alone] = 0
    return np.bincount(ngrams.sentence[order], clipped, minlength=num_samples)


def _closest_length(lengths: np.ndarray, reference_lengths: np.ndarray) -> np.ndarray:
    """For each length the closest one of the references, the shorter of two."""
    known = np.unique(reference_lengths)
    above = np.searchsorted(known, lengths)
    return _closer(lengths, known[np.maximum(above - 1, 0)], known[np.minimum(above, len(known) - 1)])


def _closest_other_length(lengths: np.ndarray) -> np.ndarray:
    """For each length the closest one of the others, the shorter of two."""
    order = np.argsort(lengths, kind="stable")
    ranked = lengths[order]
    # Its neighbours by rank; at the ends, the only neighbour twice.
    below, above = np.r_[ranked[1], ranked[:-1]], np.r_[ranked[1:], ranked[-2]]
    closest = np.empty_like(lengths)
    closest[order] = _closer(ranked, np.minimum(below, above), np.maximum(below, above))
    return closest


def _closer(lengths: np.ndarray, shorter: np.ndarray, longer: np.ndarray) -> np.ndarray:
    return np.where(abs(lengths - shorter) <= abs(longer - lengths), shorter, longer)


def _scores(
    matches: Sequence[np.ndarray], lengths: np.ndarray, closest: np.ndarray, orders: Sequence[int]
) -> dict[int, np.ndarray]:
    """BLEU from the matches of each order (Papineni et al., 2002, section 2.3)."""
    sums = np.cumsum(
        [
            np.log(np.where(matched > 0, matched, EPSILON) / np.maximum(lengths - n + 1, 1))
            for n, matched in enumerate(matches, start=1)
        ],
        axis=0,
    )
    brevity = np.exp(np.minimum(1 - closest / np.maximum(lengths, 1), 0))
    # Without one known word (an empty hypothesis has none), nothing is smoothed.
    factor = np.where(matches[0] > 0, brevity, 0.0)
    return {n: factor * np.exp(sums[n - 1] / n) for n in orders}


def _check(orders: Sequence[int], **counts: int) -> None:
    for name, count in counts.items():
        if not count:
            raise UserError(f"BLEU needs at least one sentence among the {name}")
    if not orders or any(not isinstance(n, int) or n < 1 for n in orders):
        raise UserError(f"orders must be positive integers, not {shorten(orders)}")


def _bleu(samples: Sentences, real: Sentences, *, name: str) -> dict[str, Measurement]:
    return {
        f"{name}_{n}": Measurement(
            float(scores.mean()), details={"standard_error": float(scores.std() / len(scores) ** 0.5)}
        )
        for n, scores in bleu(samples, real).items()
    }


def _self_bleu(samples: Sentences, real: None) -> dict[str, Measurement]:
    return {f"self_bleu_{n}": Measurement(float(scores.mean())) for n, scores in self_bleu(samples).items()}


_SMOOTHING = "smoothing method1"


_TEST = TextMetric(partial(_bleu, name="bleu"), higher_is_better=True, against="test", protocol=_SMOOTHING)


_TRAIN = TextMetric(partial(_bleu, name="bleu_train"), higher_is_better=True, against="train", protocol=_SMOOTHING)


_SELF = TextMetric(_self_bleu, higher_is_better=False, protocol=_SMOOTHING)


METRICS = {
    "bleu_2": _TEST,
    "bleu_3": _TEST,
    "bleu_4": _TEST,
    "bleu_5": _TEST,
    "bleu_train_2": _TRAIN,
    "bleu_train_3": _TRAIN,
    "bleu_train_4": _TRAIN,
    "bleu_train_5": _TRAIN,
    "self_bleu_2": _SELF,
    "self_bleu_3": _SELF,
    "self_bleu_4": _SELF,
    "self_bleu_5": _SELF,
}
