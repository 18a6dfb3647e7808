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


def half_right():
    """Sure rows are right and unsure ones wrong, half of all: the smooth ECE falls to 0 as T grows."""
    z = 3 * np.random.default_rng(0).normal(size=(400, 2))
    labels = z.argmax(axis=1)
    labels[np.argsort(np.abs(z[:, 0] - z[:, 1]))[:200]] ^= 1
    return z, labels


def right_but_one():
    """The Brier score falls to that of certainty as T sinks; one blunder keeps the likeliest T up."""
    gaps = np.append(5 + np.random.default_rng(0).random(500), 40.0)
    return np.stack([gaps, np.zeros(501)], axis=1), np.append(np.zeros(500, dtype=int), 1)


@pytest.mark.parametrize(
    ("objective", "score", "data", "limit", "bound"),
    [("smooth_ece", smooth, half_right, np.inf, "infinite"), ("brier", brier, right_but_one, 0.0, "zero")],
)
def test_a_score_without_a_minimum_in_between_is_said_to_have_none(objective, score, data, limit, bound, tmp_path):
    z, labels = data()
    fitted = TemperatureScaling(objective=objective).fit(z, labels)
    assert TemperatureScaling().fit(z, labels).at_bound_ is None
    assert fitted.temperature_ == limit and fitted.at_bound_ == bound
    assert fitted.interval_ is fitted.standard_error_ is fitted.sandwich_error_ is None
    least = score(z, labels, limit)
    assert all(least <= score(z, labels, t) + 1e-12 for t in np.geomspace(1e-3, 1e6, 60))
    fitted.save(tmp_path / "c.json")
    assert TemperatureScaling.load(tmp_path / "c.json").at_bound_ == bound
