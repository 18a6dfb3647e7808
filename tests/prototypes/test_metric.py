"""Moments by blocks against NumPy's, and leaving rows out in closed form against leaving them out."""

from __future__ import annotations

import numpy as np
import pytest

from logitherm.prototypes.metric import between_variance, fit_metric
from logitherm.prototypes.moments import moments


def drawn(rng, counts=(5, 9, 14), features=6):
    labels = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    X = rng.normal(size=(len(counts), features))[labels] + rng.normal(size=(len(labels), features)) * np.arange(
        1, features + 1
    )
    return X, labels


@pytest.mark.parametrize(("dtype", "rtol"), [(np.float64, 1e-12), (np.float32, 2e-6)])
@pytest.mark.parametrize("threads", ["1", "3"])
def test_moments_by_blocks(monkeypatch, rng, dtype, rtol, threads):
    monkeypatch.setenv("LOGITHERM_NUM_THREADS", threads)
    X, labels = drawn(rng, (4000, 5000, 6000), 60)
    X = (X + 500).astype(dtype)  # an offset that sums of squares would not survive in float32
    found = moments(X, labels, 3)
    exact = X.astype(np.float64)
    means = np.stack([exact[labels == k].mean(axis=0) for k in range(3)])
    residuals = exact - means[labels]
    np.testing.assert_allclose(found.means, means, rtol=rtol)
    np.testing.assert_allclose(found.columns, (residuals**2).sum(axis=0), rtol=50 * rtol)
    np.testing.assert_allclose(found.squares, [(residuals[labels == k] ** 2).sum() for k in range(3)], rtol=50 * rtol)
    assert found.counts.tolist() == [4000, 5000, 6000] and found.degrees == 14997 and found.dims == 60
    monkeypatch.setenv("LOGITHERM_NUM_THREADS", "2")
    np.testing.assert_array_equal(moments(X, labels, 3).means, found.means)


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_rows_left_out_of_a_whitening(rng, share):
    """Every row against a covariance without it: exact but for the small shift of the mean variance."""
    X, labels = drawn(rng)
    m = moments(X, labels, 3)
    metric = fit_metric(m, "whitened", share)
    r, n = m.residuals(), m.degrees
    scatter, mean = r.T @ r, (r**2).sum() / n / 6
    squares, along, sizes = np.zeros(3), 0.0, 0.0
    prototypes = metric.apply(m.means - m.means.mean(axis=0))
    differences = m.means - m.means.mean(axis=0)
    for i, k in enumerate(labels):
        c = m.counts[k] / (m.counts[k] - 1)
        left = (1 - share) * (scatter - c * np.outer(r[i], r[i])) / n + share * mean * np.eye(6)
        squares[k] += r[i] @ np.linalg.solve(left, r[i])
        along += ((differences @ np.linalg.solve(left, r[i])) ** 2).sum()
        sizes += (differences * np.linalg.solve(left, differences.T).T).sum() / len(X)
    np.testing.assert_allclose(metric.squares, squares, rtol=1e-9)
    assert between_variance(m, metric, prototypes) == pytest.approx(along / n / sizes, rel=1e-9)
    assert (metric.squares > metric.resubstituted).all()


def test_rows_left_out_of_single_variances_vary_as_new_ones_do(rng):
    """Squares of new rows in units of estimated spreads, and along a fixed direction: by simulation."""
    all_, along, told, told_along = [], [], [], []
    direction = np.array([[1.0, -1.0, 0.5, 0.0], [-1.0, 1.0, -0.5, 0.0]])
    for _ in range(1500):
        labels = np.arange(14) % 2
        X = rng.normal(size=(14, 4))
        m = moments(X, labels, 2)
        metric = fit_metric(m, "diagonal", "auto")
        new = metric.apply(rng.normal(size=(200, 4)))
        scaled = metric.apply(direction)
        all_.append((new**2).sum() / 200)
        told.append(metric.squares.sum() / m.degrees)
        along.append(((new @ scaled.T) ** 2).sum() / 200)
        told_along.append(between_variance(m, metric, scaled) * (scaled**2).sum())
    assert np.mean(told) == pytest.approx(np.mean(all_), rel=0.05)
    assert np.mean(told_along) == pytest.approx(np.mean(along), rel=0.25)


def test_one_variance_of_isotropic_rows_is_that_between_prototypes(rng):
    labels = np.arange(3000) % 3
    X = rng.normal(size=(3, 20))[labels] + 1.7 * rng.normal(size=(3000, 20))
    m = moments(X, labels, 3)
    metric = fit_metric(m, "isotropic", "auto")
    assert between_variance(m, metric, m.means) == pytest.approx(1.7**2, rel=0.05)
    assert m.squares.sum() / (m.degrees * 20) == pytest.approx(1.7**2, rel=0.02)
