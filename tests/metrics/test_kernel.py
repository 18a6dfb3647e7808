"""The kernel calibration error against plain loops, and its tests against their level."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import norm

from logitherm.metrics import kernel, kernel_calibration_error


def statistic(case, t, name, width, i, j):
    p = softmax(case.logits[[i, j]] / t, axis=1)
    d = np.abs(p[0] - p[1]).sum() / 2 if name == "total_variation" else math.dist(*p)
    residual = np.eye(p.shape[1])[case.labels[[i, j]]] - p
    return math.exp(-d / width) * float(residual[0] @ residual[1])


@pytest.mark.parametrize("name", ["laplacian", "total_variation"])
@pytest.mark.parametrize("rows", [512, 7])
def test_all_pairs(make_case, monkeypatch, name, rows):
    monkeypatch.setattr(kernel, "BLOCK_ROWS", rows)
    case = make_case(40, 4)
    w = case.weights
    pairs = [(i, j) for i in range(40) for j in range(i)]
    expected = np.average(
        [statistic(case, 1.4, name, 0.3, i, j) for i, j in pairs], weights=[w[i] * w[j] for i, j in pairs]
    )
    found = kernel_calibration_error(case.logits, case.labels, 1.4, kernel=name, bandwidth=0.3, bootstrap=20, weights=w)
    assert found.value == pytest.approx(expected, abs=1e-9)
    again = kernel_calibration_error(case.logits, case.labels, 1.4, kernel=name, bandwidth=0.3, bootstrap=0)
    assert again.value == pytest.approx(np.mean([statistic(case, 1.4, name, 0.3, i, j) for i, j in pairs]), abs=1e-9)


@pytest.mark.parametrize("name", ["laplacian", "total_variation"])
@pytest.mark.parametrize("rows", [512, 7])
def test_neighbours(make_case, monkeypatch, name, rows):
    monkeypatch.setattr(kernel, "BLOCK_ROWS", rows)
    case = make_case(41, 4)
    h = [statistic(case, 0.8, name, 0.3, i, i + 1) for i in range(0, 40, 2)]
    options = {"estimator": "linear", "kernel": name, "bandwidth": 0.3}
    found = kernel_calibration_error(case.logits, case.labels, 0.8, **options)
    error = np.std(h, ddof=1) / math.sqrt(20)
    assert found.value == pytest.approx(np.mean(h), abs=1e-12)
    assert found.p_value == pytest.approx(norm.sf(np.mean(h) / error))
    assert (found.low, found.high) == pytest.approx(
        (np.mean(h) - 1.959964 * error, np.mean(h) + 1.959964 * error), abs=1e-6
    )


def test_probcal():
    """probcal 0.4.0, skce(y, p, bandwidth=0.3); of two classes |p - p'| is the total variation."""
    p = 0.02 + 0.96 * ((np.arange(300) * 0.6180339887) % 1)
    y = (((np.arange(300) * 0.7548776662) % 1) < 1 / (1 + np.sqrt(1 / p - 1))).astype(int)
    z = np.log(np.stack([1 - p, p], axis=1))
    found = kernel_calibration_error(z, y, kernel="total_variation", bandwidth=0.3, bootstrap=0)
    assert found.value == pytest.approx(0.0033984005786642443, abs=1e-9)


@pytest.mark.parametrize(("estimator", "n", "cold"), [("quadratic", 150, 0.4), ("linear", 1000, 0.25)])
def test_the_level_and_the_power_of_the_tests(make_case, estimator, n, cold):
    def rejected(t):
        samples = (make_case(n, 3, seed=s, overconfidence=1.0)[:2] for s in range(200))
        found = [kernel_calibration_error(*s, t, estimator=estimator, bandwidth=0.5, bootstrap=99) for s in samples]
        return np.mean([f.p_value <= 0.1 for f in found])

    assert 0.04 <= rejected(1.0) <= 0.17
    assert rejected(cold) > 0.9 if estimator == "quadratic" else rejected(cold) > 0.4


def test_the_blocks_do_not_change_the_p_value(case, monkeypatch):
    whole = kernel_calibration_error(case.logits, case.labels, bootstrap=50)
    monkeypatch.setattr(kernel, "BLOCK_ROWS", 100)
    parts = kernel_calibration_error(case.logits, case.labels, bootstrap=50)
    assert parts.p_value == whole.p_value
    assert (parts.value, parts.low, parts.high) == pytest.approx((whole.value, whole.low, whole.high))


@pytest.mark.parametrize("name", ["laplacian", "total_variation"])
@pytest.mark.parametrize("scale", [0.1, 2.0, 20.0])
def test_many_rows_in_float32_are_as_good_as_in_float64(make_case, monkeypatch, name, scale):
    z, y, w = make_case(2100, 7, scale=scale)
    kinds = []
    pairs = kernel._pairs
    monkeypatch.setattr(kernel, "_pairs", lambda *a: kinds.append(a[-1]) or pairs(*a))
    found = []
    for rows in (2048, 3000):
        monkeypatch.setattr(kernel, "EXACT_ROWS", rows)
        found.append(kernel_calibration_error(z, y, kernel=name, bootstrap=200, weights=w))
    fast, exact = found
    assert set(kinds[: len(kinds) // 2]) == {np.float32} and set(kinds[len(kinds) // 2 :]) == {np.float64}
    for end in ("value", "low", "high"):
        assert getattr(fast, end) == pytest.approx(getattr(exact, end), abs=1e-7)
    assert fast.p_value == pytest.approx(exact.p_value, abs=1 / 201 + 1e-9)


def test_probabilities_are_held_or_computed_again(case, monkeypatch):
    held = kernel_calibration_error(case.logits, case.labels, bootstrap=50)
    monkeypatch.setattr(kernel, "BLOCK_ROWS", 100)
    monkeypatch.setattr(kernel, "HELD_VALUES", 0)
    assert kernel_calibration_error(case.logits, case.labels, bootstrap=50).value == pytest.approx(held.value)


def test_the_wild_bootstrap_flips_the_signs_of_rows(make_case):
    case = make_case(30, 3)
    h = np.array(
        [[statistic(case, 1.0, "laplacian", 0.5, i, j) if i != j else 0 for j in range(30)] for i in range(30)]
    )
    signs = np.random.default_rng(7).integers(0, 2, size=(30, 40), dtype=np.int8) * 2 - 1
    beyond = sum(s @ h @ s >= h.sum() for s in signs.T)
    found = kernel_calibration_error(case.logits, case.labels, bandwidth=0.5, bootstrap=40, seed=7)
    assert found.p_value == (1 + beyond) / 41


@pytest.mark.parametrize("t", [1.0, 2.5])
def test_the_interval_covers(make_case, t):
    """At T = 2.5 the labels are drawn at 2.5: calibrated, where the statistic is degenerate."""
    truth = kernel_calibration_error(
        *make_case(6000, 3, seed=99, overconfidence=2.5)[:2], t, bandwidth=0.5, bootstrap=0
    )
    covered = []
    for s in range(150):
        z, y, _ = make_case(200, 3, seed=s, overconfidence=2.5)
        found = kernel_calibration_error(z, y, t, bandwidth=0.5, bootstrap=0)
        covered.append(found.low <= truth.value <= found.high or (t == 2.5 and found.low <= 0 <= found.high))
    assert np.mean(covered) >= 0.9


@pytest.mark.parametrize("estimator", ["quadratic", "linear"])
def test_an_error_names_the_row_of_the_caller(make_case, estimator):
    z, y, _ = make_case(3000, 3)
    z[2501, 1] = np.nan
    for weights in (None, np.arange(3000) % 2):
        with pytest.raises(ValueError, match="row 2501"):
            kernel_calibration_error(z, y, estimator=estimator, weights=weights)


def test_limits(case):
    z, y, _ = case
    for estimator in ("quadratic", "linear"):
        for t in (0, math.inf):
            assert math.isfinite(kernel_calibration_error(z, y, t, estimator=estimator, bootstrap=9).value)
        one = kernel_calibration_error([[1.0, 0.0]], [0], estimator=estimator, bootstrap=9)
        assert math.isnan(one.value) and math.isnan(one.p_value)
        assert json.loads(json.dumps(one.to_dict(), allow_nan=False))["value"] is None
        single = kernel_calibration_error(np.zeros((6, 1)), np.zeros(6, int), estimator=estimator, bootstrap=9)
        assert (single.value, single.p_value) == (0.0, 1.0)
        wrong = kernel_calibration_error([[9e9, 0.0, -np.inf]] * 8, [1] * 8, estimator=estimator, bootstrap=99)
        assert (wrong.value, wrong.bandwidth) == (2.0, 1.0)
        assert wrong.p_value < 0.05
        w = np.where(np.arange(600) % 3 > 0, 2.0, 0.0)
        kept = w > 0
        a = kernel_calibration_error(z, y, estimator=estimator, bandwidth=1, bootstrap=0, weights=w)
        b = kernel_calibration_error(z[kept], y[kept], estimator=estimator, bandwidth=1, bootstrap=0)
        assert (a.value, a.high) == pytest.approx((b.value, b.high))


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"estimator": "biased"}, ValueError),
        ({"kernel": "gaussian"}, ValueError),
        ({"bandwidth": 0}, ValueError),
        ({"bandwidth": math.inf}, ValueError),
        ({"bandwidth": "a"}, TypeError),
    ],
)
def test_errors(options, kind):
    with pytest.raises(kind, match=next(iter(options)) + ": must"):
        kernel_calibration_error(np.zeros((2, 2)), [0, 1], **options)


@pytest.mark.parametrize("tiny", [1e-20, 1e-160, 1e-300])
def test_two_rows_of_which_one_is_hardly_there_are_one_pair(tiny):
    z, y = np.array([[1.0, 0.0], [0.0, 2.0]]), np.array([0, 0])
    plain = kernel_calibration_error(z, y, bandwidth=0.3, bootstrap=0)
    found = kernel_calibration_error(z, y, bandwidth=0.3, bootstrap=0, weights=np.array([1.0, tiny]))
    assert found.value == pytest.approx(plain.value, rel=1e-9)


def test_weights_that_are_nothing_in_float32_leave_nan(make_case):
    case = make_case(kernel.EXACT_ROWS + 1, 3)
    w = np.full(len(case.labels), 1e-60)
    w[0] = 1.0
    found = kernel_calibration_error(case.logits, case.labels, bootstrap=5, weights=w)
    assert math.isnan(found.value) and math.isnan(found.high) and math.isnan(found.p_value)
