"""Empirical Bayes against closed forms, limits, and draws from its own prior."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import gammainc, polygamma

from logitherm.prototypes.shrinkage import inverse_trigamma, reliability, shrink_means, shrink_variances


@pytest.mark.parametrize("degrees", [3.0, 8.0, 100.0, 400.0])
@pytest.mark.parametrize("ratio", [0.3, 0.9, 1.0, 1.1, 3.0, 1e3])
def test_equal_noise_is_steins_harmonic_prior_in_closed_form(degrees, ratio):
    a, x = degrees / 2 - 1, ratio * degrees / 2
    noise = a / x * gammainc(a + 1, x) / gammainc(a, x)
    assert reliability(2 * x, degrees)[0] == pytest.approx(1 - noise, rel=2e-4, abs=1e-6)


def test_far_above_the_noise_it_is_james_and_stein():
    squares = np.array([1e3, 1e5, 1e8])
    np.testing.assert_allclose(1 - reliability(squares, 200.0)[0], 198 / squares, rtol=1e-3)


@given(st.floats(2.5, 1e5), st.floats(-3, 6))
def test_between_0_and_1_and_increasing(degrees, log_ratio):
    squares = degrees * np.exp(log_ratio)
    kept, slope = reliability(np.array([squares, 1.1 * squares]), degrees)
    assert 0 < kept[0] < kept[1] < 1 and (slope > 0).all()


def test_the_slope_is_the_derivative():
    at = np.array([50.0, 90.0, 300.0])
    kept, slope = reliability(at, 100.0)
    above, below = (reliability(at * (1 + h), 100.0)[0] for h in (1e-4, -1e-4))
    np.testing.assert_allclose(slope, (above - below) / (2e-4 * at), rtol=1e-3)
    assert (kept > 0).all()


def test_too_few_dimensions_leave_the_means_alone():
    means, noise = np.array([[0.0, 1.0], [2.0, 3.0]]), np.array([1.0, 0.1])
    found = shrink_means(means, noise, 2)
    np.testing.assert_array_equal(found.prototypes, means)
    np.testing.assert_array_equal(found.variance, noise)
    assert reliability(5.0, 2.0)[0] == 1


def test_equal_noise_shrinks_all_means_alike(rng):
    means = rng.normal(size=(6, 30)) + 100
    found = shrink_means(means, np.full(6, 0.5), 30)
    centre = means.mean(axis=0)
    kept = reliability(((means - centre) ** 2).sum() / 0.5, 150.0)[0]
    np.testing.assert_allclose(found.reliability, kept, rtol=1e-4)
    np.testing.assert_allclose(found.prototypes, centre + kept * (means - centre), rtol=1e-6)
    np.testing.assert_allclose(found.variance, 0.5 * (kept + (1 - kept) / 6), rtol=1e-4)


def test_unequal_noise_errs_by_as_much_as_it_says(rng):
    """Of means drawn from the prior: squared error over stated variance, and less error than the means themselves."""
    noise, ratios, gains = np.array([0.1, 0.1, 0.5, 2.0, 5.0]), [], []
    for _ in range(200):
        truth = rng.normal(size=(5, 40))
        means = truth + np.sqrt(noise)[:, None] * rng.normal(size=truth.shape)
        found = shrink_means(means, noise, 40)
        error = ((found.prototypes - truth) ** 2).mean(axis=1)
        ratios.append(error / found.variance)
        gains.append(error / ((means - truth) ** 2).mean(axis=1))
    np.testing.assert_allclose(np.mean(ratios, axis=0), 1, atol=0.06)
    assert (np.diff(np.mean(gains, axis=0)[1:]) < 0).all() and np.mean(gains, axis=0)[-1] < 0.4


@given(st.floats(-8, 8))
def test_the_inverse_of_trigamma(log_value):
    value = float(np.exp(log_value))
    assert polygamma(1, inverse_trigamma(value)) == pytest.approx(value, rel=1e-9)


def test_variances_are_drawn_together_as_far_as_they_agree(rng):
    degrees = np.full(400, 8.0)
    truth = 3.0 * 20 / rng.chisquare(20, 400)
    squares = truth * rng.chisquare(degrees)
    found, total = shrink_variances(squares, degrees)
    assert total[0] - 8 == pytest.approx(20, rel=0.4)
    assert ((np.log(found / truth)) ** 2).mean() < 0.6 * ((np.log(squares / degrees / truth)) ** 2).mean()


def test_equal_variances_are_pooled_and_a_class_without_residual_borrows(rng):
    degrees = np.array([4.0, 4.0, 4.0, 0.0])
    found, total = shrink_variances(np.array([4.0, 4.4, 3.6, 0.0]), degrees)
    np.testing.assert_allclose(found, 1.0)
    assert np.isinf(total).all()
    found, total = shrink_variances(np.array([400.0, 4.4, 0.36, 0.0]), 10 * degrees)
    assert np.isfinite(total).all() and found[2] < found[1] < found[0] and found[2] < found[3] < found[0]
