"""Temperatures that minimise the Brier score or the smooth calibration error."""

from __future__ import annotations

import numpy as np
import pytest

from logitherm.calibration import TemperatureScaling
from logitherm.metrics import brier, nll, smooth_calibration_error


def simulated(n=2000, seed=0, blunders=0.05):
    rng = np.random.default_rng(seed)
    z = 2 * rng.normal(size=(n, 6))
    labels = (z + rng.gumbel(size=z.shape)).argmax(axis=1)
    wrong = rng.random(n) < blunders
    labels[wrong] = rng.integers(0, 6, wrong.sum())
    return 3 * z, labels


def smooth(z, labels, t):
    return smooth_calibration_error(z, labels, t, bootstrap=0).value


@pytest.mark.parametrize(("objective", "score"), [("nll", nll), ("brier", brier), ("smooth_ece", smooth)])
def test_no_temperature_scores_better(objective, score):
    z, labels = simulated()
    found = TemperatureScaling(objective=objective).fit(z, labels).temperature_
    least = score(z, labels, found)
    assert all(least <= score(z, labels, t) + 1e-9 for t in found * np.geomspace(0.3, 3, 41))
    assert all(least <= score(z, labels, t) + 1e-9 for t in found * np.array([0.999, 1.001]))


def test_objectives_differ_where_the_model_is_wrong_in_more_than_temperature():
    z, labels = simulated(n=20000)
    found = {name: TemperatureScaling(objective=name).fit(z, labels).temperature_ for name in ("nll", "brier")}
    assert found["nll"] > 1.03 * found["brier"]  # blunders weigh more in the NLL


def test_the_error_of_the_brier_temperature_is_its_spread():
    draws, errors = [], []
    for seed in range(60):
        fitted = TemperatureScaling(objective="brier").fit(*simulated(n=800, seed=seed))
        draws.append(fitted.temperature_)
        errors.append(fitted.sandwich_error_)
        assert fitted.interval_[0] < fitted.temperature_ < fitted.interval_[1] and fitted.standard_error_ is None
    assert 0.75 < np.mean(errors) / np.std(draws) < 1.35


def test_weights_are_copies():
    z, labels = simulated(n=300)
    weights = np.arange(300) % 3
    index = np.repeat(np.arange(300), weights)
    for objective in ("brier", "smooth_ece"):
        weighted = TemperatureScaling(objective=objective).fit(z, labels, weights)
        copied = TemperatureScaling(objective=objective).fit(z[index], labels[index])
        np.testing.assert_allclose(weighted.temperature_, copied.temperature_, rtol=1e-5)


def test_far_minima_are_found():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(2000, 4))
    labels = (z + rng.gumbel(size=z.shape)).argmax(axis=1)
    for scale in (1e-4, 1e4):
        found = TemperatureScaling(objective="brier").fit(scale * z, labels).temperature_
        assert 0.9 < found / scale < 1.1


def test_bounds_prior_and_files(tmp_path):
    z = np.eye(3)[np.arange(60) % 3]
    assert TemperatureScaling(objective="brier").fit(z, np.arange(60) % 3).temperature_ == 0
    with pytest.raises(ValueError, match="objective: must be one of nll, brier, smooth_ece; got 'ece'"):
        TemperatureScaling(objective="ece").fit(z, np.arange(60) % 3)
    with pytest.raises(ValueError, match="prior: must be None for the objective 'brier'"):
        TemperatureScaling(objective="brier", prior=(1, 1)).fit(z, np.arange(60) % 3)
    fitted = TemperatureScaling(objective="smooth_ece").fit(*simulated(n=200))
    fitted.save(tmp_path / "c.json")
    back = TemperatureScaling.load(tmp_path / "c.json")
    assert back.objective == "smooth_ece" and back.temperature_ == fitted.temperature_ and back.interval_ is None


def test_a_limit_that_no_temperature_beats_is_said():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(400, 2))
    labels = np.where(np.arange(400) < 200, z.argmax(axis=1), z.argmin(axis=1))  # right half of the time
    spread = np.where(np.arange(400) < 200, 1.1, 1.0)[:, None]  # a little surer where it is right
    found = TemperatureScaling(objective="smooth_ece").fit(z * spread, labels)
    assert found.at_bound_ == "infinite" and np.isinf(found.temperature_) and found.interval_ is None
    z = np.zeros((500, 2))
    z[:, 0] = 10.0
    z[0, 0] = 40.0
    blunder = TemperatureScaling(objective="brier").fit(z, np.eye(500, dtype=int)[0])
    assert blunder.at_bound_ == "zero" and blunder.temperature_ == 0 and blunder.sandwich_error_ is None
