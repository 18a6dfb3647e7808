"""One row in Python's numbers, against the definition in many digits."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from logitherm.kernels.one_row import mellow_maximum, one_row, soft_maximum

INF = math.inf
finite = st.floats(-1e3, 1e3).map(lambda v: round(v, 6))
rows = st.lists(st.one_of(finite, st.just(-INF)), min_size=1, max_size=7).filter(lambda row: max(row) > -INF)
temperatures = st.one_of(st.sampled_from([0.0, 1e-300, 1e300, INF]), st.floats(1e-3, 1e3))


@given(rows, temperatures)
def test_every_quantity_is_that_of_the_definition(definition, row, t):
    found, right = one_row(row, t), definition(row, t)
    assert np.allclose(found.p, [float(p) for p in right.p], rtol=1e-13, atol=1e-15)
    assert found.entropy == pytest.approx(float(right.entropy), rel=1e-13, abs=1e-14)
    assert found.top - found.gap == pytest.approx(-float(right.mean_energy), rel=1e-13, abs=1e-12)
    assert found.capacity == pytest.approx(float(right.heat_capacity), rel=1e-11, abs=1e-13)
    assert all(p == 0 for p, value in zip(found.p, row) if value == -INF)


@given(rows, st.floats(1e-3, 1e3))
def test_soft_maxima(definition, row, t):
    free = -float(definition(row, t).free_energy)
    allowed = sum(value > -INF for value in row)
    assert soft_maximum(row, t) == pytest.approx(free, rel=1e-13, abs=1e-11)
    assert mellow_maximum(row, t) == pytest.approx(free - t * math.log(allowed), rel=1e-12, abs=1e-11)
    assert max(row) <= soft_maximum(row, t)
    assert mellow_maximum(row, t) <= max(row) + 1e-12


def test_limits_of_soft_maxima():
    row = [1.0, 0.5, -INF, 0.0]
    assert soft_maximum(row, 0.0) == mellow_maximum(row, 0.0) == 1.0
    assert soft_maximum(row, INF) == INF and soft_maximum([2.0, -INF], INF) == 2.0
    assert mellow_maximum(row, INF) == 0.5
    assert mellow_maximum(row, 1e15) == pytest.approx(0.5, rel=1e-14)
    assert soft_maximum([1e300, -1e300], 1e-300) == mellow_maximum([1e300, -1e300], 1e-300) == 1e300
