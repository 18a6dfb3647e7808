"""A classifier by the nearest prototype whose temperature is computed from the spread of the rows, not tuned."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from logitherm._array import describe
from logitherm.gibbs import softmax
from logitherm.kernels.threads import blocks
from logitherm.prototypes.assumption import AssumptionCheck, check_assumption
from logitherm.prototypes.guard import require_options, require_rows
from logitherm.prototypes.metric import Metric, fit_metric
from logitherm.prototypes.moments import Moments, moments, row_squares
from logitherm.prototypes.rules import Laws, fit_laws

BLOCK_VALUES = 1 << 21


class PrototypeClassifier(ClassifierMixin, BaseEstimator):
    """Gaussian classes about prototypes: softmax of -|x - mu_k|^2 / T + log pi_k, with T = 2 sigma^2 from the data.

    Rows of a class are taken to be N(mu_k, sigma^2 I), in the coordinates that `covariance` says. Bayes' theorem then
    gives the logits, temperature included: no validation rows are needed. What few rows do to it is part of the rule:
    a mean of n rows is off by sigma^2 / n in every dimension, and distances to it tell less than they seem to. By
    default class means are drawn together as far as their differences are noise, and what is left of it widens the
    classes. Whether rows are as assumed is tested by `check_assumption`.

    Parameters
    ----------
    estimate : "empirical_bayes", "corrected", "plug_in" or "student"
        What is made of prototypes and variance. "plug_in": class means and the unbiased pooled sigma^2 as if they were
        the true ones, T = 2 sigma^2; too cold with few rows. "corrected": class means, T = 2 sigma^2 / lambda, where
        lambda = D^2 / (D^2 + 2 d sigma^2 / n) is the share of the squared distances D^2 + 2 d sigma^2 / n between class
        means that is no noise. "empirical_bayes": the means are drawn to the grand mean by lambda_k (`reliability_`),
        T_k = 2 (sigma^2 + v_k) with v_k their posterior variance. "student": that, with sigma^2 integrated out, whose
        logits level off with the distance.
    covariance : "isotropic", "diagonal" or "whitened"
        Distances as they are, in units of each feature's own spread, or in those of the pooled covariance within
        classes.
    spread : "pooled", "per_class" or "between"
        One sigma^2, from all directions; one for each class, with its log determinant (drawn to a common one unless
        "plug_in"); or one from the directions in which prototypes differ, which is right for features that are not
        isotropic, and less precise for those that are.
    shrinkage : "auto" or float in [0, 1]
        Of a whitened covariance towards a multiple of the identity; "auto" is that of Ledoit and Wolf.
    priors : "empirical", "uniform" or array, shape (classes,)
        Probabilities of the classes, in the order of `classes_`.
    variance : float, optional
        sigma^2 from elsewhere, as one row a class needs it: `variance_` of a fit to other classes. Isotropic only.

    Attributes
    ----------
    classes_ : array, shape (classes,)
    class_count_ : int array, shape (classes,)
    class_prior_ : array, shape (classes,)
    prototypes_ : array, shape (classes, features)
    variance_ : float, or array of shape (classes,) for spread="per_class"
        sigma^2 of one feature, within classes, in the coordinates of the distance; of all directions.
    temperature_ : float, or array of shape (classes,) where classes differ in it
        T on squared distances to `prototypes_` in these coordinates: the logits are -distance^2 / T but for terms that
        do not depend on the row. It differs between classes with per-class spread, or with unequal numbers of rows.
        For "student" the T at the usual distance.
    reliability_ : array, shape (classes,)
        lambda_k; 1 for "plug_in".
    n_features_in_ : int

    Notes
    -----
    Features that are the same in all rows are left out of the distance and of its dimensions. There are no sample
    weights: the number of rows sets how sure a prototype is, and weights do not say how many rows they stand for.
    "diagonal" and "whitened" estimate the metric too, which makes rows look closer to their class than new ones are;
    "plug_in" with one variance leaves that as it is, the other estimates measure it by leaving each row out. They are
    approximate: in simulations with 25 to 800 rows of 50 or 100 features whose variances differ a hundredfold, the T
    that new rows want on top of a whitened one was 0.92 to 1.61 with spread="pooled" and 0.91 to 1.10 with "between";
    on top of an isotropic one 1.16 to 1.75 and 0.98 to 1.02.

    References
    ----------
    Snell, Swersky and Zemel (2017), section 2.3, for the logits as those of Gaussian classes; Efron and Morris (1973)
    and Stein (1981) for the means; Smyth (2004) for variances of classes; Ledoit and Wolf (2004) for the covariance;
    Geisser (1964) for the Student law.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> y = np.repeat(["cat", "cow", "dog"], 40)
    >>> X = rng.normal(size=(3, 20)).repeat(40, axis=0) + 2.0 * rng.normal(size=(120, 20))
    >>> fitted = PrototypeClassifier().fit(X, y)
    >>> round(fitted.variance_, 2), round(fitted.temperature_, 2)    # sigma^2 = 4, T = 8 and a little for the means
    (4.02, 8.23)
    >>> fitted.predict_proba(X[:2]).round(3).tolist()
    [[0.998, 0.001, 0.001], [0.919, 0.007, 0.074]]
    """

    classes_: np.ndarray
    class_count_: np.ndarray
    class_prior_: np.ndarray
    prototypes_: np.ndarray
    variance_: float | np.ndarray
    temperature_: float | np.ndarray
    reliability_: np.ndarray

    def __init__(
        self,
        estimate: str = "empirical_bayes",
        *,
        covariance: str = "isotropic",
        spread: str = "pooled",
        shrinkage: str | float = "auto",
        priors: Any = "empirical",
        variance: float | None = None,
    ) -> None:
        self.estimate = estimate
        self.covariance = covariance
        self.spread = spread
        self.shrinkage = shrinkage
        self.priors = priors
        self.variance = variance

    def fit(self, X: Any, y: Any) -> PrototypeClassifier:
        """Fit to rows of shape (n, features), float32 or float64 (others become float64), and one class a row.

        Raises
        ------
        ValueError
            One row a class without `variance`; rows of a class all equal; a class of one row where each needs its own
            variance; a singular covariance; a single class; options that do not go together.
        """
        require_options(self)
        X, y = validate_data(self, X, y, dtype=[np.float64, np.float32], ensure_min_samples=2)
        check_classification_targets(y)
        self.classes_, labels = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"y: must hold at least two classes; got 1 class, {self.classes_[0]}; add rows of another")
        m = moments(X, labels, len(self.classes_))
        self.class_count_ = m.counts
        self.class_prior_ = self._priors()
        require_rows(self, m)
        self._metric: Metric = fit_metric(m, self.covariance, self.shrinkage)
        self._laws: Laws = fit_laws(m, self._metric, self.estimate, self.spread, self.variance)
        self._centre = m.means.mean(axis=0)
        self.variance_ = one(self._laws.variance)
        self.temperature_ = one(2 * self._laws.predictive)
        self.reliability_ = self._laws.reliability
        self.prototypes_ = prototypes_of(m, self._metric, self._laws)
        return self

    def logits(self, X: Any) -> np.ndarray:
        """Log-likelihoods plus log priors, shape (n, classes), in the dtype of X, but for a term common to a row.

        Their softmax at T = 1 is `predict_proba`. To other rows with labels, `fit_temperature(logits(X), labels)`
        should find T = 1.
        """
        check_is_fitted(self)
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        laws, centre = self._laws, self._centre.astype(X.dtype)
        at = laws.prototypes + self._metric.apply(self._centre - centre)  # float64, from the centre that is subtracted
        with np.errstate(divide="ignore"):
            log_prior = np.log(self.class_prior_)
        out = np.empty((len(X), len(self.classes_)), X.dtype)
        if laws.alike:  # |x|^2 is common to all classes: one product, the metric in it
            s = laws.predictive
            slope = (self._back(at) / s[:, None]).astype(X.dtype).T
            bias = (laws.bias(log_prior) - 0.5 * row_squares(at) / s).astype(X.dtype)
            for rows in blocks(len(X), X.shape[1], BLOCK_VALUES):
                np.matmul(X[rows] - centre, slope, out=out[rows])
                out[rows] += bias
            return out
        own = row_squares(at).astype(X.dtype)
        point = (-2 * at).astype(X.dtype).T
        for rows in blocks(len(X), X.shape[1], BLOCK_VALUES):
            u = self._metric.apply(X[rows] - centre).astype(X.dtype, copy=False)
            squares = np.maximum(u @ point + own + row_squares(u)[:, None], 0)
            out[rows] = laws.log_likelihood(squares, log_prior)
        return out

    def decision_function(self, X: Any) -> np.ndarray:
        """The logits; of two classes their difference x, shape (n,), which stands for the logits (0, x)."""
        z = self.logits(X)
        return z[:, 1] - z[:, 0] if z.shape[1] == 2 else z

    def predict(self, X: Any) -> np.ndarray:
        """The class of the largest logit."""
        z = self.logits(X)
        return np.asarray(self.classes_[z.argmax(axis=1)])

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities, shape (n, classes), in the dtype of X. Their logarithms are `log_softmax(logits(X))`."""
        return np.asarray(softmax(self.logits(X)))

    def check_assumption(self, X: Any, y: Any, *, folds: int = 5, seed: int = 0) -> AssumptionCheck:
        """Are rows as this classifier assumes, and does a fitted temperature agree? See `check_assumption`."""
        return check_assumption(self, X, y, folds=folds, seed=seed)

    def _back(self, at: np.ndarray) -> np.ndarray:
        """W at, so that (x W) . at = x . (W at)."""
        w = self._metric.weights
        return at if w is None else at * w if w.ndim == 1 else at @ w.T

    def _priors(self) -> np.ndarray:
        count = len(self.class_count_)
        if isinstance(self.priors, str):
            return (
                self.class_count_ / self.class_count_.sum() if self.priors == "empirical" else np.full(count, 1 / count)
            )
        try:
            p = np.asarray(self.priors, dtype=np.float64)
        except (TypeError, ValueError):
            p = np.array(math.nan)
        if p.shape != (count,) or not (p >= 0).all() or not math.isclose(p.sum(), 1, abs_tol=1e-6):
            raise ValueError(
                f"priors: must be {count} probabilities that sum to 1, in the order of classes_; got "
                f"{describe(self.priors)}, sum {p.sum():g}; 'empirical' takes those of the rows"
            )
        return p


def prototypes_of(m: Moments, metric: Metric, laws: Laws) -> np.ndarray:
    """Prototypes in the features themselves: moved from the means as in the metric."""
    centre = m.means.mean(axis=0)
    if metric.weights is None:
        return laws.prototypes + centre
    moved = laws.prototypes - metric.apply(m.means - centre)
    if metric.weights.ndim == 2:
        return m.means + moved @ np.linalg.pinv(metric.weights)
    return m.means + np.divide(moved, metric.weights, out=np.zeros_like(moved), where=m.varies)


def one(values: np.ndarray) -> float | np.ndarray:
    """A number where all are the same."""
    return float(values[0]) if (values == values[0]).all() else values
