"""Intervals of log T."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import norm

from logitherm.thermometer.intervals import around


@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
def test_it_is_normal_in_the_logarithm(confidence):
    for temperature, error in ((1e-6, 0.01), (2.0, 0.3), (1e6, 2.0)):
        due = np.exp(norm.interval(confidence, math.log(temperature), error))
        np.testing.assert_allclose(around(temperature, error, confidence), due, rtol=1e-9)


def test_limits():
    assert around(2.0, 0.0, 0.95) == (2.0, 2.0)
    assert around(2.0, 1e6, 0.95) == around(2.0, math.inf, 0.95) == (0.0, math.inf)
