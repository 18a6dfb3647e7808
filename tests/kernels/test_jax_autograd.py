"""Derivatives in JAX: the same numbers as PyTorch's in float64, under jit, grad, vmap, jvp and hessian."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import logitherm as lt

INF = math.inf
FUNCTIONS = ["log_partition", "free_energy", "mean_energy", "entropy", "heat_capacity", "softmax", "log_softmax"]
# rounding of a gradient in float32, relative to numbers of the order of 1
BUDGET = {"float32": 2e-5, "float64": 1e-12}


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    with jax.enable_x64(request.param == "float64"):
        yield request.param


def logits(mask):
    z = 2 * np.random.default_rng(0).normal(size=(3, 4))
    if mask:
        z[:, 1] = -INF
    return z


T = np.array([0.5, 1.0, 3.0])
Q = np.array([0.3, -0.5, -INF, 1.0])


def by_torch(function, z, t, q):
    """Values, and the gradients of the sum of squares, in float64."""
    z, t = torch.tensor(z, requires_grad=True), torch.tensor(t, requires_grad=True)
    out = getattr(lt, function)(z, t, log_prior=None if q is None else torch.tensor(q))
    torch.where(out == -INF, 0.0, out).square().sum().backward()
    return out.detach().numpy(), z.grad.numpy(), t.grad.numpy()


def squares(function, q=None):
    def loss(z, t):
        out = getattr(lt, function)(z, t, log_prior=q)
        return (jnp.where(out == -INF, 0.0, out) ** 2).sum()

    return loss


def assert_close(ours, exact, dtype):
    ours, exact = np.asarray(ours), np.asarray(exact)
    assert ours.dtype == dtype
    finite = np.isfinite(exact)
    assert np.array_equal(ours[~finite], exact[~finite])
    assert np.allclose(ours[finite], exact[finite], rtol=BUDGET[dtype], atol=BUDGET[dtype])


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("mask", [False, True], ids=["", "mask"])
@pytest.mark.parametrize("prior", [False, True], ids=["", "prior"])
def test_values_and_gradients(function, mask, prior, dtype):
    z, q = logits(mask), Q if prior else None
    values, by_logits, by_temperature = by_torch(function, z, T, q)
    given = jnp.asarray(z, dtype), jnp.asarray(T, dtype)
    q = None if q is None else jnp.asarray(q, dtype)
    for transform in (lambda f: f, jax.jit):
        assert_close(transform(lambda z, t: getattr(lt, function)(z, t, log_prior=q))(*given), values, dtype)
        found = transform(jax.grad(squares(function, q), argnums=(0, 1)))(*given)
        assert_close(found[0], by_logits, dtype)
        assert_close(found[1], by_temperature, dtype)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_vmap(function, dtype):
    z, t = jnp.asarray(logits(False), dtype), jnp.asarray(T, dtype)
    values, by_logits, by_temperature = by_torch(function, logits(False), T, None)
    assert_close(jax.vmap(getattr(lt, function))(z, t), values, dtype)
    found = jax.jit(jax.vmap(jax.grad(squares(function), argnums=(0, 1))))(z, t)
    assert_close(found[0], by_logits, dtype)
    assert_close(found[1], by_temperature, dtype)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_forward_mode_is_reverse_mode(function, dtype):
    given = jnp.asarray(logits(False), dtype), jnp.asarray(T, dtype)
    along = jnp.asarray(logits(True) * 0 + 1, dtype), jnp.asarray([1.0, -2.0, 0.5], dtype)
    along = jnp.nan_to_num(along[0]), along[1]
    _, change = jax.jvp(squares(function), given, along)
    by_logits, by_temperature = jax.grad(squares(function), argnums=(0, 1))(*given)
    assert_close(change, (by_logits * along[0]).sum() + (by_temperature * along[1]).sum(), dtype)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_hessian(function):
    with jax.enable_x64(True):
        z, t = logits(False)[0], 0.7
        ours = jax.hessian(squares(function), argnums=(0, 1))(jnp.asarray(z), jnp.asarray(t))

        def loss(z, t):
            return getattr(lt, function)(z, t).square().sum()

        exact = torch.autograd.functional.hessian(loss, (torch.tensor(z), torch.tensor(t, dtype=torch.float64)))
        for row, exact_row in zip(ours, exact):
            for a, b in zip(row, exact_row):
                assert np.allclose(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("t", [0.0, 1e-44, INF])
@pytest.mark.parametrize("z", [[2.0, 2.0, 1.0, -INF], [1e30, -1e30, 0.0, 5.0]], ids=["tie", "1e30"])
def test_limits_are_those_of_torch(function, t, z, dtype):
    if "softmax" in function:
        z = [3.0, *z[1:]] if z[0] < 10 else z  # at T = 0 a tie is a kink

    def total(out):
        return out[..., 0].sum() if "softmax" in function else out.sum()

    given = jnp.asarray([z], dtype), jnp.asarray([t], dtype)
    ours = jax.grad(lambda z, t: total(getattr(lt, function)(z, t)), argnums=(0, 1))(*given)
    kind = getattr(torch, dtype)
    tensors = torch.tensor([z], dtype=kind, requires_grad=True), torch.tensor([t], dtype=kind, requires_grad=True)
    total(getattr(lt, function)(*tensors)).backward()
    for a, b in zip(ours, tensors):
        assert not np.isnan(a).any()
        if function == "log_partition" and t == 1e-44:
            continue  # which overflows at a subnormal T that XLA takes for 0
        assert np.allclose(a, b.grad, rtol=1e-5, atol=1e-6)


def test_no_error_under_a_trace_but_nan():
    z = jnp.asarray([[0.0, math.nan], [0.0, 1.0], [-INF, -INF], [0.0, INF]])
    for function in FUNCTIONS:
        f = getattr(lt, function)
        for transformed in (jax.jit(f), jax.vmap(f)):
            found = np.asarray(transformed(z))
            assert np.isnan(found[[0, 2, 3]]).all(), function
            assert np.isfinite(found[1]).all()
        with pytest.raises(ValueError, match=r"logits: .*row 0 of 4 has NaN"):
            f(z)
    cold = jax.vmap(lambda t: lt.entropy(z[1], t))(jnp.asarray([1.0, -1.0, math.nan]))
    assert np.isnan(cold).tolist() == [False, True, True]


def test_the_prior_is_a_constant():
    z = jnp.asarray([1.0, 2.0, 0.5])
    for function in FUNCTIONS:
        slope = jax.grad(lambda q, f=function: getattr(lt, f)(z, 1.0, log_prior=q).sum())(jnp.zeros(3))
        assert not slope.any()


def test_half_logits():
    z = jnp.asarray(logits(False), jnp.bfloat16)
    assert lt.softmax(z).dtype == jnp.bfloat16
    assert lt.entropy(z).dtype == jnp.float32
    assert jax.grad(lambda z: lt.entropy(z).sum())(z).dtype == jnp.bfloat16
