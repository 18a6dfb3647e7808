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
    assert StructuredMatrixScaling().fit(*seen).strengths_ == (1.0, 1.0)


def test_a_matrix_needs_a_strength():
    seen, _ = simulated(0.5, 0.1, classes=5, rows=300)
    with pytest.raises(ValueError, match=r"^strength: must be a number for a matrix; got None; 1 is the default$"):
        StructuredMatrixScaling(strength=None).fit(*seen)


def test_a_file_keeps_that_the_strength_was_learned(tmp_path):
    seen, _ = simulated(0.5, 0.1, classes=5, rows=300)
    VectorScaling().fit(*seen).save(tmp_path / "c.json")
    assert VectorScaling.load(tmp_path / "c.json").strength is None
