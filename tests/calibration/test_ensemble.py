"""The mixture where its optimum lies at a limit of the temperature."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import minimize

import logitherm
from logitherm.calibration import EnsembleTemperatureScaling
from logitherm.calibration.ensemble import _Profile, best_shares
from logitherm.calibration.rows import labelled
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


# -- the search against the definition -------------------------------------------------------------------


def mixed(n=3000, classes=6, temperature=3.0, shares=(0.6, 0.3, 0.1), seed=2):
    """Labels of a mixture."""
    rng = np.random.default_rng(seed)
    z = 3 * rng.normal(size=(n, classes))
    parts = np.array([temperature, 1.0, math.inf])[rng.choice(3, size=n, p=shares)]
    return z, (z / parts[:, None] + rng.gumbel(size=z.shape)).argmax(axis=1)


def by_definition(z, labels, starts=(0.25, 1.0, 4.0)):
    """The least NLL over log T and the logits of the shares, from several starts, in float64."""
    rows = np.arange(len(labels))

    def loss(x):
        shares = logitherm.softmax(x[1:])
        parts = [logitherm.softmax(z, t)[rows, labels] for t in (math.exp(x[0]), 1.0, math.inf)]
        return -np.log(shares @ parts).mean()

    bounds = [(-5, 5)] + [(-30, 30)] * 3
    return min(minimize(loss, [math.log(start), 2, 0, 0], bounds=bounds).fun for start in starts)


@pytest.mark.parametrize(
    "data",
    [mixed(), mixed(temperature=0.3, shares=(0.5, 0.5, 0)), mixed(shares=(1, 0, 0)), mixed(shares=(0, 0.9, 0.1))],
    ids=["all three", "cold", "one temperature", "as it is with blunders"],
)
@pytest.mark.parametrize("kind", [np.float64, np.float32])
def test_no_search_over_all_parameters_finds_better(data, kind, ran):
    z, labels = data
    fitted = EnsembleTemperatureScaling().fit(z.astype(kind), labels)
    assert ran("moments") > 10  # the compiled pass, on the caller's logits
    assert nll(fitted.transform(z), labels) <= by_definition(z, labels) + (1e-9 if kind is np.float64 else 1e-8)


def test_slope_and_bend_are_those_of_the_best_likelihood_at_a_temperature():
    profile = _Profile(labelled(*mixed()))
    for at in (-1.0, 0.4, 1.5):
        low, here, high = (profile(at + step) for step in (-1e-4, 0, 1e-4))
        assert here.slope == pytest.approx((high.nll - low.nll) / 2e-4, abs=1e-7)
        assert here.bend == pytest.approx((high.slope - low.slope) / 2e-4, rel=1e-4)


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_no_other_shares_are_better(rng, share):
    parts, weights = rng.random((3, 500)) ** 4, rng.random(500)
    parts[1] = share * parts[1] + (1 - share) * parts[0]  # two nearly, or wholly, alike
    parts[2, :5] = 0
    weights /= weights.sum()
    shares = best_shares(parts, weights, np.full(3, 1 / 3))
    assert shares.min() >= 0 and shares.sum() == pytest.approx(1)
    best = weights @ np.log(shares @ parts)
    for other in rng.dirichlet([0.5] * 3, size=1000):
        assert weights @ np.log(other @ parts) <= best + 1e-12
