"""Linear classifiers of scikit-learn, by their own predict_proba and decision_function."""

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import make_classification
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV, Perceptron, RidgeClassifier, SGDClassifier
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC

import logitherm
from logitherm import TemperatureScaling
from logitherm.calibration import BiasCorrectedTemperatureScaling, VectorScaling, binary_logits

FAMILIES = (TemperatureScaling, BiasCorrectedTemperatureScaling, VectorScaling)


def data(classes):
    x, y = make_classification(500, 20, n_informative=8, n_classes=classes, random_state=0, flip_y=0.2)
    return x[:200], y[:200], x[200:], y[200:]


def logits_of(model, x):
    scores = np.asarray(model.decision_function(x), dtype=np.float64)
    return binary_logits(scores) if scores.ndim == 1 else scores


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize(
    "model",
    [LogisticRegression(C=100, max_iter=2000), LogisticRegression(fit_intercept=False), LinearDiscriminantAnalysis()],
    ids=["logistic", "no-intercept", "lda"],
)
def test_predict_proba_becomes_the_calibrated_one(model, classes, family):
    x, y, new, labels = data(classes)
    model.fit(x, y)
    z = logits_of(model, new)
    scaling = family().fit(z, labels)
    baked = logitherm.bake(model, scaling)
    np.testing.assert_allclose(baked.predict_proba(new), scaling.predict_proba(z), rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(baked.predict(new), scaling.predict(z))
    np.testing.assert_array_equal(logits_of(model, new), z)


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize(
    "model",
    [
        LinearSVC(fit_intercept=False),
        LinearSVC(),
        RidgeClassifier(),
        RidgeClassifier(fit_intercept=False),
        SGDClassifier(random_state=0),
        Perceptron(),
    ],
    ids=str,
)
def test_without_probabilities_the_scores_become_calibrated_logits(model, classes):
    x, y, new, labels = data(classes)
    model.fit(x, y)
    z = logits_of(model, new)
    scaling = BiasCorrectedTemperatureScaling().fit(z, labels)
    u = scaling.transform(z)
    baked = logitherm.bake(model, scaling)
    expected = u[:, 1] - u[:, 0] if classes == 2 else u
    np.testing.assert_allclose(baked.decision_function(new), expected, rtol=1e-9, atol=1e-9)


def test_a_binary_classifier_and_platt_scaling(platt):
    x, y, new, _ = data(2)
    model, scaling = SGDClassifier(loss="log_loss", random_state=0).fit(x, y), platt()
    p = scaling.predict_proba(model.decision_function(new))
    np.testing.assert_allclose(logitherm.bake(model, scaling).predict_proba(new)[:, 1], p, rtol=1e-9)


def test_a_pipeline_a_data_frame_and_float32():
    x, y, new, _ = data(3)
    columns = [f"f{i}" for i in range(x.shape[1])]
    x, new = (pd.DataFrame(a.astype(np.float32), columns=columns) for a in (x, new))
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(x, y)
    baked = logitherm.bake(model, 1.7)
    np.testing.assert_allclose(baked.decision_function(new), model.decision_function(new) / 1.7, rtol=1e-5, atol=1e-6)
    assert baked[-1].coef_.dtype == model[-1].coef_.dtype
    assert baked is not model and logitherm.bake(model, 1.7, inplace=True) is model
    np.testing.assert_array_equal(model[-1].coef_, baked[-1].coef_)


def test_cross_validated_logistic_regression():
    x, y, new, _ = data(3)
    model = LogisticRegressionCV(Cs=2, cv=2, l1_ratios=(0.0,), use_legacy_attributes=False, scoring="accuracy").fit(
        x, y
    )
    np.testing.assert_allclose(logitherm.bake(model, 2.0).decision_function(new), model.decision_function(new) / 2)


# -- refusals --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["log_loss", "modified_huber"])
def test_one_vs_rest_probabilities_are_no_softmax(loss):
    x, y, *_ = data(4)
    with pytest.raises(ValueError, match=r"predict_proba must be the softmax .*one-vs-rest"):
        logitherm.bake(SGDClassifier(loss=loss, random_state=0).fit(x, y), 2.0)


def test_what_is_not_a_linear_classifier():
    x, y, *_ = data(3)
    for model in (SVC(kernel="linear"), OneVsRestClassifier(LogisticRegression()), StandardScaler()):
        with pytest.raises(TypeError, match=r"^model: must be a linear classifier.*got " + type(model).__name__):
            logitherm.bake(model.fit(x, y), 2.0)
    with pytest.raises(TypeError, match="must be a linear classifier"):
        logitherm.bake(CalibratedClassifierCV(LogisticRegression(), cv=2).fit(x, y), 2.0)


def test_models_that_are_not_fitted_or_sparse():
    x, y, *_ = data(3)
    with pytest.raises(NotFittedError):
        logitherm.bake(LogisticRegression(), 2.0)
    with pytest.raises(TypeError, match=r"csr_matrix.*densify\(\) first"):
        logitherm.bake(LogisticRegression().fit(csr_matrix(x), y).sparsify(), 2.0)


def test_another_number_of_classes_and_a_head(calibrator):
    x, y, *_ = data(3)
    model = LogisticRegression().fit(x, y)
    with pytest.raises(ValueError, match="got 4 for coef_ of LogisticRegression with 3 outputs"):
        logitherm.bake(model, calibrator)
    with pytest.raises(ValueError, match=r"^head: is for torch modules"):
        logitherm.bake(model, 2.0, head="coef_")
