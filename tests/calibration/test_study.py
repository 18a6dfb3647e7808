"""The main job: scores on rows that were not fitted, in numbers and in words."""

from __future__ import annotations

import json
from dataclasses import fields, replace

import numpy as np
import pytest
import torch

import logitherm
from logitherm.calibration import calibrate, study
from logitherm.calibration.verdict import verdict
from logitherm.metrics import Evaluation, Score
from logitherm.metrics.comparison import Change, Comparison


def simulated(temperature: float, n: int = 1500, classes: int = 5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    z = 2 * rng.normal(size=(n, classes))
    return temperature * z, (z + rng.gumbel(size=z.shape)).argmax(axis=1)


def test_every_row_is_scored_at_a_temperature_fitted_without_it(monkeypatch):
    logits, labels = simulated(2.0)
    temperatures = study._cross_fitted("temperature", logits, labels, 5, 0, "raise").temperature
    assert len(np.unique(temperatures)) == 5
    part = np.random.default_rng(0).permutation(len(labels)) % 5
    for fold in range(5):
        others = logitherm.fit_temperature(logits[part != fold], labels[part != fold]).temperature
        np.testing.assert_allclose(temperatures[part == fold], others, rtol=1e-6)


def test_scores_are_taken_on_the_test_rows():
    val, test = simulated(2.0), simulated(2.0, seed=1)
    found = calibrate(*val, *test, bootstrap=50)
    assert found.scored_on == "1500 test rows"
    assert found.fit.temperature == logitherm.fit_temperature(*val).temperature
    assert found.before.nll.value == logitherm.evaluate(*test, bootstrap=0).nll.value
    assert found.after.nll.value == logitherm.evaluate(*test, found.fit.temperature, bootstrap=0).nll.value
    assert found.before.accuracy == found.after.accuracy


def test_the_same_seed_gives_the_same_study():
    data = simulated(2.0)
    first, again, other = (calibrate(*data, bootstrap=50, seed=seed).to_dict() for seed in (0, 0, 1))
    assert first == again
    assert first != other


@pytest.mark.parametrize(
    ("temperature", "sentence"),
    [
        (2.5, "The model is overconfident: too cold, it needs heating to T = 2."),
        (0.5, "The model is underconfident: too hot, it needs cooling to T = 0."),
        (1.0, "The model's temperature cannot be told from 1 on 1500 rows"),
    ],
)
def test_the_verdict_names_the_direction(temperature, sentence):
    lines = calibrate(*simulated(temperature), bootstrap=100).verdict
    assert lines[0].startswith(sentence)
    if temperature != 1:
        assert lines[1].startswith("One temperature improves both scores on rows it was not fitted to")
    assert not any("wrong" in line for line in lines)


def test_the_verdict_says_when_a_temperature_is_the_wrong_tool():
    """Nearly all rows are modest and right; a few are certain and wrong: heating mends those and spoils the rest."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, 3000)
    logits = 1.8 * np.eye(10)[labels]
    wrong = rng.random(3000) < 0.03
    logits[wrong] = 60 * np.eye(10)[(labels[wrong] + 1) % 10]
    found = calibrate(logits, labels, bootstrap=200)
    assert found.fit.temperature > 1
    assert found.after.ece.value > found.before.ece.value
    assert found.verdict[0].endswith("but it is the wrong tool here.")
    assert any(line.startswith("The robust standard error is") for line in found.verdict)


def test_few_rows_say_nothing():
    for n in (5, 29):
        found = calibrate(*simulated(2.0, n=n), bootstrap=50)
        assert found.verdict == [
            f"{n} rows are too few to say what a temperature does; at least 30 are needed, better hundreds."
        ]


def scores(equal_mass: float):
    """Two evaluations of which only the equal-mass error changes."""
    still = Score(0.5, 0.4, 0.6)
    same = {field.name: still for field in fields(Evaluation)} | {"n": 100, "classes": 5}
    return [Evaluation(**same | {"ece_equal_mass": Score(m, 0, 1)}) for m in (0.1, 0.1 + equal_mass)]


@pytest.mark.parametrize(
    ("nll", "ece", "equal_mass", "words"),
    [
        (
            (-0.1, 0.1),
            (-0.2, -0.1),
            -0.05,
            "the NLL does not change by more than chance allows and the calibration error falls",
        ),
        ((-0.1, 0.1), (-0.2, -0.1), 0.05, "neither score changes by more than chance allows"),
        (
            (-0.1, 0.1),
            (0.1, 0.2),
            0.0,
            "the NLL does not change by more than chance allows and the calibration error rises",
        ),
        ((-0.2, -0.1), (-0.2, -0.1), -0.05, "One temperature improves both scores"),
        ((-0.1, 0.1), (-0.1, 0.1), -0.05, "neither score changes by more than chance allows"),
    ],
)
def test_the_verdict_claims_no_more_than_the_intervals(nll, ece, equal_mass, words):
    fit = calibrate(*simulated(1.0), bootstrap=10).fit
    assert fit.interval[0] < 1 < fit.interval[1]
    changes = Comparison(*(Change(sum(ends) / 2, *ends) for ends in (nll, (-0.1, 0.1), ece)))
    assert words in " ".join(verdict(fit, *scores(equal_mass), changes, bins=15))


def test_where_a_few_rows_decide_the_robust_interval_is_the_one_to_read():
    fit = calibrate(*simulated(1.5), bootstrap=10).fit
    doubtful = replace(fit, sandwich_error=10 * fit.standard_error, sandwich_interval=(0.8, 2.5))
    still = Comparison(*[Change(0.0, -0.1, 0.1)] * 3)
    lines = verdict(doubtful, *scores(0.0), still, bins=15)
    assert lines[0].startswith("The model's temperature cannot be told from 1")
    assert "Trust the robust interval of T, 0.8 to 2.5." in lines[-1]


def test_what_remains_by_chance_is_no_reproach():
    """100 rows of an honest model have an ECE of a tenth."""
    for seed in range(5):
        found = calibrate(*simulated(1.0, n=100, seed=seed), bootstrap=50)
        assert found.after.ece.value > 0.05
        assert not any("remains" in line for line in found.verdict)


def test_random_labels_are_not_called_overconfidence():
    logits, labels = simulated(2.0, n=300)
    for seed in range(5):
        found = calibrate(logits, np.random.default_rng(seed).permutation(labels), bootstrap=20)
        open_end = found.fit.at_bound == "infinite" or found.fit.interval[1] == np.inf
        assert found.verdict[0].startswith("The logits say nothing") == open_end


def test_bounds_are_said_and_are_valid_json():
    logits, _ = simulated(1.0)
    cold = calibrate(logits, logits.argmax(axis=1), bootstrap=50)
    hot = calibrate(logits, logits.argmin(axis=1), bootstrap=50)
    assert "first choice" in cold.verdict[0] and "say nothing" in hot.verdict[0]
    for found in (cold, hot):
        json.dumps(found.to_dict(), allow_nan=False)
        summary = json.loads(json.dumps(found.summary(), allow_nan=False))
        assert summary["at_bound"] in ("zero", "infinite")
        assert summary["interval"] is None
    assert hot.summary()["temperature"] is None and cold.summary()["temperature"] == 0


def test_labels_of_probability_zero():
    logits, labels = simulated(2.0)
    logits[np.arange(20), labels[:20]] = -np.inf
    with pytest.raises(ValueError, match="20 of 1500 rows have a label of logit -inf"):
        calibrate(logits, labels)
    found = calibrate(logits, labels, zero_labels="exclude", bootstrap=50)
    assert found.fit.excluded == 20 and found.n_scored == 1480
    assert any(line.startswith("20 rows were left out") for line in found.verdict)


def test_the_numbers_of_the_report():
    found = calibrate(*simulated(2.0), bootstrap=50).to_dict()
    grid = found["reliability"]["grid"]
    assert 1.0 in grid["temperature"] and found["fit"]["temperature"] in grid["temperature"]
    assert len(grid["diagrams"]) == len(grid["temperature"]) == len(grid["ece"]) == study.GRID
    at_one = grid["temperature"].index(1.0)
    assert grid["nll"][at_one] == pytest.approx(found["before"]["nll"]["value"])
    curve = found["nll_curve"]
    best = int(np.argmin(curve["nll"]))
    assert curve["temperature"][best] == pytest.approx(found["fit"]["temperature"])
    assert curve["nll"][best] == pytest.approx(found["fit"]["nll_after"], rel=1e-9)


def test_torch_and_progress():
    logits, labels = (torch.from_numpy(v) for v in simulated(2.0))
    said = []
    found = calibrate(logits, labels, bootstrap=50, progress=lambda message, share: said.append(share))
    assert found.fit.temperature == logitherm.fit_temperature(logits.numpy(), labels.numpy()).temperature
    assert said == sorted(said) and said[-1] == 1.0


def test_errors():
    logits, labels = simulated(2.0, n=50)
    with pytest.raises(ValueError, match="method: must be one of auto, temperature"):
        calibrate(logits, labels, method="magic")
    with pytest.raises(ValueError, match="test_labels: must be given"):
        calibrate(logits, labels, logits)
    with pytest.raises(ValueError, match="test_logits: must have shape"):
        calibrate(logits, labels, logits[:, :3], labels)
    with pytest.raises(ValueError, match="must be other rows than those of the fit"):
        calibrate(logits, labels, logits, labels)
    with pytest.raises(ValueError, match="folds: must be"):
        calibrate(logits, labels, folds=1)


def test_a_few_blunders_do_not_make_an_underconfident_model_overconfident():
    """Nine in ten right at a confidence of seven in ten, and some labels that the model thinks all but impossible."""
    rng = np.random.default_rng(0)
    z = np.where(np.arange(4) == rng.integers(0, 4, 3000)[:, None], 2.0, 0.0) + 0.1 * rng.normal(size=(3000, 4))
    labels = z.argmax(axis=1)
    wrong = rng.random(3000) < 0.05
    labels[wrong] = z[wrong].argmin(axis=1)
    z[wrong] *= 15
    found = calibrate(z, labels, bootstrap=20, compare_methods=False)
    assert found.fit.interval[0] > 1
    assert any(line.startswith("On the whole the model is underconfident (7") for line in found.verdict)


def test_classes_without_rows_are_said():
    rng = np.random.default_rng(0)
    z = 2 * rng.normal(size=(300, 5))
    labels = (z + rng.gumbel(size=z.shape)).argmax(axis=1)
    assert not any("no rows" in line for line in calibrate(z, labels, bootstrap=20, compare_methods=False).verdict)
    for kept, words in ((labels != 3, "Class 3 has no rows"), (labels < 2, "3 of 5 classes have no rows")):
        found = calibrate(z[kept], labels[kept], bootstrap=20, compare_methods=False)
        assert found.verdict[-1].startswith(words)


def nearly_separable(wrong: int, n: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Right but for a few rows, whose label is the second choice."""
    z = 6 * np.random.default_rng(0).normal(size=(n, 4))
    labels = z.argmax(axis=1)
    labels[3 : 3 + wrong] = z[3 : 3 + wrong].argsort(axis=1)[:, -2]
    return z, labels


def test_where_a_fold_is_separable_the_words_fit_the_infinite_score_and_name_the_prior():
    found = calibrate(*nearly_separable(1), bootstrap=50)
    words = " ".join(found.verdict)
    assert found.after.nll.value == np.inf
    assert "is certain of something wrong, so the NLL becomes infinite" in words
    assert "the NLL does not change" not in words
    assert "Without a few of the rows the rest ask for T = 0" in words
    assert "prior=(1, 0.5)" in words and "--prior 1,0.5" in words


def test_a_prior_is_in_all_that_is_said_and_saved():
    data, prior = nearly_separable(1), (1.0, 0.5)
    found = calibrate(*data, bootstrap=50, prior=prior)
    fitted = logitherm.TemperatureScaling(prior=prior).fit(*data)
    assert found.calibrator.temperature_ == found.fit.temperature == fitted.temperature_
    assert found.fit.interval == fitted.interval_ and found.alone.temperature < found.fit.temperature
    assert np.isfinite(found.after.nll.value) and found.selection.of("temperature").nll == pytest.approx(
        found.after.nll.value
    )
    summary = json.loads(json.dumps(found.summary(), allow_nan=False))
    assert summary["temperature"] == fitted.temperature_
    assert summary["prior"]["without"]["temperature"] == found.alone.temperature
    assert json.loads(found.calibrator.to_json())["prior"] == [1.0, 0.5]
    assert json.loads(found.calibrator.to_json())["provenance"]["after"]["nll"]["value"] == found.after.nll.value
    assert any(line.startswith("T is drawn to 1 by the prior (deviation 0.5 of log T)") for line in found.verdict)
    assert "--prior" not in " ".join(found.verdict)


def test_with_a_prior_separable_rows_have_a_temperature():
    found = calibrate(*nearly_separable(0), bootstrap=50, prior=(1, 0.5))
    assert found.fit.at_bound is None and 0 < found.fit.temperature < 1
    assert "the rows alone ask for T = 0." in found.verdict[1]
    assert not any("method" in line for line in found.verdict)
    alone = calibrate(*nearly_separable(0), bootstrap=50)
    assert alone.fit.at_bound == "zero" and "--prior" in alone.verdict[1]


def test_a_prior_is_for_one_temperature():
    with pytest.raises(ValueError, match=r"prior: must be None unless method is 'temperature'; got .* with 'auto'"):
        calibrate(*nearly_separable(1), method="auto", prior=(1, 0.5))
    for bad in ((1, -1), 0.5, "wide"):
        with pytest.raises(ValueError, match="prior: must be a centre and a deviation of log T"):
            calibrate(*nearly_separable(1), prior=bad)


def test_groups_of_the_method_are_checked():
    logits, labels = simulated(2.0, n=60)
    groups = np.arange(60) % 2
    with pytest.raises(ValueError, match="groups: must be given for the method 'group'"):
        calibrate(logits, labels, method="group")
    with pytest.raises(ValueError, match="test_groups: must be given exactly if"):
        calibrate(logits, labels, logits[:30], labels[:30], method="group", groups=groups)
    with pytest.raises(ValueError, match="test_groups: must be given exactly if"):
        calibrate(logits, labels, test_groups=groups)
    with pytest.raises(ValueError, match="groups: must have one entry a row"):
        calibrate(logits, labels, method="group", groups=groups[:10])
