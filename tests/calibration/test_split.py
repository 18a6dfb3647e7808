"""What recalibration can mend of a score, against what is known to be mendable."""

from __future__ import annotations

import numpy as np

from logitherm.calibration import select_method
from logitherm.calibration.split import split_score
from logitherm.metrics import brier, nll


def test_the_split_of_a_model_whose_truth_is_known():
    rng = np.random.default_rng(0)
    true = 1.5 * rng.normal(size=(4000, 5)) + [1, 0, 0, 0, -1]
    labels = (true + rng.gumbel(size=true.shape)).argmax(axis=1)
    z = 2.5 * (true - [1, 0, 0, 0, -1])
    found = {split.score: split for split in select_method(z, labels, methods=["temperature", "bias"]).splits}
    for name, score in (("nll", nll), ("brier", brier)):
        split = found[name]
        np.testing.assert_allclose(split.total, score(z, labels), rtol=1e-9)
        np.testing.assert_allclose(split.calibration + split.refinement, split.total, rtol=1e-12)
        assert abs(split.refinement - score(true, labels)) < 0.01
        assert split.calibration > 5 * split.error > 0


def test_a_calibrated_model_has_nothing_to_mend():
    rng = np.random.default_rng(1)
    z = 2 * rng.normal(size=(4000, 4))
    labels = (z + rng.gumbel(size=z.shape)).argmax(axis=1)
    for split in select_method(z, labels, methods=["temperature", "vector"]).splits:
        assert abs(split.calibration) < 3 * split.error + 1e-3


def test_what_recalibration_leaves_infinite_has_no_calibration_loss():
    split = split_score("nll", np.array([1.0, np.inf]), np.array([0.5, np.inf]))
    assert np.isinf(split.total) and np.isinf(split.refinement) and np.isnan(split.calibration)
    mended = split_score("nll", np.array([1.0, np.inf]), np.array([0.5, 1.0]))
    assert np.isinf(mended.calibration) and mended.refinement == 0.75
