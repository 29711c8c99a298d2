"""Metrics: pure functions of features or probabilities, embedders that make these, and `evaluate_samples` over both.

    from ganzoo.metrics import evaluate_samples
    for result in evaluate_samples(generated, real, embedder="pixels", metrics=["frechet_distance", "recall"]):
        print(result)

Needs torch and nothing else; the networks of embedders are loaded when they are asked for.
"""

from __future__ import annotations

from ganzoo.utils.lazy import lazy_package

__getattr__, __dir__, __all__ = lazy_package(__name__, __file__)
