"""The compiled kernels against the float64 reference, held to a budget, and proof that they are what ran.

The budget has two sides. In units of rounding of the dtype, each quantity has a largest error that does not grow with
the number of states. And no kernel may be much worse than the textbook formula evaluated in the same dtype.
"""

import math
import platform
import re

import numpy as np
import pytest
from llvmlite.binding import get_host_cpu_features
from numba import njit, types

from logitherm.kernels import cpu, reference, values

INF = math.inf
STATES = [1, 2, 10, 47, 48, 49, 1000, 8191, 8192, 8193, 131072]
TEMPERATURES = [1e-3, 0.1, 1.0, 5.0, 1e4]
DTYPES = [np.float32, np.float64]

# largest error in units of eps * scale: 1 + |value| for all but
#   heat_capacity   1 + <x^2>, x = (z - max z) / T: its sum of squares loses what the mean takes away
#   probability     p (1 + |x|): the argument of the exponential is rounded
# A vector lane adds at most 128 or 256 values of a tile before its sum goes on in float64: many equal values, all
# rounded alike,
# may cost that many half roundings of a probability.
BUDGET = {"log1p_rest": 4, "gap": 12, "entropy": 6, "heat_capacity": 12, "log_probability": 4, "probability": 40}
# and relative to the textbook formula in the same dtype: error <= NAIVE * its largest error + EXTRA eps * scale
NAIVE, EXTRA = 4, 8


def logits(rows, states, dtype, seed=0):
    """Rows of a normal spread; the first ones have ties, a mask, +-1e4, +-1e30, one value, and an offset of 1e4."""
    rng = np.random.default_rng(seed)
    z = 3 * rng.normal(size=(rows, states))
    z[0] = np.round(z[0])
    z[1, 1:] = np.where(rng.random(states - 1) < 0.3, -INF, z[1, 1:])
    z[2] = rng.uniform(-1e4, 1e4, states)
    z[3] = rng.choice([-1e30, 1e30], states)
    z[4] = 2.5
    z[5] += 1e4
    return z.astype(dtype)


def enough(states):
    """Rows for which the kernels are used, and some more, so that the last tile is not full."""
    return -(-values.SMALLEST // states) + 7


def textbook(z, t):
    """Softmax, log-sum-exp and the sums over probabilities, in the dtype of `z`."""
    with np.errstate(all="ignore"):
        x = (z - z.max(axis=-1, keepdims=True)) / t[:, None]
        weights = np.exp(x)
        total = weights.sum(axis=-1, keepdims=True)
        p = weights / total
        finite = np.where(weights > 0, x, 0)
        mean = (p * finite).sum(axis=-1)
        log_total = np.log(total)
        return {
            "log1p_rest": log_total[:, 0],
            "gap": -mean,
            "entropy": log_total[:, 0] - mean,
            "heat_capacity": (p * (finite - mean[:, None]) ** 2).sum(axis=-1),
            "probability": p,
            "log_probability": x - log_total,
        }


def answers(z, t, *, by):
    m = by.moments(z, t, None)
    with np.errstate(all="ignore"):
        return {
            "log1p_rest": np.log1p(m.rest),
            "gap": m.gap / t,
            "entropy": reference.entropy(m, t),
            "heat_capacity": reference.heat_capacity(m, t),
            "probability": by.softmax(z, t, None),
            "log_probability": by.log_softmax(z, t, None),
        }


class Kernels:
    moments = staticmethod(values.moments)
    softmax = staticmethod(lambda z, t, q: values.softmax(z, t, q, False, None))
    log_softmax = staticmethod(lambda z, t, q: values.softmax(z, t, q, True, None))


@pytest.mark.parametrize("t", TEMPERATURES)
@pytest.mark.parametrize("states", STATES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_within_budget_of_float64(states, dtype, t, ran):
    z = logits(enough(states), states, dtype, seed=states)
    eps = np.finfo(dtype).eps
    temperature = np.full(len(z), t, dtype)
    ours = answers(z, temperature, by=Kernels)
    assert [ran(k) for k in ("moments", "softmax", "log_softmax")] == [1, 1, 1]
    wide = z.astype(np.float64), temperature.astype(np.float64)
    exact, naive = answers(*wide, by=reference), textbook(z, temperature)
    with np.errstate(all="ignore"):
        x = np.maximum((wide[0] - wide[0].max(axis=-1, keepdims=True)) / wide[1][:, None], -800)
    scale = {name: 1 + np.abs(value) for name, value in exact.items()}
    scale["heat_capacity"] = 1 + exact["heat_capacity"] + exact["gap"] ** 2
    scale["probability"] = exact["probability"] * (1 + np.abs(x)) + np.finfo(dtype).tiny / eps
    for name, value in exact.items():
        seen = np.abs(value) < 1e30  # beyond, float32 may have overflowed to the limit
        assert ours[name].dtype == dtype
        with np.errstate(invalid="ignore"):
            error = np.abs(ours[name] - value)[seen]
            naive_error = np.abs(naive[name] - value)[seen]
        scales = scale[name][seen]
        worst, naive_worst = (error / scales).max() / eps, (naive_error / scales).max() / eps
        assert worst <= BUDGET[name], (name, worst)
        if dtype == np.float32:  # in float64 the textbook is as good as what it is compared with
            assert worst <= NAIVE * naive_worst + EXTRA, (name, worst, naive_worst)
    forbidden = z == -INF
    assert np.all(ours["probability"][forbidden] == 0)
    assert np.all(ours["log_probability"][forbidden] == -INF)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("states", [10, 100])
def test_tiny_rest_keeps_its_digits(states, dtype, ran):
    """1 + rest would round to 1; the first maximum is left out of the sum instead."""
    z = np.full((enough(states), states), -46.0, dtype)
    z[:, 3] = 0.0
    m = values.moments(z, np.ones(len(z), dtype))
    assert ran("moments") == 1
    exact = (states - 1) * math.exp(-46)
    assert exact < 1e-17
    assert np.allclose(m.rest, exact, rtol=50 * np.finfo(dtype).eps, atol=0)
    assert np.allclose(m.gap, 46 * exact, rtol=50 * np.finfo(dtype).eps, atol=0)
    assert np.allclose(m.spread, 46**2 * exact, rtol=50 * np.finfo(dtype).eps, atol=0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("states", [3, 60])
def test_a_state_just_below_the_maximum_is_counted(states, dtype, ran):
    """Though its exponent underflows: (z - max z) / T is 0 while z - max z is not."""
    z = np.zeros((enough(states), states), dtype)
    z[:, 1:] = -np.finfo(dtype).smallest_subnormal
    m = values.moments(z, np.full(len(z), 100.0, dtype))
    assert ran("moments") == 1
    assert np.all(m.rest == states - 1)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("states", [7, 200])
def test_each_row_has_its_own_temperature(states, dtype, rng, ran):
    z = logits(enough(states), states, dtype)
    t = (10 ** rng.uniform(-2, 2, len(z))).astype(dtype)
    ours = answers(z, t, by=Kernels)
    exact = answers(z.astype(np.float64), t.astype(np.float64), by=reference)
    assert ran("moments") == 1
    for name in ("log1p_rest", "gap", "entropy", "heat_capacity", "probability"):
        assert np.allclose(ours[name], exact[name], rtol=200 * np.finfo(dtype).eps, atol=200 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_whole_range_of_the_exponential(dtype):
    """2^x on [-127, 0] (or -1023), through a softmax of two states: rounding of x alone, and exactly 0 at the end."""
    lowest = -127 if dtype == np.float32 else -1023
    x = np.linspace(lowest - 5, 0, 40_001).astype(dtype)
    z = np.stack([np.zeros_like(x), x], axis=1)
    t = np.full(len(x), 1 / math.log(2), dtype)
    rest = values.moments(z, t).rest.astype(np.float64)
    exponent = x.astype(np.float64) / t.astype(np.float64)
    exact = np.exp(exponent)
    seen = (x > lowest + 1) & (x < 0)
    eps = np.finfo(dtype).eps
    assert np.all(np.abs(rest[seen] / exact[seen] - 1) <= eps * (2 + 2 * np.abs(exponent[seen])))
    assert np.all(rest[x <= lowest - 1] == 0)
    assert np.all(rest[x < 0] < 1 + eps)
    assert np.all(np.diff(rest[x < 0]) >= -4 * eps * rest[x < 0][1:])


@pytest.mark.parametrize("states", [5, 500])
@pytest.mark.parametrize("bad", [math.nan, INF, "none allowed"])
@pytest.mark.parametrize("name", ["moments", "softmax", "log_softmax"])
def test_the_first_bad_row_is_found(states, bad, name):
    z = np.zeros((50, states), np.float32)
    for row in (17, 40):
        z[row] = -INF if bad == "none allowed" else 0
        z[row, states // 2] = -INF if bad == "none allowed" else bad
    out = np.empty((4, 50)) if name == "moments" else np.empty_like(z)
    z.flags.writeable = False
    assert getattr(cpu, name)(z, np.ones(50), out) == 17


FLOAT, ROW, READ_ONLY = types.float32, types.float32[::1], types.Array(types.float32, 1, "C", readonly=True)
SIGNATURES = {
    "_row_sums": (READ_ONLY, FLOAT, FLOAT),
    "_column_sums": (types.float32[:, ::1], types.int64, FLOAT, ROW, ROW, ROW),
    "_weights": (READ_ONLY, FLOAT, FLOAT, FLOAT, ROW),
}


@pytest.mark.skipif(platform.machine().lower() not in ("x86_64", "amd64"), reason="reads x86 assembly")
@pytest.mark.skipif(not get_host_cpu_features().get("avx2"), reason="this CPU has no 256-bit vectors")
@pytest.mark.parametrize("name", SIGNATURES)
def test_the_inner_loops_are_vectorised(name):
    """Packed single-precision arithmetic on ymm or zmm registers, and no call of a library's exponential.

    Compiled afresh: what comes from Numba's cache on disk has no assembly.
    """
    cached = getattr(cpu, name)
    options = {k: v for k, v in cached.targetoptions.items() if k in ("fastmath", "nogil", "error_model")}
    fresh = njit(**options)(cached.py_func)
    fresh.compile(SIGNATURES[name])
    (assembly,) = fresh.inspect_asm().values()
    assert len(re.findall(r"\bv(?:mul|add|fn?m(?:add|sub)\d+)ps\b[^\n]*%(?:ymm|zmm)", assembly)) >= 8
    assert not re.search(r"call\w*\s+\S*exp", assembly)
