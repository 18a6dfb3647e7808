"""Detection against scikit-learn, plain loops and simulated coverage."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from scipy.stats import norm
from sklearn.metrics import average_precision_score, roc_auc_score

from logitherm.ood import detection, evaluation


@pytest.fixture(params=[None, 1, 0], ids=["distinct", "ties", "many ties"])
def scores(request, rng):
    inside, outside = rng.normal(size=700), 1 + 1.5 * rng.normal(size=300)
    if request.param is None:
        return inside, outside
    return inside.round(request.param), outside.round(request.param)


def test_areas_are_those_of_scikit_learn(scores):
    inside, outside = scores
    both, is_out = np.concatenate(scores), np.arange(1000) >= 700
    found = detection(inside, outside, bootstrap=0)
    assert found.auroc.value == pytest.approx(roc_auc_score(is_out, both), abs=1e-12)
    assert found.aupr_out.value == pytest.approx(average_precision_score(is_out, both), abs=1e-12)
    assert found.aupr_in.value == pytest.approx(average_precision_score(~is_out, -both), abs=1e-12)
    assert math.isnan(found.fpr.low) and math.isnan(found.aupr_in.high) and found.auroc.low < found.auroc.high


@pytest.mark.parametrize("tpr", [0.0, 0.5, 0.8, 0.95, 0.999, 1.0])
def test_false_positives_by_a_loop(scores, tpr):
    inside, outside = scores
    for threshold in np.unique(inside):
        if np.mean(inside <= threshold) >= tpr - 1e-12:
            break
    found = detection(inside, outside, tpr=tpr, bootstrap=50)
    assert found.threshold == threshold
    assert found.fpr.value == np.mean(outside <= threshold)
    assert found.fpr.low <= found.fpr.value <= found.fpr.high
    assert (found.tpr, found.n_in, found.n_out) == (tpr, 700, 300)


def test_order_alone_matters_and_the_classes_mirror(scores):
    inside, outside = scores
    found = detection(inside, outside)
    again = detection(4 * inside[::-1], torch.tensor(4 * outside))
    assert (again.auroc, again.fpr) == (found.auroc, found.fpr)
    mirrored = detection(-outside, -inside, bootstrap=0)
    assert mirrored.auroc.value == pytest.approx(found.auroc.value, abs=1e-12)
    assert mirrored.aupr_in.value == pytest.approx(found.aupr_out.value, abs=1e-12)


def test_integers_infinities_and_one_row():
    found = detection([1, 2, 2, 3], np.array([2, 3, 4], np.int8), bootstrap=20)
    assert found.auroc.value == pytest.approx((2 + 3.5 + 4) / 12)
    found = detection([-math.inf, 0.0], [0.0, math.inf], bootstrap=20)
    assert found.auroc.value == 0.875
    json.dumps(found.to_dict(), allow_nan=False)
    one = detection([0.0], [1.0], bootstrap=20)
    assert (one.auroc.value, one.fpr.value, one.aupr_in.value) == (1.0, 0.0, 1.0)
    assert math.isnan(one.auroc.low)
    assert one.to_dict()["auroc"]["low"] is None


def test_a_perfect_order_still_has_doubt():
    found = detection(np.arange(50.0), 100 + np.arange(200.0))
    assert found.auroc.value == found.auroc.high == 1 and 0.9 < found.auroc.low < 0.95
    assert found.fpr.value == found.fpr.low == 0 and 0 < found.fpr.high < 0.03
    worst = detection(300 + np.arange(50.0), np.arange(200.0))
    assert worst.auroc.value == worst.auroc.low == 0 < worst.auroc.high
    assert worst.fpr.value == worst.fpr.high == 1 > worst.fpr.low
    same = detection(np.zeros(30), np.zeros(20))
    assert (same.auroc.value, same.fpr.value, same.aupr_in.value) == (0.5, 1.0, 0.6)


@pytest.mark.parametrize("groups", [2048, 64])
def test_area_intervals_are_those_of_resampled_rows(scores, monkeypatch, groups):
    monkeypatch.setattr(evaluation, "GROUPS", groups)  # 64: neighbours are grouped
    inside, outside = scores
    rng = np.random.default_rng(3)
    both, is_out = np.concatenate(scores), np.arange(1000) >= 700
    drawn = [rng.poisson(1.0, 1000) for _ in range(300)]
    found = detection(inside, outside, bootstrap=3000)
    for score, positive, sign in ((found.aupr_in, ~is_out, -1), (found.aupr_out, is_out, 1)):
        again = [average_precision_score(positive, sign * both, sample_weight=w) for w in drawn]
        low, high = np.quantile(again, [0.025, 0.975])
        assert (score.low, score.high) == pytest.approx((low, high), abs=0.15 * (high - low))


@pytest.mark.slow
@pytest.mark.parametrize("shift", [0.5, 2.0])
def test_intervals_hold_the_truth(shift):
    rng = np.random.default_rng(0)
    n, m, samples, many = 300, 200, 400, 200_000
    big = np.concatenate([rng.normal(size=many), shift + rng.normal(size=many)])
    is_out = np.arange(2 * many) >= many
    weights = np.where(is_out, m / (n + m), n / (n + m))
    truth = {
        "auroc": norm.cdf(shift / math.sqrt(2)),
        "fpr": norm.cdf(norm.ppf(0.95) - shift),
        "aupr_in": average_precision_score(~is_out, -big, sample_weight=weights),
        "aupr_out": average_precision_score(is_out, big, sample_weight=weights),
    }
    held = dict.fromkeys(truth, 0)
    for seed in range(samples):
        found = detection(rng.normal(size=n), shift + rng.normal(size=m), bootstrap=300, seed=seed)
        for name, value in truth.items():
            score = getattr(found, name)
            held[name] += score.low <= value <= score.high
    for name, count in held.items():
        assert 0.92 <= count / samples <= 0.995, (name, count / samples)


@pytest.mark.parametrize(
    ("inside", "options", "error", "match"),
    [
        ([0.0, math.nan], {}, ValueError, "^in_scores: must not be NaN; row 1 of 2"),
        ([], {}, ValueError, r"^in_scores: must be of shape \(rows,\) with at least one row"),
        ([[0.0]], {}, ValueError, r"^in_scores: must be of shape \(rows,\)"),
        (1.0, {}, ValueError, r"^in_scores: must be of shape \(rows,\)"),
        ([True, False], {}, TypeError, "^in_scores: must be numbers"),
        (["a"], {}, TypeError, "^in_scores: must be an array of numbers"),
        ([0.0], {"tpr": 1.1}, ValueError, "^tpr: must lie in"),
        ([0.0], {"confidence": 1.0}, ValueError, "^confidence: must lie between"),
        ([0.0], {"bootstrap": -1}, ValueError, "^bootstrap: must be at least 0"),
    ],
)
def test_bad_scores_and_options_are_refused(inside, options, error, match):
    with pytest.raises(error, match=match):
        detection(inside, [1.0], **options)
