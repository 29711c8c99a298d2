"""The Fréchet distance between two sets of features (Heusel et al., 2017): FID when the embedder is Inception."""

from __future__ import annotations

import torch
from torch import Tensor

from ganzoo.embedders.base import Embedding
from ganzoo.errors import UserError
from ganzoo.metrics.metric import Choices, Measurement, Metric
from ganzoo.metrics.validation import check_feature_pair, check_features


class GaussianStatistics:
    """Mean and covariance of features that arrive in batches and need not all be held.

    Batches are merged by the pairwise update of Chan, Golub and LeVeque (1979), in float64, so that features far from
    the origin lose no digits, as they would in the difference of a sum of squares and a squared sum.

        statistics = GaussianStatistics()
        for features in batches:
            statistics.update(features)
        frechet_from_statistics(statistics.mean, statistics.covariance, real.mean, real.covariance)
    """

    def __init__(self) -> None:
        self.count = 0
        self._mean: Tensor | None = None
        self._scatter: Tensor | None = None

    def update(self, features: Tensor) -> GaussianStatistics:
        """Takes in a batch.

        Args:
            features: `(N, D)`, finite; the same D in every call.

        Returns:
            Itself.

        Raises:
            UserError: Wrong shape or type, another width than before, NaN or infinity.
        """
        batch = check_features(features, "this batch of features").double()
        count, mean = len(batch), batch.mean(dim=0)
        centred = batch - mean
        scatter = centred.T @ centred
        if self._mean is None:
            self.count, self._mean, self._scatter = count, mean, scatter
            return self
        if len(self._mean) != len(mean):
            raise UserError(f"this batch of features has width {len(mean)}, those before it {len(self._mean)}")
        total = self.count + count
        delta = mean - self._mean
        self._scatter = self._scatter + scatter + torch.outer(delta, delta) * (self.count * count / total)
        self._mean = self._mean + delta * (count / total)
        self.count = total
        return self

    @property
    def mean(self) -> Tensor:
        """`(D,)`, float64.

        Raises:
            UserError: No sample was taken in yet.
        """
        if self._mean is None:
            raise UserError("these statistics hold no samples yet; call update(features) first")
        return self._mean

    @property
    def covariance(self) -> Tensor:
        """`(D, D)`, float64, the unbiased estimate (divided by N - 1).

        Raises:
            UserError: Fewer than 2 samples were taken in.
        """
        if self.count < 2:
            raise UserError(f"a covariance needs at least 2 samples, these statistics hold {self.count}")
        return self._scatter / (self.count - 1)


def frechet_distance(generated: Tensor, real: Tensor) -> float:
    """Squared Fréchet distance between Gaussians fitted to two sets of features (Heusel et al., 2017, equation 6).

    Its expected value falls as N grows, also between two samples of one distribution: compare numbers of one N only.

    Args:
        generated: `(N, D)` features.
        real: `(M, D)` features.

    Returns:
        A number >= 0, in squared feature units.

    Raises:
        UserError: Fewer than 2 samples, different widths, NaN or infinity.
    """
    generated, real = check_feature_pair(generated, real, minimum=2)
    first, second = GaussianStatistics().update(generated), GaussianStatistics().update(real)
    return frechet_from_statistics(first.mean, first.covariance, second.mean, second.covariance)


def frechet_from_statistics(mean1: Tensor, covariance1: Tensor, mean2: Tensor, covariance2: Tensor) -> float:
    """`|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2))` (Heusel et al., 2017, equation 6).

    With C1 = A A^T and C2 = B B^T, the trace of the root is the sum of the singular values of A^T B. That needs
    neither the root of a non-symmetric matrix nor a shifted diagonal, and is exact for singular covariances (N < D).

    Args:
        mean1: `(D,)`.
        covariance1: `(D, D)`, symmetric positive semi-definite.
        mean2: `(D,)`.
        covariance2: `(D, D)`, symmetric positive semi-definite.

    Returns:
        A number >= 0.

    Raises:
        UserError: Shapes that do not fit together, NaN or infinity, or a matrix that is no covariance.
    """
    width = mean1.numel()
    shapes = [tuple(tensor.shape) for tensor in (mean1, covariance1, mean2, covariance2)]
    if width == 0 or shapes != [(width,), (width, width)] * 2:
        raise UserError(f"means and covariances must have shapes (D,), (D, D), (D,), (D, D), not {shapes}")
    first, second = _factor(covariance1), _factor(covariance2)
    root_trace = torch.linalg.svdvals(first.T @ second).sum()
    # tr(A A^T) from the factors, so that rounding in the root and in the traces cancels for equal covariances.
    spread = first.square().sum() + second.square().sum() - 2 * root_trace
    shift = (mean1.double() - mean2.double()).square().sum()
    if not torch.isfinite(shift):
        raise UserError("means hold NaN or infinity")
    return float(shift + spread.clamp(min=0))


def _factor(covariance: Tensor) -> Tensor:
    """A with A A^T = `covariance`, float64, from its eigen-decomposition."""
    covariance = covariance.double()
    if not torch.isfinite(covariance).all():
        raise UserError("a covariance holds NaN or infinity")
    scale = covariance.abs().max()
    eigenvalues, eigenvectors = torch.linalg.eigh(covariance)
    # Wide enough for matrices that were saved in float32; far below what a wrong matrix shows.
    if (covariance - covariance.T).abs().max() > 1e-4 * scale or eigenvalues.min() < -1e-3 * scale:
        raise UserError("a covariance must be symmetric and positive semi-definite")
    # Below this, an eigenvalue is rounding; its root would be 1e-8, no longer small, in each missing dimension.
    rounding = len(covariance) * torch.finfo(torch.float64).eps * eigenvalues.max()
    return eigenvectors * torch.where(eigenvalues > rounding, eigenvalues, 0.0).sqrt()


def _frechet_distance(generated: Embedding, real: Embedding, choices: Choices) -> dict[str, Measurement]:
    return {"frechet_distance": Measurement(frechet_distance(generated.features, real.features))}


METRICS = {"frechet_distance": Metric(_frechet_distance, higher_is_better=False)}
