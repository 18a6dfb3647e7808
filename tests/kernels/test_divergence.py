"""The kernels of divergences against the definition in float64."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax

from logitherm.kernels.divergence import Loss, collect, empty_state, finish, require_sound, whole

ONES = np.ones(6)


def loss(name="forward_kl", t_s=ONES, t_t=ONES, factor=ONES, hard=None, labels=None, softcap=math.inf):
    """Without labels unless they have a weight."""
    hard = np.zeros(len(t_s)) if hard is None else hard
    labels = np.zeros(len(t_s), dtype=np.int64) if labels is None else labels
    return Loss(name, t_s, t_t, factor, labels, hard, softcap)


def by_vocabulary(given, student, teacher, width, slopes):
    """The same from blocks of so many states; the slopes are in the place of the student."""
    state, value = empty_state(len(student)), np.zeros(len(student))
    parts = [slice(i, i + width) for i in range(0, student.shape[1], width)]
    for part in parts:
        collect(given, np.ascontiguousarray(student[:, part]), np.ascontiguousarray(teacher[:, part]), state)
    require_sound(state)
    for part in parts:
        z = np.ascontiguousarray(student[:, part])
        other = np.ascontiguousarray(teacher[:, part])
        finish(given, z, other, state, value, first_state=part.start, slopes=slopes)
        student[:, part] = z
    return value


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
    chosen = loss(name, t_s, t_t, factor)
    value = whole(chosen, z, teacher, slopes=True)
    np.testing.assert_array_equal(value, whole(chosen, student.copy(), teacher, slopes=False))
    log_q, log_p = (log_softmax(x.astype(np.float64) / t[:, None], -1) for x, t in ((student, t_s), (teacher, t_t)))
    p, q = np.exp(log_p), np.exp(log_q)
    fall = np.where(log_p > -math.inf, log_p - np.where(log_p > -math.inf, log_q, 0), 0)
    if name == "forward_kl":
        expected, slope = (p * fall).sum(-1), q - p
    else:
        expected = (-q * fall).sum(-1)
        slope = q * (-fall - expected[:, None])
    expected, slope = factor * expected, slope * (factor / t_s)[:, None]
    slack = 3e-6 if dtype == np.float32 else 1e-13
    size = 1 + np.abs(fall).max(-1)
    relative, absolute = (2e-4, 1e-9) if dtype == np.float32 else (1e-8, 1e-15)  # of values as small as 1e-7
    assert np.all(np.abs(value - expected) <= relative * expected + absolute * size)
    assert np.all(np.abs(z - slope) <= slack * size[:, None] * factor[:, None] / t_s[:, None])
    assert np.all(value >= 0)


@pytest.mark.parametrize("softcap", [math.inf, 9.0])
@pytest.mark.parametrize("hard_weight", [0.0, 0.4])
@pytest.mark.parametrize("name", ["forward_kl", "reverse_kl"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_labels_and_caps_of_whole_rows_and_of_blocks(dtype, name, hard_weight, softcap, ran):
    rng = np.random.default_rng(0)
    student, teacher = ((3 * rng.normal(size=(6, 1300))).clip(-8, 8).astype(dtype) for _ in range(2))
    student[1, 70:1290] = -math.inf if softcap == math.inf else 0
    teacher[1, 70:1290] = -math.inf
    t_s, t_t, factor = rng.uniform(0.5, 3, (3, 6))
    labels = np.array([0, 5, 511, 512, 1299, 700])
    hard = hard_weight * factor
    chosen = loss(name, t_s, t_t, (1 - hard_weight) * factor, hard, labels, softcap)
    z = student.copy()
    value = whole(chosen, z, teacher, slopes=True)
    plain, base = student.copy(), loss(name, t_s, t_t, (1 - hard_weight) * factor)
    expected = whole(base, plain, teacher, slopes=True)
    log_p = log_softmax(student.astype(np.float64), -1)
    rows = np.arange(6)
    expected = expected - hard * log_p[rows, labels]
    slope = plain.astype(np.float64) + hard[:, None] * np.exp(log_p)
    slope[rows, labels] -= hard
    if softcap < math.inf:
        slope = np.where(student > -math.inf, slope * (1 - (student / softcap) ** 2), 0)
    slack = 3e-6 if dtype == np.float32 else 1e-13
    np.testing.assert_allclose(value, expected, rtol=slack, atol=slack)
    np.testing.assert_allclose(z, slope, rtol=0, atol=3 * slack)
    pieces = student.copy()
    ran("divergence, by vocabulary")
    same = by_vocabulary(chosen, pieces, teacher, 77, True)
    assert ran("divergence, by vocabulary") == 17
    np.testing.assert_allclose(same, value, rtol=10 * slack, atol=10 * slack)
    np.testing.assert_allclose(pieces, z, rtol=0, atol=10 * slack)


def test_what_only_one_side_forbids():
    student, teacher = np.zeros((1, 4)), np.zeros((1, 4))
    student[0, 2] = -math.inf
    one = ONES[:1]
    forward, reverse = (loss(name, one, one, one) for name in ("forward_kl", "reverse_kl"))
    assert whole(forward, student.copy(), teacher, slopes=False)[0] == math.inf
    assert whole(reverse, student.copy(), teacher, slopes=False)[0] == pytest.approx(math.log(4 / 3))


@pytest.mark.parametrize("side", ["student", "teacher"])
def test_the_row_that_is_none_is_named(side):
    z = {"student": np.zeros((6, 4)), "teacher": np.zeros((6, 4))}
    z[side][4, 1] = math.nan
    with pytest.raises(ValueError, match=f"{side}: rows must be finite.* row 14 has NaN"):
        whole(loss(), z["student"], z["teacher"], slopes=True, first_row=10)
    with pytest.raises(ValueError, match=f"{side}: rows must be finite.* row 4 has NaN"):
        by_vocabulary(loss(), z["student"], z["teacher"], 2, True)
