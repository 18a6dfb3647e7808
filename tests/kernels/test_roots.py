"""The temperature of one row is that of `solve_temperature`, limits included."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import logitherm
from logitherm.kernels.roots import temperature_of_entropy
from logitherm.thermostat import SetPoint

INF = math.inf
values = st.one_of(st.floats(-50, 50).map(lambda v: round(v, 3)), st.just(-INF))
rows = st.lists(values, min_size=1, max_size=6).filter(lambda row: max(row) > -INF)


@given(rows, st.floats(0.0, 1.1))
def test_it_holds_the_entropy(row, share):
    goal = share * math.log(len(row)) if len(row) > 1 else share
    t = temperature_of_entropy(row, goal)
    z = np.array(row)
    expected = float(SetPoint(entropy=goal).resolve(z))
    if expected in (0, INF):
        assert t == expected
    else:
        assert float(logitherm.entropy(z, t)) == pytest.approx(goal, abs=2e-14)
        assert t == pytest.approx(expected, rel=1e-6) or goal > 0.999 * math.log(len(row)) or goal < 1e-6


@pytest.mark.parametrize("scale", [1e-250, 1e-12, 1.0, 1e12, 1e250])
def test_it_scales_with_the_values(scale):
    t = temperature_of_entropy([3.0 * scale, 1.0 * scale, 0.0], 0.4)
    assert t / scale == pytest.approx(temperature_of_entropy([3.0, 1.0, 0.0], 0.4), rel=1e-12)


def test_limits():
    assert temperature_of_entropy([1.0, 1.0, 0.0], math.log(2)) == 0
    assert temperature_of_entropy([1.0, 1.0, 0.0], math.log(3)) == INF
    assert temperature_of_entropy([2.0, 2.0], 0.5) == 0
    assert temperature_of_entropy([1.0, -INF], 0.5) == INF
    assert temperature_of_entropy([1.0, 0.0], 0.0) == 0
