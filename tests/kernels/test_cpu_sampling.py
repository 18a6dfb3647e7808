"""The kernels of sampling, one by one, against what they are defined to give; and how exact their draws are."""

import math
import platform
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from llvmlite.binding import get_host_cpu_features
from numba import njit, types
from scipy import stats

from logitherm.generation.noise import uniforms
from logitherm.kernels import cpu_sampling
from logitherm.kernels.sampling import MIN_P, TEMPERATURE, TOP_K, TOP_P, inverse_cdf, noise, sample

INF = math.inf
STATES = [1, 2, 255, 256, 257, 1000, 5000]
DTYPES = [np.float32, np.float64]


def logits(rows, states, dtype, seed=0):
    """Ties, a mask, huge values and one value beside rows of a normal spread."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(rows, states)) * 3
    z[0] = np.round(z[0])
    z[1, 1:] = np.where(rng.random(states - 1) < 0.5, -INF, z[1, 1:])
    z[2] = rng.choice([-1e30, 1e30, 0.0], states)
    z[3] = 2.5
    return z.astype(dtype)


@pytest.mark.parametrize("states", STATES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_maxima_of_blocks_and_rows(states, dtype, ran):
    z = logits(8, states, dtype)
    found = sample(z)
    assert ran("sample") == 1
    blocks = range(0, states, cpu_sampling.BLOCK)
    assert np.array_equal(found.tops, np.stack([z[:, b : b + cpu_sampling.BLOCK].max(-1) for b in blocks], 1))
    assert np.array_equal(found.top, z.max(-1))
    assert found.kept.tolist() == (z > -INF).sum(-1).tolist()
    for bad, mark in ((math.nan, math.nan), (INF, math.nan)):
        z[5, states // 2] = bad
        assert np.array_equal(sample(z).top[5], mark, equal_nan=True)
    z[5] = -INF
    found = sample(z, uniform=np.full(8, 0.5))
    assert found.top[5] == -INF and found.token[5] == -1 and np.all(found.token[:5] >= 0)


@pytest.mark.parametrize("states", STATES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_kth_largest(states, dtype, rng):
    z = logits(8, states, dtype)
    for k in (1, 2, 7, states // 3, states - 1, states):
        if 1 <= k <= states:
            assert np.array_equal(top_k(z, np.full(8, k)).floors, threshold(z, k))
    each = rng.integers(1, states + 1, 8)
    assert np.array_equal(top_k(z, each).floors, [threshold(z[i : i + 1], k)[0] for i, k in enumerate(each)])


def top_k(z, k, *steps, uniform=None):
    return sample(z, [(TOP_K, k), *steps], uniform)


def threshold(z, k):
    """The k-th largest; the lowest number there is where that is forbidden or k is all."""
    lowest = np.finfo(z.dtype).min
    return np.full(len(z), lowest) if k == z.shape[1] else np.maximum(np.sort(z, axis=1)[:, -k], lowest)


@given(
    seed=st.integers(0, 10**6),
    states=st.sampled_from([3, 300, 3000]),
    t=st.sampled_from([0.0, 1e-40, 0.1, 1.0, 3.0, 1e5, INF]),
    p=st.floats(1e-3, 1.0),
    part=st.floats(0.0, 1.0),
    dtype=st.sampled_from(DTYPES),
)
def test_the_nucleus(seed, states, t, p, part, dtype):
    """The largest threshold with the mass: what is above it has less, what is at or above it has it."""
    z = logits(5, states, dtype, seed)
    k = np.full(5, max(1, round(part * states)))
    floors = threshold(z, k[0])
    found = top_k(z, k, (TEMPERATURE, np.full(5, t)), (TOP_P, np.full(5, p))).floors
    assert np.all(found >= floors)
    wide = z.astype(np.float64) - z.max(-1, keepdims=True)
    with np.errstate(all="ignore"):
        x = np.where(wide == 0, 0, -INF) if t == 0 else 0 * wide if t == INF else wide / t
        weight = np.where((z >= floors[:, None]) & (z > -INF), np.exp(x), 0)
    share = weight / weight.sum(-1, keepdims=True)
    slack = 5e-6 if dtype == np.float32 else 1e-12
    for i in range(5):
        inside, above = share[i][z[i] >= found[i]].sum(), share[i][z[i] > found[i]].sum()
        assert inside >= p - slack
        assert above < p + slack or found[i] == floors[i]


@given(
    seed=st.integers(0, 10**6),
    states=st.sampled_from([3, 300, 3000]),
    t=st.sampled_from([0.0, 0.1, 1.0, 1e5, INF]),
    p=st.floats(1e-30, 1.0),
    dtype=st.sampled_from(DTYPES),
)
def test_a_share_of_the_largest_probability(seed, states, t, p, dtype):
    z = logits(5, states, dtype, seed)
    gap = -math.log(p)
    found = sample(z, [(TEMPERATURE, np.full(5, t)), (MIN_P, np.full(5, gap))]).floors
    top = z.max(-1).astype(np.float64)
    lowest = float(np.finfo(dtype).min)
    expected = top if t == 0 else np.full(5, lowest) if t == INF else np.maximum(top - t * gap, lowest)
    assert np.array_equal(found, expected.astype(dtype))


@given(
    steps=st.lists(st.sampled_from([0.0, 0.5, 2.0, INF]), min_size=1, max_size=3),
    dtype=st.sampled_from(DTYPES),
)
def test_one_temperature_after_the_other(steps, dtype):
    """Their product; once all is decided, or all ties, there is no more to it."""
    found = sample(logits(5, 300, dtype), [(TEMPERATURE, np.full(5, t)) for t in steps])
    limits = [t for t in steps if t in (0.0, INF)]
    assert np.all(found.temperatures == (limits[0] if limits else math.prod(steps)))


@pytest.mark.parametrize("states", STATES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_left(states, dtype, ran):
    z = logits(8, states, dtype)
    found = top_k(z, np.full(8, max(1, states // 2)))
    kept = [np.flatnonzero(row >= floor) for row, floor in zip(z, found.floors)]
    assert found.kept.tolist() == [len(k) for k in kept]
    numbers, values = found.compact(found.kept.max() + 3)
    for i, k in enumerate(kept):
        assert numbers[i].tolist() == [*k, *[-1] * (found.kept.max() + 3 - len(k))]
        assert np.array_equal(values[i][: len(k)], z[i, k]) and np.all(values[i][len(k) :] == -INF)
    assert (ran("sample"), ran("compact")) == (1, 1)


@pytest.mark.parametrize("t", [0.0, 1e-40, 0.05, 0.7, 1.0, 4.0, 1e30, INF])
@pytest.mark.parametrize("states", STATES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_draws_are_the_inverse_of_the_cumulative_law(states, dtype, t, ran):
    """The reference in float64 with the same uniform numbers: the place in the law agrees within rounding."""
    z = logits(40, states, dtype)
    k = np.full(40, states)
    k[::3] = max(1, states // 2)
    u = uniforms(0, np.arange(40), states, 0)
    u[:4] = 2.0**-65, 1 - 2.0**-53, 0.5, 0.5
    drawn = top_k(z, k, (TEMPERATURE, np.full(40, t)), uniform=u)
    token, log_p, floors = drawn.token, drawn.log_p, drawn.floors
    assert ran("sample") == 1
    wide = z.astype(np.float64) - z.max(-1, keepdims=True)
    with np.errstate(all="ignore"):
        x = np.where(wide == 0, 0, -INF) if t == 0 else np.where(wide > -INF, 0.0, -INF) if t == INF else wide / t
    x = np.where(z >= floors[:, None], x, -INF)
    p = np.exp(x - x.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    assert drawn.kept.tolist() == (x > -INF).sum(-1).tolist()
    at = np.arange(40)
    # log p of what the tail of float32 weights rounds to 0 is as exact as any other
    assert np.allclose(log_p, np.log(p[at, token]), rtol=2e-5 if dtype == np.float32 else 1e-11, atol=1e-5)
    after = np.cumsum(p, -1)[at, token]
    slack = 2e-5 if dtype == np.float32 else 1e-11
    assert np.all(u <= after + slack) and np.all(u >= after - p[at, token] - slack)
    expected, _ = inverse_cdf(x, u)
    assert (token == expected).mean() >= 0.9


@pytest.mark.parametrize("dtype", DTYPES)
def test_chi_square_of_a_million_draws(dtype, rng):
    """One law, a thousand states: no bin is off, the largest no more than the smallest."""
    z = (rng.normal(size=1000) * 2).astype(dtype)
    p = np.exp((z.astype(np.float64) - z.max()) / 0.8)
    p /= p.sum()
    many, requests = np.repeat(z[None], 1000, 0), np.arange(1000, dtype=np.uint64)
    counts, n = np.zeros(1000), 10**6
    for position in range(1000):
        u = noise(np.full_like(requests, 5), requests, np.full_like(requests, position), 0)
        counts += np.bincount(sample(many, [(TEMPERATURE, np.full(1000, 0.8))], u).token, minlength=1000)
    large = n * p >= 5
    seen, expected = ([*v[large], v[~large].sum()] for v in (counts, n * p))
    assert stats.chisquare(seen, expected).pvalue > 1e-6


@pytest.mark.parametrize("gap", [8, 12, 16])
def test_the_tail_has_its_mass(gap):
    """A hundred thousand tokens so many nats below the top: single-precision noise loses a quarter of them at 16."""
    states = 100_001
    z = np.full((1, states), -float(gap), np.float32)
    z[0, 50_000] = 0
    tail = 100_000 * math.exp(-gap)
    share = tail / (1 + tail)
    n = 4000
    u = (np.arange(n) + 0.5) / n  # evenly, so that the count has no noise of its own
    token = np.concatenate([sample(np.repeat(z, 8, 0), uniform=part).token for part in u.reshape(-1, 8)])
    assert abs((token != 50_000).sum() - n * share) <= 3
    log_p = sample(z, uniform=np.array([1e-12])).log_p
    assert log_p[0] == pytest.approx(math.log(math.exp(-gap) / (1 + tail)), rel=1e-6)


def test_no_forbidden_state_is_drawn_at_the_ends_of_the_noise():
    """The smallest and the largest uniform number fall on allowed states, wherever these are."""
    for allowed in ([0], [999], [300], [0, 999], [255, 256], [511, 512, 700]):
        z = np.full((3, 1000), -INF, np.float32)
        z[:, allowed] = np.linspace(0, -20, len(allowed), dtype=np.float32)
        token = sample(z, uniform=np.array([2.0**-65, 0.5, 1 - 2.0**-53])).token
        assert set(token.tolist()) <= set(allowed)
        assert token[0] == allowed[0]


FLOAT, READ_ONLY = types.float32, types.Array(types.float32, 1, "C", readonly=True)
ROW = types.float32[::1]
SIGNATURES = {
    "_block_sum": (READ_ONLY, FLOAT, FLOAT, FLOAT),
    "_block_weights": (READ_ONLY, FLOAT, FLOAT, ROW),
    "_masked": (READ_ONLY, ROW, FLOAT),
}


@pytest.mark.skipif(platform.machine().lower() not in ("x86_64", "amd64"), reason="reads x86 assembly")
@pytest.mark.skipif(not get_host_cpu_features().get("avx2"), reason="this CPU has no 256-bit vectors")
@pytest.mark.parametrize("name", SIGNATURES)
def test_the_inner_loops_are_vectorised(name):
    cached = getattr(cpu_sampling, name)
    options = {k: v for k, v in cached.targetoptions.items() if k in ("fastmath", "nogil", "error_model")}
    fresh = njit(**options)(cached.py_func)
    fresh.compile(SIGNATURES[name])
    (assembly,) = fresh.inspect_asm().values()
    assert len(re.findall(r"\bv(?:mul|add|sub|fn?m(?:add|sub)\d+)ps\b[^\n]*%(?:ymm|zmm)", assembly)) >= 2
    assert not re.search(r"call\w*\s+\S*exp", assembly)
