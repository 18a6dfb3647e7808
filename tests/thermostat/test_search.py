"""The promise of the search, the residual in roundings of the compute dtype, against extended precision."""

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import logitherm
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


def test_the_search_of_a_pool_is_short_and_uses_the_kernel(ran, monkeypatch):
    z = np.random.default_rng(0).normal(size=(2000, 50)).astype(np.float32)
    calls = []
    quantity = search._quantity
    monkeypatch.setattr(search, "_quantity", lambda *arguments: calls.append(1) or quantity(*arguments))
    ran("moments")
    solve_temperature(z, entropy=2.0, pooled=True)
    assert ran("moments")
    assert len(calls) <= 12  # two limits and a few steps


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("states", [1, 2, 18, 47, 48, 3000])
@pytest.mark.parametrize("prior", [False, True])
def test_kernel_and_definition_agree(kind, states, prior, ran, monkeypatch):
    """Temperatures, the ends of the range, and which targets lie outside of it, forbidden states and ties included."""
    if prior and kind == "top_probability":
        return
    rng = np.random.default_rng(states)
    z = rng.normal(size=(300 if states < 1000 else 5, states)) * 2
    z[rng.random(z.shape) < 0.1] = -math.inf
    z[:, 0] = 0.5
    z[0], z[1, : states // 2], z[2] = 0.0, 3.0, -2.0
    log_prior = rng.normal(size=z.shape) if prior else None
    goal = rng.uniform(0, 1.2, size=len(z)) * (1 if kind != "entropy" else math.log(states) + 0.1)
    name, side = ("kl", kind) if kind in ("hot", "cold") else (kind, None)
    problem = search.Problem(name, side, False, z, log_prior, np.full(len(z), 0.8))
    ran("roots")
    fast = search.search(problem, goal)
    assert ran("roots")
    monkeypatch.setattr(search.roots, "on_cpu", lambda *arrays: False)
    slow = search.search(problem, goal)
    close = [np.isclose(getattr(fast, end), getattr(slow, end), rtol=1e-12, atol=1e-13) for end in ("low", "high")]
    assert np.all(close)
    clear = np.minimum(np.abs(goal - slow.low), np.abs(goal - slow.high)) > 1e-12
    np.testing.assert_array_equal(fast.inside[clear], slow.inside[clear])
    np.testing.assert_allclose(fast.temperature[clear], slow.temperature[clear], rtol=1e-9)


def test_rows_that_are_not_looked_at():
    z = np.array([[1.0, 0.0], [np.nan, 0.0], [-np.inf, -np.inf], [np.inf, 0.0], [2.0, 0.0]])
    t = solve_temperature(z, entropy=0.3, check=False)
    assert np.isnan(t).tolist() == [False, True, True, True, False]
    assert logitherm.entropy(z[[0, 4]], t[[0, 4]]) == pytest.approx(0.3)


def test_blocks_and_threads_change_nothing(monkeypatch):
    z = np.random.default_rng(0).normal(size=(40_000, 18))
    whole = solve_temperature(z, entropy=1.0)
    monkeypatch.setenv("LOGITHERM_NUM_THREADS", "1")
    np.testing.assert_array_equal(whole, solve_temperature(z, entropy=1.0))
    np.testing.assert_array_equal(whole[777], solve_temperature(z[777], entropy=1.0))
