"""Is the assumption behind a temperature that was computed rather than tuned true of the rows?"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.stats import chi2
from sklearn.base import clone
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_X_y

from logitherm._array import describe
from logitherm._json import plain
from logitherm.prototypes.metric import fit_metric
from logitherm.prototypes.moments import moments, row_squares
from logitherm.thermometer import fit_temperature

LEVEL = 0.05
WORDS = {
    "isotropic": ("vary alike in all directions", "do not vary alike in all directions"),
    "diagonal": ("are uncorrelated", "are correlated"),
}


@dataclass(frozen=True)
class AssumptionCheck:
    """What rows say of a temperature by rule.

    Attributes
    ----------
    temperature : float
        T that held-out rows want on top of the rule, by maximum likelihood: 1 where it is right, above 1 where it is
        too cold. Held out by cross-fitting.
    interval : (float, float) or None
        95 % interval of it, robust (`TemperatureFit.sandwich_interval`); rows of a fold share prototypes, which it
        does not know. None at a bound.
    nll_before, nll_after : float
        Mean negative log-likelihood of held-out rows by the rule, and at the fitted T, in nats.
    shape_p_value : float or None
        Of residuals being as the metric assumes: isotropic, or uncorrelated for a diagonal one. None for a whitened
        one, which assumes no shape.
    spread_p_value : float or None
        Of all classes having the same variance. None with fewer than two classes of two rows.
    effective_dimension : float
        (tr C)^2 / tr C^2 of the covariance C of residuals in the metric's coordinates: how many features there are,
        if they are isotropic.
    dims, n : int
        Features that vary, and rows held out.
    covariance, spread : str
        Of the classifier.
    """

    temperature: float
    interval: tuple[float, float] | None
    nll_before: float
    nll_after: float
    shape_p_value: float | None
    spread_p_value: float | None
    effective_dimension: float
    dims: int
    n: int
    covariance: str
    spread: str

    @property
    def temperature_agrees(self) -> bool:
        """Whether the interval holds 1."""
        return self.interval is not None and self.interval[0] <= 1 <= self.interval[1]

    @property
    def holds(self) -> bool:
        """Whether nothing speaks against the assumption at 5 %."""
        same = self.spread == "per_class" or self.spread_p_value is None or self.spread_p_value >= LEVEL
        return self.temperature_agrees and same and (self.shape_p_value is None or self.shape_p_value >= LEVEL)

    @property
    def verdict(self) -> str:
        """In words: what is assumed, whether it is so of these rows, and what to do."""
        found = []
        if self.shape_p_value is not None:
            words = WORDS[self.covariance][int(self.shape_p_value < LEVEL)]
            effective = f"{self.effective_dimension:.3g} of {self.dims} dimensions count"
            found.append(f"residuals {words} ({level(self.shape_p_value)}; {effective})")
        if self.spread_p_value is not None and self.spread != "per_class":
            words = "equally wide" if self.spread_p_value >= LEVEL else "not equally wide"
            found.append(f"classes are {words} ({level(self.spread_p_value)})")
        if self.interval is None:
            why = "are separable" if self.temperature == 0 else "see no signal"
            return "; ".join([*found, f"no T fits held-out rows, which {why}"])
        low, high = self.interval
        words = (
            "agrees with the rule" if self.temperature_agrees else f"is {self.temperature:.2f} times that of the rule"
        )
        found.append(f"the T that held-out rows want {words} ({low:.2f} to {high:.2f})")
        if not self.temperature_agrees:
            found.append(f"try {self._other}")
        return "; ".join(found)

    @property
    def _other(self) -> str:
        """What to try next."""
        if self.spread != "between":
            return "spread='between'"
        return "covariance='whitened'" if self.covariance == "isotropic" else "a calibrator on held-out rows"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**plain(asdict(self)), "holds": self.holds, "verdict": self.verdict}


def check_assumption(classifier: Any, X: Any, y: Any, *, folds: int = 5, seed: int = 0) -> AssumptionCheck:
    """Whether rows are as a `PrototypeClassifier` assumes, by three tests on the rows it is fitted to.

    Held-out logits come from clones fitted to the other folds; a T is fitted to them. Residuals from the class means
    are tested for their shape (John's test of sphericity with the exact mean under the hypothesis, which holds with
    more features than rows as well; for a diagonal metric Schott's test of correlations) and for equal variance of the
    classes (Bartlett's, with the effective dimension for the number of features). These two take residuals to be
    Gaussian, and with many rows find what does not matter: the fitted T says what does.

    Parameters
    ----------
    classifier : PrototypeClassifier
        Fitted or not.
    X, y : array, shape (n, features), and one class a row
        Rows of classes with a single row are never held out.
    folds : int
        At least 2.
    seed : int
        Of the folds.

    Returns
    -------
    AssumptionCheck

    Raises
    ------
    TypeError, ValueError
        A classifier of another kind; no class with two rows; rows of every class all equal; folds with too few rows to
        fit.

    References
    ----------
    John (1972); Ledoit and Wolf (2002), Some hypothesis tests for the covariance matrix when the dimension is large
    compared to the sample size, section 3; Schott (2005); Bartlett (1937).

    Examples
    --------
    >>> from logitherm.prototypes import PrototypeClassifier
    >>> rng = np.random.default_rng(0)
    >>> y = np.arange(400) % 4
    >>> X = rng.normal(size=(4, 20))[y] + 1.5 * rng.normal(size=(400, 20))
    >>> check = check_assumption(PrototypeClassifier(), X, y)
    >>> check.holds, round(check.temperature, 2)
    (True, 0.98)
    >>> wide = check_assumption(PrototypeClassifier(), X * np.geomspace(0.3, 3, 20), y)
    >>> wide.holds, round(wide.temperature, 2), round(wide.effective_dimension, 1)
    (False, 1.89, 8.1)
    """
    if not hasattr(classifier, "logits") or isinstance(classifier, type):
        raise TypeError(
            f"classifier: must be a PrototypeClassifier; got {describe(classifier)}; of a pipeline give the last step, "
            "and the rows that reach it"
        )
    if not isinstance(folds, int | np.integer) or folds < 2:
        raise ValueError(f"folds: must be an integer of at least 2; got {folds!r}; 5 is usual")
    X, y = check_X_y(X, y, dtype=[np.float64, np.float32], estimator=classifier)
    check_classification_targets(y)
    classes, labels = np.unique(y, return_inverse=True)
    m = moments(X, labels, len(classes))
    z, kept = held_out_logits(classifier, X, labels, int(folds), seed)
    if not m.columns.any():
        raise ValueError("X: rows of a class must differ; got zero variance within all classes; there is none to test")
    fit = fit_temperature(z, labels[kept])
    u = fit_metric(m, classifier.covariance, classifier.shrinkage).apply(m.residuals().astype(np.float64))
    shape, effective = shape_test(u, m.degrees, m.dims, classifier.covariance)
    squares = np.bincount(labels, weights=row_squares(u), minlength=len(classes))
    return AssumptionCheck(
        temperature=fit.temperature,
        interval=fit.sandwich_interval,
        nll_before=fit.nll_before,
        nll_after=fit.nll_after,
        shape_p_value=shape,
        spread_p_value=spread_test(squares, m.counts - 1, effective),
        effective_dimension=effective,
        dims=m.dims,
        n=int(kept.sum()),
        covariance=classifier.covariance,
        spread=classifier.spread,
    )


def level(p_value: float) -> str:
    return f"p = {p_value:.2g}" if p_value >= 1e-4 else "p < 0.0001"


def held_out_logits(
    classifier: Any, X: np.ndarray, labels: np.ndarray, folds: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Logits of rows by clones that have not seen them, and which rows those are."""
    counts = np.bincount(labels)
    if counts.max() < 2:
        raise ValueError("X: must have a class with two rows to hold one out; got one row for every class; add rows")
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    rank = np.empty(len(labels), dtype=np.int64)
    rank[order] = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    fold = (rank + rng.integers(folds, size=len(counts))[labels]) % folds
    fold[counts[labels] == 1] = -1
    out = np.empty((len(labels), len(counts)))
    for i in np.unique(fold[fold >= 0]):
        held = fold == i
        try:
            out[held] = clone(classifier).fit(X[~held], labels[~held]).logits(X[held])
        except ValueError as error:
            raise ValueError(
                f"classifier: cannot be fitted with {held.sum()} of {len(X)} rows held out: {error}"
            ) from error
    return out[fold >= 0], fold >= 0


def shape_test(u: np.ndarray, degrees: int, dims: int, covariance: str) -> tuple[float | None, float]:
    """p-value of the shape that a metric assumes, and the effective dimension, of residuals with so many degrees."""
    gram = u.T @ u if u.shape[1] <= u.shape[0] else u @ u.T
    n, d = degrees, dims
    trace, square = float(np.trace(gram)), float((gram * gram).sum())
    p_value = None
    if d > 1 and covariance == "isotropic":
        statistic = (n * d + 2) / 2 * (d * square / trace**2 - 1)
        p_value = float(chi2.sf(statistic, d * (d + 1) / 2 - 1))
    elif d > 1 and covariance == "diagonal":  # every feature has the square n
        p_value = float(chi2.sf((square / n - n * d) / 2, d * (d - 1) / 2))
    if n < 2:
        return p_value, float(d)
    of_square = (square - trace**2 / n) / ((n - 1) * (n + 2))  # unbiased for tr C^2
    squared = trace**2 / n**2 - 2 * of_square / n  # and for (tr C)^2
    return p_value, float(np.clip(squared / of_square, 1, d)) if of_square > 0 else float(d)


def spread_test(squares: np.ndarray, degrees: np.ndarray, dims: float) -> float | None:
    """p-value of Bartlett's test that classes have one variance; None for fewer than two classes to compare."""
    some = degrees > 0
    if some.sum() < 2:
        return None
    f, s = dims * degrees[some], squares[some] / degrees[some]
    if not (s > 0).all():
        return 0.0
    statistic = f.sum() * math.log(f @ s / f.sum()) - f @ np.log(s)
    correction = 1 + ((1 / f).sum() - 1 / f.sum()) / (3 * (len(f) - 1))
    return float(chi2.sf(statistic / correction, len(f) - 1))
