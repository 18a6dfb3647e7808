"""What is said of prototypes and temperature, on draws of a known law: T* is what new rows want on top, 1 is right."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.neighbors import NearestCentroid

from logitherm import fit_temperature
from logitherm.prototypes import PrototypeClassifier

ESTIMATES = ("plug_in", "corrected", "empirical_bayes", "student")


def wanted(classifiers, features, rows, classes, sep, repeats, widths=1.0, unequal=False, tested=300):
    """T* and NLL of every classifier over several problems whose means are sep apart."""
    rng = np.random.default_rng(0)
    logits, labels = {name: [] for name in classifiers}, []
    for _ in range(repeats):
        means = rng.normal(size=(classes, features)) * sep / np.sqrt(2 * features)
        counts = rng.integers(1, 2 * rows, classes) if unequal else np.full(classes, rows)
        y, test = np.repeat(np.arange(classes), counts), rng.integers(classes, size=tested)
        X, unseen = (means[which] + widths * rng.normal(size=(len(which), features)) for which in (y, test))
        for name, classifier in classifiers.items():
            fitted = classifier.fit(X, y)
            z = fitted.logits(unseen) if hasattr(fitted, "logits") else fitted.predict_log_proba(unseen)
            logits[name].append(np.maximum(z, -1e5))
        labels.append(test)
    fits = {name: fit_temperature(np.concatenate(z), np.concatenate(labels)) for name, z in logits.items()}
    return {name: fit.temperature for name, fit in fits.items()}, {name: fit.nll_before for name, fit in fits.items()}


def ours(**more):
    return {name: PrototypeClassifier(name, **{"priors": "uniform", **more}) for name in ESTIMATES}


def test_the_default_is_right_where_others_are_too_cold():
    """50 features, 20 rows a class: the table of the README."""
    linear = LinearDiscriminantAnalysis
    shrunk = linear(solver="lsqr", shrinkage="auto")
    peers = {"centroid": NearestCentroid(), "linear": linear(), "shrunk": shrunk}
    found, nll = wanted({**ours(), **peers}, 50, 20, 5, 4.0, 60)
    assert found["empirical_bayes"] == pytest.approx(1, abs=0.04)
    assert found["linear"] == pytest.approx(6.2, abs=0.5) and found["shrunk"] == pytest.approx(1.5, abs=0.1)
    assert found["plug_in"] == pytest.approx(1.37, abs=0.07) and found["corrected"] == pytest.approx(1.03, abs=0.05)
    assert found["centroid"] == pytest.approx(2 * 1.4, abs=0.2)
    assert nll["empirical_bayes"] < 1.0001 * min(nll.values()) and nll["empirical_bayes"] < nll["linear"] / 5


@pytest.mark.parametrize(
    ("features", "rows", "classes", "sep", "repeats"), [(100, 5, 5, 6, 40), (100, 2, 5, 6, 40), (500, 5, 5, 8, 15)]
)
def test_few_rows_of_many_features(features, rows, classes, sep, repeats):
    """1 / T* of plain prototypes is what `corrected` predicts; empirical Bayes needs no T* and is the best of them."""
    found, nll = wanted(ours(), features, rows, classes, sep, repeats)
    assert found["empirical_bayes"] == pytest.approx(1, abs=0.07) and found["student"] == pytest.approx(1, abs=0.07)
    assert found["corrected"] == pytest.approx(1, abs=0.4) and found["plug_in"] > 2
    assert nll["empirical_bayes"] < nll["corrected"] < nll["plug_in"]


def test_unequal_rows():
    found, nll = wanted(ours(), 100, 5, 5, 6, 40, unequal=True)
    assert found["empirical_bayes"] == pytest.approx(1, abs=0.1) and found["plug_in"] > 5
    assert nll["empirical_bayes"] < 0.1 * nll["plug_in"]


def test_features_that_are_not_isotropic_need_the_variance_between_prototypes():
    """Wider than a hundred to one in variance: one variance of all directions is too cold, that between is right."""
    options = {f"{c} {s}": {"covariance": c, "spread": s}
               for c in ("isotropic", "diagonal", "whitened") for s in ("pooled", "between")}  # fmt: skip
    classifiers = {name: PrototypeClassifier(**each) for name, each in options.items()}
    found, nll = wanted(classifiers, 50, 20, 5, 4.0, 40, widths=np.sqrt(np.geomspace(0.1, 10, 50)))
    assert found["isotropic pooled"] > 1.4 and found["isotropic between"] == pytest.approx(1, abs=0.06)
    assert found["diagonal pooled"] == pytest.approx(1, abs=0.1)
    assert found["whitened pooled"] == pytest.approx(1, abs=0.1) and found["whitened between"] == pytest.approx(
        1, abs=0.1
    )
    assert nll["diagonal pooled"] < nll["whitened between"] < nll["isotropic between"] < nll["isotropic pooled"]


@pytest.mark.parametrize(("features", "sep"), [(2, 2.0), (10, 3.0)])
def test_nearest_centroid_runs_at_half_the_temperature(features, sep):
    """Its logits are -d^2 + 2 log pi with d in standard deviations: twice those of Bayes' theorem."""
    rng = np.random.default_rng(0)
    means = np.zeros((2, features))
    means[1, 0] = sep
    y, test = np.arange(4000) % 2, np.arange(40000) % 2
    X, unseen = (means[which] + rng.normal(size=(len(which), features)) for which in (y, test))
    theirs = fit_temperature(NearestCentroid().fit(X, y).predict_log_proba(unseen), test)
    right = fit_temperature(PrototypeClassifier().fit(X, y).logits(unseen), test)
    assert theirs.temperature == pytest.approx(2, abs=0.08) and right.temperature == pytest.approx(1, abs=0.04)
    assert theirs.temperature / right.temperature == pytest.approx(2, rel=0.03)
    assert theirs.nll_before > 1.15 * right.nll_before and theirs.nll_after == pytest.approx(right.nll_after, rel=0.01)


def test_digits_are_not_gaussian_and_the_check_says_so():
    X, y = load_digits(return_X_y=True)
    options = ({}, {"spread": "between"}, {"spread": "between", "covariance": "whitened"})
    pooled, between, whitened = (PrototypeClassifier(**each).check_assumption(X, y) for each in options)
    assert pooled.temperature > 4 and pooled.effective_dimension < 25 < pooled.dims and not pooled.holds
    assert 1.5 < between.temperature < 2.1 and not between.holds
    assert whitened.nll_before < between.nll_before < pooled.nll_before
    assert pooled.verdict.endswith("try spread='between'") and between.verdict.endswith("try covariance='whitened'")
    assert whitened.verdict.endswith("try a calibrator on held-out rows")
