"""Metrics of text: functions of tokenised sentences, and `evaluate_texts` over all of them.

    from ganzoo.metrics.text import evaluate_texts
    for result in evaluate_texts(generated, test, train=train, dataset="captions"):
        print(result)

All counting is numpy; nltk is needed for its tokeniser only.
"""

from __future__ import annotations

from ganzoo.utils.lazy import lazy_package

__getattr__, __dir__, __all__ = lazy_package(__name__, __file__)
