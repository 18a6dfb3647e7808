"""The temperature in use, from a number or a fit, and the band around it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from logitherm import TemperatureScaling, fit_temperature
from logitherm.calibration.stream.reference import as_reference, as_run_length, band_around


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    z = 4 * rng.normal(size=(2000, 5))
    y = (z + rng.gumbel(size=z.shape)).argmax(axis=1)
    return z, np.where(rng.random(2000) < 0.02, rng.integers(0, 5, 2000), y)


def test_of_a_fit_and_of_a_number(rows):
    fit = fit_temperature(*rows)
    known = fit.temperature, fit.sandwich_error / fit.temperature, (fit.sandwich_error / fit.standard_error) ** 2
    assert known[2] > 1.1
    assert as_reference(fit) == pytest.approx(known)
    assert as_reference(TemperatureScaling().fit(*rows)) == pytest.approx(known)
    assert as_reference(fit, 0.5, 3.0) == (fit.temperature, 0.5, 3.0)
    assert as_reference(np.float32(2)) == as_reference(2) == (2.0, 0.0, 1.0)


def test_of_a_fit_with_a_prior_and_of_soft_labels(rows):
    prior = TemperatureScaling(prior=(1.0, 0.5)).fit(*rows)
    assert as_reference(prior) == (prior.temperature_, prior.standard_error_ / prior.temperature_, 1.0)
    soft = fit_temperature(rows[0], soft_labels=np.full((2000, 5), 0.2) * 0.1 + 0.9 * np.eye(5)[rows[1]])
    assert as_reference(soft)[1:] == (soft.sandwich_error / soft.temperature, 1.0)


def test_the_band():
    low, high = band_around(2.0, 0.1, 0.05, 0.95)
    assert low * high == pytest.approx(4.0)
    assert math.log(high / 2) == pytest.approx(math.log(1.05) + 1.959964 * 0.1)


def test_bad_values(rows):
    for wrong, words in (
        ((0.0,), "reference_temperature: must be positive and finite"),
        ((math.nan,), "reference_temperature: must be positive and finite"),
        ((1.0, math.nan), "reference_error: "),
        ((1.0, 0.1, 0.9), "dispersion: "),
    ):
        with pytest.raises(ValueError, match=words):
            as_reference(*wrong)
    for wrong in (True, "1", None, np.ones(3)):
        with pytest.raises(TypeError, match="reference_temperature: must be a number"):
            as_reference(wrong)
    for wrong in (0, math.inf, math.nan):
        with pytest.raises(ValueError, match="run_length: "):
            as_run_length(wrong)
    for wrong in ((1.0, 0.1, -1.0, 0.95), (1.0, 0.1, math.nan, 0.95), (1.0, 0.1, 0.1, 1.0), (1.0, 99.0, 0.1, 0.95)):
        with pytest.raises(ValueError, match=r"tolerance|confidence|reference_error"):
            band_around(*wrong)
