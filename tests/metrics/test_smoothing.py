"""The reflected Gaussian on a grid against sums of images, and its replicates against rows drawn one by one."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.integrate import quad

from logitherm.metrics.bootstrap import draw_counts
from logitherm.metrics.smoothing import (
    RESOLUTION,
    Grid,
    Points,
    _absolute_integral,
    _cubic_histogram,
    _resolution,
    _span,
    error_at,
    fixed_point,
    replicate_errors,
    resampled_errors,
)


def draw(n: int, seed: int = 0) -> Points:
    rng = np.random.default_rng(seed)
    confidence = rng.beta(4, 2, n)
    share = rng.uniform(0.5, 1.5, n)
    return Points(confidence, (rng.random(n) < confidence**2).astype(float), share / share.sum())


def by_images(points: Points, sigma: float) -> float:
    images = np.concatenate([points.confidence + 2 * k for k in range(-4, 5)] * 2)
    images[len(images) // 2 :] *= -1
    weights = np.tile(points.residual, 18) / (sigma * math.sqrt(2 * math.pi))

    def size(t: float) -> float:
        return abs(float(weights @ np.exp(-0.5 * ((t - images) / sigma) ** 2)))

    return quad(size, 0, 1, limit=400, epsabs=1e-9)[0]


@pytest.mark.parametrize("sigma", [0.03, 0.1, 0.5])
def test_the_error_is_the_integral_over_images(sigma):
    points = draw(30)
    assert error_at(points, sigma)[0] == pytest.approx(by_images(points, sigma), abs=1e-6)


@pytest.mark.parametrize("sigma", [0.02, 0.1, 0.4])
def test_the_slope_is_that_of_the_error(sigma):
    points, step = draw(400), 1e-4 * sigma
    difference = error_at(points, sigma + step)[0] - error_at(points, sigma - step)[0]
    assert error_at(points, sigma)[1] == pytest.approx(
        difference / (2 * step), rel=0.05, abs=1e-4
    )  # a guide to the root, without the kinks


def test_the_fixed_point():
    points = draw(400)
    sigma = fixed_point(points)
    assert error_at(points, sigma)[0] == pytest.approx(sigma, rel=1e-8)
    assert sigma >= abs(points.residual.sum())


def test_limits():
    calibrated = Points(np.full(4, 0.75), np.array([1.0, 1.0, 1.0, 0.0]), np.full(4, 0.25))
    assert fixed_point(calibrated) == pytest.approx(0, abs=1e-15)
    for confidence in (0.0, 0.75, 1.0):
        equal = Points(np.full(4, confidence), np.array([1.0, 0.0, 0.0, 0.0]), np.full(4, 0.25))
        expected = abs(confidence - 0.25)
        assert fixed_point(equal) == pytest.approx(expected)
        # no bandwidth tells equal confidences apart, however small
        for sigma in (1e-300, 1e-20, 1e-6, 1.0):
            assert error_at(equal, sigma)[0] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("solve", [False, True])
def test_replicates_have_the_law_of_resampled_rows(solve):
    points, sigma, rng = draw(150), 0.1, np.random.default_rng(1)
    counts = draw_counts(rng, 150, 300)
    found = []
    for drawn in counts.T:
        share = points.share * drawn
        again = Points(points.confidence, points.correct, share / share.sum())
        found.append(fixed_point(again) if solve else error_at(again, sigma)[0])
    binned = replicate_errors(points, sigma, solve, 3000, rng)
    assert binned.mean() == pytest.approx(np.mean(found), abs=5 * np.std(found) / math.sqrt(300))
    assert binned.std() == pytest.approx(np.std(found), rel=0.2)


def test_a_grid_holds_every_row():
    points = draw(200)
    for sigma in (1e-20, 0.01, 1.0):
        grid = Grid.of(points.confidence, sigma)
        assert grid.place.min() >= 0 and grid.place.max() < grid.cells
    grid = Grid.of(points.confidence, 0.1)
    sums = np.bincount(grid.place, points.residual, minlength=grid.cells)[None]
    assert resampled_errors(sums, grid, False)[0] == pytest.approx(error_at(points, 0.1)[0], rel=0.02)
    assert resampled_errors(sums, grid, True)[0] == pytest.approx(fixed_point(points), rel=0.02)


@pytest.mark.parametrize("frequency", [1e-3, 0.03, 0.3])
def test_a_coarser_grid_for_small_residuals_keeps_to_the_sum_of_images(frequency):
    """Classes of small probabilities, on as few cells as their residuals allow."""
    rng = np.random.default_rng(4)
    confidence = rng.beta(0.3, 0.3 / frequency, 4000)
    correct = (rng.random(4000) < confidence**1.2).astype(float)
    points = Points(confidence, correct, np.full(4000, 1 / 4000))
    assert _resolution(float(np.abs(points.residual).sum())) < RESOLUTION
    found = fixed_point(points)
    for sigma in (found, 3 * found):
        assert error_at(points, sigma)[0] == pytest.approx(on_a_finer_grid(points, sigma), abs=2e-7)
    assert error_at(points, found)[0] == pytest.approx(found, abs=1e-9)


def on_a_finer_grid(points, sigma):
    low, high = _span(points.confidence, sigma)
    cells = math.ceil(200 * (high - low) / sigma)
    sums = _cubic_histogram((points.confidence - low) / (high - low), points.residual, cells)
    return _absolute_integral(sums[None], np.array([sigma / (high - low)]))[0][0]
