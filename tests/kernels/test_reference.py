"""The reference against the definition in many digits, in every array library, and at the limits."""

import math

import array_api_strict
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
import torch

from logitherm.kernels import reference

QUESTIONS = ("log_partition", "free_energy", "mean_energy", "entropy", "heat_capacity", "top_probability")
TEMPERATURES = [0.0, 1e-44, 1e-3, 0.1, 1.0, 7.0, 1e6, 1e30, math.inf]
INF = math.inf
LIBRARIES = [
    pytest.param(np.asarray, np.asarray, id="numpy"),
    pytest.param(torch.as_tensor, lambda x: x.numpy(), id="torch"),
    pytest.param(jnp.asarray, np.asarray, id="jax"),
    pytest.param(array_api_strict.asarray, np.asarray, id="array-api-strict"),
]
# largest error in units of the last place of the largest term that enters
ULPS = 30

ROWS = {
    "one class": [-2.5],
    "tie": [0.0, 0.0],
    "near tie": [1.0, 1.0, 1.0 - 1e-13],
    "mask": [3.0, -1.0, 0.5, 3.0, -INF],
    "one allowed": [-2.0, -INF, -INF],
    "1e4": [1e4, -1e4, 9999.0],
    "1e30": [1e30, -1e30, 1e30],
    "-1e30": [-1e30, -INF, -1e30, -1e30],
    "tiny rest": [5.0, 4.0, -700.0, -40.0],
    "subnormal": [1e-320, 0.0, -1e-310],
    "many": [0.1 * i for i in range(20)],
}


def close(ours, exact, scale):
    ours = float(ours)
    if not mpmath.isfinite(exact):
        return ours == float(exact)
    return abs(ours - exact) <= ULPS * np.finfo(np.float64).eps * (abs(exact) + scale) + 1e-322


@pytest.mark.parametrize("t", TEMPERATURES)
@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
@pytest.mark.parametrize("prior", [None, "uniform", "random", "forbidding"])
def test_against_the_definition(definition, row, t, prior, rng):
    z, log_prior = np.array(row), None
    if prior is not None:
        log_prior = rng.normal(size=len(row)) if prior != "uniform" else np.full(len(row), -math.log(len(row)))
        if prior == "forbidding" and len(row) > 1:
            log_prior[-1] = -INF
    allowed = z[z > -INF] if log_prior is None else z[(z > -INF) & (log_prior > -INF)]
    exact = definition(row, t, log_prior)
    temperature = np.asarray(t)
    m = reference.moments(z, temperature, log_prior)
    top, spread = abs(allowed).max(), allowed.max() - allowed.min()
    scales = {
        "log_partition": 1 + (top / t if t else 0),
        "free_energy": top + spread + (t if t < INF else 0),
        "mean_energy": top + spread,
        "entropy": 1,
        "heat_capacity": 1,
        "top_probability": 0,
    }
    for question in QUESTIONS:
        if question == "top_probability" and log_prior is not None:
            continue  # of the state that is most probable, which has no ties in general
        ours = getattr(reference, question)(m, temperature)
        assert close(ours, getattr(exact, question), scales[question]), (question, float(ours))
    p = reference.softmax(z, temperature, log_prior)
    log_p = reference.log_softmax(z, temperature, log_prior)
    for ours, log_ours, value, log_value in zip(p, log_p, exact.p, exact.log_p):
        assert abs(ours - value) <= ULPS * np.finfo(np.float64).eps * (1 + abs(float(np.maximum(log_ours, -745)))) * (
            value + 1e-300
        )
        if value > 0 and mpmath.isfinite(log_value) and abs(log_value) < 1e300:
            assert close(log_ours, log_value, 1)
        else:
            assert log_ours < -1e300


@pytest.mark.parametrize(("make", "back"), LIBRARIES)
@pytest.mark.parametrize("prior", [False, True])
def test_the_same_in_every_library(make, back, prior, rng):
    """float32, so that JAX needs no switch; array-api-strict refuses whatever is not in the standard."""
    z = rng.normal(size=(2, 9, 6)).astype(np.float32)
    z[0, 0, :3] = -INF
    z[0, 1, :] = 2.0
    t = np.array([0.0, 1e-44, 0.1, 0.5, 1, 2, 100, 1e30, INF], np.float32) + np.zeros((2, 1), np.float32)
    log_prior = rng.normal(size=z.shape).astype(np.float32) if prior else None
    given = make(z), make(t), None if log_prior is None else make(log_prior)
    ours, theirs = reference.moments(*given), reference.moments(z, t, log_prior)
    for name, a, b in zip(ours._fields, ours, theirs):
        assert np.allclose(back(a), b, rtol=2e-6, atol=2e-6), name
    for question in QUESTIONS:
        g = getattr(reference, question)
        a, b = back(g(ours, given[1])), g(theirs, t)
        # a subnormal T is 0 to XLA
        assert np.array_equal(np.isinf(a), np.isinf(b))
        assert np.allclose(a, b, rtol=2e-6, atol=2e-6), question
    for g in (reference.softmax, reference.log_softmax):
        a, b = back(g(*given)), g(z, t, log_prior)
        finite = np.isfinite(b)
        assert np.array_equal(np.isfinite(a), finite)
        assert np.allclose(a[finite], b[finite], rtol=2e-6, atol=2e-6)
    merged = reference.merge(ours, ours, given[1])
    for name, a, b in zip(merged._fields, merged, reference.merge(theirs, theirs, t)):
        assert np.allclose(back(a), b, rtol=4e-6, atol=4e-6), name
    if log_prior is None:
        ones = np.ones_like(t)
        rows = reference.likelihood(given[0], make(z.max(axis=-1)), make(ones))
        for a, b in zip(rows, reference.likelihood(z, z.max(axis=-1), ones)):
            assert np.allclose(back(a), b, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("states", [1, 3])
@pytest.mark.parametrize("bad", [math.nan, INF, "none allowed"])
def test_a_bad_row_is_nan_everywhere_and_alone(states, bad):
    z = np.zeros((2, states))
    z[0] = -INF if bad == "none allowed" else 0.0
    z[0, -1] = -INF if bad == "none allowed" else bad
    t = np.ones(2)
    m = reference.moments(z, t)
    for question in QUESTIONS:
        values = getattr(reference, question)(m, t)
        assert np.isnan(values[0]), question
        assert np.isfinite(values[1]), question
    for g in (reference.softmax, reference.log_softmax):
        assert np.isnan(g(z, t)[0]).all()
        assert np.isfinite(g(z, t)[1]).all()


def test_over_has_both_limits():
    difference = np.array([0.0, -2.0, 3.0, -INF, 0.0, -2.0, -INF, -INF])
    temperature = np.array([0.0, 0.0, 0.0, 0.0, INF, INF, INF, 2.0])
    with np.errstate(all="ignore"):
        found = reference.over(difference, temperature)
    assert found.tolist() == [0.0, -INF, INF, -INF, 0.0, 0.0, -INF, -INF]


def test_a_weight_of_zero_contributes_nothing():
    with np.errstate(all="ignore"):
        found = reference.weighted(np.array([0.0, 0.0, 2.0]), np.array([INF, math.nan, 3.0]))
    assert found.tolist() == [0.0, 0.0, 6.0]


def test_likelihood_is_the_definition_and_its_slopes_in_inverse_temperature(definition, rng):
    z = rng.normal(size=(4, 5)) * 3
    observed = z[np.arange(4), [0, 1, 2, 3]]

    def nll(beta):
        return np.array(
            [float(definition(row, 1 / beta).log_partition - seen * beta) for row, seen in zip(z, observed)]
        )

    beta, h = 0.7, 1e-4
    found = reference.likelihood(z, observed, np.full(4, 1 / beta))
    low, middle, high = nll(beta - h), nll(beta), nll(beta + h)
    assert np.allclose(found[0], middle, rtol=1e-13)
    assert np.allclose(found[1], (high - low) / (2 * h), rtol=1e-6)
    assert np.allclose(found[2], (high - 2 * middle + low) / h**2, rtol=1e-5)


def test_a_normalised_prior_leaves_a_finite_free_energy_at_infinite_temperature(rng):
    """S = 0 there, but for the rounding of the prior: F = E, not an infinity of the sign of that rounding."""
    log_prior = np.log(rng.dirichlet(np.ones(7), 200))
    for dtype in (np.float32, np.float64):
        z, q, t = rng.normal(size=(200, 7)).astype(dtype), log_prior.astype(dtype), np.full(200, INF, dtype)
        m = reference.moments(z, t, q)
        assert np.any(reference.entropy(m, t) != 0)
        assert np.allclose(reference.free_energy(m, t), -(np.exp(log_prior) * z).sum(axis=1), rtol=1e-5, atol=1e-6)


def test_tiny_rest_keeps_its_digits():
    """The first maximum is left out of the sum, so that 1 + rest never rounds rest away."""
    z = np.array([0.0, -46.0, -46.0])
    m = reference.moments(z, np.asarray(1.0))
    assert np.isclose(m.rest, 2 * math.exp(-46), rtol=1e-14)
    assert np.isclose(reference.entropy(m, np.asarray(1.0)), 2 * math.exp(-46) * 47, rtol=1e-12)


def test_exponential_of_a_number_and_of_an_array():
    assert float(reference.exponential(1.0)) == math.e
    assert np.array_equal(reference.exponential(np.zeros(2)), np.ones(2))
