"""Labels against the same labels in another order: mean and variance as simulated, and who is told apart."""

from __future__ import annotations

import numpy as np
import pytest

from logitherm.calibration.association import association
from logitherm.calibration.study import calibrate


def softmax(z):
    p = np.exp(z - z.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True)


def test_mean_and_variance_are_those_over_all_orders():
    rng = np.random.default_rng(0)
    z, y = rng.normal(size=(40, 3)), rng.integers(0, 3, 40)
    found, rows = association(z, y, 0.7), np.arange(40)
    p, right = softmax(z / 0.7), z.argmax(axis=1)[:, None] == np.arange(3)
    for m, score in ((right, found.accuracy_z), (p, found.probability_z)):
        drawn = np.array([m[rows, rng.permutation(y)].sum() for _ in range(20_000)])
        assert score == pytest.approx((m[rows, y].sum() - drawn.mean()) / drawn.std(), abs=0.03)
    assert found.by_chance == pytest.approx(np.mean([right[:, k].mean() * (y == k).mean() for k in range(3)]) * 3)


def test_shuffled_labels_are_found_out_at_any_frequencies():
    """Nine in ten of one class: the model knows that, and the likelihood is far from that at T = inf."""
    rng = np.random.default_rng(0)
    z = 3 * rng.normal(size=(400, 4)) + [6, 0, 0, 0]
    labels = (z + rng.gumbel(size=z.shape)).argmax(axis=1)
    assert not association(z, labels).none
    flagged = [association(z, rng.permutation(labels), 5.0).none for _ in range(200)]
    assert np.mean(flagged) > 0.94


def test_a_bad_model_is_not_accused():
    """Right once in ten of 100 classes; and one that never predicts the rare class, yet knows where it is likelier."""
    rng = np.random.default_rng(0)
    z = 1.1 * rng.normal(size=(2000, 100))
    labels = (z + rng.gumbel(size=z.shape)).argmax(axis=1)
    found = association(z[:300], labels[:300])
    assert found.accuracy < 0.2 and not found.none
    z = np.stack([np.zeros(3000), rng.normal(-4, 1, 3000)], axis=1)
    labels = (rng.random(3000) < softmax(z)[:, 1]).astype(int)
    z[:, 1] = np.minimum(z[:, 1], -0.1)
    found = association(z, labels)
    assert found.accuracy_z == 0 and found.probability_z > 4 and not found.none


def test_limits():
    z, y = np.zeros((50, 3)), np.arange(50) % 3
    assert association(z, y).none and association(z, y, np.inf).probability_z == 0
    assert association(np.eye(3)[y], y, 1e9).probability_z == pytest.approx(association(np.eye(3)[y], y).probability_z)
    masked = np.where(np.eye(3)[y] > 0, 1.0, -np.inf)
    assert not association(masked, y).none


def test_the_verdict_says_that_labels_might_as_well_be_shuffled():
    """Nine in ten of one class, so that the likelihood has a maximum and its interval ends."""
    rng = np.random.default_rng(0)
    z = 3 * rng.normal(size=(300, 4)) + [6, 0, 0, 0]
    labels = (z + rng.gumbel(size=z.shape)).argmax(axis=1)
    options = {"bootstrap": 20, "compare_methods": False}
    closed = 0
    for _ in range(5):
        found = calibrate(z, rng.permutation(labels), **options)
        if found.fit.at_bound is None and found.fit.interval[1] < np.inf and found.association.none:
            closed += 1
            assert found.verdict[0].startswith("These labels cannot be told from shuffled ones: ")
            assert found.verdict[1].startswith("Check that labels and logits belong together")
    assert closed
    assert not any("shuffled" in line for line in calibrate(z, labels, **options).verdict)
    assert calibrate(z, labels, **options).summary()["association"]["accuracy_z"] > 10
