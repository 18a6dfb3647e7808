"""The promise of the search, the residual in roundings of the compute dtype, against extended precision."""

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from logitherm import solve_temperature
from logitherm.thermostat import search

KINDS = ["entropy", "mean_energy", "top_probability", "hot", "cold"]
PROMISED = {"hot": 16, "cold": 16}  # 8 for all others


def options_of(kind, target, t0):
    if kind in ("hot", "cold"):
        return {"kl": target, "side": kind, "reference_temperature": t0}
    return {kind: target}


def ends_of(kind, t0):
    return {"hot": (t0, math.inf), "cold": (0.0, t0)}.get(kind, (0.0, math.inf))


def targets(quantity, kind, z, share, log_prior, t0):
    """A target for every row, `share` of the way between the limits, in the dtype of the rows."""
    name = "kl" if kind in ("hot", "cold") else kind
    ends = [[quantity(name, row, t, log_prior, t0) for t in ends_of(kind, t0)] for row in z]
    goal = np.array([low + (high - low) * np.longdouble(share) for low, high in ends], dtype=np.float64).astype(z.dtype)
    inside = [min(e) < g < max(e) for e, g in zip(np.asarray(ends).astype(z.dtype), goal)]
    return name, goal, all(inside)


def spread(z, log_prior=None):
    """Mean distance of allowed logits from the largest."""
    allowed = np.isfinite(z) & np.isfinite(0 if log_prior is None else log_prior)
    fall = np.where(allowed, np.where(allowed, z, -math.inf).max(axis=1, keepdims=True) - np.where(allowed, z, 0), 0)
    return fall.mean(axis=1)


@given(
    seed=st.integers(0, 2**20),
    states=st.sampled_from([2, 3, 10, 300]),
    scale=st.sampled_from([1e-30, 1e-6, 1.0, 1e6, 1e30]),
    share=st.one_of(st.floats(0.01, 0.99), st.sampled_from([1e-4, 1 - 1e-4])),
    kind=st.sampled_from(KINDS),
    dtype=st.sampled_from([np.float32, np.float64]),
    forbidden=st.booleans(),
    tied=st.booleans(),
    prior=st.sampled_from(["none", "finite", "forbidding"]),
    log_t0=st.floats(-1.5, 1.5),
)
def test_the_residual(seed, states, scale, share, kind, dtype, forbidden, tied, prior, log_t0, quantity):
    rng = np.random.default_rng(seed)
    z = (1.5 * scale * rng.normal(size=(4, states))).astype(dtype)
    if tied:
        z[:, 0] = z.max(axis=1)
    if forbidden and states > 3:
        z[:, 1] = -math.inf
    log_prior = None
    if prior != "none" and kind != "top_probability":
        log_prior = rng.normal(size=states)
        if prior == "forbidding" and states > 4:
            log_prior[2] = -math.inf
    t0 = float(dtype(scale * math.exp(log_t0)))
    rounded = None if log_prior is None else log_prior.astype(dtype)
    name, goal, inside = targets(quantity, kind, z, share, rounded, t0)
    assume(inside)
    t = solve_temperature(z, **options_of(kind, goal, t0), log_prior=log_prior)
    assert t.dtype == dtype
    size = np.maximum(np.abs(goal), spread(z, rounded) if kind == "mean_energy" else 1)
    for row, temperature, wanted, one in zip(z, t, goal, size):
        found = quantity(name, row, temperature, rounded, t0)
        assert abs(float(found - wanted)) <= PROMISED.get(kind, 8) * np.finfo(dtype).eps * one


@given(
    seed=st.integers(0, 2**20),
    scale=st.sampled_from([1e-6, 1.0, 1e6]),
    share=st.floats(0.05, 0.95),
    kind=st.sampled_from(KINDS),
    dtype=st.sampled_from([np.float32, np.float64]),
    prior=st.booleans(),
)
def test_the_residual_of_the_mean_over_rows(seed, scale, share, kind, dtype, prior, quantity):
    rng = np.random.default_rng(seed)
    z = (scale * rng.normal(size=(20, 6)) * np.exp(rng.normal(size=(20, 1)))).astype(dtype)
    log_prior = rng.normal(size=6).astype(dtype) if prior and kind != "top_probability" else None
    t0 = float(dtype(scale))
    name = "kl" if kind in ("hot", "cold") else kind

    def mean(temperature):
        return np.mean([quantity(name, row, temperature, log_prior, t0) for row in z])

    low, high = (mean(t) for t in ends_of(kind, t0))
    goal = dtype(low + (high - low) * np.longdouble(share))
    t = solve_temperature(z, **options_of(kind, goal, t0), pooled=True, log_prior=log_prior)
    assert t.shape == ()
    size = max(abs(float(goal)), float(spread(z).mean()) if kind == "mean_energy" else 1.0)
    assert abs(float(mean(t) - goal)) <= 2 * PROMISED.get(kind, 8) * np.finfo(dtype).eps * size


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_many_states(dtype, quantity):
    z = np.random.default_rng(0).normal(size=(2, 131_072), scale=3).astype(dtype)
    t = solve_temperature(z, entropy=5.0)
    for row, temperature in zip(z, t):
        assert float(quantity("entropy", row, temperature)) == pytest.approx(5, abs=40 * float(np.finfo(dtype).eps))


@pytest.mark.parametrize("target", [1e-14, 1e-10, 1e-6, 1e-2])
@pytest.mark.parametrize("side", ["hot", "cold"])
def test_tiny_divergences_keep_their_side(target, side, quantity):
    z = np.random.default_rng(0).normal(size=(20, 8))
    t = solve_temperature(z, kl=target, side=side)
    assert np.all(t > 1 if side == "hot" else t < 1)
    found = np.array([float(quantity("kl", row, temperature)) for row, temperature in zip(z, t)])
    np.testing.assert_allclose(found, target, atol=4e-15, rtol=1e-6)


def test_large_divergences(quantity):
    """On the cold side up to -log p of the first choice, on the hot side up to the spread of the logits over T0."""
    z = np.array([[0.0, 30.0, 31.0], [500.0, 0.0, 0.0], [-200.0, 0.0, 1.0]])
    for side, goal in (("cold", [0.31, 5e-8, 0.2]), ("hot", [8.0, 300.0, 60.0])):
        t0 = 1.0 if side == "hot" else np.array([1.0, 30.0, 1.0])
        t = solve_temperature(z, kl=np.array(goal), side=side, reference_temperature=t0)
        for row, temperature, near, wanted in zip(z, t, np.broadcast_to(t0, 3), goal):
            found = float(quantity("kl", row, temperature, None, near))
            assert found == pytest.approx(wanted, rel=1e-9, abs=16 * 2.3e-16)


def test_targets_next_to_the_limits(quantity):
    """T far from every logit: the residual still holds, for as long as the target is inside the range at all."""
    z = np.array([[3.0, 2.0, 0.5]])
    for distance in (1e-3, 1e-8, 1e-13):
        for goal in (distance, math.log(3) - distance):
            t = solve_temperature(z, entropy=goal)
            assert float(quantity("entropy", z[0], t[0])) == pytest.approx(goal, abs=8 * 2.2e-16)


def test_the_kernel_is_used_and_the_search_is_short(ran, monkeypatch):
    z = np.random.default_rng(0).normal(size=(2000, 50)).astype(np.float32)
    calls = []
    quantity = search._quantity
    monkeypatch.setattr(search, "_quantity", lambda *arguments: calls.append(1) or quantity(*arguments))
    ran("moments")
    solve_temperature(z, entropy=2.0)
    assert ran("moments")
    assert len(calls) <= 16  # two limits and a few steps for the slowest of 2000 rows
