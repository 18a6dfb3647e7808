"""Binary and multi-label heads: each label its own temperature and bias."""

from __future__ import annotations

import math

import numpy as np
import pandas
import pytest
import torch
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression

from logitherm import TemperatureScaling, softmax
from logitherm.calibration import load_calibrator
from logitherm.calibration.binary import PlattScaling, binary_logits


def simulated(n=3000, seed=0):
    rng = np.random.default_rng(seed)
    x = 2 * rng.normal(size=(n, 3))
    p = 1 / (1 + np.exp(-(x / [3.0, 1.0, 0.5] + [0.0, -1.0, 0.5])))
    return x, (rng.random((n, 3)) < p).astype(int)


X, Y = simulated()


def test_the_logits_of_a_score_are_zero_and_it():
    x = np.linspace(-30, 30, 41)
    np.testing.assert_allclose(softmax(binary_logits(x))[:, 1], 1 / (1 + np.exp(-x)), rtol=1e-12)
    assert isinstance(binary_logits(torch.zeros(3, 2)), torch.Tensor) and binary_logits(torch.zeros(3, 2)).shape == (
        3,
        2,
        2,
    )
    with pytest.raises(TypeError, match="scores: must be floating point; got shape"):
        binary_logits(np.arange(3))


def test_it_is_logistic_regression_on_the_score():
    found = PlattScaling().fit(X, Y)
    for j in range(3):
        peer = LogisticRegression(C=np.inf, tol=1e-10).fit(X[:, [j]], Y[:, j])
        assert 1 / found.temperatures_[j] == pytest.approx(peer.coef_[0, 0], rel=1e-4)
        assert found.biases_[j] == pytest.approx(peer.intercept_[0], abs=1e-4)
        np.testing.assert_allclose(found.predict_proba(X)[:, j], peer.predict_proba(X[:, [j]])[:, 1], atol=1e-5)
        np.testing.assert_array_equal(found.predict(X)[:, j], peer.predict(X[:, [j]]))


def test_a_binary_head_is_one_label():
    found = PlattScaling().fit(X[:, 0], Y[:, 0])
    assert found.predict_proba(X[:, 0]).shape == (3000,)
    np.testing.assert_allclose(found.predict_proba(X[:, 0]), PlattScaling().fit(X, Y).predict_proba(X)[:, 0])
    assert found.fit(X[:, 0], Y[:, 0] > 0).temperatures_[0] > 2  # bool labels


def test_without_bias_it_is_temperature_scaling_and_keeps_decisions():
    found = PlattScaling(bias=False).fit(X[:, 0], Y[:, 0])
    assert found.temperatures_[0] == TemperatureScaling().fit(binary_logits(X[:, 0]), Y[:, 0]).temperature_
    np.testing.assert_array_equal(found.predict(X[:, 0]), X[:, 0] > 0)


def test_missing_labels_and_weights():
    y = Y.copy()
    y[::3, 1] = -1
    found = PlattScaling().fit(X, y)
    assert found.n_.tolist() == [3000, 2000, 3000]
    kept = np.arange(3000) % 3 > 0
    assert found.temperatures_[1] == pytest.approx(
        PlattScaling().fit(X[kept, 1], Y[kept, 1]).temperatures_[0], rel=1e-6
    )
    weights = np.random.default_rng(0).integers(0, 3, 3000)
    weighted = PlattScaling().fit(X, Y, weights)
    repeated = PlattScaling().fit(np.repeat(X, weights, axis=0), np.repeat(Y, weights, axis=0))
    np.testing.assert_allclose(weighted.temperatures_, repeated.temperatures_, rtol=1e-3)


def test_limits(tmp_path):
    x = np.random.default_rng(0).normal(size=(400, 2))
    y = np.stack([x[:, 0] > 0, np.arange(400) % 4 == 0], axis=1).astype(int)
    y[:, 1] = np.where(x[:, 1] > 0, 0, y[:, 1])  # the score points away from the label
    found = PlattScaling().fit(x, y)
    assert found.at_bounds_ == ["zero", "infinite"]
    p = found.predict_proba(x)
    np.testing.assert_array_equal(p[:, 0], x[:, 0] > 0)
    np.testing.assert_allclose(p[:, 1], y[:, 1].mean(), atol=1e-3)
    found.save(tmp_path / "c.json")
    np.testing.assert_array_equal(PlattScaling.load(tmp_path / "c.json").predict_proba(x), p)


def test_torch_and_files(tmp_path):
    found = PlattScaling().fit(torch.from_numpy(X), torch.from_numpy(Y))
    p = found.predict_proba(torch.from_numpy(X))
    assert isinstance(p, torch.Tensor)
    np.testing.assert_allclose(p.numpy(), PlattScaling().fit(X, Y).predict_proba(X), rtol=1e-9)
    found.save(tmp_path / "c.json")
    np.testing.assert_array_equal(PlattScaling.load(tmp_path / "c.json").predict_proba(X), found.predict_proba(X))
    assert isinstance(load_calibrator(tmp_path / "c.json"), PlattScaling)
    (tmp_path / "d.json").write_text("{}")
    with pytest.raises(ValueError, match="must be a calibrator saved by PlattScaling"):
        PlattScaling.load(tmp_path / "d.json")


def test_it_is_a_classifier_of_scikit_learn():
    found = clone(PlattScaling(strength=1.0)).fit(X, Y)
    assert found.score(X, Y) == pytest.approx((found.predict(X) == Y).all(axis=1).mean())
    frame = found.set_output(transform="pandas").transform(pandas.DataFrame(X, columns=["cat", "dog", "owl"]))
    assert frame.columns.tolist() == ["x0", "x1", "x2"]


@pytest.mark.parametrize("always", [0, 1])
def test_a_label_that_is_always_the_same_needs_a_prior(always):
    y = Y.copy()
    y[:, 1] = always
    with pytest.raises(
        ValueError, match=rf"^labels: must be both 0 and 1 .* label 1 is always {always}; give strength=1"
    ):
        PlattScaling().fit(X, y)
    p = PlattScaling(strength=1.0).fit(X, y).predict_proba(X)[:, 1]
    assert np.abs(p - always).mean() < 0.01 and np.isfinite(np.log(p)).all()


def test_a_label_that_a_bias_separates_needs_a_prior():
    y = Y.copy()
    y[:, 2] = X[:, 2] > 1
    with pytest.raises(ValueError, match=r"^labels: must overlap; .* give strength=1 \(label 2\)$"):
        PlattScaling().fit(X, y)
    found = PlattScaling(strength=1.0).fit(X, y)
    assert 0 < found.temperatures_[2] < math.inf and found.at_bounds_ == [None, None, None]


def test_no_temperature_is_negative():
    rng = np.random.default_rng(0)
    x = rng.normal(2, 1, size=2000)
    y = (rng.random(2000) < 1 / (1 + np.exp(0.5 * x - 3))).astype(int)
    found = PlattScaling().fit(x, y)
    assert found.temperatures_.tolist() == [math.inf] and found.at_bounds_ == ["infinite"]
    np.testing.assert_allclose(found.predict_proba(x), y.mean(), atol=1e-3)


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        (X, Y[:, 0], r"labels: must be integers of the shape of scores \(3000, 3\)"),
        (X, Y + 1, "labels: must be 0, 1 or -1"),
        (X.astype(int), Y, "scores: must be floating"),
        (np.where(np.arange(3000)[:, None] == 4, math.nan, X), Y, "scores: must be finite; row 4"),
        (X, np.where(np.arange(3) == 1, -1, Y), "label 1 has none"),
    ],
)
def test_errors(scores, labels, message):
    with pytest.raises(ValueError, match=message):
        PlattScaling().fit(scores, labels)


def test_a_column_of_scores_goes_with_a_row_of_labels(rng):
    x = 2 * rng.normal(size=(300, 1))
    y = (rng.random(300) < 1 / (1 + np.exp(-x[:, 0]))).astype(int)
    assert PlattScaling().fit(x, y).temperatures_ == PlattScaling().fit(x[:, 0], y).temperatures_
