"""Calibrators where scikit-learn users put them: pipelines, searches, frames, routed weights, pickles."""

from __future__ import annotations

import io
import pickle

import joblib
import numpy as np
import pytest
from sklearn import config_context
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import FitFailedWarning, NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import get_scorer, log_loss
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score, cross_validate
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC

import logitherm
from logitherm.calibration import METHODS, TemperatureScaling
from logitherm.integrations.sklearn import CalibratedClassifier

CALIBRATORS = pytest.mark.parametrize("family", METHODS.values(), ids=METHODS)


def drawn(n=400, seed=0):
    rng = np.random.default_rng(seed)
    z = 4 * rng.normal(size=(n, 3))
    return z, (z / 2 + rng.gumbel(size=z.shape)).argmax(axis=1), rng.integers(1, 4, n).astype(float)


Z, Y, W = drawn()


# -- calibrators -----------------------------------------------------------------------------------------


@CALIBRATORS
def test_cross_validation_says_what_calibration_gains(family):
    scores = cross_val_score(family(), Z, Y, scoring="neg_log_loss")
    assert scores.shape == (5,) and scores.mean() > -log_loss(Y, logitherm.softmax(Z))
    assert scores.mean() == pytest.approx(-log_loss(Y, cross_val_predict(family(), Z, Y, method="predict_proba")))


@CALIBRATORS
def test_the_last_step_of_a_pipeline_after_a_fitted_classifier(family, classifier, digits):
    fitted = make_pipeline(FunctionTransformer(classifier.decision_function), family()).fit(*digits)
    expected = family().fit(classifier.decision_function(digits[0]), digits[1])
    np.testing.assert_array_equal(
        fitted.predict_proba(digits[0]), expected.predict_proba(classifier.decision_function(digits[0]))
    )


@CALIBRATORS
def test_frames(family):
    pandas = pytest.importorskip("pandas", reason="frames are theirs")
    frame = pandas.DataFrame(Z, columns=["cat", "dog", "cow"], index=np.arange(len(Z)) + 7)
    fitted = family().set_output(transform="pandas").fit(frame, Y)
    made = fitted.transform(frame)
    assert made.columns.tolist() == ["cat", "dog", "cow"] == fitted.get_feature_names_out().tolist()
    assert made.index.equals(frame.index)
    np.testing.assert_allclose(made.to_numpy(), family().fit(Z, Y).transform(Z), rtol=1e-6)  # columns lie one by one
    with pytest.raises(ValueError, match="feature names should match"):
        fitted.transform(frame[["dog", "cat", "cow"]])


@CALIBRATORS
def test_weights_are_routed(family):
    weighted = family().fit(Z, Y, W)
    with config_context(enable_metadata_routing=True):
        asking = family().set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        piped = Pipeline([("same", FunctionTransformer()), ("calibrator", asking)]).fit(Z, Y, sample_weight=W)
        np.testing.assert_array_equal(piped.predict_proba(Z), weighted.predict_proba(Z))
        search = GridSearchCV(asking, {"zero_labels": ["raise", "exclude"]}, cv=3).fit(Z, Y, sample_weight=W)
        np.testing.assert_array_equal(search.predict_proba(Z), weighted.predict_proba(Z))
        scorer = get_scorer("neg_log_loss").set_score_request(sample_weight=True)
        found = cross_validate(
            piped, Z, Y, scoring=scorer, cv=3, params={"sample_weight": W}, return_estimator=True, return_indices=True
        )
        for each, rows, held, score in zip(
            found["estimator"], found["indices"]["train"], found["indices"]["test"], found["test_score"], strict=True
        ):
            p = family().fit(Z[rows], Y[rows], W[rows]).predict_proba(Z[held])
            np.testing.assert_array_equal(each.predict_proba(Z[held]), p)
            assert score == pytest.approx(-log_loss(Y[held], p, sample_weight=W[held]))
    by_name = Pipeline([("calibrator", family())]).fit(Z, Y, calibrator__sample_weight=W)
    np.testing.assert_array_equal(by_name.predict_proba(Z), weighted.predict_proba(Z))


@CALIBRATORS
def test_weights_and_masks_are_metadata(family):
    assert family().get_metadata_routing().fit.requests == {"mask": None, "sample_weight": None}
    assert not family().get_metadata_routing().predict_proba.requests


@CALIBRATORS
def test_copies(family):
    fitted = family(zero_labels="exclude").fit(Z, Y)
    file = io.BytesIO()
    joblib.dump(fitted, file)
    file.seek(0)
    for copy in (pickle.loads(pickle.dumps(fitted)), joblib.load(file)):
        np.testing.assert_array_equal(copy.predict_proba(Z), fitted.predict_proba(Z))
    with pytest.raises(NotFittedError):
        clone(fitted).transform(Z)
    assert clone(fitted).get_params() == fitted.get_params()


def test_parameters_are_searched():
    z = Z.copy()
    z[:3] = [0.0, -np.inf, -np.inf]
    labels = np.where(np.arange(len(Y)) < 3, 1, Y)
    grid = {"zero_labels": ["raise", "exclude"], "prior": [None, (1.0, 0.01)]}
    search = GridSearchCV(TemperatureScaling(), grid, error_score=-100.0, cv=3)
    with pytest.warns(FitFailedWarning, match="labels: must be possible"):
        search.fit(z, labels)
    assert search.best_params_["zero_labels"] == "exclude"
    plain = GridSearchCV(TemperatureScaling(), {"prior": grid["prior"]}, scoring="neg_log_loss").fit(Z, Y)
    assert plain.best_params_ == {"prior": None}  # T is 2, which the prior at 1 does not believe


# -- a classifier in one line ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rows():
    """Training and held-out rows of a problem with string classes that a model without a penalty overfits."""
    X, y = make_classification(900, 30, n_informative=6, n_classes=3, flip_y=0.2, random_state=0)
    y = np.array(["low", "middle", "high"])[y]
    return X[:150], y[:150], X[150:], y[150:]


@pytest.fixture(scope="module")
def classifier(rows):
    return LogisticRegression(C=1e3, max_iter=2000).fit(rows[0], rows[1])


@pytest.fixture(scope="module")
def digits(rows, classifier):
    return rows[2], np.searchsorted(classifier.classes_, rows[3])


@CALIBRATORS
def test_held_out_rows_calibrate_a_classifier(family, rows, classifier):
    _, _, X, y = rows
    name = next(name for name, each in METHODS.items() if each is family)
    fitted = CalibratedClassifier(classifier, name).fit(X, y)
    p = fitted.predict_proba(X)
    assert fitted.classes_.tolist() == ["high", "low", "middle"]
    assert log_loss(y, p) < log_loss(y, classifier.predict_proba(X)) - 0.05
    z = classifier.decision_function(X)
    np.testing.assert_array_equal(p, family().fit(z, np.searchsorted(classifier.classes_, y)).predict_proba(z))
    np.testing.assert_array_equal(fitted.predict(X), fitted.classes_[p.argmax(axis=1)])
    if family.keeps_predictions:
        np.testing.assert_array_equal(fitted.predict(X), classifier.predict(X))


def test_side_by_side_with_scikit_learn(rows, classifier):
    _, _, X, y = rows
    ours = CalibratedClassifier(classifier).fit(X, y)
    theirs = CalibratedClassifierCV(FrozenEstimator(classifier), method="temperature").fit(X, y)
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=1e-3)
    assert log_loss(y, ours.predict_proba(X)) <= log_loss(y, theirs.predict_proba(X)) + 1e-9
    assert ours.calibrator_.interval_[0] < ours.calibrator_.temperature_ < ours.calibrator_.interval_[1]


def test_a_binary_score_x_stands_for_the_logits_0_and_x():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(4000, 2))
    y = np.where(X[:, 0] + rng.logistic(size=4000) > 0, "yes", "no")
    model = LogisticRegression(C=1e6).fit(X[:2000], y[:2000])
    fitted = CalibratedClassifier(model).fit(X[2000:], y[2000:])
    assert fitted.calibrator_.interval_[0] < 1 < fitted.calibrator_.interval_[1]
    by_probability = CalibratedClassifier(model, response="predict_proba").fit(X[2000:], y[2000:])
    np.testing.assert_allclose(by_probability.predict_proba(X), fitted.predict_proba(X), rtol=1e-6)


def test_it_lives_in_pipelines_and_searches(rows, classifier):
    X, y = rows[2:]
    model = make_pipeline(StandardScaler(), LogisticRegression(C=1e3, max_iter=2000)).fit(rows[0], rows[1])
    whole = CalibratedClassifier(FrozenEstimator(model))
    calibrated = cross_val_score(whole, X, y, scoring="neg_log_loss").mean()
    assert calibrated > -log_loss(y, model.predict_proba(X)) + 0.05
    search = GridSearchCV(whole, {"method": ["temperature", "vector", TemperatureScaling(prior=(1.0, 0.1))]}, cv=3)
    search.fit(X, y)
    assert search.best_estimator_.predict_proba(X).shape == (750, 3)
    weights = np.random.default_rng(0).integers(0, 3, len(y)).astype(float)
    with config_context(enable_metadata_routing=True):
        asking = clone(whole).set_fit_request(sample_weight=True)
        piped = Pipeline([("model", asking)]).fit(X, y, sample_weight=weights)
    repeated = clone(whole).fit(np.repeat(X, weights.astype(int), axis=0), np.repeat(y, weights.astype(int)))
    np.testing.assert_allclose(piped.predict_proba(X), repeated.predict_proba(X), atol=1e-6)
    copy = pickle.loads(pickle.dumps(piped))
    np.testing.assert_array_equal(copy.predict_proba(X), piped.predict_proba(X))


def test_what_cannot_be_calibrated_is_named(rows, classifier):
    X, y = rows[2:]
    with pytest.raises(NotFittedError, match=r"estimator: must be fitted; .* FrozenEstimator"):
        CalibratedClassifier(LogisticRegression()).fit(X, y)
    with pytest.raises(NotFittedError):
        CalibratedClassifier(classifier).predict(X)
    with pytest.raises(ValueError, match=r"method: must be a calibrator or one of temperature, .* got 'platt'"):
        CalibratedClassifier(classifier, "platt").fit(X, y)
    with pytest.raises(ValueError, match="response: must be decision_function or predict_proba; got 'scores'"):
        CalibratedClassifier(classifier, response="scores").fit(X, y)
    with pytest.raises(ValueError, match="zero_labels: must be left out where method is a calibrator"):
        CalibratedClassifier(classifier, TemperatureScaling(), zero_labels="exclude").fit(X, y)
    with pytest.raises(ValueError, match=r"y: must be classes of the estimator; 1 rows are not, first row 2 .*other"):
        CalibratedClassifier(classifier).fit(X[:4], ["low", "high", "other", "low"])
    bayes = GaussianNB().fit(rows[0], rows[1])
    with pytest.raises(ValueError, match=r"response: the estimator has no decision_function; .* pass 'predict_proba'"):
        CalibratedClassifier(bayes).fit(X, y)
    assert CalibratedClassifier(bayes, response="predict_proba").fit(X, y).calibrator_.temperature_ > 1
    X4, y4 = make_classification(200, 10, n_informative=6, n_classes=4, random_state=0)
    pairs = SVC(decision_function_shape="ovo").fit(X4, y4)
    with pytest.raises(ValueError, match="got 6 scores for 4 classes; pass decision_function_shape='ovr'"):
        CalibratedClassifier(pairs).fit(X4, y4)


def test_a_forest_that_says_never_is_calibrated_by_the_other_rows(rows):
    forest = RandomForestClassifier(10, random_state=0).fit(rows[0], rows[1])
    X, y = rows[2:]
    with pytest.raises(ValueError, match="pass zero_labels='exclude'"):
        CalibratedClassifier(forest, response="predict_proba").fit(X, y)
    fitted = CalibratedClassifier(forest, response="predict_proba", zero_labels="exclude").fit(X, y)
    assert 0 < fitted.calibrator_.n_ < len(y) and fitted.calibrator_.zero_labels == "exclude"
    np.testing.assert_allclose(fitted.predict_proba(X).sum(axis=1), 1)
