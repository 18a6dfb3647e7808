"""The decomposition against the min-max formula of isotonic regression, scikit-learn and its own identity."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy.special import xlogy
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import brier_score_loss, log_loss

from logitherm.metrics import decompose_score, decomposition

PARTS = ["total", "miscalibration", "discrimination", "uncertainty"]


def values(*args, **options):
    found = decompose_score(*args, bootstrap=0, **options)
    return [getattr(found, name).value for name in PARTS]


def loss(score, p, hit):
    return (p - hit) ** 2 if score == "brier" else -xlogy(hit, p) - xlogy(1 - hit, 1 - p)


def min_max(confidence, hit, weights):
    """Isotonic regression as max over starts of min over ends of the mean, at each distinct confidence."""
    levels = np.unique(confidence)
    w = np.array([weights[confidence == c].sum() for c in levels])
    y = np.array([weights[confidence == c] @ hit[confidence == c] for c in levels])
    sums, mass = np.append(0, np.cumsum(y)), np.append(0, np.cumsum(w))
    fitted = [
        max(min((sums[k + 1] - sums[j]) / (mass[k + 1] - mass[j]) for k in range(i, len(levels))) for j in range(i + 1))
        for i in range(len(levels))
    ]
    return np.clip(np.array(fitted)[np.searchsorted(levels, confidence)], 0, 1)


@pytest.mark.parametrize("score", ["brier", "nll"])
@pytest.mark.parametrize("t", [0.6, 1.0, 2.0])
def test_the_definition(make_case, naive, score, t):
    case = make_case(150, 4)
    case.logits[:40] = case.logits[40:80]  # ties
    confidence, hit = naive.top_label(case, t)
    hit, w = hit.astype(float), case.weights
    total = np.average(loss(score, confidence, hit), weights=w)
    mended = np.average(loss(score, min_max(confidence, hit, w), hit), weights=w)
    blind = np.average(loss(score, np.average(hit, weights=w), hit), weights=w)
    expected = [total, total - mended, blind - mended, blind]
    assert values(case.logits, case.labels, t, score=score, weights=w) == pytest.approx(expected, abs=1e-10)


def test_scikit_learn(case, naive):
    confidence, hit = naive.top_label(case, 1.0)
    w = case.weights
    mended = IsotonicRegression().fit(confidence, hit, sample_weight=w).predict(confidence)
    total, miscalibration, *_ = values(case.logits, case.labels, score="brier", weights=w)
    assert total == pytest.approx(brier_score_loss(hit, confidence, sample_weight=w))
    assert total - miscalibration == pytest.approx(brier_score_loss(hit, mended, sample_weight=w))
    total, *_ = values(case.logits, case.labels, weights=w)
    assert total == pytest.approx(log_loss(hit, confidence, sample_weight=w))


@pytest.mark.parametrize("score", ["brier", "nll"])
def test_parts_add_up_and_a_temperature_moves_miscalibration_alone(make_case, score):
    case = make_case(800, 2)  # of two classes no temperature changes the order
    cold, hot = (values(case.logits, case.labels, t, score=score) for t in (0.8, 1.5))
    for total, miscalibration, discrimination, uncertainty in (cold, hot):
        assert total == pytest.approx(miscalibration - discrimination + uncertainty)
        assert min(miscalibration, discrimination, uncertainty) >= 0
    assert cold[2:] == pytest.approx(hot[2:])
    assert cold[1] > hot[1]


def test_limits(case):
    z, y, _ = case
    for t in (0, math.inf):
        assert values(z, y, t, score="brier")[2] == pytest.approx(0.0, abs=1e-15)
    never = decompose_score(z, y, 0, bootstrap=50)
    assert (never.total.value, never.miscalibration.value) == (math.inf, math.inf)
    assert math.isfinite(never.discrimination.value) and math.isfinite(never.discrimination.low)
    assert json.loads(json.dumps(never.to_dict(), allow_nan=False))["total"]["value"] is None
    assert values(z, z.argmax(1), 0) == [0.0, 0.0, 0.0, 0.0]
    assert values(z, z.argmin(1), 1.0)[2:] == [0.0, 0.0]
    assert values(np.zeros((3, 1)), [0, 0, 0]) == [0.0, 0.0, 0.0, 0.0]
    assert values([[1.0, 0.0]], [0], score="brier")[2:] == [0.0, 0.0]
    assert values([[1.0, -np.inf]], [1]) == [math.inf, math.inf, 0.0, 0.0]


def test_a_wrong_row_of_confidence_one_to_rounding_has_a_finite_loss():
    assert values([[100.0, 0.0]], [1])[0] == pytest.approx(100.0)


def test_weights_of_zero_and_copies(case):
    z, y, _ = case
    w = np.random.default_rng(0).integers(0, 4, len(y))
    assert values(z, y, weights=w) == pytest.approx(values(np.repeat(z, w, axis=0), np.repeat(y, w)))


@pytest.mark.parametrize("score", ["brier", "nll"])
@pytest.mark.parametrize("groups", [512, 10_000])
def test_intervals_of_resampled_rows(case, monkeypatch, score, groups):
    monkeypatch.setattr(decomposition, "GROUPS", groups)  # 600 rows: grouped, and not
    z, y, _ = case
    found = decompose_score(z, y, score=score, bootstrap=3000)
    rng = np.random.default_rng(3)
    again = np.array([values(z, y, score=score, weights=rng.poisson(1.0, len(y))) for _ in range(400)])
    for i, name in enumerate(PARTS):
        part = getattr(found, name)
        low, high = np.quantile(again[:, i], [0.025, 0.975])
        assert part.low <= part.value <= part.high
        assert part.high - part.low == pytest.approx(high - low, rel=0.2)
    assert math.isnan(decompose_score(z, y, bootstrap=0).total.low)


def test_errors():
    with pytest.raises(ValueError, match="score: must be one of"):
        decompose_score(np.zeros((1, 2)), [0], score="ece")
