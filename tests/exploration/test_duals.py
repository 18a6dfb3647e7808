"""The temperature of an update spends its budget exactly and is the minimum of the dual."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

import logitherm
from logitherm.exploration import mpo_dual, mpo_temperature, reps_temperature, vmpo_temperature


@given(seed=st.integers(0, 2**31), kl=st.floats(1e-4, 0.5), prior=st.booleans(), shift=st.floats(-5, 5))
def test_the_budget_is_spent(seed, kl, prior, shift):
    rng = np.random.default_rng(seed)
    q = rng.normal(size=(6, 10)) * rng.exponential(size=(6, 1))
    old = logitherm.log_softmax(rng.normal(size=(6, 10))) if prior else np.full((6, 10), -math.log(10))
    t = mpo_temperature(q, kl, log_prior=old + shift if prior else None)
    p = logitherm.softmax(q, t, log_prior=old)
    assert (p * (np.log(p) - old)).sum(-1).mean() == pytest.approx(kl, rel=1e-9)


@settings(max_examples=20)
@given(seed=st.integers(0, 2**31), kl=st.floats(0.01, 0.5))
def test_it_is_the_minimum_of_the_dual(seed, kl):
    q = np.random.default_rng(seed).normal(size=(6, 10))
    t = float(mpo_temperature(q, kl))
    found = minimize_scalar(lambda x: float(mpo_dual(q, math.exp(x), kl)), bracket=(-1, 1), tol=1e-12)
    assert float(mpo_dual(q, t, kl)) <= found.fun + 1e-12
    assert math.log(t) == pytest.approx(found.x, abs=1e-4)


def test_gradient_steps_lead_there():
    q = torch.tensor(np.random.default_rng(0).normal(size=(6, 10)))
    t = mpo_temperature(q, 0.1).clone().requires_grad_()
    (slope,) = torch.autograd.grad(mpo_dual(q, t, 0.1), t)
    assert abs(float(slope)) < 1e-12
    few = q[:2, :3].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda v: mpo_temperature(v, 0.1), (few,))


def test_reps_and_vmpo():
    a = np.random.default_rng(0).normal(size=1000)
    t = reps_temperature(a, 0.1)
    w = logitherm.softmax(a, t)
    assert (w * np.log(1000 * w)).sum() == pytest.approx(0.1, rel=1e-12)
    best = np.sort(a)[-300:]
    assert vmpo_temperature(a, 0.1, top_fraction=0.3) == reps_temperature(best, 0.1)
    assert vmpo_temperature(torch.tensor(a), 0.1, top_fraction=0.3).item() == pytest.approx(reps_temperature(best, 0.1))


def test_limits():
    q = np.array([[1.0, 0.0, 0.5]])
    assert mpo_temperature(q, 5.0) == 0 and mpo_temperature(q, 0.0) == math.inf
    assert mpo_temperature(np.array([[1.0, -math.inf, 0.0]]), 0.1) == pytest.approx(
        float(reps_temperature(q[0, :2], 0.1))
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mpo_temperature(np.zeros((2, 3)), -0.1), "kl: must be at least 0 and finite, in nats; got -0.1"),
        (lambda: mpo_temperature(np.zeros((2, 3)), math.nan), "kl: must be"),
        (lambda: mpo_temperature(np.zeros((0, 3)), 0.1), "values: must hold at least one state"),
        (lambda: mpo_temperature(np.array([[np.nan, 0.0]]), 0.1), "values: .*NaN"),
        (lambda: reps_temperature(np.zeros((2, 3)), 0.1), "advantages: must have one axis"),
        (lambda: vmpo_temperature(np.zeros(3), 0.1, top_fraction=0.0), "top_fraction: must lie in"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_limits_of_the_dual():
    q = np.array([[1.0, 0.2, -0.5], [0.0, 2.0, 1.0]])
    assert mpo_dual(q, 0.0, kl=0.3) == 1.5
    assert mpo_dual(q, np.inf, kl=0.3) == np.inf
    assert mpo_dual(q, np.inf, kl=0.0) == pytest.approx(q.mean())


def test_what_is_no_budget():
    for kl in (np.array([0.1, 0.2]), "0.1"):
        with pytest.raises(ValueError, match="kl: must be at least 0 and finite"):
            mpo_temperature(np.zeros((2, 3)), kl)
    with pytest.raises(TypeError, match="advantages: must be floating point"):
        reps_temperature([1, 2, 3], 0.1)
