"""The comparison of methods: on rows that were not fitted, and in favour of the simplest."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from logitherm.calibration import METHODS, calibrate, select_method
from logitherm.calibration.selection import AS_IT_IS, BASELINES, CANDIDATES, WORDS, cross_validate
from logitherm.metrics import nll


def simulated(n=2000, seed=0, bias=0.0, blunders=0.0):
    rng = np.random.default_rng(seed)
    z = 2 * rng.normal(size=(n, 4))
    labels = (z + bias + rng.gumbel(size=z.shape)).argmax(axis=1)
    wrong = rng.random(n) < blunders
    labels[wrong] = rng.integers(0, 4, wrong.sum())
    return 1.8 * z, labels


@pytest.mark.parametrize(
    ("truth", "chosen"), [({}, "temperature"), ({"bias": [1, 0, 0, -1.0]}, "bias"), ({"blunders": 0.2}, "ensemble")]
)
def test_the_simplest_that_is_good_enough(truth, chosen):
    found = select_method(*simulated(**truth))
    assert found.chosen == chosen
    best = found.of(found.best)
    assert best.behind == 0 and all(each.behind >= 0 for each in found.candidates if each.method in METHODS)
    assert [each.method for each in found.candidates][:2] == [AS_IT_IS, "temperature"]


def test_scores_are_of_rows_that_were_not_fitted():
    z, labels = simulated(400)
    found = select_method(z, labels, methods=["temperature", "matrix"], folds=4, seed=3)
    part = np.random.default_rng(3).permutation(400) % 4
    losses = []
    for fold in range(4):
        fitted = METHODS["matrix"]().fit(z[part != fold], labels[part != fold])
        losses.append(nll(fitted.transform(z[part == fold]), labels[part == fold]) * np.mean(part == fold))
    assert found.of("matrix").nll == pytest.approx(sum(losses), rel=1e-12)


def test_baselines_are_compared_but_never_chosen():
    found = select_method(*simulated(blunders=0.1), methods=["temperature"], baselines=BASELINES)
    assert found.chosen == found.best == "temperature"
    assert [each.method for each in found.candidates] == [AS_IT_IS, "temperature", *BASELINES]
    assert all(each.failure is None for each in found.candidates)


def test_what_cannot_be_fitted_says_why():
    z, labels = simulated(300)
    z[0, (labels[0] + 1) % 4] = -math.inf
    found = select_method(z, labels)
    assert "must be finite for a matrix" in found.of("matrix").failure
    json.dumps(found.to_dict(), allow_nan=False)


@pytest.mark.parametrize("method", [*METHODS, "auto"])
@pytest.mark.parametrize("tested", [False, True])
def test_a_study_of_any_method(method, tested):
    test = simulated(500, seed=1, bias=[1, 0, 0, -1.0]) if tested else ()
    study = calibrate(*simulated(500, bias=[1, 0, 0, -1.0]), *test, method=method, bootstrap=50)
    assert study.method in METHODS and (method == "auto" or study.method == method)
    assert type(study.calibrator) is METHODS[study.method]
    assert study.after.nll.value < study.before.nll.value
    assert study.n_scored == 500
    json.dumps(study.summary(), allow_nan=False)
    if tested:
        scored = nll(study.calibrator.transform(test[0]), test[1])
        assert study.after.nll.value == pytest.approx(scored, rel=1e-6)
    assert any(line.startswith(WORDS[study.method].capitalize()[:20]) for line in study.verdict) or study.changes


def test_the_verdict_names_what_works():
    found = calibrate(*simulated(blunders=0.2), *simulated(seed=1, blunders=0.2), bootstrap=100)
    assert any("method ensemble" in line and "keeps every prediction" in line for line in found.verdict)
    enough = calibrate(*simulated(), *simulated(seed=1), bootstrap=100)
    assert any(line.startswith("One temperature is all there is to gain") for line in enough.verdict)


def test_comparing_may_be_left_out_and_is_for_much_data(monkeypatch):
    assert calibrate(*simulated(300), bootstrap=10, compare_methods=False).selection is None
    monkeypatch.setattr("logitherm.calibration.study.FEW_VALUES", 100)
    assert calibrate(*simulated(300), bootstrap=10).goodness is None
    assert calibrate(*simulated(300), bootstrap=10, compare_methods=True).selection is not None


def test_errors():
    with pytest.raises(ValueError, match=r"methods: must be of temperature, .*; got \['magic'\]"):
        select_method(*simulated(50), methods=["magic"])
    with pytest.raises(ValueError, match="folds: must be 2 to 50, the number of rows; got 60"):
        select_method(*simulated(50), folds=60)


def test_one_label_that_every_method_thinks_impossible():
    rng = np.random.default_rng(0)
    z = 2 * rng.normal(size=(200, 4))
    labels = z.argmax(axis=1)
    labels[7] = z[7].argmin()
    found = select_method(z, labels, methods=["temperature", "bias"])
    assert found.chosen == "temperature" and all(each.behind == 0 for each in found.candidates[1:])
    study = calibrate(z, labels, bootstrap=20)
    assert any("every method is certain of something wrong" in sentence for sentence in study.verdict)
    json.dumps(study.to_dict(), allow_nan=False)


def test_as_many_folds_as_rows():
    z, labels = simulated(4)
    assert cross_validate(z, labels, folds=4).by_choice().shape == (4, 4)


def test_logits_of_one_dimension_are_refused():
    with pytest.raises(ValueError, match=r"logits: must have shape \(rows, classes\); got .*; reshape them"):
        select_method(np.zeros(10), np.zeros(10, dtype=int))


def test_where_a_class_has_no_rows_what_would_rule_it_out_is_compared_but_not_chosen():
    z, labels = simulated(bias=[1.5, 0, 0, -1.5])
    assert not METHODS[select_method(z, labels).best].keeps_predictions
    keep = labels != 3
    found = select_method(z[keep], labels[keep])
    assert METHODS[found.chosen].keeps_predictions and METHODS[found.best].keeps_predictions
    bias = found.of("bias")
    assert bias.behind < 0 and bias.ineligible == "class 3 has no rows, which this method would learn to rule out"
    assert found.of("temperature").ineligible is None
    study = calibrate(z[keep][:600], labels[keep][:600], method="auto", folds=3, bootstrap=20)
    assert all(study.selection.of(name).failure is None for name in BASELINES)
    assert METHODS[study.method].keeps_predictions
    assert not any("method bias" in line or "method matrix" in line for line in study.verdict)
    assert any("none of them is recommended" in line for line in study.verdict)
    assert select_method(z[keep], labels[keep], methods=["bias", "vector"]).chosen == "bias"


def test_the_scores_of_auto_are_of_methods_chosen_and_fitted_without_the_rows():
    z, labels = simulated(600, blunders=0.05)
    methods = ["temperature", "entropy", "ensemble", "bias"]
    crossed = cross_validate(z, labels, methods=methods, folds=4)
    found = crossed.by_choice()
    for train, held in crossed.parts:
        chosen, best = crossed.choice(train)
        losses = {name: crossed.rows[name].nll[train] for name in methods}
        assert best == min(methods, key=lambda name: losses[name].mean())
        gap = {name: losses[name] - losses[best] for name in methods}
        within = [name for name in methods if gap[name].mean() <= gap[name].std() / math.sqrt(len(train))]
        assert chosen == within[0]
        fitted = METHODS[chosen]().fit(z[train], labels[train])
        np.testing.assert_allclose(found[held], fitted.transform(z[held]), rtol=1e-6)


def test_auto_fits_every_method_once_a_part(monkeypatch):
    from logitherm.calibration import selection

    counted = []
    real = selection.calibrator_of
    monkeypatch.setattr(selection, "calibrator_of", lambda name, *rest: counted.append(name) or real(name, *rest))
    calibrate(*simulated(200), method="auto", folds=3, bootstrap=10)
    assert len(counted) == 3 * len(CANDIDATES)
