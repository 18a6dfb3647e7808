"""Derivatives in JAX: the same numbers as PyTorch's in float64, under jit, grad, vmap, jvp and hessian.

All functions go through one compiled program a test: compiling is what takes the time.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import logitherm as lt

INF = math.inf
FUNCTIONS = ["log_partition", "free_energy", "mean_energy", "entropy", "heat_capacity", "softmax", "log_softmax"]
# rounding of a gradient, relative to numbers of the order of 1
BUDGET = {"float32": 2e-5, "float64": 1e-12}
T = np.array([0.5, 1.0, 3.0])
Q = np.array([0.3, -0.5, -INF, 1.0])


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    with jax.enable_x64(request.param == "float64"):
        yield request.param


def logits(mask=False):
    z = 2 * np.random.default_rng(0).normal(size=(3, 4))
    if mask:
        z[:, 1] = -INF
    return z


def squares(out, where):
    """A loss that is not the same for all entries of a function, nor blind to a sum that is 1."""
    return (where(out == -INF, 0.0, out) ** 2).sum()


def by_torch(function, z, t, q=None):
    """Values, and the gradients of the sum of squares, in float64."""
    z, t = torch.tensor(z, requires_grad=True), torch.tensor(t, requires_grad=True)
    out = getattr(lt, function)(z, t, log_prior=None if q is None else torch.tensor(q))
    squares(out, torch.where).backward()
    return out.detach().numpy(), z.grad.numpy(), t.grad.numpy()


def loss(function, z, t, q=None):
    return squares(getattr(lt, function)(z, t, log_prior=q), jnp.where)


def values(z, t, q=None):
    return {f: getattr(lt, f)(z, t, log_prior=q) for f in FUNCTIONS}


def slopes(z, t, q=None):
    return {f: jax.grad(loss, argnums=(1, 2))(f, z, t, q) for f in FUNCTIONS}


def assert_close(ours, exact, dtype):
    ours, exact = np.asarray(ours), np.asarray(exact)
    assert ours.dtype == dtype
    finite = np.isfinite(exact)
    assert np.array_equal(ours[~finite], exact[~finite])
    assert np.allclose(ours[finite], exact[finite], rtol=BUDGET[dtype], atol=BUDGET[dtype])


@pytest.mark.parametrize("prior", [False, True], ids=["", "prior"])
def test_values_and_gradients_under_jit(prior, dtype):
    q = Q if prior else None
    run = jax.jit(lambda z, t: (values(z, t, q), slopes(z, t, q)))
    for mask in (False, True):
        found, gradients = run(jnp.asarray(logits(mask), dtype), jnp.asarray(T, dtype))
        for function in FUNCTIONS:
            exact = by_torch(function, logits(mask), T, q)
            assert_close(found[function], exact[0], dtype)
            for ours, theirs in zip(gradients[function], exact[1:]):
                assert_close(ours, theirs, dtype)


def test_values_and_gradients_without_jit():
    z, t = jnp.asarray(logits(), "float32"), jnp.asarray(T, "float32")
    found = values(z, t)
    for function in FUNCTIONS:
        assert_close(found[function], by_torch(function, logits(), T)[0], "float32")
    for ours, theirs in zip(jax.grad(loss, argnums=(1, 2))("entropy", z, t), by_torch("entropy", logits(), T)[1:]):
        assert_close(ours, theirs, "float32")


def test_vmap(dtype):
    z, t = jnp.asarray(logits(), dtype), jnp.asarray(T, dtype)
    found, gradients = jax.jit(jax.vmap(lambda z, t: (values(z, t), slopes(z, t))))(z, t)
    for function in FUNCTIONS:
        exact = by_torch(function, logits(), T)
        assert_close(found[function], exact[0], dtype)
        for ours, theirs in zip(gradients[function], exact[1:]):
            assert_close(ours, theirs, dtype)


def test_forward_mode_is_reverse_mode(dtype):
    rng = np.random.default_rng(1)
    along = rng.normal(size=(3, 4)), rng.normal(size=3)

    @jax.jit
    def changes(z, t, dz, dt):
        return {f: jax.jvp(lambda z, t, f=f: loss(f, z, t), (z, t), (dz, dt))[1] for f in FUNCTIONS}

    found = changes(*(jnp.asarray(v, dtype) for v in (logits(), T, *along)))
    for function in FUNCTIONS:
        _, by_logits, by_temperature = by_torch(function, logits(), T)
        exact = (by_logits * along[0]).sum() + (by_temperature * along[1]).sum()
        assert np.isclose(found[function], exact, rtol=10 * BUDGET[dtype], atol=10 * BUDGET[dtype])


def test_hessian():
    z, t = logits()[0], 0.7
    with jax.enable_x64(True):
        hessians = jax.jit(lambda z, t: {f: jax.hessian(loss, argnums=(1, 2))(f, z, t) for f in FUNCTIONS})
        found = hessians(jnp.asarray(z), jnp.asarray(t))
    for function in FUNCTIONS:
        exact = torch.autograd.functional.hessian(
            lambda z, t, f=function: squares(getattr(lt, f)(z, t), torch.where),
            (torch.tensor(z), torch.tensor(t, dtype=torch.float64)),
        )
        for row, exact_row in zip(found[function], exact):
            for ours, theirs in zip(row, exact_row):
                assert np.allclose(ours, theirs, rtol=1e-10, atol=1e-12)


def test_limits_are_those_of_torch(dtype):
    """Weights of 1 and 2 on the first two states of the probabilities; ties are a kink for them at T = 0."""
    rows = [[2.0, 2.0, 1.0, -INF], [1e30, -1e30, 0.0, 5.0], [3.0, 2.0, -INF, -INF]]
    z = np.repeat(rows, 3, axis=0)
    t = np.tile([0.0, 1e-44, INF], 3)

    def of(function, out, where):
        if function == "log_softmax":
            return where(out < -1e29, 0.0, out)[..., 0].sum()
        return (out[..., 0] + 2 * out[..., 1]).sum() if function == "softmax" else out.sum()

    run = jax.jit(
        lambda z, t: {
            f: jax.grad(lambda z, t, f=f: of(f, getattr(lt, f)(z, t), jnp.where), argnums=(0, 1))(z, t)
            for f in FUNCTIONS
        }
    )
    found = run(jnp.asarray(z, dtype), jnp.asarray(t, dtype))
    kind = getattr(torch, dtype)
    for function in FUNCTIONS:
        tensors = torch.tensor(z, dtype=kind, requires_grad=True), torch.tensor(t, dtype=kind, requires_grad=True)
        of(function, getattr(lt, function)(*tensors), torch.where).backward()
        # XLA takes a subnormal T for 0, which shows where 1/T remains
        seen = t != 1e-44 if function == "log_partition" or "softmax" in function else t == t
        if "softmax" in function:
            seen = seen & ~((z[:, 0] == z[:, 1]) & (t == 0))
        for ours, tensor in zip(found[function], tensors):
            assert not np.isnan(ours[seen]).any()
            assert np.allclose(np.asarray(ours)[seen], tensor.grad.numpy()[seen], rtol=1e-5, atol=1e-6), function


def test_no_error_under_a_trace_but_nan():
    z = jnp.asarray([[0.0, math.nan], [0.0, 1.0], [-INF, -INF], [0.0, INF]])
    for transform in (jax.jit, lambda f: jax.jit(jax.vmap(f))):
        for function, found in transform(lambda z: values(z, jnp.ones(z.shape[:-1])))(z).items():
            found = np.asarray(found)
            assert np.isnan(found[[0, 2, 3]]).all(), function
            assert np.isfinite(found[1]).all()
    assert np.isnan(jax.vmap(lt.entropy)(z)).tolist() == [True, False, True, True]
    for function in ("entropy", "softmax"):
        with pytest.raises(ValueError, match=r"logits: .*row 0 of 4 has NaN"):
            getattr(lt, function)(z)
    cold = jax.vmap(lambda t: lt.entropy(z[1], t))(jnp.asarray([1.0, -1.0, math.nan]))
    assert np.isnan(cold).tolist() == [False, True, True]


def test_the_prior_is_a_constant():
    z = jnp.asarray([1.0, 2.0, 0.5])
    slopes = jax.jit(
        lambda q: [jax.grad(lambda q, f=f: getattr(lt, f)(z, 1.0, log_prior=q).sum())(q) for f in FUNCTIONS]
    )
    assert not any(slope.any() for slope in slopes(jnp.zeros(3)))


def test_half_logits():
    z = jnp.asarray(logits(), jnp.bfloat16)
    assert lt.softmax(z).dtype == jnp.bfloat16
    assert lt.entropy(z).dtype == jnp.float32
    assert jax.jit(jax.grad(lambda z: lt.entropy(z).sum()))(z).dtype == jnp.bfloat16
