"""solve_temperature keeps its promise: the residual, at both ends, and derivatives by the implicit function theorem."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import logitherm
from logitherm import solve_temperature

TARGETS = ("entropy", "mean_energy", "top_probability", "kl")


def quantity(name, z, t, prior=None):
    """Value at t in float64, by the library's other functions."""
    z = np.asarray(z, dtype=np.float64)
    t = np.asarray(t, dtype=np.float64)
    if name == "entropy":
        return logitherm.entropy(z, t, log_prior=prior)
    if name == "mean_energy":
        return logitherm.mean_energy(z, t, log_prior=prior)
    p = logitherm.softmax(z, t, log_prior=prior)
    if name == "top_probability":
        return p.max(axis=-1)
    log_p, log_one = (logitherm.log_softmax(z, s, log_prior=prior) for s in (t, 1.0))
    return np.where(p > 0, p * (np.where(p > 0, log_p, 0) - np.where(p > 0, log_one, 0)), 0).sum(axis=-1)


def solve(name, z, target, side="hot", **options):
    return solve_temperature(z, **{name: target}, side=side if name == "kl" else None, **options)


@given(
    seed=st.integers(0, 2**31),
    classes=st.integers(2, 40),
    log_scale=st.floats(-4, 4),
    share=st.floats(0.02, 0.98),
    name=st.sampled_from(TARGETS),
    side=st.sampled_from(("hot", "cold")),
    dtype=st.sampled_from((np.float32, np.float64)),
    masked=st.booleans(),
)
def test_the_residual(seed, classes, log_scale, share, name, side, dtype, masked):
    rng = np.random.default_rng(seed)
    scale = 1.0 if name == "kl" else 10**log_scale
    z = (scale * rng.normal(size=(5, classes))).astype(dtype)
    if masked and classes > 3:
        z[:, 1] = -np.inf
    ends = (0.0, 1.0) if (name, side) == ("kl", "cold") else (1.0, np.inf) if name == "kl" else (0.0, np.inf)
    low, high = (quantity(name, z, np.full(5, t)) for t in ends)
    target = (low + share * (high - low)).astype(dtype)
    t = solve(name, z, target, side)
    assert t.dtype == dtype
    rounding = 16 * np.finfo(dtype).eps * np.maximum(np.abs(target), scale if name == "mean_energy" else 1)
    np.testing.assert_array_less(np.abs(quantity(name, z, t) - target), rounding)
    if name == "kl":
        assert np.all(t > 1) if side == "hot" else np.all(t < 1)


@given(seed=st.integers(0, 2**31), share=st.floats(0.05, 0.95), name=st.sampled_from(TARGETS))
def test_pooled_holds_the_mean_of_the_rows(seed, share, name):
    z = np.random.default_rng(seed).normal(size=(30, 6)) * 2
    ends = (1.0, np.inf) if name == "kl" else (0.0, np.inf)
    low, high = (quantity(name, z, t).mean() for t in ends)
    target = low + share * (high - low)
    t = solve(name, z, target, pooled=True)
    assert t.shape == ()
    assert quantity(name, z, t).mean() == pytest.approx(target, abs=1e-13)


@pytest.mark.parametrize("name", ["entropy", "mean_energy", "kl"])
def test_with_a_prior(name):
    rng = np.random.default_rng(0)
    z, q = rng.normal(size=(20, 6)) * 2, rng.normal(size=6)
    prior = np.broadcast_to(q, z.shape)
    ends = (1.0, np.inf) if name == "kl" else (0.0, np.inf)
    low, high = (quantity(name, z, np.full(20, t), prior) for t in ends)
    target = (low + high) / 2
    t = solve(name, z, target, log_prior=q)
    np.testing.assert_allclose(quantity(name, z, t, prior), target, atol=1e-12)


@pytest.mark.parametrize("target", [1e-12, 1e-6, 1e-2])
@pytest.mark.parametrize("side", ["hot", "cold"])
def test_small_divergences(target, side):
    z = np.random.default_rng(0).normal(size=(50, 8))
    t = solve_temperature(z, kl=target, side=side)
    expected = np.sqrt(2 * target / logitherm.heat_capacity(z))
    if target < 1e-5:  # KL is C/2 (log T)^2 there
        np.testing.assert_allclose(np.abs(np.log(t)), expected, rtol=5e-3)
    np.testing.assert_allclose(quantity("kl", z, t), target, atol=1e-14, rtol=1e-9)


def test_targets_out_of_range():
    z = np.array([[3.0, 1.0, 0.0], [2.0, 2.0, 0.0], [1.0, 1.0, 1.0]])
    with pytest.raises(ValueError, match=r"entropy: must lie between .*row 1; got 0\.5; pass out_of_range='limit'"):
        solve_temperature(z, entropy=0.5)
    limits = solve_temperature(z, entropy=0.5, out_of_range="limit")
    assert limits[0] > 0 and limits[1:].tolist() == [0.0, 0.0]
    assert solve_temperature(z, entropy=9.0, out_of_range="limit").tolist() == [math.inf] * 3
    assert solve_temperature(z, top_probability=0.01, out_of_range="limit").tolist() == [math.inf] * 3
    assert solve_temperature(z[:1], kl=50.0, side="cold", out_of_range="limit").tolist() == [0.0]
    assert solve_temperature(z[:1], kl=50.0, side="hot", out_of_range="limit").tolist() == [math.inf]


def test_other_batches():
    z = np.random.default_rng(0).normal(size=(2, 3, 5)) * 2
    t = solve_temperature(z, entropy=np.array([0.5, 0.8, 1.1]))
    assert t.shape == (2, 3)
    np.testing.assert_allclose(logitherm.entropy(z, t), [[0.5, 0.8, 1.1]] * 2, atol=1e-14)
    assert solve_temperature(z[0, 0], entropy=0.5).shape == ()
    moved = solve_temperature(np.moveaxis(z, -1, 0), entropy=0.5, axis=0)
    np.testing.assert_array_equal(moved, solve_temperature(z, entropy=0.5))
    assert solve_temperature(z[:0], entropy=0.5).shape == (0, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "give exactly one; got none"),
        ({"entropy": 1.0, "kl": 1.0}, "give exactly one"),
        ({"kl": 0.1}, "side: must be 'hot' or 'cold' with kl"),
        ({"entropy": 0.1, "side": "hot"}, "side: must be"),
        ({"entropy": 0.1, "out_of_range": "clamp"}, "out_of_range: must be 'raise' or 'limit'"),
        ({"entropy": math.nan}, "entropy: must be a number; got NaN"),
        ({"entropy": np.ones(7)}, r"entropy: must broadcast against the batch \(2,\)"),
        ({"top_probability": 0.5, "log_prior": np.zeros(3)}, "log_prior: must be absent with top_probability"),
        ({"kl": 0.1, "side": "hot", "reference_temperature": 0.0}, "reference_temperature: must lie in"),
    ],
)
def test_errors(options, message):
    with pytest.raises(ValueError, match=message):
        solve_temperature(np.array([[3.0, 1.0, 0.0], [2.0, 1.0, 0.0]]), **options)


def test_bad_rows():
    with pytest.raises(ValueError, match="row 1 of 2 has NaN"):
        solve_temperature(np.array([[1.0, 0.0], [np.nan, 0.0]]), entropy=0.3)


CASES = [("entropy", 0.9, None), ("mean_energy", -0.6, None), ("top_probability", 0.4, None)]
CASES += [("kl", 0.05, "hot"), ("kl", 0.05, "cold")]


@pytest.mark.parametrize(("name", "target", "side"), CASES)
def test_derivatives_in_logits_and_target(name, target, side):
    torch.manual_seed(0)
    z = 2 * torch.randn(4, 6, dtype=torch.float64)
    z = (z - z.mean(dim=1, keepdim=True)).requires_grad_()  # so that every row can reach the mean energy
    goal = torch.full((4,), target, dtype=torch.float64, requires_grad=True)

    def function(z, goal):
        return solve_temperature(z, **{name: goal}, side=side)

    assert torch.autograd.gradcheck(function, (z, goal))
    assert torch.autograd.gradcheck(
        lambda z, g: solve_temperature(z, **{name: g}, side=side, pooled=True), (z, goal[0])
    )
    np.testing.assert_allclose(torch.func.vmap(function)(z, goal).detach(), function(z, goal).detach(), rtol=1e-12)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compiled():
    torch.manual_seed(0)
    z = (2 * torch.randn(4, 6, dtype=torch.float64)).requires_grad_()

    def function(z):
        return solve_temperature(z, entropy=0.9)

    compiled = torch.compile(function, fullgraph=True)(z)
    torch.testing.assert_close(compiled, function(z))
    torch.testing.assert_close(*(torch.autograd.grad(t.sum(), z)[0] for t in (compiled, function(z))))


@pytest.mark.parametrize(("name", "target", "side"), CASES)
def test_jax(name, target, side):
    jax = pytest.importorskip("jax")
    z = 2 * np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
    z -= z.mean(axis=1, keepdims=True)  # so that every row can reach the mean energy

    def function(z):
        return solve_temperature(z, **{name: target}, side=side)

    want = torch.from_numpy(z).double().requires_grad_()
    t = function(want)
    (gradient,) = torch.autograd.grad(t.sum(), want)
    np.testing.assert_allclose(jax.jit(function)(z), t.detach(), rtol=2e-4)
    np.testing.assert_allclose(jax.jit(jax.grad(lambda z: function(z).sum()))(z), gradient, rtol=2e-2, atol=1e-3)
    np.testing.assert_allclose(jax.vmap(function)(jax.numpy.asarray(z)), t.detach(), rtol=2e-4)


def test_out_of_range_under_a_trace_is_nan():
    jax = pytest.importorskip("jax")
    z = jax.numpy.asarray([[1.0, 0.0]])
    assert np.isnan(jax.jit(lambda z: solve_temperature(z, entropy=9.0))(z)).all()
    assert np.isinf(jax.jit(lambda z: solve_temperature(z, entropy=9.0, out_of_range="limit"))(z)).all()
