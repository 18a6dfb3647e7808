"""The tests of the assumption: right under it, by simulation, and not fooled without it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.stats import kstest
from sklearn.pipeline import make_pipeline

from logitherm import fit_temperature
from logitherm.prototypes import PrototypeClassifier, check_assumption
from logitherm.prototypes.assumption import held_out_logits, shape_test, spread_test
from logitherm.prototypes.metric import fit_metric
from logitherm.prototypes.moments import moments, row_squares


def drawn(rng, n=200, features=10, classes=4, widths=1.0, sep=1.0):
    y = np.arange(n) % classes
    return sep * rng.normal(size=(classes, features))[y] + widths * rng.normal(size=(n, features)), y


def p_values(rng, n, features, covariance, times=300):
    shapes, spreads = [], []
    for _ in range(times):
        m = moments(*drawn(rng, n, features), 4)
        u = fit_metric(m, covariance, "auto").apply(m.residuals())
        shape, effective = shape_test(u, m.degrees, m.dims, covariance)
        squares = np.bincount(m.labels, weights=row_squares(u))
        shapes.append(shape)
        spreads.append(spread_test(squares, m.counts - 1, effective))
    return np.array(shapes), np.array(spreads)


@pytest.mark.parametrize("covariance", ["isotropic", "diagonal"])
@pytest.mark.parametrize(("n", "features"), [(200, 5), (60, 30), (20, 80)])
def test_p_values_are_uniform_under_the_assumption(rng, covariance, n, features):
    """With more features than rows as well."""
    for p in p_values(rng, n, features, covariance):
        assert kstest(p, "uniform").pvalue > 1e-3
        assert (p < 0.05).mean() == pytest.approx(0.05, abs=0.04)


def test_what_is_not_isotropic_or_not_equally_wide_is_found(rng):
    X, y = drawn(rng, widths=np.geomspace(0.5, 2, 10))
    check = check_assumption(PrototypeClassifier(), X, y)
    assert check.shape_p_value < 1e-6 and not check.holds and check.effective_dimension < 7
    assert "residuals do not vary alike in all directions" in check.verdict
    X, y = drawn(rng)
    X[y == 0] *= 2
    assert check_assumption(PrototypeClassifier(), X, y).spread_p_value < 1e-6
    mixed = rng.normal(size=(10, 10))
    check = check_assumption(PrototypeClassifier(covariance="diagonal"), X @ mixed, y)
    assert check.shape_p_value < 1e-6 and "residuals are correlated" in check.verdict


def test_gaussian_rows_pass(rng):
    check = check_assumption(PrototypeClassifier(), *drawn(rng, n=800))
    assert check.holds and check.temperature_agrees and check.n == 800 and check.dims == 10
    assert check.effective_dimension == pytest.approx(10, rel=0.05)
    assert "agrees with the rule" in check.verdict and check.nll_after <= check.nll_before
    assert json.loads(json.dumps(check.to_dict()))["holds"] is True


def test_heavy_tails_are_told_by_the_temperature(rng):
    y = np.arange(1200) % 4
    X = 2 * rng.normal(size=(4, 6))[y] + rng.standard_t(2.5, size=(1200, 1)) * rng.normal(size=(1200, 6))
    check = check_assumption(PrototypeClassifier(), X, y)
    assert not check.temperature_agrees and "times that of the rule" in check.verdict


def test_the_method_is_the_function_and_leaves_the_classifier_alone(rng):
    X, y = drawn(rng)
    classifier = PrototypeClassifier(covariance="whitened")
    check = classifier.check_assumption(X, y, seed=3)
    assert check == check_assumption(classifier, X, y, seed=3) and not hasattr(classifier, "classes_")
    assert check.shape_p_value is None and check.verdict.startswith("classes are")


def test_every_row_is_held_out_once_but_single_ones(rng):
    X, y = drawn(rng, n=41)
    labels = np.concatenate([y, [4]])
    z, kept = held_out_logits(PrototypeClassifier(), np.concatenate([X, X[:1] + 9]), labels, 5, 0)
    assert kept.tolist() == [True] * 41 + [False] and z.shape == (41, 5) and np.isfinite(z).all()
    assert fit_temperature(z, y).temperature > 0


def test_separable_rows_have_no_temperature(rng):
    check = check_assumption(PrototypeClassifier(), *drawn(rng, sep=30.0))
    assert check.interval is None and "which are separable" in check.verdict and not check.holds


def test_bad_input(rng):
    X, y = drawn(rng)
    with pytest.raises(ValueError, match="folds: must be an integer of at least 2; got 1"):
        check_assumption(PrototypeClassifier(), X, y, folds=1)
    with pytest.raises(ValueError, match="X: must have a class with two rows to hold one out"):
        check_assumption(PrototypeClassifier(variance=1.0), X[:4], y[:4])


def test_what_cannot_be_checked(rng):
    X, y = drawn(rng)
    for other in (make_pipeline(PrototypeClassifier()), PrototypeClassifier):
        with pytest.raises(TypeError, match=r"classifier: must be a PrototypeClassifier; .*of a pipeline give"):
            check_assumption(other, X, y)
    with pytest.raises(ValueError, match="X: rows of a class must differ; got zero variance"):
        check_assumption(PrototypeClassifier(variance=1.0), np.eye(4)[y], y)
    with pytest.raises(ValueError, match="cannot be fitted with 1 of 4 rows held out: X: must have more rows"):
        check_assumption(PrototypeClassifier(), X[:4], [0, 0, 1, 2])
    assert check_assumption(PrototypeClassifier(), X, y, folds=np.int64(2)).n == len(y)
