"""The sweep against the published loop."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import softmax

from logitherm.metrics import accuracy, expected_calibration_error, one_vs_rest, sweep, sweep_calibration_error


def published(confidence, hit):
    """Roelofs et al.: more equal-mass bins until the accuracies fall; no ties."""
    order = np.argsort(confidence)
    p, y = confidence[order], hit[order].astype(float)
    n, best = len(p), 1
    for bins in range(2, n + 1):
        index = np.floor(bins * (np.arange(n) + 0.5) / n)
        means = [y[index == b].mean() for b in np.unique(index)]
        if any(b < a for a, b in zip(means, means[1:])):
            break
        best = bins
    index = np.floor(best * (np.arange(n) + 0.5) / n)
    return sum((index == b).sum() / n * abs(p[index == b].mean() - y[index == b].mean()) for b in set(index)), best


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("t", [0.7, 2.0])
def test_the_published_loop(make_case, naive, seed, t):
    case = make_case(597, 4, seed=seed)
    expected, bins = published(*naive.top_label(case, t))
    found = sweep_calibration_error(case.logits, case.labels, t, bootstrap=0)
    assert found.bins == bins
    assert found.value == pytest.approx(expected, abs=1e-9)
    same = expected_calibration_error(case.logits, case.labels, t, bins=bins, binning="equal_mass")
    assert found.value == pytest.approx(same, abs=1e-9)


@pytest.mark.parametrize("held", [1 << 22, 1300])
def test_class_wise_is_the_published_loop_of_every_class(make_case, naive, monkeypatch, held):
    monkeypatch.setattr(one_vs_rest, "HELD_PROBABILITIES", held)
    monkeypatch.setattr(one_vs_rest, "HELD_VALUES", held)  # 1300: two classes, two replicates at a time
    case = make_case(597, 5, seed=1)
    p = softmax(case.logits / 0.8, axis=1)
    expected, bins = zip(*(published(p[:, k], case.labels == k) for k in range(5)))
    found = sweep_calibration_error(case.logits, case.labels, 0.8, kind="class_wise", bootstrap=50)
    assert found.bins == sum(bins)
    assert found.value == pytest.approx(np.mean(expected), abs=1e-9)
    assert found.low < found.value < found.high
    assert sweep_calibration_error(case.logits, case.labels, 0.8, kind="marginal", bootstrap=50) == found


def test_class_wise_interval_is_that_of_resampled_rows_in_the_same_bins(case):
    z, y, w = case
    p = softmax(z, axis=1)
    found = sweep_calibration_error(z, y, kind="class_wise", bootstrap=2000, weights=w)
    index = [np.searchsorted(sweep.sweep_edges(p[:, k], (y == k) * 1.0, w)[1:-1], p[:, k]) for k in range(5)]
    rng, again = np.random.default_rng(3), []
    for _ in range(500):
        v = w * rng.poisson(1.0, 600)
        again.append(
            np.mean([np.abs(np.bincount(i, v * (p[:, k] - (y == k)))).sum() / v.sum() for k, i in enumerate(index)])
        )
    width = np.subtract(*np.quantile(again, [0.975, 0.025]))
    assert found.low < found.value < found.high
    assert found.high - found.low == pytest.approx(width, rel=0.15)


def test_an_error_names_the_row_of_the_caller(case):
    z, y, w = case[0].copy(), case[1], np.arange(600) % 2
    z[501, 1] = np.nan
    for kind in ("top_label", "class_wise"):
        for weights in (None, w):
            with pytest.raises(ValueError, match="row 501"):
                sweep_calibration_error(z, y, kind=kind, weights=weights)


def test_kind_is_said():
    with pytest.raises(ValueError, match=r"kind: must be one of .* got 'classwise'"):
        sweep_calibration_error(np.zeros((1, 2)), [0], kind="classwise")


def test_probcal():
    """probcal 0.4.0, ece_sweep(correct, confidence)."""
    p = 0.02 + 0.96 * ((np.arange(300) * 0.6180339887) % 1)
    y = (((np.arange(300) * 0.7548776662) % 1) < 1 / (1 + np.sqrt(1 / p - 1))).astype(int)
    found = sweep_calibration_error(np.log(np.stack([1 - p, p], axis=1)), y, bootstrap=0)
    assert found.value == pytest.approx(0.09389054495765312, abs=1e-9)


def test_copies_are_weights_and_zeros_are_nothing(case):
    z, y, _ = case
    w = np.random.default_rng(0).integers(0, 4, len(y))
    for kind in ("top_label", "class_wise"):
        a = sweep_calibration_error(z, y, kind=kind, bootstrap=0, weights=w)
        b = sweep_calibration_error(np.repeat(z, w, axis=0), np.repeat(y, w), kind=kind, bootstrap=0)
        assert (a.value, a.bins) == (pytest.approx(b.value), b.bins)


def test_limits(case, monkeypatch):
    z, y, _ = case
    for t, expected in ((0, 1 - accuracy(z, y)), (math.inf, abs(accuracy(z, y) - 0.2))):
        found = sweep_calibration_error(z, y, t, bootstrap=20)
        assert (found.value, found.bins) == (pytest.approx(expected), 1)
    right = sweep_calibration_error(z, z.argmax(1), bootstrap=20)
    assert right.bins == 600
    assert right.low <= right.value <= right.high
    monkeypatch.setattr(sweep, "MOST_BINS", 50)
    assert sweep_calibration_error(z, z.argmin(1), bootstrap=20).bins == 50
    assert sweep_calibration_error([[1.0, -np.inf]], [0]).to_dict() == {"value": 0, "low": 0, "high": 0, "bins": 1}
    assert sweep_calibration_error(np.zeros((2, 1)), [0, 0], bootstrap=0).to_dict()["low"] is None


def test_ties_in_any_order():
    z = np.log([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.6, 0.4]])
    found = [sweep_calibration_error(z, y, bootstrap=0) for y in ([0, 1, 1, 0], [1, 0, 0, 1])]
    assert found[0].value == found[1].value == pytest.approx(0.25)
    assert found[0].bins == found[1].bins == 2


def test_the_interval_is_that_of_resampled_rows_in_the_same_bins(case, naive):
    confidence, hit = naive.top_label(case, 1.0)
    found = sweep_calibration_error(case.logits, case.labels, bootstrap=3000)
    edges = sweep.sweep_edges(confidence, hit.astype(float), np.ones(600))
    index = np.searchsorted(edges[1:-1], confidence)
    rng = np.random.default_rng(3)
    again = []
    for _ in range(500):
        w = rng.poisson(1.0, 600)
        again.append(np.abs(np.bincount(index, w * (confidence - hit))).sum() / w.sum())
    width = np.subtract(*np.quantile(again, [0.975, 0.025]))
    assert found.low < found.value < found.high
    assert found.high - found.low == pytest.approx(width, rel=0.15)
