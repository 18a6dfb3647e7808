"""Every method of calibration, ours and the peers', behind one signature.

A fit takes logits (float32, n x K) and labels (int64, n) and returns a function from logits to log-probabilities, up
to a constant a row. Whatever a peer needs besides (probabilities, tensors, one-hot labels) is made inside, so that its
time counts. A peer that takes probabilities gets them in float64; what it clips is its own affair. Peers are imported
where they are used: one that is missing does not stop the others.
"""

from __future__ import annotations

import os
import sys
import types
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Labels = NDArray[np.int64]
Predict = Callable[[Floats], Floats]
Fit = Callable[[Floats, Labels], Predict]


# -- ours ----------------------------------------------------------------------------------------


def as_it_is(logits: Floats, labels: Labels) -> Predict:
    return lambda z: z.astype(np.float64)


def ours(method: str, logits: Floats, labels: Labels) -> Predict:
    from logitherm.calibration import METHODS, select_method

    if method == "auto":
        method = select_method(logits, labels).chosen
        print(method, end="")
    fitted = METHODS[method]().fit(logits, labels)
    return lambda z: np.asarray(fitted.transform(z.astype(np.float64)))


# -- peers ---------------------------------------------------------------------------------------


def probabilities(logits: Floats) -> Floats:
    from scipy.special import softmax

    return np.asarray(softmax(logits.astype(np.float64), axis=1))


def logarithm(p: Any) -> Floats:
    """Of probabilities, or of those of class 1 of two."""
    p = np.asarray(p, dtype=np.float64)
    if p.ndim == 1 or p.shape[1] == 1:
        p = np.stack([1 - p.ravel(), p.ravel()], axis=1)
    with np.errstate(divide="ignore"):
        return np.log(p)


def sklearn_temperature(logits: Floats, labels: Labels) -> Predict:
    from sklearn.calibration import _TemperatureScaling

    inverse = float(_TemperatureScaling().fit(logits, labels).beta_)
    return lambda z: inverse * z.astype(np.float64)


def sklearn_baseline(method: str, logits: Floats, labels: Labels) -> Predict:
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.frozen import FrozenEstimator

    class Softmax(ClassifierMixin, BaseEstimator):
        def __init__(self) -> None:
            self.classes_ = np.arange(logits.shape[1])

        def fit(self, z: Floats, y: Labels) -> Softmax:
            return self

        def predict_proba(self, z: Floats) -> Floats:
            return probabilities(z)

        def predict(self, z: Floats) -> Labels:
            return z.argmax(axis=1)

    model = CalibratedClassifierCV(FrozenEstimator(Softmax()), method=method).fit(logits, labels)
    return lambda z: logarithm(model.predict_proba(z))


def netcal(family: str, logits: Floats, labels: Labels) -> Predict:
    import netcal.binning
    import netcal.scaling

    model = getattr(netcal.scaling, family, None) or getattr(netcal.binning, family)
    two = logits.shape[1] == 2  # netcal takes the probability of class 1 of two

    def given(z: Floats) -> Floats:
        return probabilities(z)[:, 1] if two else probabilities(z)

    fitted = model().fit(given(logits), labels)
    return lambda z: logarithm(fitted.transform(given(z)))


def probmetrics(make: Callable[[], Any], logits: Floats, labels: Labels) -> Predict:
    """Through `fit`, which takes probabilities."""
    fitted = make().fit(probabilities(logits), labels)
    return lambda z: logarithm(fitted.predict_proba(probabilities(z)))


def probmetrics_logits(make: Callable[[], Any], logits: Floats, labels: Labels) -> Predict:
    """Through `fit_torch`, for calibrators that take logits as they are."""
    import torch
    from probmetrics.distributions import CategoricalLogits

    fitted = make().fit_torch(CategoricalLogits(torch.from_numpy(logits)), torch.from_numpy(labels))
    return lambda z: fitted.predict_proba_torch(CategoricalLogits(torch.from_numpy(z))).get_logits().double().numpy()


def _of_probmetrics(name: str, **options: Any) -> Callable[[], Any]:
    def make() -> Any:
        from probmetrics import calibrators

        maker = getattr(calibrators, name, None)
        return maker(**options) if isinstance(maker, type) else calibrators.get_calibrator(name)

    return make


def torch_uncertainty(family: str, logits: Floats, labels: Labels) -> Predict:
    """One of its scalers; importing the package whole asks for lightning and torchvision, its scalers do not."""
    import torch

    calibration = _torch_uncertainty_calibration()
    model = getattr(calibration, family)
    scaler = model() if family in ("TemperatureScaler", "IsotonicRegressionScaler") else model(logits.shape[1])
    scaler.fit([(torch.from_numpy(logits), torch.from_numpy(labels))], progress=False)
    return lambda z: scaler(torch.from_numpy(z)).detach().double().numpy()


def _torch_uncertainty_calibration() -> Any:
    from importlib import import_module
    from importlib.metadata import distribution

    name = "torch_uncertainty"
    if name not in sys.modules:
        root = distribution(name).locate_file(name)
        for part in (name, f"{name}.post_processing"):
            package = types.ModuleType(part)
            package.__path__ = [os.path.join(str(root), *part.split(".")[1:])]
            sys.modules[part] = package
        abstract = import_module(f"{name}.post_processing.abstract")
        sys.modules[f"{name}.post_processing"].PostProcessing = abstract.PostProcessing  # type: ignore[attr-defined]
    return import_module(f"{name}.post_processing.calibration")


def abstention(family: str, logits: Floats, labels: Labels) -> Predict:
    from abstention import calibration

    options = {"bias_positions": "all"} if family == "bias" else {}
    make = calibration.VectorScaling if family == "vector" else calibration.TempScaling
    fitted = make(**options)(logits.astype(np.float64), np.eye(logits.shape[1])[labels])
    return lambda z: logarithm(fitted(z.astype(np.float64)))


def probcal(family: str, logits: Floats, labels: Labels) -> Predict:
    """For two classes, of which it takes the probability of class 1."""
    import probcal

    fitted = getattr(probcal, family)().fit(probabilities(logits)[:, 1], labels)
    return lambda z: logarithm(fitted.predict_proba(probabilities(z)[:, 1]))


METHODS: dict[str, dict[str, Fit]] = {
    "as it is": {"ours": as_it_is},
    "temperature": {
        "ours": partial(ours, "temperature"),
        "scikit-learn": sklearn_temperature,
        "netcal": partial(netcal, "TemperatureScaling"),
        "probmetrics": partial(probmetrics_logits, _of_probmetrics("temp-scaling")),
        "probmetrics, mixed": partial(probmetrics, _of_probmetrics("ts-mix")),
        "torch-uncertainty": partial(torch_uncertainty, "TemperatureScaler"),
        "abstention": partial(abstention, "temperature"),
        "probcal": partial(probcal, "TemperatureCalibrator"),
    },
    "bias": {
        "ours": partial(ours, "bias"),
        "abstention": partial(abstention, "bias"),
        "netcal": partial(netcal, "LogisticCalibration"),
        "probcal": partial(probcal, "PlattCalibrator"),
    },
    "vector": {
        "ours": partial(ours, "vector"),
        "netcal": partial(netcal, "LogisticCalibration"),
        "probmetrics, SVS": partial(probmetrics, _of_probmetrics("svs")),
        "probmetrics": partial(probmetrics_logits, _of_probmetrics("VectorScalingCalibrator")),
        "torch-uncertainty": partial(torch_uncertainty, "VectorScaler"),
        "abstention": partial(abstention, "vector"),
    },
    "matrix": {
        "ours": partial(ours, "matrix"),
        "probmetrics, SMS": partial(probmetrics, _of_probmetrics("sms")),
        "probmetrics": partial(probmetrics_logits, _of_probmetrics("MatrixScalingCalibrator")),
        "torch-uncertainty": partial(torch_uncertainty, "MatrixScaler"),
    },
    "dirichlet": {
        "ours": partial(ours, "dirichlet"),
        "torch-uncertainty": partial(torch_uncertainty, "DirichletScaler"),
    },
    "ensemble": {
        "ours": partial(ours, "ensemble"),
        "probmetrics, squared error": partial(probmetrics, _of_probmetrics("ETSCalibrator", loss="mse")),
        "probmetrics, likelihood": partial(probmetrics, _of_probmetrics("ETSCalibrator", loss="ce")),
    },
    "entropy": {"ours": partial(ours, "entropy")},
    "parametric": {"ours": partial(ours, "parametric")},
    "auto": {
        "ours": partial(ours, "auto"),
        "probmetrics, logistic": partial(probmetrics, _of_probmetrics("logistic")),
    },
    "sigmoid": {"scikit-learn": partial(sklearn_baseline, "sigmoid")},
    "isotonic": {
        "scikit-learn": partial(sklearn_baseline, "isotonic"),
        "netcal": partial(netcal, "IsotonicRegression"),
        "torch-uncertainty": partial(torch_uncertainty, "IsotonicRegressionScaler"),
        "probcal": partial(probcal, "IsotonicCalibrator"),
    },
}


def exists(method: str, who: str, classes: int) -> bool:
    """Whether a peer has this method for so many classes: netcal's logistic calibration is Platt's for two, and has a
    weight and a bias for every class for more."""
    if who == "netcal" and method in ("bias", "vector"):
        return (method == "bias") == (classes == 2)
    return who != "probcal" or classes == 2


def entrants(method: str, classes: int) -> list[str]:
    """Who has this method for so many classes."""
    return [who for who in METHODS[method] if exists(method, who, classes)]
