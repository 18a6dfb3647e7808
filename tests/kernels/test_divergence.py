"""The kernels of divergences against the definition in float64."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax

from logitherm.kernels.divergence import divergence


@settings(max_examples=50)
@given(
    seed=st.integers(0, 10**6),
    states=st.sampled_from([1, 2, 300, 1030]),
    name=st.sampled_from(["forward_kl", "reverse_kl"]),
    dtype=st.sampled_from([np.float32, np.float64]),
    spread=st.sampled_from([0.01, 3.0, 40.0]),
    apart=st.sampled_from([0.003, 1.0]),
)
def test_value_and_slopes(seed, states, name, dtype, spread, apart):
    rng = np.random.default_rng(seed)
    student = (spread * rng.normal(size=(5, states))).astype(dtype)
    teacher = (student + apart * rng.normal(size=(5, states))).astype(dtype)
    if states > 2:
        student[1, 1] = teacher[1, 1] = -math.inf
    t_s, t_t, factor = rng.uniform(0.5, 3, (3, 5))
    z = student.copy()
    value = divergence(name, z, teacher, t_s, t_t, factor, slopes=True)
    same = divergence(name, student.copy(), teacher, t_s, t_t, factor, slopes=False)
    np.testing.assert_array_equal(value, same)
    log_q, log_p = (log_softmax(x.astype(np.float64) / t[:, None], -1) for x, t in ((student, t_s), (teacher, t_t)))
    p, q = np.exp(log_p), np.exp(log_q)
    fall = np.where(log_p > -math.inf, log_p - np.where(log_p > -math.inf, log_q, 0), 0)
    if name == "forward_kl":
        expected, slope = (p * fall).sum(-1), q - p
    else:
        expected = (-q * fall).sum(-1)
        slope = q * (-fall - expected[:, None])
    slope = slope * (factor / t_s)[:, None]
    slack = 3e-6 if dtype == np.float32 else 1e-13
    size = 1 + np.abs(fall).max(-1)
    relative, absolute = (2e-4, 1e-9) if dtype == np.float32 else (1e-8, 1e-15)  # of values as small as 1e-7
    assert np.all(np.abs(value - expected) <= relative * expected + absolute * size)
    assert np.all(np.abs(z - slope) <= slack * size[:, None] * factor[:, None] / t_s[:, None])
    assert np.all(value >= 0)


def test_what_only_one_side_forbids():
    student, teacher = np.zeros((1, 4)), np.zeros((1, 4))
    student[0, 2] = -math.inf
    ones = np.ones(1)
    assert divergence("forward_kl", student.copy(), teacher, ones, ones, ones, slopes=False)[0] == math.inf
    assert divergence("reverse_kl", student.copy(), teacher, ones, ones, ones, slopes=False)[0] == pytest.approx(
        math.log(4 / 3)
    )


@pytest.mark.parametrize("side", ["student", "teacher"])
def test_the_row_that_is_none_is_named(side):
    z = {"student": np.zeros((6, 4)), "teacher": np.zeros((6, 4))}
    z[side][4, 1] = math.nan
    ones = np.ones(6)
    with pytest.raises(ValueError, match=f"{side}: rows must be finite.* row 14 has NaN"):
        divergence("forward_kl", z["student"], z["teacher"], ones, ones, ones, slopes=True, first_row=10)
