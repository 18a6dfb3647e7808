"""A temperature for every group of rows, each drawn towards that of all rows as far as the groups are alike."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.optimize import brentq
from scipy.stats import chi2
from sklearn.utils.validation import check_is_fitted

from logitherm._array import Array, as_array, as_logits, like, namespace
from logitherm.calibration.base import Calibrator, number, or_infinite, whole_number
from logitherm.calibration.rows import Labelled, as_groups, labelled, likelihoods, possible
from logitherm.calibration.temperature_scaling import heated
from logitherm.gibbs import softmax
from logitherm.kernels import exponential
from logitherm.kernels.likelihood import Observed
from logitherm.thermometer import fit_temperature
from logitherm.thermometer.intervals import around
from logitherm.thermometer.prior import most_probable
from logitherm.thermometer.sources import ArraySource

WIDEST = 10.0  # deviation of log T between groups beyond which nothing is shared


class GroupTemperatureScaling(Calibrator):
    """One temperature a group (domain, language, length bucket, site), shrunk to the common one by empirical Bayes.

    The logarithms of the groups' temperatures are taken for normal about a common one; their spread is estimated from
    the groups themselves (where they differ no more than chance would have it, it is 0 and all have the same T), and a
    group of few rows is drawn to the common T the more, the fewer its rows. Keeps predictions.

    Limits: a group that was not in the fit has the common temperature.

    Parameters
    ----------
    zero_labels : "raise" or "exclude"
        What to do with rows whose label has logit -inf.

    Attributes
    ----------
    groups_ : array
        The groups of the fit, sorted.
    temperatures_, errors_ : array, shape (groups,)
        T of every group, and the standard error of log T under the prior; `intervals_` (groups, 2) follows from both.
    temperature_ : float
        The common T.
    deviation_ : float
        Estimated standard deviation of log T between groups.
    p_value_ : float or None
        Of the likelihood-ratio test of one T for all groups; None with one group.
    n_ : int
        Rows of the fit.

    References
    ----------
    Paule and Mandel (1982), Consensus values and weighting factors, for the spread; Efron and Morris (1975) for the
    shrinkage.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> z = 2 * rng.normal(size=(3000, 4))
    >>> labels = (z + rng.gumbel(size=z.shape)).argmax(axis=1)
    >>> groups = np.repeat(["news", "law"], [2000, 1000])
    >>> scaling = GroupTemperatureScaling().fit(z * np.where(groups == "law", 3.0, 1.5)[:, None], labels, groups=groups)
    >>> scaling.groups_.tolist(), scaling.temperatures_.round(1).tolist(), scaling.p_value_ < 1e-6
    (['law', 'news'], [2.8, 1.5], True)
    """

    keeps_predictions = True

    def __init__(self, *, zero_labels: str = "raise") -> None:
        self.zero_labels = zero_labels

    def fit(
        self,
        logits: Any,
        labels: Any,
        sample_weight: Any = None,
        *,
        groups: Any = None,
        mask: Any = None,
        ignore_index: int | None = None,
    ) -> GroupTemperatureScaling:
        """Fit to logits (n, classes), labels (n,) and groups (n,), integers or strings; without groups all are one.

        Other arguments are those of every calibrator.

        Raises
        ------
        TypeError, ValueError
            As `logitherm.fit_temperature`; groups of another length.
        """
        z, y, weights, keep = self._start(logits, labels, sample_weight, mask, ignore_index)
        n = len(as_array(logits, "logits"))
        group = np.zeros(n, dtype=np.int64) if groups is None else as_groups(groups, n)
        self._fit_groups(z, y, weights, group[keep])
        return self

    def _fit_groups(self, z: Array, labels: np.ndarray, weights: Any, group: np.ndarray) -> None:
        pooled = fit_temperature(z, labels, weights=weights, zero_labels=self.zero_labels)
        data = labelled(z, labels, weights)
        if pooled.excluded:
            keep = possible(data.logits, data.labels)
            data, group = data.take(keep), group[keep]
        self.groups_, index = np.unique(group, return_inverse=True)
        self.temperature_, self.n_ = pooled.temperature, pooled.n
        count = len(self.groups_)
        error = (pooled.sandwich_error or 0.0) / pooled.temperature if pooled.at_bound is None else 0.0
        self.temperatures_, self.errors_ = np.full(count, pooled.temperature), np.full(count, error)
        self.deviation_, self.p_value_ = 0.0, None
        if pooled.at_bound or count < 2:
            return
        parts = [data.take(np.flatnonzero(index == g)) for g in range(count)]
        own = [None if not part.weights.any() else _own(part) for part in parts]
        known = [fit for fit in own if fit is not None]
        gain = float(data.weights @ likelihoods(data, pooled.temperature)[0]) - sum(fit[2] for fit in known)
        self.p_value_ = float(chi2.sf(max(0.0, 2 * gain), len(known) - 1)) if len(known) > 1 else None
        inside = np.array([fit[:2] for fit in known if fit[1] > 0])
        if len(inside) > 1:
            mean, self.deviation_ = _spread(inside[:, 0], inside[:, 1])
            self.temperature_ = float(exponential(mean)) if self.deviation_ > 0 else pooled.temperature
            self.temperatures_[:] = self.temperature_
        if self.deviation_ > 0:
            shared = 1 / np.sum(1 / (inside[:, 1] ** 2 + self.deviation_**2))  # variance of the common log T
            for g, part in enumerate(parts):
                self.errors_[g] = self.deviation_
                if part.weights.any():
                    source = ArraySource(part.logits, Observed(labels=part.labels, weights=part.weights))
                    self.temperatures_[g], self.errors_[g] = most_probable(source, self.temperature_, self.deviation_)
                drawn = (self.errors_[g] / self.deviation_) ** 2  # share of the common T in that of the group
                self.errors_[g] = math.sqrt(self.errors_[g] ** 2 + drawn**2 * shared)

    @property
    def intervals_(self) -> np.ndarray:
        """95 % intervals of the groups' temperatures, shape (groups, 2)."""
        check_is_fitted(self)
        return np.array([around(t, error, 0.95) for t, error in zip(self.temperatures_, self.errors_)])

    def transform(self, logits: Any, groups: Any = None) -> Array:
        """logits / T of each row's group; the common T without groups, and for groups that were not in the fit."""
        check_is_fitted(self)
        return self._heated(as_logits(self._rows(logits)), groups)

    def predict_proba(self, logits: Any, groups: Any = None) -> Array:
        """softmax(logits / T) with T of each row's group."""
        check_is_fitted(self)
        z = self._rows(logits)
        return namespace(z).astype(softmax(self._heated(as_logits(z), groups)), z.dtype)

    def _heated(self, z: Array, groups: Any) -> Array:
        if groups is None or not 0 < self.temperature_ < math.inf:
            return heated(z, self.temperature_)
        group = as_groups(groups, len(z))
        if (group.dtype.kind in "US") != (self.groups_.dtype.kind in "US"):
            due, came = ("strings", "integers") if self.groups_.dtype.kind in "US" else ("integers", "strings")
            raise TypeError(f"groups: must be {due} like those of the fit; got {came}; name them alike")
        place = np.clip(np.searchsorted(self.groups_, group), 0, len(self.groups_) - 1)
        t = np.where(self.groups_[place] == group, self.temperatures_[place], self.temperature_)
        return z / namespace(z).astype(like(t, z), z.dtype)[:, None]

    def _values(self) -> dict[str, Any]:
        return {
            "temperature": self.temperature_ if self.temperature_ < math.inf else None,
            "groups": self.groups_.tolist(),
            "temperatures": [t if t < math.inf else None for t in self.temperatures_.tolist()],
            "errors": self.errors_.tolist(),
            "deviation": self.deviation_,
            "p_value": self.p_value_,
            "n": self.n_,
        }

    def _set(self, values: dict[str, Any]) -> None:
        self.temperature_, self.n_ = or_infinite(values["temperature"]), whole_number(values["n"])
        self.groups_ = np.array(values["groups"])
        self.temperatures_ = np.array([or_infinite(t) for t in values["temperatures"]])
        self.errors_ = np.array([number(e, 0) for e in values["errors"]])
        if not self.groups_.shape == self.temperatures_.shape == self.errors_.shape or self.groups_.ndim != 1:
            raise ValueError(f"{len(self.temperatures_)} temperatures for {len(self.groups_)} groups")
        self.deviation_ = number(values["deviation"], 0)
        self.p_value_ = None if values["p_value"] is None else number(values["p_value"], 0)


def _own(part: Labelled) -> tuple[float, float, float]:
    """log T of one group alone, its standard error (0 where there is no optimum in between) and total NLL."""
    fit = fit_temperature(part.logits, part.labels, weights=part.weights)
    total = fit.nll_after * float(part.weights.sum())
    if fit.at_bound or fit.standard_error is None:
        return 0.0, 0.0, total
    return math.log(fit.temperature), fit.standard_error / fit.temperature, total


def _spread(values: np.ndarray, errors: np.ndarray) -> tuple[float, float]:
    """Mean of groups of normal values with these errors, and their standard deviation beyond the errors: where the
    weighted sum of squares is its expectation."""

    def mean(variance: float) -> float:
        weights = 1 / (errors**2 + variance)
        return float(weights @ values / weights.sum())

    def excess(variance: float) -> float:
        return float(np.sum((values - mean(variance)) ** 2 / (errors**2 + variance))) - (len(values) - 1)

    if excess(0.0) <= 0:
        return mean(0.0), 0.0
    variance = brentq(excess, 0.0, WIDEST**2) if excess(WIDEST**2) < 0 else WIDEST**2
    return mean(variance), math.sqrt(variance)
