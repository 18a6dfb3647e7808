"""Which route is taken: the compiled kernel where it applies, on the caller's own memory, and the reference
elsewhere."""

import math
import os
import subprocess
import sys

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import torch

import logitherm as lt
from logitherm._array import rows_of
from logitherm.kernels import values

ROWS, STATES = 300, 100  # more values than values.SMALLEST
KERNEL_OF = {"entropy": "moments", "softmax": "softmax", "log_softmax": "log_softmax"}


@pytest.fixture
def z(rng):
    return rng.normal(size=(ROWS, STATES)).astype(np.float32)


def assert_right(ours, function, z, t=1.0, **kwargs):
    exact = getattr(lt, function)(np.asarray(z, dtype=np.float64)[:4], np.broadcast_to(t, z.shape[:1])[:4], **kwargs)
    exact = np.where(np.abs(exact) > np.finfo(np.float32).max, np.copysign(np.inf, exact), exact)
    assert np.allclose(np.asarray(ours)[:4], exact, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("function", KERNEL_OF)
class TestTheKernelRuns:
    def test_for_numpy(self, function, z, ran):
        assert_right(getattr(lt, function)(z), function, z)
        assert ran(KERNEL_OF[function]) == 1

    def test_for_torch(self, function, z, ran):
        found = getattr(lt, function)(torch.from_numpy(z))
        assert isinstance(found, torch.Tensor)
        assert found.dtype == torch.float32
        assert_right(found.numpy(), function, z)
        assert ran(KERNEL_OF[function]) == 1

    def test_for_torch_with_gradients(self, function, z, ran):
        tensor = torch.from_numpy(z).requires_grad_()
        found = getattr(lt, function)(tensor)
        assert ran(KERNEL_OF[function]) == 1
        found.sum().backward()
        assert ran("softmax") == 1
        assert tensor.grad.isfinite().all()

    def test_under_vmap(self, function, z, ran):
        found = torch.func.vmap(getattr(lt, function))(torch.from_numpy(z))
        assert ran(KERNEL_OF[function]) == 1
        assert_right(found.numpy(), function, z)

    def test_for_a_temperature_a_row(self, function, z, ran):
        t = np.linspace(0.5, 2, ROWS)
        assert_right(getattr(lt, function)(z, t), function, z, t.astype(np.float32))
        assert ran(KERNEL_OF[function]) == 1

    @pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
    def test_for_other_float_types(self, function, dtype, z, ran):
        for half in (
            z.astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype),
            torch.from_numpy(z).to(getattr(torch, dtype)),
        ):
            found = getattr(lt, function)(half)
            assert ran(KERNEL_OF[function]) == 1
            if "softmax" in function:
                assert found.dtype == half.dtype
            else:
                assert str(found.dtype).endswith("float64" if dtype == "float64" else "float32")
            wide = half.double().numpy() if isinstance(half, torch.Tensor) else half.astype(np.float64)
            exact = getattr(lt, function)(wide[:4])
            found = found.double().numpy() if isinstance(found, torch.Tensor) else found.astype(np.float64)
            assert np.allclose(found[:4], exact, rtol=1e-2 if "16" in dtype else 1e-5, atol=1e-5)


LAYOUTS = {
    "read-only": lambda z: np.frombuffer(z.tobytes(), z.dtype).reshape(z.shape),
    "Fortran order": np.asfortranarray,
    "every second state": lambda z: np.repeat(z, 2, axis=1)[:, ::2],
    "every second row": lambda z: np.repeat(z, 2, axis=0)[::2],
    "backwards": lambda z: np.ascontiguousarray(z[::-1, ::-1])[::-1, ::-1],
    "N-d": lambda z: z.reshape(3, 100, 100),
    "big-endian": lambda z: z.astype(z.dtype.newbyteorder(">")),
    "memory-mapped": lambda z: z.view(np.memmap),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("function", KERNEL_OF)
def test_any_layout(function, layout, z, ran):
    given = LAYOUTS[layout](z)
    before = np.array(given)
    found = getattr(lt, function)(given)
    assert ran(KERNEL_OF[function]) == 1
    assert np.array_equal(np.asarray(found).reshape(getattr(lt, function)(z).shape), getattr(lt, function)(z))
    assert np.array_equal(given, before)


@pytest.mark.parametrize("function", KERNEL_OF)
class TestTheReferenceServes:
    def test_with_a_prior(self, function, z, ran):
        q = np.linspace(-1, 0, STATES, dtype=np.float32)
        assert_right(getattr(lt, function)(z, log_prior=q), function, z, log_prior=q.astype(np.float64))
        assert ran(KERNEL_OF[function]) == 0

    @pytest.mark.parametrize("t", [0.0, 1e-44, 1e-35, 1e35, math.inf])
    def test_at_the_limits(self, function, t, z, ran):
        assert_right(getattr(lt, function)(z, t), function, z, np.float32(t))
        t = np.append(np.ones(ROWS - 1), t)
        assert_right(getattr(lt, function)(z, t), function, z, t.astype(np.float32))
        assert ran(KERNEL_OF[function]) == 0

    def test_for_few_values(self, function, z, ran):
        rows = values.SMALLEST // STATES
        getattr(lt, function)(z[:rows])
        assert ran(KERNEL_OF[function]) == 0
        getattr(lt, function)(z[: rows + 1])
        assert ran(KERNEL_OF[function]) == 1

    def test_for_jax(self, function, z, ran):
        assert_right(getattr(lt, function)(jnp.asarray(z)), function, z)
        assert ran(KERNEL_OF[function]) == 0

    def test_for_bad_rows_that_are_let_pass(self, function, z, ran):
        z[5, 5], z[6, 6], z[7] = math.nan, math.inf, -math.inf
        found = getattr(lt, function)(z, check=False)
        assert np.isnan(found[5:8]).all()
        assert np.isfinite(np.delete(found, [5, 6, 7], axis=0)).all()


def test_no_rows_and_no_kernel(ran):
    assert lt.entropy(np.zeros((0, 100_000), np.float32)).shape == (0,)
    assert ran("moments") == 0


def test_a_tensor_is_read_where_it_lies():
    tensor = torch.randn(4, 5, 6)
    rows = rows_of(tensor)
    assert rows.shape == (20, 6)
    assert np.shares_memory(rows, tensor.numpy())
    assert not rows.flags.writeable
    assert np.shares_memory(rows_of(tensor.requires_grad_()), tensor.detach().numpy())
    z = np.zeros((4, 5, 6))
    assert np.shares_memory(rows_of(z), z)
    assert z.flags.writeable


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
@pytest.mark.parametrize("function", [*KERNEL_OF, "free_energy"])
@pytest.mark.parametrize(
    ("bad", "what"), [(math.nan, "NaN"), (math.inf, r"\+inf"), (-math.inf, "no allowed state")], ids=str
)
def test_the_first_bad_row_is_named(kind, function, bad, what, z):
    z[7] = bad
    z[250] = bad
    with pytest.raises(ValueError, match=rf"logits: .*row 7 of 300 has {what}"):
        getattr(lt, function)(kind(z))
    with pytest.raises(ValueError, match=rf"logits: .*row \(1, 7\) of \(2, 10\) has {what}"):
        getattr(lt, function)(kind(z[:20, :5].reshape(2, 10, 5)[::-1].copy()))
    big = np.tile(z[10:200], (400, 1))
    big[70_000] = bad
    with pytest.raises(ValueError, match=rf"row 70000 of 76000 has {what}"):
        getattr(lt, function)(kind(big))


def test_moments_of_the_kernel_have_a_uniform_prior(z, ran):
    m = values.moments(z, np.ones(ROWS, np.float32))
    assert ran("moments") == 1
    assert [v.dtype for v in m] == [np.float32] * 5
    assert np.all(m.log_weight == 0)
    assert np.all(m.top == z.max(axis=1))


def test_chunks_without_allowed_states_are_empty_where_asked_for(z):
    z[3] = -math.inf
    m = values.moments(z, np.ones(ROWS, np.float32), part=True)
    assert [float(v[3]) for v in m] == [-math.inf, 0, 0, 0, 0]
    assert np.allclose(m.rest[4:], values.moments(z[4:], np.ones(ROWS - 4, np.float32)).rest, rtol=1e-5)
    z[200, 0] = math.nan
    with pytest.raises(ValueError, match="row 200 of 300 has NaN"):
        values.moments(z, np.ones(ROWS, np.float32), part=True)


def test_small_results_agree_with_large_ones(z):
    """The two routes differ by rounding alone."""
    for function in KERNEL_OF:
        small = np.concatenate([getattr(lt, function)(part) for part in np.split(z, 10)])
        assert np.allclose(small, getattr(lt, function)(z), rtol=2e-6, atol=1e-6)


def test_compiling_is_announced_once(tmp_path):
    program = """
import logging, sys
import numpy as np
import logitherm
from logitherm.kernels.values import ran
z = np.zeros((1000, 100), np.float32)
logitherm.entropy(z)
logitherm.softmax(z)
assert ran["moments"] == ran["softmax"] == 1
"""
    for said in (1, 0):
        done = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)},
            timeout=300,
            check=True,
        )
        assert done.stderr.count("compiling the CPU kernels") == said


# -- passes of a fit -------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(3000, 7), (300, 100), (40, 9000)], ids=["narrow", "wide", "long"])
@pytest.mark.parametrize(("kind", "budget"), [(np.float64, 1e-13), (np.float32, 2e-6)])
def test_row_moments_are_the_definition_at_the_temperature_of_the_row(shape, kind, budget, rng, ran):
    z, t = rng.normal(size=shape).astype(kind), rng.uniform(0.2, 5, shape[0])
    z[rng.random(shape) < 0.1] = -np.inf
    z[:, 0] = 1.0
    found = values.row_moments(z, t)
    assert ran("moments") == 1
    assert all(field.dtype == np.float64 for field in found)
    exact = values.reference.moments(z.astype(np.float64), t)
    second = exact.spread + (1 + exact.rest) * (exact.gap / t) ** 2  # which the spread is a difference of
    for ours, true, size in zip(found, exact, (1, 1, 1 + exact.rest, 1 + exact.gap, 1 + second)):
        assert np.all(np.abs(ours - true) <= budget * size)


@pytest.mark.parametrize("t", [0.0, 1e-40, 1e40, np.inf])
def test_row_moments_at_the_limits_are_the_definition(t, z, ran):
    found = values.row_moments(z, np.full(ROWS, t))
    exact = values.reference.moments(z.astype(np.float64), np.full(ROWS, t))
    assert ran("moments") == 0
    np.testing.assert_allclose(found, exact, rtol=1e-13)
    z[7] = np.nan
    with pytest.raises(ValueError, match="row 7"):
        values.row_moments(z, np.full(ROWS, t))
