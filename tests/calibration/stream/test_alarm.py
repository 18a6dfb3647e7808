"""The alarm: its recursion, the law behind its guarantee, and the guarantee itself on simulated streams."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import log_softmax

from logitherm.calibration.rows import labelled
from logitherm.calibration.stream.alarm import BEYOND, Alarm, likelihood_table, watch

BAND = 1 / 1.05, 1.05


def draw(rng, n, temperature, classes=5):
    z = 2 * rng.normal(size=(n, classes))
    t = np.broadcast_to(np.asarray(temperature, dtype=float), (n,))[:, None]
    return z, (z / t + rng.gumbel(size=z.shape)).argmax(axis=1)


def run_to_alarm(alarm, rng, temperature, most, batch=200):
    for _ in range(0, most, batch):
        watch(alarm, labelled(*draw(rng, batch, temperature)))
        if alarm.rows_to_alarm is not None:
            return alarm.rows_to_alarm
    return most


@given(
    arrays(float, st.integers(2, 6), elements=st.one_of(st.floats(-30, 30), st.just(-math.inf))),
    st.floats(0.2, 5),
    st.floats(1, 2),
    st.floats(1.001, 8),
    st.floats(0, 1),
    st.floats(0.01, 1),
)
def test_the_ratio_has_an_expectation_of_at_most_one_in_the_band(row, low, width, beyond, where, weight):
    if not np.isfinite(row).any():
        return
    high = low * width
    truth = np.exp(log_softmax(row / (low * width**where)))
    for edge, alternative in ((low, low / beyond), (high, high * beyond)):
        with np.errstate(invalid="ignore"):
            gains = log_softmax(row / alternative) - log_softmax(row / edge)
        ratio = np.exp(gains[truth > 0])
        assert truth[truth > 0] @ ratio <= 1 + 1e-9
        assert truth[truth > 0] @ ratio**weight <= 1 + 1e-9


def test_row_statistics_are_derivatives_of_the_likelihood():
    rng = np.random.default_rng(0)
    z, y = draw(rng, 40, 1.0)
    z[3, (y[3] + 1) % 5] = -math.inf
    t = np.array([0.3, 1.0, 2.5])
    found = likelihood_table(labelled(z, y), t)
    for i, temperature in enumerate(t):

        def nll(beta):
            return -log_softmax(z * beta, axis=1)[np.arange(40), y]

        beta, step = 1 / temperature, 1e-4
        np.testing.assert_allclose(found.nll[:, i], nll(beta), rtol=1e-12, atol=1e-14)
        slope = (nll(beta + step) - nll(beta - step)) / (2 * step)
        np.testing.assert_allclose(found.score[:, i], slope, atol=1e-6)
        bend = (nll(beta + step) - 2 * nll(beta) + nll(beta - step)) / step**2
        np.testing.assert_allclose(found.curvature[:, i], bend, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("weighted", "dispersion"), [(False, 1.0), (True, 1.0), (False, 1.3)])
def test_the_recursion_in_any_batches(weighted, dispersion):
    rng = np.random.default_rng(1)
    z, y = draw(rng, 600, np.repeat([1.0, 1.4], 300))
    w = rng.choice([0.0, 0.5, 1.0, 3.0], 600) if weighted else np.ones(600)
    nll = lambda t: -log_softmax(z / t, axis=1)[np.arange(600), y]  # noqa: E731
    gains = [nll(low) - nll(low / f) for low in BAND[:1] for f in BEYOND]
    gains += [nll(high) - nll(high * f) for high in BAND[1:] for f in BEYOND]
    r, expected, level = np.zeros(len(gains)), None, 0.0
    for i, row in enumerate(np.array(gains).T):
        r = (1 + r) * np.exp(min(w[i], 1.0) * row / dispersion)
        level = r.mean() / 1000
        expected = i + 1 if expected is None and level >= 1 else expected
    for sizes in ([600], [1] * 20 + [580], [7] * 85 + [5]):
        alarm, start = Alarm(BAND, 1000, dispersion), 0
        for size in sizes:
            watch(alarm, labelled(z[start : start + size], y[start : start + size])._replace(weights=w[start:][:size]))
            start += size
        assert alarm.rows_to_alarm == expected and expected > 300 and alarm.needs == "heating"
        assert alarm.level == pytest.approx(level, rel=1e-9)
        assert alarm.rows == 600


@pytest.mark.parametrize("where", ["high edge", "low edge", "inside", "to and fro"])
def test_false_alarms_come_no_more_often_than_stated(where):
    rng = np.random.default_rng(2)
    path = {"high edge": BAND[1], "low edge": BAND[0], "inside": 1.0, "to and fro": np.repeat(BAND, 100)}[where]
    rows = np.array([run_to_alarm(Alarm(BAND, 200), rng, path, 4000) for _ in range(200)])
    assert rows.mean() - 2 * rows.std() / math.sqrt(len(rows)) > 200
    for n in (20, 100):
        assert np.mean(rows <= n) <= n / 200
    if "edge" in where:
        assert np.median(rows) < 3000  # not for want of ever ringing


def test_a_change_is_noticed_soon():
    rng = np.random.default_rng(3)
    for temperature, needs, soon in ((1.5, "heating", 250), (2.0, "heating", 100), (0.67, "cooling", 300)):
        rows = []
        for _ in range(30):
            alarm = Alarm(BAND, 1e5)
            watch(alarm, labelled(*draw(rng, 500, 1.0)))
            assert alarm.rows_to_alarm is None
            rows.append(run_to_alarm(alarm, rng, temperature, 2000, 100) - 500)
            assert alarm.needs == needs
        assert np.mean(rows) < soon


def test_evidence_beyond_what_numbers_hold():
    z = np.tile([[0.0, 30.0]], (5000, 1))
    alarm = Alarm(BAND, 1e5)
    watch(alarm, labelled(z, np.zeros(5000, dtype=int)))
    assert alarm.level == math.inf and np.isfinite(alarm.evidence).all() and alarm.rows_to_alarm < 10
    alarm.clear()
    assert alarm.level == 0 and alarm.rows_to_alarm is None


def test_no_rows():
    alarm = Alarm(BAND, 1e5)
    watch(alarm, labelled(np.empty((0, 3)), np.empty(0, dtype=int)))
    assert alarm.rows == 0 and alarm.level == 0
