"""The classifier against its formulas in float64, as an estimator of scikit-learn, and with bad input."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import multivariate_normal, multivariate_t
from sklearn.base import clone
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.utils.estimator_checks import check_estimator

import logitherm
from logitherm.prototypes import PrototypeClassifier
from logitherm.prototypes.classifier import BLOCK_VALUES

COMBINED = [
    ("empirical_bayes", "isotropic", "pooled"),
    ("corrected", "isotropic", "pooled"),
    ("student", "isotropic", "per_class"),
    ("plug_in", "diagonal", "pooled"),
    ("empirical_bayes", "diagonal", "between"),
    ("plug_in", "whitened", "per_class"),
    ("empirical_bayes", "whitened", "between"),
]


def made(estimate="empirical_bayes", covariance="isotropic", spread="pooled", **more):
    return PrototypeClassifier(estimate, covariance=covariance, spread=spread, **more)


def drawn(counts=(8, 12, 20), features=6, seed=0, sep=2.0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    y = np.repeat(np.arange(len(counts)), counts)
    X = sep * rng.normal(size=(len(counts), features))[y] + 1.5 * rng.normal(size=(len(y), features))
    return X.astype(dtype), y


def same_law(a, b, **tolerance):
    np.testing.assert_allclose(logitherm.log_softmax(a), logitherm.log_softmax(b), **tolerance)


@pytest.mark.parametrize("options", COMBINED, ids="-".join)
def test_scikit_learns_own_checks(options):
    check_estimator(made(*options), on_skip=None)


# -- formulas --------------------------------------------------------------------------------------------


def test_plug_in_is_bayes_theorem_with_the_unbiased_variance():
    X, y = drawn()
    means = np.array([X[y == k].mean(axis=0) for k in range(3)])
    variance = ((X - means[y]) ** 2).sum() / (6 * (40 - 3))
    fitted = made("plug_in").fit(X, y)
    assert fitted.variance_ == pytest.approx(variance) and fitted.temperature_ == pytest.approx(2 * variance)
    distances = ((X[:, None] - means) ** 2).sum(axis=-1)
    same_law(fitted.logits(X), -distances / fitted.temperature_ + np.log([0.2, 0.3, 0.5]), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(fitted.prototypes_, means)


def test_a_variance_for_each_class_needs_its_log_determinant():
    X, y = drawn()
    X[y == 2] = X[y == 2].mean(axis=0) + 4 * (X[y == 2] - X[y == 2].mean(axis=0))
    fitted = made("plug_in", spread="per_class", priors="uniform").fit(X, y)
    laws = [multivariate_normal(m, v).logpdf(X) for m, v in zip(fitted.prototypes_, fitted.variance_)]
    same_law(fitted.logits(X), np.stack(laws, axis=1), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(fitted.temperature_, 2 * fitted.variance_)


def test_unequal_rows_make_classes_of_different_width():
    X, y = drawn()
    fitted = made(priors="uniform").fit(X, y)
    assert fitted.temperature_.shape == (3,) and (np.diff(fitted.temperature_) < 0).all()
    laws = [multivariate_normal(m, t / 2).logpdf(X) for m, t in zip(fitted.prototypes_, fitted.temperature_)]
    same_law(fitted.logits(X), np.stack(laws, axis=1), rtol=1e-9, atol=1e-9)


def test_student_is_the_predictive_law():
    X, y = drawn()
    fitted = made("student", priors="uniform").fit(X, y)
    nu = 6 * 37
    laws = [multivariate_t(m, t / 2 * np.eye(6), nu) for m, t in zip(fitted.prototypes_, fitted.temperature_)]
    far = np.concatenate([X, 50 * X])
    same_law(fitted.logits(far), np.stack([law.logpdf(far) for law in laws], axis=1), rtol=1e-8, atol=1e-8)
    assert np.abs(fitted.decision_function(50 * X)).max() < np.abs(made().fit(X, y).decision_function(50 * X)).max()


def test_the_correction_takes_noise_from_distances_and_lambda_from_the_temperature():
    X, y = drawn()
    fitted, plain = made("corrected", priors="uniform").fit(X, y), made("plug_in").fit(X, y)
    distances = ((X[:, None] - plain.prototypes_) ** 2).sum(axis=-1) - 6 * fitted.variance_ / np.bincount(y)
    same_law(fitted.logits(X), -distances / fitted.temperature_, rtol=1e-9, atol=1e-9)
    assert fitted.temperature_ == pytest.approx(2 * fitted.variance_ / fitted.reliability_[0])
    assert fitted.variance_ == pytest.approx(plain.variance_ * 222 / 220)


def test_whitened_without_shrinkage_is_linear_discriminant_analysis():
    X, y = drawn((40, 50, 60))
    ours = made("plug_in", "whitened", shrinkage=0.0).fit(X, y)
    theirs = LinearDiscriminantAnalysis(solver="lsqr").fit(X, y)
    ratio = 150 / 147  # their covariance is divided by the number of rows
    same_law(ours.logits(X), logitherm.log_softmax(theirs.decision_function(X)) / ratio + np.log(
        ours.class_prior_) * (1 - 1 / ratio), rtol=1e-6, atol=1e-6)  # fmt: skip
    np.testing.assert_allclose(ours.prototypes_, theirs.means_)


@pytest.mark.parametrize("covariance", ["diagonal", "whitened"])
def test_prototypes_are_told_in_the_features_themselves(covariance):
    X, y = drawn((30, 30, 30))
    X[:, 2] = 7.0
    fitted = made(covariance=covariance).fit(X, y)
    np.testing.assert_allclose(fitted.prototypes_[:, 2], 7.0)
    metric = fitted._metric.apply
    moved = ((metric(X)[:, None] - metric(fitted.prototypes_)) ** 2).sum(axis=-1)
    same_law(fitted.logits(X), -moved / fitted.temperature_, rtol=1e-7, atol=1e-7)


# -- invariances -----------------------------------------------------------------------------------------


@given(st.integers(0, 10**6), st.floats(-6, 6), st.sampled_from(COMBINED))
def test_units_and_origin_do_not_matter(seed, log_scale, options):
    X, y = drawn(seed=seed)
    moved = np.exp(log_scale) * X + 3.0
    fitted, other = made(*options).fit(X, y), made(*options).fit(moved, y)
    same_law(fitted.logits(X), other.logits(moved), rtol=1e-6, atol=1e-6)
    if options[1] == "isotropic":
        np.testing.assert_allclose(other.temperature_, np.exp(2 * log_scale) * fitted.temperature_, rtol=1e-6)


@given(st.integers(0, 10**6), st.sampled_from([c for c in COMBINED if c[1] != "diagonal"]))
def test_rotations_do_not_matter(seed, options):
    X, y = drawn(seed=seed)
    turn = np.linalg.qr(np.random.default_rng(seed).normal(size=(6, 6)))[0]
    same_law(made(*options).fit(X, y).logits(X), made(*options).fit(X @ turn, y).logits(X @ turn), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("options", COMBINED, ids="-".join)
def test_a_constant_feature_changes_nothing(options):
    X, y = drawn()
    wider = np.insert(X, [0, 3, 6], [5.0, 0.0, -1e3], axis=1)
    fitted, other = made(*options).fit(X, y), made(*options).fit(wider, y)
    np.testing.assert_allclose(other.temperature_, fitted.temperature_, rtol=1e-9)
    same_law(other.logits(wider), fitted.logits(X), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("options", COMBINED, ids="-".join)
def test_a_feature_that_is_constant_only_in_the_fit_changes_nothing(options):
    X, y = drawn()
    fitted = made(*options).fit(np.c_[X, np.ones(len(X))], y)
    p = fitted.predict_proba(np.c_[X, np.ones(len(X))])
    np.testing.assert_allclose(fitted.predict_proba(np.c_[X, 30 * X[:, 0]]), p, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("options", COMBINED, ids="-".join)
def test_names_of_classes_and_the_order_of_rows_do_not_matter(options):
    X, y = drawn()
    order = np.random.default_rng(1).permutation(len(y))
    fitted, other = made(*options).fit(X, y), made(*options).fit(X[order], np.array(["a", "b", "c"])[y[order]])
    assert other.classes_.tolist() == ["a", "b", "c"]
    np.testing.assert_allclose(other.logits(X), fitted.logits(X), rtol=1e-7, atol=1e-7)
    np.testing.assert_array_equal(other.predict(X), np.array(["a", "b", "c"])[fitted.logits(X).argmax(axis=1)])


# -- numbers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", COMBINED, ids="-".join)
@pytest.mark.parametrize("offset", [0.0, 300.0])
def test_float32_errs_by_no_more_than_its_rounding(options, offset):
    X, y = drawn((100, 120, 140, 80), 64, dtype=np.float32)
    X = X + np.float32(offset)
    fitted, exact = made(*options).fit(X, y), made(*options).fit(X.astype(np.float64), y)
    np.testing.assert_allclose(fitted.temperature_, exact.temperature_, rtol=1e-5)
    z, right = fitted.logits(X), exact.logits(X.astype(np.float64))
    assert z.dtype == np.float32 == fitted.predict_proba(X).dtype
    error = np.abs(logitherm.log_softmax(z.astype(np.float64)) - logitherm.log_softmax(right)).max()
    apart = np.ptp(right, axis=1).max() + 64  # what is added up: distances in units of sigma^2
    assert error < (8 if offset == 0 else 400) * np.finfo(np.float32).eps * apart


def test_blocks_are_those_of_the_whole(monkeypatch):
    X, y = drawn((50, 60, 70), 40)
    for options in COMBINED:
        whole = made(*options).fit(X, y)
        monkeypatch.setattr("logitherm.prototypes.classifier.BLOCK_VALUES", 40 * 7)
        np.testing.assert_allclose(whole.logits(X), made(*options).fit(X, y).logits(X), rtol=1e-9, atol=1e-9)
        monkeypatch.setattr("logitherm.prototypes.classifier.BLOCK_VALUES", BLOCK_VALUES)


def test_one_variance_takes_one_product(monkeypatch):
    """Without distances, which are needed where classes differ in width."""
    X, y = drawn((20, 20, 20))

    def never(*_):
        raise AssertionError("the slow path ran")

    even, uneven = made().fit(X, y), made().fit(X[:-5], y[:-5])
    slow = even._laws.log_likelihood(((X[:, None] - even.prototypes_) ** 2).sum(axis=-1), np.log(even.class_prior_))
    same_law(even.logits(X), slow, rtol=1e-9, atol=1e-9)
    monkeypatch.setattr(type(even._laws), "log_likelihood", never)
    even.logits(X)
    with pytest.raises(AssertionError, match="slow path"):
        uneven.logits(X)


def test_equal_rows_have_one_temperature_to_the_last_bit():
    X, y = drawn((7,) * 101, 12)
    assert isinstance(made().fit(X, y).temperature_, float)


def test_two_classes_have_one_score():
    X, y = drawn((10, 15))
    fitted = made().fit(X, y)
    z = fitted.logits(X)
    assert fitted.decision_function(X).shape == (25,)
    np.testing.assert_allclose(fitted.decision_function(X), z[:, 1] - z[:, 0])
    np.testing.assert_allclose(fitted.predict_proba(X), logitherm.softmax(z))


def test_priors():
    X, y = drawn()
    uniform = made(priors="uniform").fit(X, y)
    given_ = made(priors=[0.1, 0.2, 0.7]).fit(X, y)
    same_law(given_.logits(X), uniform.logits(X) + np.log([0.1, 0.2, 0.7]), rtol=1e-9, atol=1e-9)
    never = made(priors=[0.0, 0.5, 0.5]).fit(X, y)
    assert (never.predict_proba(X)[:, 0] == 0).all() and np.isfinite(never.predict_proba(X)).all()


def test_copies():
    X, y = drawn()
    fitted = made(covariance="whitened").fit(X, y)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(fitted)).logits(X), fitted.logits(X))
    assert clone(fitted).get_params() == fitted.get_params()


# -- one row a class, and what else cannot be ------------------------------------------------------------


def test_one_shot_is_refused_or_takes_the_variance_of_base_classes():
    X, y = drawn((1, 1, 1, 1), 50)
    with pytest.raises(
        ValueError, match=r"X: must have more rows than classes to tell sigma\^2; got one row for each of 4"
    ):
        made().fit(X, y)
    base = made().fit(*drawn((10, 10, 10), 50, seed=1))
    fitted = made(variance=base.variance_).fit(X, y)
    assert fitted.variance_ == base.variance_ < fitted.temperature_ / 2 and (fitted.reliability_ < 1).all()


def test_some_classes_may_have_one_row():
    X, y = drawn((1, 5, 5))
    assert made().fit(X, y).reliability_[0] < made().fit(X, y).reliability_[1]
    assert np.isfinite(made(spread="per_class").fit(X, y).variance_).all()
    with pytest.raises(ValueError, match="got 1 row in class 0; take 'empirical_bayes'"):
        made("plug_in", spread="per_class").fit(X, y)


def test_bad_rows_are_named():
    X, y = drawn()
    flat = X.copy()
    flat[:] = np.arange(3.0)[y][:, None] * 1.1
    with pytest.raises(ValueError, match="got zero variance within all classes, so T = 2 sigma"):
        made().fit(flat, y)
    with pytest.raises(ValueError, match="got zero variance within all classes"):
        made().fit(flat.astype(np.float32) + 100, y)
    part = X.copy()
    part[:, 4] = y
    with pytest.raises(ValueError, match=r"feature 4 does not \(1 such in all\)"):
        made(covariance="diagonal").fit(part, y)
    with pytest.raises(ValueError, match=r"covariance within classes is singular, of rank 5 for 6 features \(37 rows"):
        made(covariance="whitened", shrinkage=0).fit(part, y)
    with pytest.raises(ValueError, match=r"is singular, of rank 3 for 6 features \(3 rows"):
        made(covariance="whitened", shrinkage=0).fit(X[::7], y[::7])
    with pytest.raises(
        ValueError, match="must have at least 5 rows more than classes for covariance='diagonal'; got 3"
    ):
        made(covariance="diagonal").fit(X[::7], y[::7])
    still = X.copy()
    still[y == 1] = 1.0
    with pytest.raises(ValueError, match="got zero variance in class 1"):
        made("plug_in", spread="per_class").fit(still, y)
    assert np.isfinite(made(spread="per_class").fit(still, y).predict_proba(still)).all()
    with pytest.raises(ValueError, match="at least two classes; got 1 class"):
        made().fit(X, 0 * y)
    with pytest.raises(ValueError, match="must leave at least 3 degrees of freedom"):
        made().fit([[0.0], [1.0], [5.0]], [0, 0, 1])
    with (
        pytest.raises(ValueError, match="squares of residuals must be finite; got values too large for float32"),
        np.errstate(over="ignore"),
    ):
        made().fit(X.astype(np.float32) * np.float32(1e30), y)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"estimate": "bayes"}, "estimate: must be one of empirical_bayes, .* got 'bayes'"),
        ({"covariance": "full"}, "covariance: must be one of isotropic"),
        ({"spread": 1}, "spread: must be one of pooled"),
        ({"shrinkage": 1.5}, r"shrinkage: must be 'auto' or lie in \[0, 1\]; got 1.5"),
        ({"priors": "equal"}, "priors: must be 'empirical', 'uniform' or an array; got 'equal'"),
        ({"priors": [0.5, 0.6, 0.1]}, "priors: must be 3 probabilities that sum to 1"),
        ({"priors": {"a": 0.5}}, "priors: must be 3 probabilities that sum to 1, in the order of classes_; got dict"),
        ({"variance": 0.0}, "variance: must be a positive number"),
        ({"variance": 1.0, "spread": "per_class"}, "variance: goes with covariance='isotropic'"),
        ({"estimate": "corrected", "spread": "per_class"}, "'corrected' corrects one temperature"),
        ({"estimate": "student", "covariance": "whitened"}, "'student' integrates an isotropic variance"),
    ],
)
def test_options_that_cannot_be(options, message):
    with pytest.raises(ValueError, match=message):
        PrototypeClassifier(**options).fit(*drawn())
