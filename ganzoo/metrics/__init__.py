"""Metrics: pure functions of features or probabilities, embedders that make these, and `evaluate_samples` over both.

    from ganzoo.metrics import evaluate_samples
    for result in evaluate_samples(generated, real, embedder="pixels", metrics=["frechet_distance", "recall"]):
        print(result)

Needs torch and nothing else; the networks of embedders are loaded when they are asked for.
"""

from ganzoo.metrics.classes import ClassBalance, class_balance
from ganzoo.metrics.embedders import (
    ClassifierEmbedder,
    Embedder,
    Embedding,
    InceptionEmbedder,
    PixelEmbedder,
    fit_images,
    get_embedder,
)
from ganzoo.metrics.evaluate import (
    METRICS,
    Metric,
    MetricResult,
    embed_samples,
    evaluate_embeddings,
    evaluate_samples,
)
from ganzoo.metrics.frechet import GaussianStatistics, frechet_distance, frechet_from_statistics
from ganzoo.metrics.inception_score import InceptionScore, inception_score
from ganzoo.metrics.kid import KID, kernel_inception_distance, polynomial_mmd
from ganzoo.metrics.manifold import DensityCoverage, PrecisionRecall, density_coverage, precision_recall
from ganzoo.metrics.nearest import nearest_distances, nearest_distances_within

__all__ = [
    "KID",
    "METRICS",
    "ClassBalance",
    "ClassifierEmbedder",
    "DensityCoverage",
    "Embedder",
    "Embedding",
    "GaussianStatistics",
    "InceptionEmbedder",
    "InceptionScore",
    "Metric",
    "MetricResult",
    "PixelEmbedder",
    "PrecisionRecall",
    "class_balance",
    "density_coverage",
    "embed_samples",
    "evaluate_embeddings",
    "evaluate_samples",
    "fit_images",
    "frechet_distance",
    "frechet_from_statistics",
    "get_embedder",
    "inception_score",
    "kernel_inception_distance",
    "nearest_distances",
    "nearest_distances_within",
    "polynomial_mmd",
    "precision_recall",
]
