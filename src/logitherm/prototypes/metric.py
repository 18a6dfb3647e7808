"""In which coordinates distances are taken: as they are, each feature in its own unit, or whitened.

A metric that was estimated fits the rows it was estimated from too well. So squared residuals are those that each row
would have had it been left out of the estimate.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.covariance import ledoit_wolf_shrinkage

from logitherm.prototypes.moments import Moments, row_squares

METRICS = ("isotropic", "diagonal", "whitened")


@dataclass(frozen=True)
class Metric:
    """Squared distance |x W|^2; W is 1, one factor a feature, or a matrix (features, dims)."""

    weights: np.ndarray | None
    shrinkage: float | None  # of the covariance, towards a multiple of the identity
    squares: np.ndarray  # (classes,) of residuals in these coordinates, rows left out
    resubstituted: np.ndarray  # the same of rows that took part
    leverage: np.ndarray | None  # (classes,) what a row's own square adds to the estimate
    excess: float = 1.0  # how much more rows vary along estimated directions of classes than in all

    def apply(self, x: np.ndarray) -> np.ndarray:
        if self.weights is None:
            return x
        return x * self.weights if self.weights.ndim == 1 else x @ self.weights


def fit_metric(m: Moments, covariance: str, shrinkage: str | float) -> Metric:
    """The coordinates for a kind of covariance."""
    if covariance == "isotropic":  # a feature that is constant here may not be in rows to come
        return Metric(None if m.varies.all() else m.varies.astype(float), None, m.squares, m.squares, None)
    if covariance == "diagonal":
        return diagonal(m)
    return whitened(m, shrinkage)


def diagonal(m: Moments) -> Metric:
    """1 / s of every feature; E 1/s^2 and E 1/s^4 of chi-squared variances tell what rows left out would have."""
    n = m.degrees
    flat = m.varies & (m.columns == 0)
    if flat.any():
        raise ValueError(
            f"X: every feature must vary within classes for covariance='diagonal'; feature {int(flat.argmax())} does "
            f"not ({int(flat.sum())} such in all); drop them or take covariance='isotropic'"
        )
    if n < 5:
        raise ValueError(
            f"X: must have at least 5 rows more than classes for covariance='diagonal'; got {n} more; take "
            "covariance='isotropic'"
        )
    weights = np.zeros(len(m.varies))
    weights[m.varies] = np.sqrt(n / m.columns[m.varies])
    inside = m.sum_over(lambda r: row_squares(r * weights))
    return Metric(weights, None, inside * n / (n - 2), inside, None, (n - 2) / (n - 4))


def whitened(m: Moments, shrinkage: str | float) -> Metric:
    """The inverse square root of the pooled covariance, shrunk towards a multiple of the identity.

    A row left out takes c r r' from the scatter (c = n_k / (n_k - 1) for its class mean), so that its square q becomes
    q / (1 - g q), g = c (1 - shrinkage) / (N - K): Sherman and Morrison.
    """
    r = m.residuals().astype(np.float64)[:, m.varies]
    share = float(ledoit_wolf_shrinkage(r, assume_centered=True)) if shrinkage == "auto" else float(shrinkage)
    scatter = r.T @ r / m.degrees
    mean = np.trace(scatter) / m.dims
    values, vectors = np.linalg.eigh((1 - share) * scatter)
    values = values + share * mean
    if values[0] <= m.dims * np.finfo(m.X.dtype).eps * values[-1]:
        rank = int((values > m.dims * np.finfo(m.X.dtype).eps * values[-1]).sum())
        raise ValueError(
            f"X: the covariance within classes is singular, of rank {rank} for {m.dims} features ({m.degrees} rows "
            f"more than classes, shrinkage {share:g}); take shrinkage='auto', or fewer features"
        )
    root = vectors / np.sqrt(values)
    weights = np.zeros((len(m.varies), m.dims))
    weights[m.varies] = root
    q = row_squares(r @ root)
    leverage = (1 - share) / m.degrees * m.counts / np.maximum(m.counts - 1, 1)
    outside = q / np.maximum(1 - leverage[m.labels] * q, np.finfo(float).eps)
    squares, inside = (np.bincount(m.labels, weights=v, minlength=len(m.counts)) for v in (outside, q))
    return Metric(weights, share, squares, inside, leverage)


def between_variance(m: Moments, metric: Metric, prototypes: np.ndarray) -> float:
    """Variance of rows along the directions in which prototypes (given in the metric's coordinates) differ.

    Scores are differences of distances, and vary as rows do along mu_i - mu_j: mean of (r . d)^2 over mean of |d|^2 for
    all pairs of classes, each row left out of the metric. Of isotropic rows it is their variance.
    """
    d = prototypes - prototypes.mean(axis=0)
    leverage = metric.leverage

    def along(r: np.ndarray) -> np.ndarray:
        return row_squares(metric.apply(r) @ d.T)

    if leverage is None:
        outside = metric.squares.sum() / metric.resubstituted.sum() * metric.excess
        return float(m.sum_over(along).sum() / m.degrees / (d * d).sum() * outside)
    u = metric.apply(m.residuals().astype(np.float64))
    squares, own = row_squares(u @ d.T), leverage[m.labels]
    left = np.maximum(1 - own * row_squares(u), np.finfo(float).eps)
    return float((squares / left**2).sum() / m.degrees / ((d * d).sum() + (own * squares / left).mean()))
