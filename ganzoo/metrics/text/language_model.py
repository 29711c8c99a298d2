"""An n-gram language model, and what it says of generated text, forwards and in reverse.

*Forward*: how probable generated text is for a model of real text. It asks for quality only: one good sentence, said
ten thousand times, scores well. *Reverse* (Zhao et al., 2018): how probable real text is for a model of the generated text. It falls only if the generated text holds what the real text does. Neither says much without the other.

The vocabulary of both is that of the real text, and every other word is one word, `<unk>`. So it is the same for all
generators, and a generator gains nothing by saying few different words.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import NamedTuple

import numpy as np

from ganzoo.errors import UserError
from ganzoo.metrics.metric import Measurement
from ganzoo.metrics.text.metric import TextMetric
from ganzoo.metrics.text.tokens import Sentences, check_tokenised

ORDER = 3
BOS, EOS, UNK = range(3)
# For an order whose counts are too few or too regular to estimate discounts from.
FALLBACK_DISCOUNTS = (0.5, 1.0, 1.5)


class Level(NamedTuple):
    """The n-grams of one order.

    Attributes:
        keys: `(G,)` sorted: number of the context, times the vocabulary's size, plus the last token. The place of a key
            is the n-gram's number, as a context of the next order.
        discounted: `(G,)` probability of the last token in its context, less the discount.
        backoff: `(C,)` the probability that each context leaves to the order below.
    """

    keys: np.ndarray
    discounted: np.ndarray
    backoff: np.ndarray


class NGramModel:
    """An interpolated n-gram model with modified Kneser-Ney smoothing (Chen and Goodman, 1998, section 3).

    A sentence is read as `<s> w1 ... wL </s>`; w1 to `</s>` are predicted, each from at most order - 1 tokens before
    it. What is below the unigrams is uniform over the vocabulary, `</s>` and `<unk>`, so no probability is 0.

    Args:
        sentences: Tokenised, at least one.
        vocabulary: The words it knows; any other is `<unk>`.
        order: Tokens in an n-gram.

    Raises:
        UserError: No sentences, sentences that are strings, or an order below 1.
    """

    def __init__(self, sentences: Sentences, *, vocabulary: Iterable[Hashable], order: int = ORDER) -> None:
        if not len(sentences):
            raise UserError("a language model needs at least one sentence to learn from")
        if order < 1:
            raise UserError(f"order must be at least 1, not {order}")
        self._numbers = {word: number for number, word in enumerate(dict.fromkeys(vocabulary), start=UNK + 1)}
        self._size = len(self._numbers) + UNK + 1
        self.levels = _fit(self._encode(sentences), self._size, order)

    def log_probabilities(self, sentences: Sentences) -> np.ndarray:
        """Natural logarithms of the probability of every token, `</s>` of each sentence included.

        Args:
            sentences: N tokenised sentences of T words together.

        Returns:
            `(T + N,)` float64, sentence after sentence.

        Raises:
            UserError: Sentences that are strings.
        """
        tokens = self._encode(sentences)
        number = np.zeros(len(tokens), np.int64)
        probability = np.full(len(tokens), 1 / (self._size - 1))  # <s> is never predicted
        for level in self.levels:
            # The n-gram that ends one token before is the context. At the beginning of a sentence that would be one
            # with the `</s>` of another sentence in it, which never was a context, as -1, an unknown one, never is.
            context = np.roll(number, 1)
            key = context * self._size + tokens
            place = np.minimum(np.searchsorted(level.keys, key), len(level.keys) - 1)
            found = level.keys[place] == key
            interpolated = np.where(found, level.discounted[place], 0.0) + level.backoff[context] * probability
            probability = np.where(context >= 0, interpolated, probability)
            number = np.where(found, place, -1)
        return np.log(probability[tokens != BOS])

    def nll(self, sentences: Sentences) -> float:
        """Mean negative log-likelihood in nats per token, `</s>` counted as one; `exp` of it is the perplexity.

        Args:
            sentences: Tokenised, at least one.

        Raises:
            UserError: No sentences, or sentences that are strings.
        """
        if not len(sentences):
            raise UserError("the likelihood of no sentences is not defined; give at least one")
        return float(-self.log_probabilities(sentences).mean())

    def _encode(self, sentences: Sentences) -> np.ndarray:
        check_tokenised(sentences)
        get = self._numbers.get
        tokens = [token for words in sentences for token in (BOS, *(get(word, UNK) for word in words), EOS)]
        return np.array(tokens, np.int64)


def forward_nll(generated: Sentences, training: Sentences, *, order: int = ORDER) -> float:
    """Nats per token of generated text, for a model of real training text over that text's vocabulary: quality.

    Args:
        generated: Tokenised sentences, at least one.
        training: Tokenised real sentences, at least one.
        order: Of the model.

    Raises:
        UserError: An empty set, sentences that are strings, or an order below 1.
    """
    return NGramModel(training, vocabulary=_words(training), order=order).nll(generated)


def reverse_nll(generated: Sentences, test: Sentences, *, order: int = ORDER) -> float:
    """Nats per token of real test text, for a model of generated text over the test text's vocabulary: variety.

    It falls with the number of generated sentences: compare numbers of one count only.

    Args:
        generated: Tokenised sentences, at least one.
        test: Tokenised real sentences, at least one.
        order: Of the model.

    Raises:
        UserError: An empty set, sentences that are strings, or an order below 1.
    """
    return NGramModel(generated, vocabulary=_words(test), order=order).nll(test)


def _words(sentences: Sentences) -> Iterable[Hashable]:
    check_tokenised(sentences)
    return (word for sentence in sentences for word in sentence)


def _fit(tokens: np.ndarray, size: int, order: int) -> list[Level]:
    """Counts the n-grams of all orders, and smooths them; orders longer than any sentence are left out."""
    position = np.arange(len(tokens))
    preceding = position - np.maximum.accumulate(np.where(tokens == BOS, position, 0))
    number = np.zeros(len(tokens), np.int64)
    keys, counts = [], []
    for n in range(1, order + 1):
        whole = preceding >= n - 1
        if not whole.any():
            break
        pairs = (np.roll(number, 1) * size + tokens)[whole]
        found, first, inverse, count = np.unique(pairs, return_index=True, return_inverse=True, return_counts=True)
        if n > 1:
            # Below the highest order, an n-gram counts as often as different tokens precede it (Kneser and Ney, 1995);
            # one at the beginning of a sentence, which none precedes, as often as it occurs.
            extensions = np.bincount(number[whole][first], minlength=len(keys[-1]))
            counts[-1] = np.where(extensions > 0, extensions, counts[-1])
        keys.append(found)
        counts.append(count)
        number = np.full(len(tokens), -1)
        number[whole] = inverse
    counts[0][0] = 0  # <s>, the smallest key, is a context and never predicted
    contexts = [1, *map(len, keys)]
    return [_smooth(*level, size) for level in zip(keys, counts, contexts, strict=False)]


def _smooth(keys: np.ndarray, counts: np.ndarray, num_contexts: int, size: int) -> Level:
    """Discounts by count 1, 2, and 3 or more; what they take off goes to the order below."""
    discount = np.array([0.0, *_discounts(counts)])[np.minimum(counts, 3)]
    context = keys // size
    total = np.bincount(context, counts, minlength=num_contexts)
    removed = np.bincount(context, discount, minlength=num_contexts)
    # A context that nothing follows leaves everything.
    backoff = np.divide(removed, total, out=np.ones(num_contexts), where=total > 0)
    return Level(keys, (counts - discount) / total[context], backoff)


def _discounts(counts: np.ndarray) -> tuple[float, ...]:
    """The discounts of counts 1, 2, and 3 or more (Chen and Goodman, 1998, section 3), from counts of counts 1 to 4."""
    n1, n2, n3, n4 = np.bincount(counts, minlength=5)[1:5].tolist()
    if not n1 * n2 * n3:
        return FALLBACK_DISCOUNTS
    y = n1 / (n1 + 2 * n2)
    estimates = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
    # A discount of 0 or less would leave unseen words no probability.
    return estimates if min(estimates) > 0 else FALLBACK_DISCOUNTS


def _forward_nll(samples: Sentences, real: Sentences) -> dict[str, Measurement]:
    return {"forward_nll": Measurement(forward_nll(samples, real), {"order": ORDER})}


def _reverse_nll(samples: Sentences, real: Sentences) -> dict[str, Measurement]:
    return {"reverse_nll": Measurement(reverse_nll(samples, real), {"order": ORDER})}


_MODEL = f"modified Kneser-Ney {ORDER}-grams"


METRICS = {
    "forward_nll": TextMetric(_forward_nll, higher_is_better=False, against="train", protocol=_MODEL),
    "reverse_nll": TextMetric(_reverse_nll, higher_is_better=False, against="test", protocol=_MODEL),
}
