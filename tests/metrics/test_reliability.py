from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.stats import binomtest

from logitherm.metrics import expected_calibration_error, maximum_calibration_error, reliability


@pytest.mark.parametrize("binning", ["equal_width", "equal_mass"])
def test_the_bins_are_those_of_the_calibration_errors(case, binning):
    z, y, w = case
    r = reliability(z, y, 1.2, bins=10, binning=binning, bootstrap=50, weights=w)
    filled = r.count > 0
    gaps = np.abs(r.accuracy - r.confidence)[filled]
    ece = expected_calibration_error(z, y, 1.2, bins=10, binning=binning, weights=w)
    assert (r.count[filled] * gaps).sum() / r.count.sum() == pytest.approx(ece)
    assert gaps.max() == pytest.approx(maximum_calibration_error(z, y, 1.2, bins=10, binning=binning, weights=w))
    assert r.count.sum() == pytest.approx(w.sum())
    assert len(r.edges) == len(r.count) + 1 == 11
    inside = (r.confidence > r.edges[:-1]) & (r.confidence <= r.edges[1:])
    assert inside[filled].all()


def test_empty_bins_are_nan_and_the_band_holds_the_accuracy(case):
    r = reliability(*case[:2], bootstrap=200)
    empty = r.count == 0
    assert empty.tolist() == [True] * 3 + [False] * 12  # five classes: no confidence below 1/5
    for values in (r.confidence, r.accuracy, r.low, r.high):
        assert np.isnan(values).tolist() == empty.tolist()
    assert np.all((r.low <= r.accuracy) & (r.accuracy <= r.high) | empty)


def test_the_band_is_that_of_resampled_rows(make_case):
    case = make_case(3000, 3)
    z, y, _ = case
    band = reliability(z, y, bins=5, bootstrap=3000)
    rng = np.random.default_rng(5)
    samples = []
    for _ in range(400):
        rows = rng.integers(0, 3000, 3000)
        samples.append(reliability(z[rows], y[rows], bins=5, bootstrap=0).accuracy)
    low, high = np.quantile(np.array(samples)[:, 1:], [0.025, 0.975], axis=0)
    assert band.low[1:] == pytest.approx(low, abs=0.15 * (high - low).max())
    assert band.high[1:] == pytest.approx(high, abs=0.15 * (high - low).max())


def test_a_long_bin_has_the_band_of_its_few_errors():
    n = 20_000
    z = np.tile([9.0, 0.0], (n, 1))
    y = np.zeros(n, int)
    y[:4] = 1
    r = reliability(z, y, bins=1)
    assert (1 - r.low[0]) * n == pytest.approx(8, abs=1)  # 97.5 % of Poisson(4)
    assert (1 - r.high[0]) * n == pytest.approx(1, abs=1)


def test_a_bin_without_an_error_or_hit_has_the_band_of_wilson():
    z = np.repeat([[0.2, 0.0], [9.0, 0.0]], [10, 30], axis=0)
    y = np.repeat([1, 0], [10, 30])
    wrong, right = (tuple(binomtest(k, n).proportion_ci(method="wilson")) for k, n in ((0, 10), (30, 30)))
    r = reliability(z, y, bins=15, bootstrap=5, weights=np.repeat([3.0, 1.7], [10, 30]))
    filled = r.count > 0
    assert list(zip(r.low[filled], r.high[filled])) == [pytest.approx(wrong), pytest.approx(right)]


def test_rows_without_weight_leave_their_bin_empty():
    r = reliability(np.array([[0.0, 0.0], [9.0, 0.0]]), [0, 0], bins=2, weights=[0, 1], bootstrap=20)
    assert np.isnan(r.accuracy).tolist() == np.isnan(r.low).tolist() == [True, False]


def test_ties_leave_fewer_equal_mass_bins():
    z = np.repeat([[0.0, 0.0], [2.0, 0.0]], [10, 30], axis=0)
    r = reliability(z, np.zeros(40, int), binning="equal_mass", bootstrap=20)
    assert r.edges.tolist() == [0.0, 0.5, 1.0]
    assert r.count.tolist() == [10, 30]


def test_without_bootstrap_and_json(case):
    r = reliability(*case[:2], bootstrap=0)
    assert np.isnan(r.low).all()
    assert np.isnan(r.high).all()
    read = json.loads(json.dumps(r.to_dict(), allow_nan=False))
    assert list(read) == ["edges", "count", "confidence", "accuracy", "low", "high"]
    assert read["low"] == [None] * 15
    assert read["edges"] == np.linspace(0, 1, 16).tolist()


def test_seed(case):
    a, b, c = (reliability(*case[:2], bootstrap=50, seed=s).low for s in (1, 1, 2))
    assert np.array_equal(a, b, equal_nan=True)
    assert not np.array_equal(a, c, equal_nan=True)


def test_errors(case):
    z, y, _ = case
    with pytest.raises(ValueError, match="binning: must be one of"):
        reliability(z, y, binning="quantile")
    with pytest.raises(ValueError, match="bins: must be at least 1"):
        reliability(z, y, bins=-3)
    with pytest.raises(ValueError, match=r"confidence: must lie between 0 and 1; got 0\.0"):
        reliability(z, y, confidence=0)
