from __future__ import annotations

import json
import math
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from scipy.special import softmax

from logitherm import metrics
from logitherm.metrics import Score, evaluate
from logitherm.metrics import evaluation as module

NAMES = ["accuracy", "nll", "brier", "ece", "ece_equal_mass", "classwise_ece", "smooth_ece", "mce"]


def scores_of(evaluation):
    return {name: getattr(evaluation, name) for name in NAMES}


def test_values_are_those_of_the_functions(case):
    z, y, w = case
    e = evaluate(z, y, 1.7, bins=12, bootstrap=0, weights=w)
    assert (e.n, e.classes) == (600, 5)
    assert e.accuracy.value == metrics.accuracy(z, y, 1.7, weights=w)
    assert e.nll.value == metrics.nll(z, y, 1.7, weights=w)
    assert e.brier.value == metrics.brier(z, y, 1.7, weights=w)
    assert e.smooth_ece.value == metrics.smooth_calibration_error(z, y, 1.7, bootstrap=0, weights=w).value
    assert e.classwise_ece.value == metrics.classwise_ece(z, y, 1.7, bins=12, weights=w)
    assert e.mce.value == metrics.maximum_calibration_error(z, y, 1.7, bins=12, weights=w)
    for name, binning in (("ece", "equal_width"), ("ece_equal_mass", "equal_mass")):
        value = metrics.expected_calibration_error(z, y, 1.7, bins=12, binning=binning, weights=w)
        assert getattr(e, name).value == value


def test_intervals_agree_with_resampled_rows(case):
    """Brute force: resample rows, call the plain functions, and treat the results as the docstring says."""
    z, y, w = case
    rng = np.random.default_rng(1)
    functions = {
        "accuracy": metrics.accuracy,
        "nll": metrics.nll,
        "brier": metrics.brier,
        "ece": metrics.expected_calibration_error,
        "classwise_ece": metrics.classwise_ece,
        "mce": metrics.maximum_calibration_error,
    }
    replicates = {name: [] for name in functions}
    for _ in range(600):
        rows = rng.integers(0, len(y), len(y))
        for name, function in functions.items():
            replicates[name].append(function(z[rows], y[rows], weights=w[rows]))
    e = evaluate(z, y, weights=w, bootstrap=4000)
    for name, values in replicates.items():
        score = getattr(e, name)
        low, high = np.quantile(values, [0.025, 0.975])
        if name.endswith(("ece", "mce")):
            low, high = np.array([low, high]) + score.value - np.mean(values)
        width = high - low
        assert score.low == pytest.approx(max(low, 0), abs=0.15 * width), name
        assert score.high == pytest.approx(high, abs=0.15 * width), name


def test_intervals_hold_their_values(make_case):
    for n, classes, seed in [(1, 3, 0), (2, 2, 1), (7, 4, 2), (50, 12, 3), (300, 2, 4)]:
        case = make_case(n, classes, seed)
        for t in (0.0, 1.0, math.inf):
            for score in scores_of(evaluate(case.logits, case.labels, t, bootstrap=50)).values():
                assert score.low <= score.value <= score.high


def test_seeds(case):
    first, second, other = (evaluate(*case[:2], bootstrap=100, seed=s) for s in (3, np.random.default_rng(3), 4))
    assert first == second
    assert first != other
    state = np.random.get_state()[1].copy()
    evaluate(*case[:2], bootstrap=10)
    assert np.array_equal(state, np.random.get_state()[1])


def test_level_and_rows_shape_the_interval(make_case):
    small, large = make_case(300, 4), make_case(4800, 4)
    widths = {}
    for name, case, level in (("small", small, 0.95), ("large", large, 0.95), ("loose", small, 0.5)):
        e = evaluate(case.logits, case.labels, confidence=level)
        widths[name] = e.accuracy.high - e.accuracy.low
    assert widths["small"] / widths["large"] == pytest.approx(4, rel=0.2)
    assert widths["small"] / widths["loose"] == pytest.approx(1.96 / 0.674, rel=0.2)


def test_infinite_nll():
    z = np.zeros((40, 2))
    z[0, 1] = -np.inf
    y = np.zeros(40, int)
    y[0] = 1
    e = evaluate(z, y)
    assert e.nll.value == e.nll.high == math.inf
    assert e.nll.low == pytest.approx(math.log(2) * 39 / 40, rel=0.1)  # a third of the replicates lack the row
    assert e.to_dict()["nll"]["value"] is None


def test_json(case):
    e = evaluate(*case[:2], bootstrap=20)
    read = json.loads(json.dumps(e.to_dict(), allow_nan=False))
    assert list(read) == ["n", "classes", *NAMES]
    assert read["ece"] == {"value": e.ece.value, "low": e.ece.low, "high": e.ece.high}
    assert Score(0.5, math.nan, math.nan).to_dict() == {"value": 0.5, "low": None, "high": None}
    with pytest.raises(FrozenInstanceError):
        e.n = 3


def test_without_bootstrap(case):
    for name, score in scores_of(evaluate(*case[:2], bootstrap=0)).items():
        assert math.isnan(score.low) == math.isnan(score.high) == (name != "accuracy")


def test_classwise_replicates_are_bounded_in_work_and_memory(make_case, monkeypatch):
    case = make_case(200, 10)
    sets = []
    errors = module.classwise_errors
    monkeypatch.setattr(module, "classwise_errors", lambda *a: sets.append(a[2]) or errors(*a))
    monkeypatch.setattr(module, "CLASSWISE_WORK", 200 * 210 * 150)
    monkeypatch.setattr(module, "CLASSWISE_HELD", 150 * 40)
    e = evaluate(case.logits, case.labels)
    assert sets == [1, 40, 40, 40, 30]
    assert e.classwise_ece.low < e.classwise_ece.value < e.classwise_ece.high


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"bootstrap": -1}, ValueError, "bootstrap: must be at least 0; got -1"),
        ({"bootstrap": 10**9}, ValueError, "bootstrap: must be at most 100000; got 1000000000; give 100000 or fewer"),
        ({"bins": 10**9}, ValueError, "bins: must be at most 1000; got 1000000000; give 1000 or fewer"),
        ({"bootstrap": True}, TypeError, "bootstrap: must be an integer; got bool True"),
        ({"confidence": 95}, ValueError, "confidence: must lie between 0 and 1; got 95"),
        ({"confidence": "high"}, TypeError, "confidence: must be a number; got str 'high'"),
        ({"bins": 0}, ValueError, "bins: must be at least 1"),
    ],
)
def test_option_errors(case, options, kind, message):
    with pytest.raises(kind, match=message):
        evaluate(*case[:2], **options)


@pytest.mark.slow
@pytest.mark.parametrize("overconfidence", [1.0, 1.1, 1.5])
def test_moved_intervals_cover_the_expected_ece(make_case, overconfidence):
    """Coverage of E[plug-in ECE] by the interval of the docstring, against the same interval not moved."""
    n, samples = 300, 150

    def ece(seed):
        case = make_case(n, 10, seed, overconfidence, scale=3.0)
        return case, metrics.expected_calibration_error(case.logits, case.labels)

    expectation = np.mean([ece(seed)[1] for seed in range(1000)])
    moved = plain = 0
    for seed in range(10_000, 10_000 + samples):
        case, _ = ece(seed)
        score = evaluate(case.logits, case.labels, bootstrap=300, seed=seed).ece
        moved += score.low <= expectation <= score.high
        p = softmax(case.logits, axis=1)
        gap = p.max(axis=1) - (p.argmax(axis=1) == case.labels)
        members = np.ceil(p.max(axis=1) * 15)[:, None] == np.arange(1, 16)
        rng = np.random.default_rng(seed)
        counts = rng.multinomial(n, np.full(n, 1 / n), size=300)
        low, high = np.quantile(np.abs(counts @ (members * gap[:, None])).sum(axis=1) / n, [0.025, 0.975])
        plain += low <= expectation <= high
    assert moved / samples > 0.9
    assert moved >= plain - 5
