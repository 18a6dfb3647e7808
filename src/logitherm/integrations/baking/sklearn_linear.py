"""scikit-learn: fitted linear classifiers."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from logitherm.calibration import binary_logits
from logitherm.gibbs import softmax
from logitherm.integrations.baking.fold import fold
from logitherm.kernels.affine import Affine

PROBES = 16
CLOSE = 1e-5  # float32 coefficients


def fold_estimator(model: Any, mapped: Affine) -> None:
    """Fold a map into `coef_` and `intercept_`, of the last step of a pipeline."""
    while hasattr(model, "steps"):
        model = model.steps[-1][1]
    name = type(model).__name__
    check_is_fitted(model)
    own = vars(model)  # those of SVC are computed
    if not ({"coef_", "intercept_", "classes_"} <= set(own) and hasattr(model, "decision_function")):
        raise TypeError(
            f"model: must be a linear classifier with coef_ and intercept_; got {name}; give the fitted linear model "
            "inside it, or export it to ONNX"
        )
    coef = own["coef_"]
    if not isinstance(coef, np.ndarray):
        raise TypeError(f"model: coef_ must be a NumPy array; got {type(coef).__name__}; densify() first")
    rows = np.atleast_2d(coef).astype(np.float64)  # a binary RidgeClassifier has but a vector
    intercept = np.broadcast_to(np.asarray(own["intercept_"], dtype=np.float64), (len(rows),))
    _require_softmax(model, rows, intercept)
    largest = float(np.finfo(coef.dtype).max)
    weight, bias = fold(mapped, rows, intercept, largest=largest, where=f"coef_ of {name}")
    model.coef_, model.intercept_ = weight.astype(coef.dtype).reshape(coef.shape), np.asarray(bias).astype(coef.dtype)


def _require_softmax(model: Any, coef: np.ndarray, intercept: np.ndarray) -> None:
    """Raise unless the model's scores are these linear ones, and its probabilities, if any, their softmax."""
    name = type(model).__name__
    # far from 0 all families of probabilities look alike, so rows are made whose scores are not
    wanted = 2 * np.random.default_rng(0).normal(size=(PROBES, len(coef)))
    rows = (wanted - intercept) @ np.linalg.pinv(coef).T
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the names of features
        scores = np.asarray(model.decision_function(rows), dtype=np.float64)
        p = model.predict_proba(rows) if hasattr(model, "predict_proba") else None
    linear = rows @ coef.T + intercept
    if not np.allclose(scores.reshape(PROBES, -1), linear, rtol=CLOSE, atol=CLOSE):
        raise ValueError(
            f"model: decision_function must be x coef_ + intercept_; that of {name} is not; export it to ONNX"
        )
    logits = binary_logits(linear[:, 0]) if len(coef) == 1 else linear
    if p is not None and not np.allclose(p, softmax(logits), atol=CLOSE):
        raise ValueError(
            f"model: predict_proba must be the softmax of decision_function; that of {name} is not (one-vs-rest "
            "probabilities); fit a multinomial LogisticRegression, or apply the calibrator to decision_function"
        )
