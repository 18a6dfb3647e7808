"""Mellowmax, soft values and the policy between them."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq

import logitherm
from logitherm.exploration import (
    BoltzmannPolicy,
    MellowmaxTemperature,
    mellowmax,
    mellowmax_temperature,
    soft_value,
)
from logitherm.thermostat import LinearSchedule

Q = np.array([1.0, 0.2, -0.5, 0.9])


@given(seed=st.integers(0, 2**31), t=st.floats(0.01, 100), actions=st.integers(2, 9), shift=st.floats(-100, 100))
def test_mellowmax_does_not_expand_and_lies_between_mean_and_maximum(seed, t, actions, shift):
    a, b = np.random.default_rng(seed).normal(size=(2, actions))
    assert abs(mellowmax(a, t) - mellowmax(b, t)) <= np.abs(a - b).max() + 1e-12
    assert a.mean() - 1e-12 <= mellowmax(a, t) <= a.max() + 1e-12
    assert mellowmax(a + shift, t) == pytest.approx(mellowmax(a, t) + shift, abs=1e-11)
    assert mellowmax(a, t) == pytest.approx(
        t * np.log(np.mean(np.exp((a - a.max()) / t))) + a.max(), abs=1e-12 * (1 + t)
    )


def test_limits_and_masks():
    assert mellowmax(Q, 0) == 1 and mellowmax(Q, math.inf) == pytest.approx(0.4)
    assert soft_value(Q, 0) == 1 and soft_value(Q, math.inf) == math.inf
    mask = [True, True, False, True]
    assert mellowmax(Q, 0.3, mask=mask) == pytest.approx(mellowmax(Q[[0, 1, 3]], 0.3))
    assert soft_value(Q, math.inf, log_prior=np.log([0.1, 0.2, 0.3, 0.4])) == pytest.approx(Q @ [0.1, 0.2, 0.3, 0.4])


@given(seed=st.integers(0, 2**31), t=st.floats(0.05, 20), actions=st.integers(2, 9))
def test_the_policy_has_the_value_of_mellowmax(seed, t, actions):
    q = np.random.default_rng(seed).normal(size=(3, actions))
    p = BoltzmannPolicy(MellowmaxTemperature(t)).probabilities(q)
    np.testing.assert_allclose((p * q).sum(-1), mellowmax(q, t), atol=1e-12)


@pytest.mark.parametrize("t", [1e3, 1e6, 1e9, 1e15, 1e300])
def test_far_above_the_differences(t):
    """Mean + variance / 2 T, next to which T log n is 10^300."""
    q = np.array([[1.0, 0.2, -0.5, 0.9, -math.inf], [0.3, 0.3, 0.3, 0.3, 0.3]])
    expected = np.array([np.mean(Q) + np.var(Q) / (2 * t), 0.3])
    np.testing.assert_allclose(mellowmax(q, t), expected, atol=2e-8)
    assert np.isfinite(mellowmax_temperature(q, t)[0]) or t > 1e7


def test_the_published_root():
    """beta with sum of exp(beta (q - mm)) (q - mm) = 0, by a bracketing search of its own."""
    mm = float(mellowmax(Q, 1 / 5))
    beta = brentq(lambda b: np.sum(np.exp(b * (Q - mm)) * (Q - mm)), 0.01, 100, xtol=1e-14)
    assert 1 / mellowmax_temperature(Q, 1 / 5) == pytest.approx(beta, rel=1e-12)
    assert beta == pytest.approx(1.75434, abs=5e-6)


def test_equal_values_and_schedules():
    assert mellowmax_temperature(np.ones(3), 0.5) == math.inf
    rule = MellowmaxTemperature(LinearSchedule(1.0, 0.2, steps=4))
    assert rule.resolve(Q, step=4) == mellowmax_temperature(Q, 0.2)
    with pytest.raises(ValueError, match=r"values: .*NaN"):
        mellowmax(np.array([np.nan, 1.0]))
    np.testing.assert_allclose(
        logitherm.softmax(np.ones((1, 3)), MellowmaxTemperature(0.3)), np.full((1, 3), 1 / 3), rtol=1e-15
    )


def test_the_mean_is_met_at_infinity():
    assert mellowmax_temperature(np.array([1.0, 2.0, 2.0]), math.inf) == math.inf
