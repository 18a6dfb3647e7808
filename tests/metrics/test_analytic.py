"""Intervals without resampling, against SciPy's and by their coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binomtest, norm, sem

from logitherm.metrics import evaluate
from logitherm.metrics.analytic import effective_rows, normal_interval, normal_reach, wilson, wilson_interval


@pytest.mark.parametrize(("hits", "n"), [(0, 1), (1, 1), (0, 50), (50, 50), (3, 50), (997, 1000)])
@pytest.mark.parametrize("level", [0.5, 0.95, 0.999])
def test_wilson_is_that_of_scipy(hits, n, level):
    correct = (np.arange(n) < hits).astype(float)
    found = wilson_interval(correct, np.ones(n), level)
    assert found == pytest.approx(tuple(binomtest(hits, n).proportion_ci(level, "wilson")), abs=1e-12)
    assert found[0] <= hits / n <= found[1]
    assert wilson_interval(correct, np.full(n, 1e-200), level) == pytest.approx(found, abs=1e-12)


def test_the_formulas_alone():
    assert normal_reach(0.9) == pytest.approx(norm.ppf(0.95))
    assert wilson(0.25, 40, 0.9) == pytest.approx(tuple(binomtest(10, 40).proportion_ci(0.9, "wilson")))
    assert (wilson(0.0, 5.5, 0.9)[0], wilson(1.0, 5.5, 0.9)[1]) == (0.0, 1.0)


def test_wilson_under_weights():
    w = np.random.default_rng(0).uniform(0.1, 3.0, 400)
    right = np.ones(400)
    low, high = wilson_interval(right, w, 0.95)
    z2 = norm.ppf(0.975) ** 2
    assert (low, high) == (pytest.approx(effective_rows(w) / (effective_rows(w) + z2)), 1.0)
    correct = (np.arange(400) % 4 > 0).astype(float)
    share = np.average(correct, weights=w)
    error = math.sqrt(w**2 @ (correct - share) ** 2) / w.sum()
    low, high = wilson_interval(correct, w, 0.95)
    assert high - low == pytest.approx(2 * norm.ppf(0.975) * error, rel=0.05)
    # a heavy row that errs is worth one row, and a light one not more than all
    for heavy in (100.0, 1e-6):
        w = np.append(np.ones(99), heavy)
        low, high = wilson_interval(np.append(np.ones(99), 0.0), w, 0.95)
        assert high - low >= np.subtract(*wilson_interval(np.ones(100), w, 0.95)[::-1]) - 1e-9


def test_normal():
    x = np.random.default_rng(0).exponential(size=200)
    reach = norm.ppf(0.95) * sem(x)
    assert normal_interval(x, np.ones(200), 0.9) == pytest.approx((x.mean() - reach, x.mean() + reach))
    assert normal_interval(x, np.full(200, 1e-200), 0.9) == pytest.approx((x.mean() - reach, x.mean() + reach))
    dropped = np.where(np.arange(200) < 100, 1.0, 0.0)
    assert normal_interval(x, dropped, 0.9) == pytest.approx(normal_interval(x[:100], np.ones(100), 0.9))
    assert normal_interval(np.array([0.0, 2.0]), np.ones(2), 0.95, 2.0) == (0.0, 2.0)
    for few in ([1.0], [1.0, math.inf]):
        assert np.isnan(normal_interval(np.array(few), np.ones(len(few)), 0.95)).all()


def test_evaluate_analytic(case):
    z, y, w = case
    plain, drawn = evaluate(z, y, interval="analytic", weights=w), evaluate(z, y, bootstrap=4000, weights=w)
    for name in ("accuracy", "nll", "brier"):
        a, b = getattr(plain, name), getattr(drawn, name)
        assert a.value == b.value
        assert (a.low, a.high) == pytest.approx((b.low, b.high), abs=0.1 * (b.high - b.low))
    for name in ("ece", "ece_equal_mass", "classwise_ece", "smooth_ece", "mce"):
        assert getattr(plain, name).value == getattr(drawn, name).value
        assert math.isnan(getattr(plain, name).low)
    with pytest.raises(ValueError, match=r"interval: must be one of .* got 'wilson'"):
        evaluate(z, y, interval="wilson")


@pytest.mark.parametrize("interval", ["bootstrap", "analytic"])
def test_an_accuracy_without_an_error_has_an_interval(interval):
    z = np.tile([2.0, 0.0], (50, 1))
    for label, bound in ((0, "low"), (1, "high")):
        score = evaluate(z, np.full(50, label), interval=interval, bootstrap=50).accuracy
        assert abs(getattr(score, bound) - score.value) == pytest.approx(norm.ppf(0.975) ** 2 / 53.84, rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("interval", ["bootstrap", "analytic"])
@pytest.mark.parametrize("scale", [1.0, 5.0])
def test_coverage(make_case, interval, scale):
    """At a scale of 5 few rows err, and few decide the NLL."""
    truth = evaluate(*make_case(400_000, 4, 99, 1.5, scale)[:2], interval="analytic")
    held = {"accuracy": 0, "nll": 0, "brier": 0}
    for seed in range(400):
        found = evaluate(*make_case(200, 4, seed, 1.5, scale)[:2], interval=interval, bootstrap=200, seed=seed)
        for name in held:
            score = getattr(found, name)
            held[name] += score.low <= getattr(truth, name).value <= score.high
    for name, count in held.items():
        assert {"accuracy": 0.92, "nll": 0.88, "brier": 0.9}[name] <= count / 400 <= 0.98, name
