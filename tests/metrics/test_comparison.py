"""Changes of scores against the scores themselves, and their intervals against a plain paired bootstrap."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from logitherm.metrics import brier, expected_calibration_error, nll
from logitherm.metrics.comparison import compare

RNG = np.random.default_rng(0)
Z = 2 * RNG.normal(size=(800, 5))
LABELS = (Z + RNG.gumbel(size=Z.shape)).argmax(axis=1)
SCORES = {"nll": nll, "brier": brier, "ece": expected_calibration_error}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", SCORES)
def test_a_change_is_the_difference_of_the_scores(name, weighted):
    weights = RNG.integers(0, 3, len(Z)) if weighted else None
    found = compare(3 * Z, Z, LABELS, temperature_after=1.5, weights=weights, bootstrap=50)
    score = SCORES[name]
    expected = score(Z, LABELS, 1.5, weights=weights) - score(3 * Z, LABELS, weights=weights)
    change = getattr(found, name)
    assert change.value == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert change.low <= change.value <= change.high


@pytest.mark.parametrize("name", ["nll", "brier"])
def test_its_interval_is_that_of_resampled_pairs(name):
    found = getattr(compare(2 * Z, Z, LABELS, bootstrap=2000), name)
    score, drawn = SCORES[name], []
    for _ in range(400):
        rows = RNG.integers(0, len(Z), len(Z))
        drawn.append(score(Z[rows], LABELS[rows]) - score(2 * Z[rows], LABELS[rows]))
    width = np.diff(np.quantile(drawn, [0.025, 0.975]))[0]
    assert found.high - found.low == pytest.approx(width, rel=0.15)


def test_what_does_not_change_changes_by_nothing():
    found = compare(Z, Z + 3, LABELS, bootstrap=50)
    for change in (found.nll, found.brier, found.ece):
        assert abs(change.value) < 1e-12 and change.sign == 0


def test_a_clear_change_is_told_from_chance():
    found = compare(3 * Z, Z, LABELS)
    assert found.nll.sign == found.ece.sign == found.brier.sign == -1
    back = compare(Z, 3 * Z, LABELS)
    assert back.nll.sign == back.ece.sign == back.brier.sign == 1


def test_an_infinite_nll_has_no_change():
    z = Z.copy()
    z[0, LABELS[0]] = -math.inf
    found = compare(z, Z, LABELS, bootstrap=20)
    assert math.isnan(found.nll.value) and found.nll.sign == 0 and found.ece.value < 1
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["nll"]["value"] is None


def test_no_replicates_no_interval():
    found = compare(2 * Z, Z, LABELS, bootstrap=0)
    assert math.isnan(found.ece.low) and found.ece.value < 0
