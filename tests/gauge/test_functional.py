"""What a probability costs in logits, and the functional whose minimum is the softmax."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from logitherm import free_energy, log_softmax, mean_energy, softmax
from logitherm.gauge import free_energy_functional, logit_gap

EPS = np.finfo(np.float64).eps
probabilities = st.floats(1e-12, 1 - 1e-12)
temperatures = st.floats(-3, 3).map(lambda x: 10.0**x)


# -- the gap ---------------------------------------------------------------------------------------------


@given(probabilities, temperatures, st.integers(2, 1000))
def test_softmax_of_the_gap_is_the_probability(q, t, states):
    z = np.zeros(states)
    z[0] = logit_gap(q, t, states=states)
    p = softmax(z, t)[0]
    assert p == pytest.approx(q, rel=1e-12, abs=0)
    assert 1 - p == pytest.approx(1 - q, rel=1e-9, abs=2 * EPS)


@given(probabilities, temperatures)
def test_a_gap_is_antisymmetric_and_proportional_to_the_temperature(q, t):
    assert logit_gap(q, t) == pytest.approx(t * math.log(q / (1 - q)), rel=1e-9, abs=1e-9 * t)
    assert logit_gap(1 - q, t) == pytest.approx(-logit_gap(q, t), rel=1e-3, abs=1e-9 * t)
    assert logit_gap(q, 2 * t) == pytest.approx(2 * logit_gap(q, t), rel=1e-14)


@pytest.mark.parametrize(("smoothing", "classes"), [(0.1, 10), (0.1, 1000), (0.5, 2)])
def test_label_smoothing_asks_for_a_finite_gap(smoothing, classes):
    q = 1 - smoothing + smoothing / classes
    assert logit_gap(q, states=classes) == pytest.approx(math.log1p(classes * (1 - smoothing) / smoothing), rel=1e-12)


def test_limits_of_the_gap():
    assert logit_gap([0.0, 0.5, 1.0]).tolist() == [-math.inf, 0, math.inf]
    assert logit_gap([0.0, 0.3, 1.0], 0.0).tolist() == [0, 0, 0]
    assert logit_gap([0.3, 0.5, 0.8], math.inf).tolist() == [-math.inf, 0, math.inf]
    assert logit_gap(1, 2.0) == math.inf


def test_gaps_broadcast_and_keep_their_library():
    assert logit_gap(np.array([[0.9], [0.5]]), np.array([1.0, 2.0, 3.0])).shape == (2, 3)
    q = torch.tensor([0.9, 0.5], dtype=torch.float32, requires_grad=True)
    gap = logit_gap(q, 2.0)
    gap.sum().backward()
    assert gap.dtype == torch.float32
    assert q.grad.numpy() == pytest.approx(2 / (np.array([0.9, 0.5]) * np.array([0.1, 0.5])), rel=1e-5)
    assert logit_gap(torch.tensor([0.9], dtype=torch.bfloat16)).dtype == torch.float32


@pytest.mark.parametrize(
    ("args", "kwargs", "error", "message"),
    [
        ((1.5,), {}, ValueError, r"probability: must lie in \[0, 1\]; got 1.5 at index 0"),
        (([0.5, math.nan],), {}, ValueError, "got nan at index 1"),
        ((np.array([1, 0]),), {}, TypeError, "probability: must be floating point"),
        (("half",), {}, TypeError, "probability: must be an array of numbers"),
        ((0.5, -1.0), {}, ValueError, "temperature: must lie in"),
        ((0.5,), {"states": 1}, ValueError, "states: must be at least 2"),
    ],
)
def test_gaps_refused(args, kwargs, error, message):
    with pytest.raises(error, match=message):
        logit_gap(*args, **kwargs)


# -- the functional --------------------------------------------------------------------------------------


@st.composite
def systems(draw):
    """Logits, another law on the same states, a temperature, a prior or none."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    states = draw(st.integers(1, 6))
    z, log_prior = 3 * rng.normal(size=states), None
    if draw(st.booleans()):
        log_prior = rng.normal(size=states)
    return z, rng.dirichlet(np.full(states, 0.5)), draw(temperatures), log_prior


@given(systems())
def test_what_a_law_costs_beyond_the_minimum_is_its_divergence(system):
    z, p, t, log_prior = system
    best = softmax(z, t, log_prior=log_prior)
    seen, log_best = p > 0, log_softmax(z, t, log_prior=log_prior)
    divergence = (p[seen] * (np.log(p[seen]) - log_best[seen])).sum()
    least = free_energy(z, t, log_prior=log_prior)
    rounding = 1e-13 * (20 + 10 * t)
    assert free_energy_functional(z, p, t, log_prior=log_prior) == pytest.approx(least + t * divergence, abs=rounding)
    assert free_energy_functional(z, best, t, log_prior=log_prior) == pytest.approx(least, abs=rounding)


@settings(max_examples=25)
@given(systems().filter(lambda system: len(system[0]) > 1 and 0.1 < system[2] < 100))
def test_an_optimiser_that_knows_no_softmax_finds_it(system):
    z, _, t, log_prior = system

    def value_and_slope(p):
        x = torch.tensor(p, requires_grad=True)
        prior = None if log_prior is None else torch.tensor(log_prior)
        # off the simplex, where the search may pass, rows are no laws
        value = free_energy_functional(torch.tensor(z), x, t, log_prior=prior, check=False) / t
        value.backward()
        return value.item(), x.grad.numpy()

    found = minimize(
        value_and_slope,
        np.full(len(z), 1 / len(z)),
        jac=True,
        method="SLSQP",
        bounds=[(1e-15, 1)] * len(z),
        constraints={"type": "eq", "fun": lambda p: p.sum() - 1, "jac": np.ones_like},
        options={"ftol": 1e-14, "maxiter": 500},
    )
    assert found.x == pytest.approx(softmax(z, t, log_prior=log_prior), abs=1e-5)
    assert t * found.fun == pytest.approx(free_energy(z, t, log_prior=log_prior), abs=1e-8 * (1 + t))


def test_limits_of_the_functional():
    z = np.array([2.0, 1.0, -math.inf])
    sure, even = np.array([1.0, 0, 0]), np.array([0.5, 0.5, 0])
    assert free_energy_functional(z, even, 0.0) == -1.5
    assert free_energy_functional(z, sure, math.inf) == -2
    assert free_energy_functional(z, even, math.inf) == -math.inf
    for t in (0.0, 1.0, math.inf):
        assert free_energy_functional(z, np.array([0, 0.5, 0.5]), t) == math.inf
    itself = np.log([0.2, 0.8, 1e-9])
    assert free_energy_functional(z, np.array([0.2, 0.8, 0]), math.inf, log_prior=itself) == pytest.approx(-1.2)
    assert free_energy_functional(z, even, math.inf, log_prior=itself) == math.inf
    for t in (0.0, 1.0):
        assert free_energy_functional(z, even, t, log_prior=np.array([0, -math.inf, 0])) == math.inf


def test_batches_axes_and_libraries():
    rng = np.random.default_rng(0)
    z, p, t = rng.normal(size=(5, 3, 2)), rng.dirichlet(np.ones(3), size=(5, 2)).swapaxes(1, 2), np.array([0.5, 2.0])
    found = free_energy_functional(z, p, t, axis=1)
    assert found.shape == (5, 2)
    assert found[3, 1] == pytest.approx(free_energy_functional(z[3, :, 1], p[3, :, 1], 2.0), rel=1e-14)
    same = free_energy_functional(torch.tensor(z), torch.tensor(p), torch.tensor(t), axis=1)
    assert np.allclose(same, found, rtol=1e-14)
    half = torch.tensor(z, dtype=torch.float16)
    law = torch.softmax(half, dim=1)
    assert np.allclose(free_energy_functional(half, law, axis=1), free_energy(half, axis=1), atol=2e-3)
    assert np.allclose(free_energy_functional(z, softmax(z, 0, axis=1), 0.0, axis=1), mean_energy(z, 0, axis=1))


@pytest.mark.parametrize(
    ("z", "p", "error", "message"),
    [
        ([[0.0, 1.0]], [0.5, 0.5], ValueError, r"probabilities: must have the shape of logits \(1, 2\)"),
        ([0.0, 1.0], [1.5, -0.5], ValueError, "row 0 has a negative one"),
        ([[0.0, 1.0]] * 2, [[0.5, 0.5], [0.5, 0.6]], ValueError, "row 1 has the sum 1.1"),
        ([0.0, 1.0], [math.nan, 0.5], ValueError, "row 0 has the sum nan"),
        ([0.0, 1.0], [1, 0], TypeError, "probabilities: must be floating point"),
        ([0.0, math.nan], [0.5, 0.5], ValueError, "logits: rows must be finite"),
    ],
)
def test_laws_refused(z, p, error, message):
    with pytest.raises(error, match=message):
        free_energy_functional(z, p)
