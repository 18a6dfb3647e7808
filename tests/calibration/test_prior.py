"""A prior on T: a help where rows are few, and gone where they are many."""

from __future__ import annotations

import math

import numpy as np
import pytest

from logitherm import TemperatureScaling
from logitherm.thermometer.prior import most_probable
from logitherm.thermometer.sources import make_source

PRIOR = (1.0, 0.5)


def simulated(n, seed, temperature, classes=5):
    rng = np.random.default_rng(seed)
    z = 2.5 * rng.normal(size=(n, classes))
    return temperature * z, (z + rng.gumbel(size=z.shape)).argmax(axis=1)


def test_it_is_the_maximum_of_likelihood_times_prior():
    z, y = simulated(60, 0, 1.8)
    found, error = most_probable(make_source(z, y), 1.3, 0.4)

    def loss(log_t):
        u = z * math.exp(-log_t)
        nll = (np.log(np.exp(u - u.max(axis=1, keepdims=True)).sum(axis=1)) + u.max(axis=1) - u[np.arange(60), y]).sum()
        return nll + (log_t - math.log(1.3)) ** 2 / (2 * 0.4**2)

    at = math.log(found)
    assert loss(at) < min(loss(at - 1e-3), loss(at + 1e-3))
    assert (loss(at + 1e-4) - loss(at - 1e-4)) / 2e-4 == pytest.approx(0, abs=1e-5)
    assert 0 < error < 0.4


def test_it_helps_at_50_rows_and_vanishes_at_50_000():
    """Squared error of log T over 200 samples whose true T are drawn from the prior."""
    rng = np.random.default_rng(0)
    errors: dict[str, list[float]] = {"plain": [], "prior": []}
    for seed in range(200):
        truth = math.exp(rng.normal(0, PRIOR[1]))
        z, y = simulated(50, seed, truth)
        for name, prior in (("plain", None), ("prior", PRIOR)):
            t = TemperatureScaling(prior=prior).fit(z, y).temperature_
            errors[name].append(math.log(min(max(t, 1e-3), 1e3) / truth) ** 2)
    assert np.mean(errors["prior"]) < 0.9 * np.mean(errors["plain"])
    z, y = simulated(50_000, 0, 1.8)
    plain, drawn = (TemperatureScaling(prior=prior).fit(z, y) for prior in (None, PRIOR))
    assert abs(drawn.temperature_ - plain.temperature_) < 0.1 * plain.standard_error_
    assert drawn.standard_error_ == pytest.approx(plain.standard_error_, rel=1e-2)


def test_there_is_an_answer_where_the_likelihood_has_none(tmp_path):
    z, _ = simulated(40, 0, 1.0)
    cold = TemperatureScaling(prior=PRIOR).fit(z, z.argmax(axis=1))
    hot = TemperatureScaling(prior=PRIOR).fit(z, z.argmin(axis=1))
    assert 0 < cold.temperature_ < 1 < hot.temperature_ < math.inf
    for found in (cold, hot):
        assert found.at_bound_ is None and found.interval_[0] < found.temperature_ < found.interval_[1]
        found.save(tmp_path / "c.json", force=True)
        back = TemperatureScaling.load(tmp_path / "c.json")
        assert (back.temperature_, back.prior) == (found.temperature_, PRIOR)


@pytest.mark.parametrize("prior", [(0.0, 1.0), (1.0, 0.0), (1.0, math.inf), (-1.0, 0.5)])
def test_a_prior_that_is_none(prior):
    with pytest.raises(ValueError, match="prior: must be a centre and a deviation of log T, both positive"):
        TemperatureScaling(prior=prior).fit(*simulated(40, 0, 1.0))
