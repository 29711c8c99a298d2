"""Precision, recall, density and coverage against double loops written from the papers' definitions."""

import numpy as np
import pytest
import torch

from ganzoo.errors import UserError
from ganzoo.metrics import density_coverage, precision_recall


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def radius(points, index, k):
    """Distance from a point to its k-th nearest neighbour among the others."""
    others = [np.linalg.norm(points[index] - points[other]) for other in range(len(points)) if other != index]
    return sorted(others)[k - 1]


def inside(points, centres, k):
    """inside[i, j]: point i lies in the ball around centre j. A ball is closed; 1e-9 is for its own rounding."""
    radii = [radius(centres, index, k) for index in range(len(centres))]
    return np.array(
        [
            [
                np.linalg.norm(point - centre) <= reach * (1 + 1e-9)
                for centre, reach in zip(centres, radii, strict=True)
            ]
            for point in points
        ]
    )


def slow_precision_recall(generated, real, k):
    generated, real = generated.double().numpy(), real.double().numpy()
    return inside(generated, real, k).any(axis=1).mean(), inside(real, generated, k).any(axis=1).mean()


def slow_density_coverage(generated, real, k):
    members = inside(generated.double().numpy(), real.double().numpy(), k)
    return members.sum() / (k * len(generated)), members.any(axis=0).mean()


def assert_agrees(generated, real):
    for k in (1, 3, 5):
        assert precision_recall(generated, real, k=k) == pytest.approx(slow_precision_recall(generated, real, k))
        assert density_coverage(generated, real, k=k) == pytest.approx(slow_density_coverage(generated, real, k))


@pytest.mark.parametrize(
    ("num_generated", "num_real", "width", "scale", "shift"),
    [(40, 40, 2, 1.0, 0.0), (25, 50, 3, 0.5, 0.2), (50, 20, 8, 1.5, 0.0), (30, 30, 1, 1.0, 1.0), (6, 6, 4, 1.0, 0.0)],
)
def test_against_double_loops(num_generated, num_real, width, scale, shift):
    assert_agrees(randn(num_generated, width, seed=1) * scale + shift, randn(num_real, width, seed=2))


def test_blocks_make_no_difference(monkeypatch):
    monkeypatch.setattr("ganzoo.metrics.manifold.BLOCK_ROWS", 7)
    assert_agrees(randn(40, 3, seed=1), randn(33, 3, seed=2))


def test_duplicates():
    points = randn(10, 3, seed=1)
    assert_agrees(points.repeat(3, 1), torch.cat([points[:5].repeat(4, 1), randn(20, 3, seed=2)]))


def test_narrow_clusters_far_apart():
    # Distances of 1e-2 beside norms of 1e3: in float32 the squared distances would be noise.
    centres = torch.tensor([[0.0, 0.0, 0.0], [1e3, 0.0, 0.0], [0.0, 2e3, 0.0]], dtype=torch.float64).repeat(10, 1)
    generated, real = centres + 1e-2 * randn(30, 3, seed=1), centres + 1e-2 * randn(30, 3, seed=2)
    found = precision_recall(generated, real)
    assert 0.3 < found.precision < 1
    assert_agrees(generated, real)


def test_grid_full_of_ties():
    grid = torch.cartesian_prod(torch.arange(5.0), torch.arange(5.0))
    assert_agrees(grid, grid)
    assert_agrees(grid + 0.5, grid)


def test_identical_sets():
    points = randn(200, 4, seed=1)
    assert precision_recall(points, points) == (1.0, 1.0)
    # Every ball holds its centre and, by definition, k neighbours.
    assert density_coverage(points, points, k=5) == pytest.approx((6 / 5, 1.0))


def test_identical_sets_in_float32():
    points = randn(500, 16, seed=1).float() * 3 + 100
    assert precision_recall(points, points) == (1.0, 1.0)
    assert density_coverage(points, points, k=5) == pytest.approx((6 / 5, 1.0))


def test_disjoint_sets():
    first, second = randn(50, 4, seed=1), randn(60, 4, seed=2) + 100
    assert precision_recall(first, second) == (0.0, 0.0)
    assert density_coverage(first, second) == (0.0, 0.0)


def test_one_distribution():
    first, second = randn(1000, 3, seed=1), randn(1000, 3, seed=2)
    found = precision_recall(first, second)
    assert min(found) > 0.85
    # Naeem et al., 2020, section 3: for two samples of one distribution the expected density is 1 and the expected
    # coverage is 1 - (M - 1)...(M - k) / ((2M - 1)...(2M - k)), for large M about 1 - 2^-k.
    density, coverage = density_coverage(first, second, k=5)
    assert density == pytest.approx(1.0, abs=0.1)
    assert coverage == pytest.approx(1 - 2**-5, abs=0.02)


def test_dropping_a_mode_halves_recall_and_coverage():
    offset = torch.tensor([100.0, 0.0])
    real = torch.cat([randn(500, 2, seed=1), randn(500, 2, seed=2) + offset])
    both = torch.cat([randn(500, 2, seed=3), randn(500, 2, seed=4) + offset])
    one = randn(1000, 2, seed=5)
    precision_both, recall_both = precision_recall(both, real)
    precision_one, recall_one = precision_recall(one, real)
    assert recall_one == pytest.approx(recall_both / 2, abs=0.03)
    assert precision_one == pytest.approx(precision_both, abs=0.05)
    coverage_both, coverage_one = density_coverage(both, real).coverage, density_coverage(one, real).coverage
    assert coverage_both > 0.9
    assert coverage_one == pytest.approx(0.5, abs=0.01)


def test_one_outlier_does_not_raise_the_density_much():
    # Naeem et al., 2020, figure 2: a real outlier's huge ball fools precision, not density.
    real = torch.cat([randn(99, 2, seed=1), torch.tensor([[50.0, 50.0]])])
    generated = torch.rand(200, 2, generator=torch.Generator().manual_seed(2)) * 60
    assert precision_recall(generated, real).precision > 0.8
    assert density_coverage(generated, real).density < 0.4


def test_invariant_under_shift_rotation_and_scale():
    first, second = randn(100, 4, seed=1), randn(90, 4, seed=2)
    rotation = torch.linalg.qr(randn(4, 4, seed=3)).Q

    def moved(points):
        return 17 * points @ rotation + 1000

    assert precision_recall(moved(first), moved(second)) == precision_recall(first, second)
    assert density_coverage(moved(first), moved(second)) == density_coverage(first, second)


@pytest.mark.parametrize(("metric", "k"), [(precision_recall, 3), (density_coverage, 5)])
def test_errors(metric, k):
    with pytest.raises(UserError, match=f"generated features: this metric needs at least {k + 1} samples, not {k}"):
        metric(randn(k, 2), randn(20, 2))
    with pytest.raises(UserError, match="width 2, but real features have width 3"):
        metric(randn(20, 2), randn(20, 3))
    with pytest.raises(UserError, match="neighbours must be at least 1"):
        metric(randn(20, 2), randn(20, 2), k=0)
    with pytest.raises(UserError, match="real features hold NaN or infinity in 20 of 20"):
        metric(randn(20, 2), randn(20, 2) * torch.nan)
