"""The mixture where its optimum lies at a limit of the temperature."""

from __future__ import annotations

import numpy as np
import pytest

import logitherm
from logitherm.calibration import EnsembleTemperatureScaling
from logitherm.metrics import nll


def first_choices(n=2000, blunders=0.1):
    """Labels are the first choice, but for some that are drawn evenly: (1 - w) at T = 0 and w of indifference."""
    rng = np.random.default_rng(0)
    z = 4 * rng.normal(size=(n, 5))
    labels, wrong = z.argmax(axis=1), rng.random(n) < blunders
    labels[wrong] = rng.integers(0, 5, wrong.sum())
    return z, labels


def test_certainty_with_blunders_is_at_the_bound():
    z, labels = first_choices()
    fitted = EnsembleTemperatureScaling().fit(z, labels)
    assert fitted.temperature_ == 0 and fitted.at_bound_ == "zero"
    np.testing.assert_allclose(fitted.shares_, [0.9, 0, 0.1], atol=0.02)
    shares = fitted.shares_
    parts = [logitherm.softmax(z, t) for t in (0.0, 1.0, np.inf)]
    np.testing.assert_allclose(fitted.predict_proba(z), np.tensordot(shares, parts, 1), rtol=1e-9)
    best = nll(fitted.transform(z), labels)
    for t in (1e-3, 1e-2, 0.1):
        fitted.temperature_ = t
        assert best <= nll(fitted.transform(z), labels) + 1e-12


def test_a_bound_with_shares_goes_to_a_file_and_back(tmp_path):
    z, labels = first_choices()
    fitted = EnsembleTemperatureScaling().fit(z, labels)
    fitted.save(tmp_path / "c.json")
    back = EnsembleTemperatureScaling.load(tmp_path / "c.json")
    assert back.at_bound_ == "zero" and back.temperature_ == 0
    np.testing.assert_array_equal(back.predict_proba(z), fitted.predict_proba(z))


def test_rows_without_weight_do_not_count():
    z, labels = first_choices()
    weights = np.ones(len(labels))
    weights[:50] = 0
    weighted = EnsembleTemperatureScaling().fit(z, labels, weights)
    assert weighted.at_bound_ == "zero"
    np.testing.assert_allclose(
        weighted.shares_, EnsembleTemperatureScaling().fit(z[50:], labels[50:]).shares_, atol=1e-4
    )


def test_an_optimum_in_between_stays_there():
    rng = np.random.default_rng(1)
    z = 4 * rng.normal(size=(2000, 5))
    labels = (z / 2 + rng.gumbel(size=z.shape)).argmax(axis=1)
    fitted = EnsembleTemperatureScaling().fit(z, labels)
    assert fitted.at_bound_ is None and fitted.temperature_ == pytest.approx(2, rel=0.1)
