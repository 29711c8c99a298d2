"""Distances and scores against closed forms and slow, independent computations."""

import math

import pytest
import torch

from ganzoo.errors import UserError
from ganzoo.metrics import (
    GaussianStatistics,
    class_balance,
    frechet_distance,
    frechet_from_statistics,
    inception_score,
    kernel_inception_distance,
)


def randn(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def random_covariance(width, seed):
    factor = randn(width, width + 2, seed=seed)
    return factor @ factor.T / width


def random_rotation(width, seed):
    return torch.linalg.qr(randn(width, width, seed=seed)).Q


class TestFrechetClosedForms:
    def test_diagonal(self):
        mean1, mean2 = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.0, 2.0, 5.0])
        std1, std2 = torch.tensor([1.0, 2.0, 0.5]), torch.tensor([3.0, 2.0, 0.1])
        expected = (mean1 - mean2).square().sum() + (std1 - std2).square().sum()
        found = frechet_from_statistics(mean1, std1.square().diag(), mean2, std2.square().diag())
        assert found == pytest.approx(float(expected), rel=1e-6)

    def test_commuting(self):
        basis = random_rotation(6, seed=1)
        std1, std2 = randn(6, seed=2).abs(), randn(6, seed=3).abs()
        first, second = (basis @ std.square().diag() @ basis.T for std in (std1, std2))
        zero = torch.zeros(6)
        expected = float((std1 - std2).square().sum())
        assert frechet_from_statistics(zero, first, zero, second) == pytest.approx(expected, rel=1e-10)

    def test_non_commuting_two_by_two(self):
        # For a 2 x 2 matrix M with non-negative eigenvalues, tr(M^(1/2)) = sqrt(tr M + 2 sqrt(det M)).
        first = torch.tensor([[2.0, 1.0], [1.0, 3.0]], dtype=torch.float64)
        second = torch.tensor([[5.0, -2.0], [-2.0, 1.0]], dtype=torch.float64)
        assert not torch.allclose(first @ second, second @ first)
        # M = first @ second = [[8, -3], [-1, 1]]: trace 9, determinant 5 * 1.
        root_trace = math.sqrt(9 + 2 * math.sqrt(5))
        expected = 4 + 5 + 6 - 2 * root_trace
        mean = torch.zeros(2, dtype=torch.float64)
        assert frechet_from_statistics(mean + 2**0.5, first, mean, second) == pytest.approx(expected, rel=1e-12)

    def test_orthogonal_subspaces(self):
        first, second = torch.tensor([1.0, 0.0]).diag(), torch.tensor([0.0, 4.0]).diag()
        assert frechet_from_statistics(torch.zeros(2), first, torch.zeros(2), second) == pytest.approx(5.0, abs=1e-12)

    def test_rank_one_against_full_rank(self):
        # tr((v v^T C)^(1/2)) = sqrt(v^T C v).
        vector, covariance = randn(5, seed=1), random_covariance(5, seed=2)
        expected = vector @ vector + covariance.trace() - 2 * (vector @ covariance @ vector).sqrt()
        zero = torch.zeros(5)
        found = frechet_from_statistics(zero, torch.outer(vector, vector), zero, covariance)
        assert found == pytest.approx(float(expected), rel=1e-9)

    def test_against_eigenvalues_of_the_product(self):
        first, second = random_covariance(20, seed=1), random_covariance(20, seed=2)
        eigenvalues = torch.linalg.eigvals(first @ second)
        expected = float(first.trace() + second.trace() - 2 * eigenvalues.real.clamp(min=0).sqrt().sum())
        zero = torch.zeros(20)
        assert frechet_from_statistics(zero, first, zero, second) == pytest.approx(expected, rel=1e-9)


class TestFrechetOfSamples:
    def test_zero_on_itself(self):
        for samples, width in ((500, 20), (10, 40)):  # full rank; fewer samples than dimensions
            features = randn(samples, width, seed=4) * 100
            scale = float(features.var(dim=0).sum())
            assert 0 <= frechet_distance(features, features) < 1e-10 * scale

    def test_symmetric_and_positive(self):
        first, second = randn(50, 8, seed=1), randn(60, 8, seed=2) * 2 + 1
        assert frechet_distance(first, second) == pytest.approx(frechet_distance(second, first), rel=1e-10)
        assert frechet_distance(first, second) > 8

    def test_invariant_under_rotation_and_shift(self):
        first, second = randn(100, 8, seed=1), randn(80, 8, seed=2) * 1.5 + 0.3
        rotation, shift = random_rotation(8, seed=3), randn(8, seed=4) * 50
        moved = frechet_distance(first @ rotation + shift, second @ rotation + shift)
        assert moved == pytest.approx(frechet_distance(first, second), rel=1e-9)

    def test_scales_with_the_square(self):
        first, second = randn(100, 8, seed=1), randn(80, 8, seed=2) * 1.5 + 0.3
        assert frechet_distance(first * 7, second * 7) == pytest.approx(49 * frechet_distance(first, second), rel=1e-9)

    def test_converges_to_the_distance_of_the_gaussians(self):
        first, second = random_covariance(5, seed=1), random_covariance(5, seed=2)
        mean = torch.tensor([0.5, -0.5, 0.0, 1.0, 0.0], dtype=torch.float64)
        exact = frechet_from_statistics(torch.zeros(5), first, mean, second)

        def error(samples):
            left = randn(samples, 5, seed=3) @ torch.linalg.cholesky(first).T
            right = randn(samples, 5, seed=4) @ torch.linalg.cholesky(second).T + mean
            return abs(frechet_distance(left, right) - exact)

        assert error(100_000) < 0.02 * exact < error(50)

    def test_float32_features_agree_with_float64(self):
        first, second = randn(300, 16, seed=1), randn(300, 16, seed=2)
        found = frechet_distance(first.float(), second.float())
        assert found == pytest.approx(frechet_distance(first, second), rel=1e-5)

    def test_features_that_carry_a_gradient(self):
        features = randn(10, 3, seed=1).requires_grad_()
        assert frechet_distance(features, features + 1) == pytest.approx(3.0)


class TestGaussianStatistics:
    @pytest.mark.parametrize("sizes", [(1, 1, 98), (50, 50), (100,), (33, 1, 66)])
    def test_batches_equal_the_whole(self, sizes):
        features = randn(100, 7, seed=5) @ random_covariance(7, seed=6) + 3
        statistics = GaussianStatistics()
        for batch in features.split(sizes):
            statistics.update(batch)
        assert statistics.count == 100
        torch.testing.assert_close(statistics.mean, features.mean(dim=0))
        torch.testing.assert_close(statistics.covariance, torch.cov(features.T))

    def test_far_from_the_origin(self):
        features = randn(100, 3, seed=7)
        statistics = GaussianStatistics()
        for batch in (features + 1e7).split(10):
            statistics.update(batch)
        torch.testing.assert_close(statistics.covariance, torch.cov(features.T), rtol=1e-7, atol=1e-7)

    def test_needs_samples_of_one_width(self):
        with pytest.raises(UserError, match="no samples yet"):
            _ = GaussianStatistics().mean
        with pytest.raises(UserError, match="at least 2 samples"):
            _ = GaussianStatistics().update(randn(1, 3)).covariance
        with pytest.raises(UserError, match="width 4, those before it 3"):
            GaussianStatistics().update(randn(2, 3)).update(randn(2, 4))


class TestFrechetErrors:
    def test_too_few_samples(self):
        with pytest.raises(UserError, match="real features: this metric needs at least 2 samples, not 1"):
            frechet_distance(randn(5, 3), randn(1, 3))

    def test_other_width(self):
        with pytest.raises(UserError, match="width 3, but real features have width 4"):
            frechet_distance(randn(5, 3), randn(5, 4))

    @pytest.mark.parametrize("value", [math.nan, math.inf])
    def test_not_finite(self, value):
        features = randn(5, 3)
        features[2, 1] = value
        with pytest.raises(UserError, match="generated features hold NaN or infinity in 1 of 5"):
            frechet_distance(features, randn(5, 3))

    @pytest.mark.parametrize("features", [torch.zeros(5), torch.zeros(5, 0), torch.zeros(2, 2).long(), [[1.0], [2.0]]])
    def test_not_features(self, features):
        with pytest.raises(UserError, match="generated features must be"):
            frechet_distance(features, randn(5, 3))

    def test_not_statistics(self):
        mean, covariance = torch.zeros(3), torch.eye(3)
        with pytest.raises(UserError, match="must have shapes"):
            frechet_from_statistics(mean, covariance, torch.zeros(2), torch.eye(2))
        with pytest.raises(UserError, match="positive semi-definite"):
            frechet_from_statistics(mean, covariance, mean, -covariance)
        with pytest.raises(UserError, match="symmetric"):
            frechet_from_statistics(mean, covariance, mean, covariance + torch.ones(3, 3).triu(1))
        with pytest.raises(UserError, match="covariance holds NaN"):
            frechet_from_statistics(mean, covariance * math.nan, mean, covariance)
        with pytest.raises(UserError, match="means hold NaN"):
            frechet_from_statistics(mean * math.nan, covariance, mean, covariance)


def slow_mmd(first, second):
    """The unbiased estimator, written as the double sums of the paper."""

    def kernel(x, y):
        return (sum(a * b for a, b in zip(x, y, strict=True)) / len(x) + 1) ** 3

    def within(points):
        pairs = [(i, j) for i in range(len(points)) for j in range(len(points)) if i != j]
        return sum(kernel(points[i], points[j]) for i, j in pairs) / len(pairs)

    first, second = first.tolist(), second.tolist()
    across = sum(kernel(x, y) for x in first for y in second) / (len(first) * len(second))
    return within(first) + within(second) - 2 * across


class TestKID:
    def exact(self, first, second):
        return kernel_inception_distance(first, second, subsets=None).mean

    @pytest.mark.parametrize(("first", "second"), [(20, 20), (13, 31), (2, 3)])
    def test_exact_against_a_double_loop(self, first, second):
        left, right = randn(first, 4, seed=1), randn(second, 4, seed=2) + 0.5
        assert self.exact(left, right) == pytest.approx(slow_mmd(left, right), rel=1e-12)

    def test_blocks_make_no_difference(self, monkeypatch):
        left, right = randn(50, 4, seed=1), randn(60, 4, seed=2)
        whole = self.exact(left, right)
        monkeypatch.setattr("ganzoo.metrics.kid.BLOCK_ROWS", 7)
        assert self.exact(left, right) == pytest.approx(whole, rel=1e-10)

    def test_point_masses(self):
        left, right = torch.full((10, 1), 2.0), torch.full((12, 1), -1.0)
        assert self.exact(left, right) == pytest.approx((4 + 1) ** 3 + (1 + 1) ** 3 - 2 * (-2 + 1) ** 3)

    def test_unbiased_for_the_closed_form(self):
        # In one dimension, k(x, y) = sum_j C(3, j) x^j y^j: squared MMD = sum_j C(3, j) (difference of moment j)^2.
        # N(0.3, 1) against N(0, 1): moments (0.3, 1.09, 0.927) against (0, 1, 0).
        exact = 3 * 0.3**2 + 3 * 0.09**2 + 0.927**2
        estimates = torch.tensor(
            [self.exact(randn(60, 1, seed=seed) + 0.3, randn(40, 1, seed=10_000 + seed)) for seed in range(2000)]
        )
        error = float(estimates.std()) / len(estimates) ** 0.5
        assert abs(float(estimates.mean()) - exact) < 4 * error < 0.25 * exact

    def test_around_zero_on_one_distribution(self):
        estimates = torch.tensor(
            [self.exact(randn(20, 3, seed=seed), randn(20, 3, seed=10_000 + seed)) for seed in range(1000)]
        )
        assert abs(float(estimates.mean())) < 4 * float(estimates.std()) / len(estimates) ** 0.5
        assert 0.2 < float((estimates < 0).double().mean()) < 0.8

    def test_subsets_average_the_exact_estimator(self):
        left, right = randn(300, 6, seed=1), randn(300, 6, seed=2) * 1.2
        kid = kernel_inception_distance(left, right, subsets=400, subset_size=100, seed=3)
        assert (kid.subsets, kid.subset_size) == (400, 100)
        assert abs(kid.mean - self.exact(left, right)) < 3 * kid.standard_error

    def test_standard_error_says_how_far_the_estimate_is_off(self):
        found = [
            kernel_inception_distance(
                randn(200, 2, seed=seed) + 0.5, randn(200, 2, seed=999 + seed), subsets=50, subset_size=50
            )
            for seed in range(100)
        ]
        actual = float(torch.tensor([kid.mean for kid in found]).std())
        reported = sum(kid.standard_error for kid in found) / len(found)
        assert 0.75 < reported / actual < 1.35

    def test_small_sets_use_smaller_subsets(self):
        kid = kernel_inception_distance(randn(50, 3, seed=1), randn(31, 3, seed=2))
        assert (kid.subsets, kid.subset_size) == (100, 15)
        assert kid.standard_error > 0

    def test_seeded(self):
        left, right = randn(60, 3, seed=1), randn(60, 3, seed=2)
        torch.manual_seed(0)
        state = torch.get_rng_state()
        first = kernel_inception_distance(left, right, subset_size=20, seed=5)
        assert torch.equal(torch.get_rng_state(), state)
        assert kernel_inception_distance(left, right, subset_size=20, seed=5) == first
        assert kernel_inception_distance(left, right, subset_size=20, seed=6).mean != first.mean

    def test_errors(self):
        with pytest.raises(UserError, match="at least 4 samples, not 3"):
            kernel_inception_distance(randn(3, 2), randn(10, 2))
        with pytest.raises(UserError, match="at least 2 subsets of at least 2"):
            kernel_inception_distance(randn(10, 2), randn(10, 2), subsets=1)
        with pytest.raises(UserError, match="width"):
            kernel_inception_distance(randn(10, 2), randn(10, 3))


class TestInceptionScore:
    def test_every_class_with_certainty(self):
        probabilities = torch.eye(7).repeat(100, 1)
        score = inception_score(probabilities, splits=1)
        assert score.mean == pytest.approx(7.0)
        assert score.standard_deviation is None

    def test_constant(self):
        constant = randn(1, 5, seed=1).softmax(dim=1).expand(100, 5)
        assert inception_score(constant) == pytest.approx((1.0, 0.0), abs=1e-12)
        one_class = torch.eye(5)[0].expand(100, 5)
        assert inception_score(one_class).mean == pytest.approx(1.0)

    def test_against_the_definition(self):
        probabilities = (randn(50, 4, seed=2) * 3).softmax(dim=1)
        scores = []
        for part in probabilities.split(10):
            marginal = part.mean(dim=0)
            divergences = [sum(p * math.log(p / q) for p, q in zip(row, marginal, strict=True)) for row in part]
            scores.append(math.exp(sum(divergences) / 10))
        mean = sum(scores) / 5
        deviation = math.sqrt(sum((score - mean) ** 2 for score in scores) / 4)
        assert inception_score(probabilities, splits=5, seed=None) == pytest.approx((mean, deviation))

    def test_samples_sorted_by_class_are_shuffled(self):
        probabilities = torch.eye(10).repeat_interleave(100, dim=0)
        assert inception_score(probabilities, seed=None).mean == pytest.approx(1.0)
        assert inception_score(probabilities).mean > 9
        assert inception_score(probabilities, seed=1) == inception_score(probabilities, seed=1)

    def test_errors(self):
        with pytest.raises(UserError, match="softmax"):
            inception_score(randn(20, 3))
        with pytest.raises(UserError, match="at least 10 samples, not 4"):
            inception_score(torch.eye(4))
        with pytest.raises(UserError, match="at least 1 split"):
            inception_score(torch.eye(4), splits=0)


class TestClassBalance:
    def test_counts(self):
        probabilities = torch.eye(4)[[0, 0, 0, 1, 1, 2, 0, 0]] * 0.9 + 0.025
        found = class_balance(probabilities)
        assert found.counts == (5, 2, 1, 0)
        assert found.shares == (0.625, 0.25, 0.125, 0.0)
        assert (found.min_share, found.max_share) == (0.0, 0.625)
        entropy = -(0.625 * math.log(0.625) + 0.25 * math.log(0.25) + 0.125 * math.log(0.125))
        assert found.entropy == pytest.approx(entropy)
        assert found.kl_to_uniform == pytest.approx(math.log(4) - entropy)

    def test_even_and_collapsed(self):
        assert class_balance(torch.eye(10).repeat(3, 1)).kl_to_uniform == pytest.approx(0, abs=1e-12)
        collapsed = class_balance(torch.eye(10)[:1].repeat(3, 1))
        assert (collapsed.entropy, collapsed.kl_to_uniform) == pytest.approx((0, math.log(10)))

    def test_errors(self):
        with pytest.raises(UserError, match="at least 1 samples"):
            class_balance(torch.zeros(0, 3))
        with pytest.raises(UserError, match="softmax"):
            class_balance(torch.full((3, 3), 0.5))
