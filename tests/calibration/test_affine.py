from __future__ import annotations

import numpy as np
import pytest

from logitherm import softmax
from logitherm.calibration import BiasCorrectedTemperatureScaling, StructuredMatrixScaling, VectorScaling
from logitherm.metrics import nll


def simulated(spread_of_biases, spread_of_scales, classes=30, rows=3000, fresh=10_000):
    """Rows to fit to and fresh ones, of logits that are 1.6 times as large as they should be."""
    rng = np.random.default_rng(0)
    true = rng.normal(size=(rows + fresh, classes))
    true[np.arange(len(true)), rng.integers(classes, size=len(true))] += np.log(classes) + rng.normal(2, 2, len(true))
    true = np.log(softmax(true))
    scales = 1 + spread_of_scales * rng.normal(size=classes)
    seen = scales * true + spread_of_biases * rng.normal(size=classes)
    labels = (seen + rng.gumbel(size=seen.shape)).argmax(axis=1)
    z = 1.6 * true
    return (z[:rows], labels[:rows]), (z[rows:], labels[rows:])


@pytest.mark.parametrize("family", [BiasCorrectedTemperatureScaling, VectorScaling])
@pytest.mark.parametrize("spreads", [(0, 0), (0.1, 0), (0.6, 0), (0.6, 0.2)])
def test_a_learned_strength_does_as_well_on_fresh_rows_as_the_better_of_none_and_one(family, spreads):
    seen, (z, labels) = simulated(*spreads)
    of = {strength: nll(family(strength=strength).fit(*seen).transform(z), labels) for strength in (None, 0.0, 1.0)}
    assert of[None] < min(of[0.0], of[1.0]) + 1e-3


def test_the_strength_learned_is_that_of_the_prior_the_parameters_come_from():
    classes, spread = 30, 0.6
    seen, _ = simulated(spread, 0, classes, rows=20_000)
    scaling = VectorScaling().fit(*seen)
    assert scaling.strengths_[0] == pytest.approx(1 / (2 * classes * spread**2), rel=0.6)
    assert scaling.strengths_[1] > 5  # scales are alike
    none, _ = simulated(0, 0, classes)
    assert BiasCorrectedTemperatureScaling().fit(*none).strengths_[0] > 1


def test_a_strength_that_is_given_is_kept():
    seen, _ = simulated(0.5, 0.1, classes=5, rows=300)
    assert VectorScaling(strength=0.5).fit(*seen).strengths_ == (0.5, 0.5)
    assert StructuredMatrixScaling(strength=1).fit(*seen).strengths_ == (1.0, 1.0, 1.0)


@pytest.mark.slow
def test_the_strength_of_a_matrix_is_learned_too():
    rng = np.random.default_rng(1)
    (z, labels), (fresh, outcomes) = simulated(0.3, 0.1, classes=10, rows=2000)
    mixed = rng.normal(size=(10, 10)) / np.sqrt(10)
    for mix in (0.0, 0.3):
        labels = (z + mix * z @ mixed + rng.gumbel(size=z.shape)).argmax(axis=1)
        outcomes = (fresh + mix * fresh @ mixed + rng.gumbel(size=fresh.shape)).argmax(axis=1)
        of = {
            s: nll(StructuredMatrixScaling(strength=s).fit(z, labels).transform(fresh), outcomes)
            for s in (None, 0.1, 1.0, 10.0)
        }
        assert of.pop(None) < min(of.values()) + 2e-3


def test_blunders_weaken_what_is_learned():
    seen, (z, labels) = simulated(0, 0.1, classes=10, rows=2000)
    rng = np.random.default_rng(1)
    blunders = rng.random(2000) < 0.05
    seen[1][blunders] = rng.integers(10, size=blunders.sum())
    of = {s: nll(VectorScaling(strength=s).fit(*seen).transform(z), labels) for s in (None, 0.0, 1.0)}
    assert of[None] < min(of[0.0], of[1.0]) + 1e-3


def test_a_constant_added_to_a_column_changes_no_scale():
    """Biases without a prior take it up, and scales turn about the mean logit of their class."""
    (z, labels), _ = simulated(0.3, 0.1, classes=5, rows=3000)
    moved = z + np.array([0.0, 0.3, -0.5, 0.1, 0.2])
    of = [VectorScaling().fit(x, labels) for x in (z, moved)]
    np.testing.assert_allclose(of[0].relative_scale_, of[1].relative_scale_, atol=0.05)


@pytest.mark.parametrize("family", [BiasCorrectedTemperatureScaling, VectorScaling, StructuredMatrixScaling])
def test_no_temperature_is_negative(family):
    """Within a class the scores point away from the label; class frequencies make up for it with one temperature."""
    rng = np.random.default_rng(0)
    score = rng.normal(2, 1, size=2000)
    labels = (rng.random(2000) < 1 / (1 + np.exp(0.5 * score - 3))).astype(int)
    z = np.stack([np.zeros(2000), score], axis=1)
    fitted = family().fit(z, labels)
    assert fitted.temperature_ > 0
    if family is BiasCorrectedTemperatureScaling:
        assert fitted.at_bound_ == "infinite"
        np.testing.assert_allclose(fitted.predict_proba(z[:1])[0, 1], labels.mean(), atol=1e-3)


@pytest.mark.parametrize("family", [BiasCorrectedTemperatureScaling, VectorScaling, StructuredMatrixScaling])
def test_rows_that_biases_separate(family):
    rng = np.random.default_rng(0)
    score = rng.normal(2, 1, size=500)
    score = score[np.abs(score - 2) > 0.1]
    z, labels = np.stack([np.zeros(len(score)), score], axis=1), (score > 2).astype(int)
    fitted = family().fit(z, labels)
    assert set(fitted.strengths_) == {1.0} and 0 < fitted.temperature_ < np.inf
    assert fitted.score(z, labels) > 0.98
    with pytest.raises(ValueError, match=r"^labels: must overlap; a bias for every class separates them perfectly"):
        family(strength=0).fit(z, labels)


def test_a_class_without_rows_needs_a_penalty():
    (z, labels), _ = simulated(0.5, 0.1, classes=5, rows=300)
    z = z[labels != 3]
    labels = labels[labels != 3]
    assert VectorScaling().fit(z, labels).bias_[3] < 0
    with pytest.raises(ValueError, match=r"^labels: must have every class .*; class 3 has no rows \(1 such in all\)"):
        VectorScaling(strength=0).fit(z, labels)


def test_a_file_keeps_that_the_strength_was_learned(tmp_path):
    seen, _ = simulated(0.5, 0.1, classes=5, rows=300)
    VectorScaling().fit(*seen).save(tmp_path / "c.json")
    assert VectorScaling.load(tmp_path / "c.json").strength is None
