"""The closed forms themselves, against central differences of the definition; their limits are with the libraries."""

import math

import array_api_strict
import numpy as np
import pytest

from logitherm.kernels import gradients, reference

STATE_FUNCTIONS = ["log_partition", "free_energy", "mean_energy", "entropy", "heat_capacity"]
INF = math.inf


@pytest.fixture
def z(rng):
    return 2 * rng.normal(size=(2, 4))


T = np.array([0.6, 2.0])
Q = np.array([0.2, -1.0, 0.5, 0.0])


@pytest.mark.parametrize("name", STATE_FUNCTIONS)
@pytest.mark.parametrize("prior", [None, Q], ids=["", "prior"])
def test_slopes_of_state_functions(name, prior, z, definition):
    q = None if prior is None else np.broadcast_to(prior, z.shape)
    p = reference.softmax(z, T, q)
    entropy = reference.entropy(reference.moments(z, T, q), T)
    by_logits, by_temperature = gradients.slopes(name, z, p, T, entropy)
    h = 1e-5
    for i in range(2):
        high, low = (getattr(definition(z[i], T[i] + s, prior), name) for s in (h, -h))
        assert np.isclose(by_temperature[i], float((high - low) / (2 * h)), rtol=1e-7)
        for j in range(4):
            step = np.eye(4)[j] * h
            high, low = (getattr(definition(z[i] + s * step, T[i], prior), name) for s in (1, -1))
            assert np.isclose(by_logits[i, j], float((high - low) / (2 * h)), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("logarithm", [False, True])
def test_forward_and_backward_are_adjoint_and_right(logarithm, z, rng):
    dz, dt, grad = rng.normal(size=z.shape), rng.normal(size=2), rng.normal(size=z.shape)
    p = reference.softmax(z, T)
    u = gradients.deviations(z, p, T)
    change = gradients.softmax_forward(p, u, T, dz, dt, logarithm)
    back = gradients.softmax_backward(p, u, T, grad, logarithm)
    assert np.isclose((change * grad).sum(), (dz * back[0]).sum() + (dt * back[1]).sum(), rtol=1e-12)
    f = reference.log_softmax if logarithm else reference.softmax
    h = 1e-5
    assert np.allclose(change, (f(z + h * dz, T + h * dt) - f(z - h * dz, T - h * dt)) / (2 * h), rtol=1e-6, atol=1e-9)


def test_deviations_are_those_of_allowed_states():
    z = np.array([1e30, 2.0, -INF, 1.0])
    p = np.array([0.0, 0.75, 0.0, 0.25])
    u = gradients.deviations(z, p, np.asarray(0.5))
    assert np.array_equal(u, [0, 0.5, 0, -1.5])
    for t in (0.0, INF):
        cold = gradients.deviations(np.array([2.0, 2.0, 1.0]), np.array([0.5, 0.5, 0.0]), np.asarray(t))
        assert np.array_equal(cold, np.zeros(3))


def test_in_the_standard():
    z = array_api_strict.asarray([[1.0, 2.0, 0.5]])
    t = array_api_strict.asarray([0.5])
    p = reference.softmax(z, t)
    for name in STATE_FUNCTIONS:
        gradients.slopes(name, z, p, t, t)
    u = gradients.deviations(z, p, t)
    gradients.softmax_backward(p, u, t, p, True)
    gradients.softmax_forward(p, u, t, z, t, False)
