"""From means and residuals to a law of every class: prototypes, and the variance (so the temperature) of each.

Logits are log-likelihoods of these laws, so softmax takes them at T = 1; on squared distances T is twice the variance.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy.special import gammaln

from logitherm.prototypes.metric import Metric, between_variance
from logitherm.prototypes.moments import Moments
from logitherm.prototypes.shrinkage import shrink_means, shrink_variances

ESTIMATES = ("empirical_bayes", "corrected", "plug_in", "student")
SPREADS = ("pooled", "per_class", "between")


class Laws(NamedTuple):
    """Of x given class k, in the coordinates of the metric; every array has one value a class."""

    prototypes: np.ndarray  # (classes, dims), relative to the mean of the class means
    variance: np.ndarray  # sigma^2, of rows about their true class mean
    predictive: np.ndarray  # sigma^2 / what softens it: half the temperature on squared distances to the prototypes
    reliability: np.ndarray
    noise: np.ndarray  # in the squared distance to a prototype, from the prototype
    degrees: np.ndarray  # of freedom of a Student t; inf is a Gaussian
    dims: int

    def log_likelihood(self, squares: np.ndarray, log_prior: np.ndarray) -> np.ndarray:
        """Logits from squared distances (rows, classes) that may lack a term common to a row, if all laws agree."""
        s, d = self.predictive, self.dims
        if not self.gaussian:
            nu = self.degrees
            z = gammaln((nu + d) / 2) - gammaln(nu / 2) - 0.5 * d * np.log(nu * s)
            return (z - z.mean() + log_prior - 0.5 * (nu + d) * np.log1p(squares / (nu * s))).astype(squares.dtype)
        return (squares * (-0.5 / s) + self.bias(log_prior)).astype(squares.dtype)

    def bias(self, log_prior: np.ndarray) -> np.ndarray:
        """What does not depend on the row: where variances differ, the temperature of a class needs log sigma^d."""
        s = self.predictive
        return log_prior + 0.5 * self.noise / s - 0.5 * self.dims * np.log(s / s.mean())

    @property
    def gaussian(self) -> bool:
        return bool(np.isinf(self.degrees).all())

    @property
    def alike(self) -> bool:
        """Whether all have one variance, so that |x|^2 is in no difference of logits."""
        return self.gaussian and bool((self.predictive == self.predictive[0]).all())


def fit_laws(m: Moments, metric: Metric, estimate: str, spread: str, variance: float | None) -> Laws:
    """The laws by one of `ESTIMATES`, with the variance by one of `SPREADS`, or given."""
    means = metric.apply(m.means - m.means.mean(axis=0))
    dims, ones = m.dims, np.ones(len(m.counts))
    inside = estimate == "plug_in"
    sigma2, degrees = spreads(metric.resubstituted if inside else metric.squares, m, estimate, spread, variance)
    noise = sigma2 / m.counts
    shrunk = shrink_means(means, noise, dims)
    prototypes, kept = (means, ones) if inside or estimate == "corrected" else (shrunk.prototypes, shrunk.reliability)
    if inside:
        predictive = sigma2
    elif estimate == "corrected":
        kept = np.full(len(ones), shrunk.reliability.mean())
        predictive = sigma2 / kept
    else:
        predictive = sigma2 + shrunk.variance
    ratio = 1.0 if inside else metric.excess
    if spread == "between" and np.ptp(prototypes, axis=0).any():
        ratio = between_variance(m, metric, prototypes) / float(sigma2[0])
    bias = dims * noise if estimate == "corrected" else 0 * ones
    t = degrees if estimate == "student" else math.inf * ones
    return Laws(prototypes, sigma2, predictive * ratio, kept, bias, t, dims)


def spreads(
    squares: np.ndarray, m: Moments, estimate: str, spread: str, variance: float | None
) -> tuple[np.ndarray, np.ndarray]:
    """sigma^2 of every class and its degrees of freedom.

    What is used as 1 / sigma^2 is estimated without bias by (nu - 2) / S; sigma^2 itself by S / nu.
    """
    ones = np.ones(len(m.counts))
    if variance is not None:
        return variance * ones, math.inf * ones
    nu = m.dims * (m.counts - 1.0)
    if spread == "per_class" and estimate == "plug_in":
        return squares / nu, nu
    if spread == "per_class":
        return shrink_variances(squares, nu)
    total = nu.sum()
    less = 2 if estimate in ("empirical_bayes", "corrected") else 0
    return squares.sum() / (total - less) * ones, total * ones
