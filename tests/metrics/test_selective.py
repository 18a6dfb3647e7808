"""Risk-coverage and deferral against the definitions in plain loops."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import binomtest, kendalltau

from logitherm.metrics import accuracy, defer_below, risk_coverage, selective
from logitherm.metrics.selective import clopper_pearson


def area(confidence, hit, weights):
    total = 0.0
    for c, w in zip(confidence, weights):
        kept = confidence >= c
        total += w * np.average(1.0 - hit[kept], weights=weights[kept])
    return total / weights.sum()


@pytest.mark.parametrize("t", [0.5, 1.0, 3.0])
def test_curve_and_areas(case, naive, t):
    z, y, w = case
    confidence, hit = naive.top_label(case, t)
    curve = risk_coverage(z, y, t, bootstrap=0, weights=w)
    assert curve.aurc.value == pytest.approx(area(confidence, hit, w), abs=1e-12)
    r = 1 - np.average(hit, weights=w)
    assert curve.excess_aurc.value == pytest.approx(curve.aurc.value - r - (1 - r) * math.log(1 - r))
    for i in (0, 10, 300, len(curve.risk) - 1):
        kept = confidence >= curve.threshold[i] - 1e-12
        assert curve.coverage[i] == pytest.approx(w[kept].sum() / w.sum())
        assert curve.risk[i] == pytest.approx(1 - np.average(hit[kept], weights=w[kept]))


def test_without_ties_it_is_the_mean_over_coverages(case, naive):
    confidence, hit = naive.top_label(case, 1.0)
    order = np.argsort(-confidence)
    usual = np.mean(np.cumsum(1.0 - hit[order]) / np.arange(1, len(hit) + 1))
    assert risk_coverage(case.logits, case.labels, bootstrap=0).aurc.value == pytest.approx(usual)


def test_ties_are_accepted_together_in_any_order():
    z = np.log([[0.9, 0.1], [0.8, 0.2], [0.8, 0.2], [0.8, 0.2], [0.6, 0.4]])
    curve = risk_coverage(z, [0, 1, 0, 0, 1], bootstrap=0)
    again = risk_coverage(z, [0, 0, 0, 1, 1], bootstrap=0)
    assert curve.coverage.tolist() == pytest.approx([0.2, 0.8, 1.0])
    assert curve.risk.tolist() == pytest.approx([0, 0.25, 0.4]) == again.risk.tolist()
    assert curve.aurc == again.aurc


@pytest.mark.parametrize("groups", [2048, 64])
def test_interval_is_that_of_resampled_rows(case, monkeypatch, groups):
    monkeypatch.setattr(selective, "GROUPS", groups)  # 64: neighbours are grouped
    z, y, _ = case
    rng = np.random.default_rng(5)
    again = [risk_coverage(z, y, bootstrap=0, weights=rng.poisson(1.0, len(y))) for _ in range(400)]
    curve = risk_coverage(z, y, bootstrap=4000)
    for name in ("aurc", "excess_aurc"):
        found = getattr(curve, name)
        low, high = np.quantile([getattr(a, name).value for a in again], [0.025, 0.975])
        assert found.low <= found.value <= found.high
        assert (found.low, found.high) == pytest.approx((low, high), abs=0.12 * (high - low))
    json.dumps(curve.to_dict(), allow_nan=False)


def test_limits_of_the_curve(case):
    z, y, _ = case
    for t in (0, math.inf):
        curve = risk_coverage(z, y, t, bootstrap=50)
        assert curve.coverage.tolist() == [1.0]
        assert curve.aurc.value == pytest.approx(1 - accuracy(z, y))
    right, wrong = (risk_coverage(z, labels, bootstrap=50) for labels in (z.argmax(1), z.argmin(1)))
    assert (right.aurc.value, right.excess_aurc.value) == (0.0, 0.0)
    assert (wrong.aurc.value, wrong.excess_aurc.value) == pytest.approx((1.0, 0.0))
    assert risk_coverage([[1.0, -np.inf]], [0], bootstrap=5).aurc.value == 0.0
    assert risk_coverage(np.zeros((2, 1)), [0, 0], bootstrap=5).risk.tolist() == [0.0]


# -- deferral ----------------------------------------------------------------------------------------------


def test_clopper_pearson_is_scipys():
    for k, n in [(0, 5), (5, 5), (3, 7), (990, 1000)]:
        expected = binomtest(k, n).proportion_ci(0.9, method="exact")
        found = clopper_pearson(np.array([k]), np.array([n]), 0.05)
        assert (found[0][0], found[1][0]) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize("wanted", [0.0, 0.6, 0.8, 0.9, 1.0])
def test_the_observed_rule_takes_the_largest_coverage(case, naive, wanted):
    confidence, hit = naive.top_label(case, 1.0)
    best = 0.0
    for c in confidence:
        kept = confidence >= c
        if np.average(hit[kept], weights=case.weights[kept]) >= wanted:
            best = max(best, case.weights[kept].sum() / case.weights.sum())
    rule = defer_below(case.logits, case.labels, precision=wanted, guaranteed=False, weights=case.weights)
    assert rule.coverage.value == pytest.approx(best)
    kept = confidence >= rule.threshold
    assert case.weights[kept].sum() / case.weights.sum() == pytest.approx(best)
    assert rule.accepted == kept.sum()


def test_the_interval_of_the_observed_rule(case, naive):
    rule = defer_below(case.logits, case.labels, precision=0.8, guaranteed=False)
    hits = round(rule.precision.value * rule.accepted)
    expected = binomtest(hits, rule.accepted).proportion_ci(0.95, method="exact")
    assert (rule.precision.low, rule.precision.high) == pytest.approx(tuple(expected))
    expected = binomtest(rule.accepted, 600).proportion_ci(0.95, method="exact")
    assert (rule.coverage.low, rule.coverage.high) == pytest.approx(tuple(expected))


def test_the_guarantee_holds():
    rng = np.random.default_rng(0)
    p = rng.uniform(0.5, 1.0, 400_000)
    truth = np.sort(p)
    above = np.cumsum(truth[::-1])[::-1] / np.arange(len(truth), 0, -1)  # accuracy at or above each confidence
    broken, found = 0, 0
    for _ in range(400):
        c = rng.uniform(0.5, 1.0, 1000)
        z = np.stack([np.log(c), np.log1p(-c)], axis=1)
        rule = defer_below(z, (rng.random(1000) > c).astype(int), precision=0.85, confidence=0.8)
        if math.isfinite(rule.threshold):
            found += 1
            assert rule.precision.low >= 0.85
            broken += above[min(np.searchsorted(truth, rule.threshold), len(truth) - 1)] < 0.85
    assert found > 300
    assert broken / 400 <= 0.2


def test_no_threshold_will_do():
    rule = defer_below(np.zeros((5, 2)), [0, 1, 0, 1, 0], precision=0.9)
    assert (rule.threshold, rule.coverage.value, rule.accepted) == (math.inf, 0.0, 0)
    assert math.isnan(rule.precision.value)
    assert json.loads(json.dumps(rule.to_dict(), allow_nan=False))["threshold"] is None
    small = np.array([[9.0, 0.0]] * 642)
    assert defer_below(small + np.linspace(0, 1, 642)[:, None] * [1, 0], [0] * 642).threshold == math.inf
    enough = np.array([[9.0, 0.0]] * 643)
    assert defer_below(enough + np.linspace(0, 1, 643)[:, None] * [1, 0], [0] * 643).threshold == 0.0


def test_ties_at_confidence_one():
    z = np.array([[800.0, 0.0]] * 10 + [[1.0, 0.0]] * 10)
    rule = defer_below(z, [0] * 10 + [1] * 10, precision=1.0, guaranteed=False)
    assert rule.accepted == 10
    assert rule.threshold == pytest.approx((1 + softmax([1.0, 0.0])[0]) / 2)
    assert defer_below(z, [1] + [0] * 9 + [1] * 10, precision=1.0, guaranteed=False).threshold == math.inf


@pytest.mark.parametrize("t", [0.3, 4.0])
def test_discordant_pairs(case, naive, t):
    a, b = naive.top_label(case, t)[0], naive.top_label(case, 1.0)[0]
    found = defer_below(case.logits, case.labels, t).discordant
    expected = np.mean(
        np.sign(a[:, None] - a)[np.triu_indices(600, 1)] * np.sign(b[:, None] - b)[np.triu_indices(600, 1)] < 0
    )
    assert found == pytest.approx(expected, abs=1e-12)
    assert found == pytest.approx((1 - kendalltau(a, b).statistic) / 2)
    assert defer_below(case.logits, case.labels).discordant == 0.0
    assert defer_below(case.logits, case.labels, 0).discordant == 0.0
    two = case.logits[:, :2]
    assert defer_below(two, case.labels % 2, t).discordant == pytest.approx(0.0, abs=1e-4)


def test_ties_do_not_disagree():
    assert selective._discordant(np.array([1.0, 1, 2, 3]), np.array([3.0, 2, 2, 1])) == pytest.approx(4 / 6)
    assert math.isnan(selective._discordant(np.ones(1), np.ones(1)))


def test_the_scale_of_the_weights_is_nothing(case):
    z, y, w = case
    for scale in (2.0**-600, 2.0**600):
        assert defer_below(z, y, precision=0.7, weights=scale * w) == defer_below(z, y, precision=0.7, weights=w)
        assert risk_coverage(z, y, weights=scale * w).aurc == risk_coverage(z, y, weights=w).aurc


def test_zero_weights_are_nothing(case):
    z, y, _ = case
    w = (np.arange(len(y)) % 3 > 0).astype(float)
    kept = w > 0
    assert defer_below(z, y, 2.0, precision=0.7, weights=w) == defer_below(z[kept], y[kept], 2.0, precision=0.7)


@pytest.mark.parametrize(("wanted", "kind"), [(1.5, ValueError), (math.nan, ValueError), ("a", TypeError)])
def test_errors(wanted, kind):
    with pytest.raises(kind, match="precision: must"):
        defer_below(np.zeros((1, 2)), [0], precision=wanted)
