"""The p-value to be trusted: the robust one where a few rows decide."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

import logitherm
from logitherm.calibration.trusted import robust_p_value, trusted_p_value


@pytest.fixture
def fit():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(500, 4))
    return logitherm.fit_temperature(1.2 * z, (z + rng.gumbel(size=z.shape)).argmax(axis=1))


def test_it_is_that_of_the_likelihood_unless_few_rows_decide(fit):
    assert trusted_p_value(fit) == (fit.p_value, False)
    few = replace(fit, sandwich_error=3 * fit.standard_error)
    p_value, robust = trusted_p_value(few)
    assert robust and p_value == robust_p_value(few)
    z = math.log(few.temperature) * few.temperature / few.sandwich_error
    assert p_value == pytest.approx(2 * norm.sf(abs(z)))


def test_at_a_bound_there_is_none(fit):
    assert robust_p_value(replace(fit, temperature=math.inf)) is None
    assert robust_p_value(replace(fit, sandwich_error=None)) is None
