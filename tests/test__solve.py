"""The root finder: for every row on its own, whatever the start, and no further than the bracket."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from logitherm._solve import find_root, find_root_of_one

FUNCTIONS = {
    "linear": (lambda x: (x - 0.3, 0 * x + 1), 0.3),
    "cubic": (lambda x: (x**3 - 8, 3 * x**2), 2.0),
    "triple root": (lambda x: ((x - 1) ** 3, 3 * (x - 1) ** 2), 1.0),
    "steep and flat": (lambda x: (np.exp(x) - 5, np.exp(x)), math.log(5)),
    "saturating": (lambda x: (np.tanh(4 * (x + 1.5)), 4 / np.cosh(4 * (x + 1.5)) ** 2), -1.5),
    "wrong slope": (lambda x: (x - 0.7, 0 * x + 1e-3), 0.7),
    "no slope": (lambda x: (x - 0.7, 0 * x), 0.7),
}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("start", [-9.9, 0.0, 3.0, 10.0])
def test_finds_the_root(name, start):
    function, root = FUNCTIONS[name]
    with np.errstate(over="ignore"):
        found = find_root(function, np.asarray(start), -10.0, 10.0, step_tolerance=1e-12)
    assert bool(found.done)
    assert abs(float(found.x) - root) <= (1e-4 if name == "triple root" else 1e-11)
    assert found.iterations <= 100


@given(
    st.lists(st.tuples(st.floats(0.1, 5), st.floats(-9, 9), st.floats(-10, 10)), min_size=1, max_size=6),
)
def test_rows_are_searched_on_their_own(rows):
    """A row's answer does not depend on its neighbours."""
    scale, root, start = (np.array(v) for v in zip(*rows))

    def function(x):
        return np.sinh((x - root) / 3) / scale, np.cosh((x - root) / 3) / scale / 3

    together = find_root(function, start, -10.0, 10.0, value_tolerance=1e-13)
    assert np.all(together.done)
    assert np.allclose(together.x, root, atol=1e-11)
    for i in range(len(rows)):

        def one(x, i=i):
            return np.sinh((x - root[i]) / 3) / scale[i], np.cosh((x - root[i]) / 3) / scale[i] / 3

        assert find_root(one, start[i : i + 1], -10.0, 10.0, value_tolerance=1e-13).x[0] == together.x[i]


@pytest.mark.parametrize(("sign", "bound"), [(1.0, -10.0), (-1.0, 10.0)])
def test_without_a_sign_change_it_ends_at_the_bound(sign, bound):
    found = find_root(lambda x: (sign + 0 * x, 0 * x + 1), np.zeros(3), -10.0, 10.0, step_tolerance=1e-9)
    assert np.all(found.done)
    assert np.allclose(found.x, bound, atol=1e-8)


def test_newton_is_fast_on_a_smooth_function():
    calls = []

    def function(x):
        calls.append(float(x))
        return np.exp(x) - 2, np.exp(x)

    find_root(function, np.asarray(1.0), -80.0, 80.0, value_tolerance=1e-14)
    assert len(calls) <= 6


def test_where_newton_crawls_the_bracket_is_halved():
    """A slope ten times too steep takes a tenth of the way."""
    found = find_root(lambda x: (x - 0.7, 0 * x + 10), np.asarray(9.0), -10.0, 10.0, step_tolerance=1e-9)
    assert bool(found.done)
    assert abs(float(found.x) - 0.7) < 1e-8
    assert found.iterations <= 80


def test_a_known_bend_makes_the_first_step_better():
    """f''/f' of exp is 1, which turns a step of second order into one of third."""

    def error_after_one_step(bend):
        found = find_root(
            lambda x: (np.exp(x) - 2, np.exp(x)), np.asarray(1.0), -80.0, 80.0, bend=bend, max_iterations=1
        )
        return abs(float(found.x) - math.log(2))

    assert error_after_one_step(1.0) < error_after_one_step(math.nan) / 4


def test_the_last_step_is_taken_but_not_evaluated():
    seen = []

    def function(x):
        seen.append(float(x))
        return x - 1 / 3, 0 * x + 1

    found = find_root(function, np.asarray(0.333), -1.0, 1.0, step_tolerance=1e-3)
    assert seen == [0.333]
    assert abs(float(found.x) - 1 / 3) < 1e-15
    assert float(found.seen) == 0.333


def test_evaluations_stay_in_the_bracket():
    def function(x):
        assert np.all((x >= -2) & (x <= 3))
        return np.arctan(50 * (x - 2.9)), 50 / (1 + (50 * (x - 2.9)) ** 2)

    found = find_root(function, np.asarray(-2.0), -2.0, 3.0, step_tolerance=1e-12)
    assert abs(float(found.x) - 2.9) < 1e-11
    assert float(found.lower) <= 2.9 <= float(found.upper)


def test_an_exact_hit_stays_where_it_is():
    found = find_root(lambda x: (x, 0 * x + 1), np.zeros(2), -1.0, 1.0)
    assert np.all(found.x == 0)
    assert found.iterations == 1


def test_iterations_are_bounded():
    found = find_root(lambda x: (x - 0.3, 0 * x), np.asarray(1.0), -1e300, 1e300, max_iterations=7)
    assert found.iterations == 7
    assert not bool(found.done)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_single_number_is_searched_as_an_array_is(name):
    function, _ = FUNCTIONS[name]
    with np.errstate(over="ignore"):
        number, array = (
            find_root(function, start, -10.0, 10.0, step_tolerance=1e-12)
            for start in (np.float64(3.0), np.full(1, 3.0))
        )
    assert number.x == array.x[0]
    assert number.iterations == array.iterations
    assert bool(number.done)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("start", [-9.9, 0.0, 3.0, 10.0])
def test_one_number_takes_the_same_steps(name, start):
    function, _ = FUNCTIONS[name]
    seen, alone = [], []

    def watched(points):
        return lambda x: (points.append(float(x)), tuple(map(type(x), function(np.float64(x)))))[1]

    with np.errstate(all="ignore"):
        found = find_root(watched(seen), np.float64(start), -10.0, 10.0, value_tolerance=1e-14, step_tolerance=1e-12)
        one = find_root_of_one(watched(alone), start, -10.0, 10.0, value_tolerance=1e-14, step_tolerance=1e-12)
    assert alone == seen and one == found.x


def test_no_rows():
    found = find_root(lambda x: (x, 0 * x + 1), np.zeros(0), -1.0, 1.0)
    assert found.x.shape == (0,)


def test_float32_stays_float32():
    found = find_root(lambda x: (x - 0.3, 0 * x + 1), np.zeros(2, np.float32), -1.0, 1.0, step_tolerance=1e-6)
    assert found.x.dtype == np.float32


def test_torch():
    target = torch.tensor([0.5, 2.0, 30.0])
    found = find_root(lambda x: (x.exp() - target, x.exp()), torch.zeros(3), -80.0, 80.0, step_tolerance=1e-6)
    assert torch.allclose(found.x, target.log(), atol=1e-5)


def test_jax_under_jit_and_vmap():
    def solve(target):
        return find_root(
            lambda x: (jnp.exp(x) - target, jnp.exp(x)), jnp.zeros_like(target), -80.0, 80.0, step_tolerance=1e-6
        ).x

    target = jnp.asarray([0.5, 2.0, 30.0])
    for transform in (jax.jit(solve), jax.vmap(solve)):
        assert np.allclose(transform(target), np.log(target), atol=1e-5)
