"""Metrics of text: functions of tokenised sentences, and `evaluate_texts` over all of them.

    from ganzoo.metrics.text import evaluate_texts
    for result in evaluate_texts(generated, test, train=train, dataset="captions"):
        print(result)

All counting is numpy; nltk is needed for its tokeniser only.
"""

from ganzoo.metrics.text.bleu import bleu, self_bleu
from ganzoo.metrics.text.diversity import copied_share, distinct_ngrams, distinct_sentences
from ganzoo.metrics.text.evaluate import evaluate_texts
from ganzoo.metrics.text.language_model import NGramModel, forward_nll, reverse_nll
from ganzoo.metrics.text.metric import TEXT_METRICS, TextMetric
from ganzoo.metrics.text.tokens import tokenize

__all__ = [
    "TEXT_METRICS",
    "NGramModel",
    "TextMetric",
    "bleu",
    "copied_share",
    "distinct_ngrams",
    "distinct_sentences",
    "evaluate_texts",
    "forward_nll",
    "reverse_nll",
    "self_bleu",
    "tokenize",
]
