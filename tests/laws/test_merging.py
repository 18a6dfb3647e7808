"""States of disjoint sets of classes merge: in any order, in any chunks, to the state of the whole."""

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from logitherm import GibbsState

QUESTIONS = ("log_partition", "free_energy", "mean_energy", "entropy", "heat_capacity", "top_probability")
# rounding of a few operations on values of the size of the logits, in units of the last place
ULPS = 400


@st.composite
def rows(draw):
    """Logits (2, states), a mask and ties among them; a prior or none."""
    states = draw(st.integers(1, 12))
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(2, states)) * draw(st.sampled_from([0.1, 1.0, 10.0]))
    if draw(st.booleans()):
        z = np.round(z)
    z = np.where(rng.random(z.shape) < draw(st.sampled_from([0.0, 0.5])), -math.inf, z)
    assume((z.max(axis=1) > -math.inf).all())
    log_prior = rng.normal(size=states) if draw(st.booleans()) else None
    return z, log_prior, rng


temperatures = st.one_of(st.floats(-3, 3).map(lambda x: 10.0**x), st.sampled_from([0.0, 1e-44, math.inf]))


def chunks(z, t, log_prior, bounds):
    edges = [0, *bounds, z.shape[1]]
    return [
        GibbsState.from_logits(z[:, a:b], t, log_prior=None if log_prior is None else log_prior[a:b])
        for a, b in zip(edges, edges[1:])
        if b > a
    ]


def merged(states):
    total = GibbsState.empty(states[0].temperature)
    for state in states:
        total = total.merge(state)
    return total


def tree(states):
    while len(states) > 1:
        states = [a.merge(b) for a, b in zip(states[::2], states[1::2])] + states[len(states) // 2 * 2 :]
    return states[0]


def assert_same(a, b, z, t):
    """Every answer the same within rounding of the logits over T."""
    eps = np.finfo(np.asarray(a.top).dtype).eps
    allowed = z[z > -math.inf]
    spread = float(allowed.max() - allowed.min())
    for question in QUESTIONS:
        ours, theirs = (np.asarray(getattr(s, question)(), dtype=np.float64) for s in (a, b))
        assert np.array_equal(np.isinf(ours), np.isinf(theirs))
        finite = np.isfinite(theirs)
        scale = 1 + abs(allowed).max() + spread + np.abs(theirs[finite])
        if question == "free_energy":
            scale = scale + t
        assert np.all(np.abs(ours[finite] - theirs[finite]) <= ULPS * eps * scale), question


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(rows(), temperatures, st.data())
def test_any_order_and_any_chunks(dtype, given_rows, t, data):
    z, log_prior, rng = given_rows
    z = z.astype(dtype)
    bounds = sorted(data.draw(st.lists(st.integers(0, z.shape[1]), max_size=6)))
    whole = GibbsState.from_logits(z, t, log_prior=log_prior)
    parts = chunks(z, t, log_prior, bounds)
    shuffled = [parts[i] for i in rng.permutation(len(parts))]
    for together in (merged(parts), merged(shuffled), tree(parts), tree(shuffled)):
        assert_same(together, whole, z, t)


@given(rows(), temperatures)
def test_merging_commutes_and_associates(given_rows, t):
    z, log_prior, _ = given_rows
    assume(z.shape[1] >= 3)
    a, b, c = chunks(z, t, log_prior, [1, 2])
    assert_same(a.merge(b).merge(c), c.merge(b).merge(a), z, t)
    assert_same(a.merge(b).merge(c), a.merge(b.merge(c)), z, t)


@given(rows(), temperatures)
def test_the_empty_state_is_the_identity(given_rows, t):
    z, log_prior, _ = given_rows
    state = GibbsState.from_logits(z, t, log_prior=log_prior)
    empty = GibbsState.empty(state.temperature)
    for same in (state.merge(empty), empty.merge(state), empty.merge(empty).merge(state)):
        for name in ("top", "log_weight", "rest", "gap", "spread"):
            assert np.array_equal(getattr(same, name), getattr(state, name)), name


def test_a_chunk_may_hold_no_allowed_state():
    z = np.array([[1.0, 2.0, -np.inf, -np.inf], [-np.inf, -np.inf, 0.0, 3.0]])
    together = merged(chunks(z, 0.5, None, [2]))
    assert_same(together, GibbsState.from_logits(z, 0.5), z, 0.5)


@given(st.floats(0, 10), st.floats(0, 10))
def test_two_temperatures_do_not_merge(t, other):
    assume(t != other)
    z = np.array([1.0, 2.0])
    with pytest.raises(ValueError, match="same temperature"):
        GibbsState.from_logits(z, t).merge(GibbsState.from_logits(z, other))


@pytest.mark.parametrize("temperature", [0.1, 1.0, 3.0])
@settings(max_examples=4)
@given(st.integers(0, 100))
def test_a_vocabulary_in_128_chunks_of_float32(temperature, seed):
    """S and C within 2e-6 max(1, S) of float64, where (E - F)/T of float32 is far off."""
    rng = np.random.default_rng(seed)
    z = (3 * rng.normal(size=131_072)).astype(np.float32)
    together = merged([GibbsState.from_logits(part, temperature) for part in z.reshape(128, 1024)])
    exact = GibbsState.from_logits(z.astype(np.float64), temperature)
    assert together.top.dtype == np.float32
    budget = 2e-6 * max(1.0, float(exact.entropy()))
    assert abs(float(together.entropy()) - float(exact.entropy())) <= budget
    assert abs(float(together.heat_capacity()) - float(exact.heat_capacity())) <= budget
