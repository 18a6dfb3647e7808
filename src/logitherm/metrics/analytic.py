"""Intervals without resampling, where the variance of a score is known."""

from __future__ import annotations

import math

import numpy as np

from logitherm.metrics.rows import weighted_mean


def effective_rows(weights: np.ndarray) -> float:
    """How many rows of equal weight say as much: (sum w)^2 / sum w^2."""
    scaled = weights / weights.max()  # squares of tiny weights vanish
    return float(scaled.sum() ** 2 / (scaled @ scaled))


def wilson_interval(correct: np.ndarray, weights: np.ndarray, level: float) -> tuple[float, float]:
    """Wilson's score interval of a share; of n equal rows where the variance of the weighted share is that of n.

    Where weights go with errors that is fewer than `effective_rows`; where hardly any row errs it is not to be had.
    """
    share = weighted_mean(correct, weights)
    rows = effective_rows(weights)
    scaled = weights / weights.max() * (correct - share)
    noise = float(scaled @ scaled) / float((weights / weights.max()).sum()) ** 2
    if noise > 0:
        rows = min(rows, share * (1 - share) / noise)
    return wilson(share, rows, level)


def wilson(share: float, rows: float, level: float) -> tuple[float, float]:
    """Wilson's score interval of a share of so many equal rows."""
    z = normal_reach(level)
    centre = (share + z * z / (2 * rows)) / (1 + z * z / rows)
    half = z / (1 + z * z / rows) * math.sqrt(share * (1 - share) / rows + (z / (2 * rows)) ** 2)
    low = 0.0 if share == 0 else max(centre - half, 0.0)  # exactly, whatever the rounding
    high = 1.0 if share == 1 else min(centre + half, 1.0)
    return min(low, share), max(high, share)


def normal_interval(
    values: np.ndarray, weights: np.ndarray, level: float, most: float = math.inf
) -> tuple[float, float]:
    """Normal interval of a weighted mean of values in [0, most]; NaN for one row, or an infinite value."""
    counted = weights > 0
    x, w = values[counted], weights[counted] / weights.max()
    if len(x) < 2 or not np.all(np.isfinite(x)):
        return math.nan, math.nan
    mean = weighted_mean(values, weights)
    gaps = w * (x - mean)
    size = max(float(np.abs(gaps).max()), np.finfo(np.float64).tiny)  # squares of huge ones overflow
    error = size * math.sqrt(float((gaps / size) @ (gaps / size)) * len(x) / (len(x) - 1)) / float(w.sum())
    reach = normal_reach(level) * error
    return min(max(mean - reach, 0.0), mean), max(min(mean + reach, most), mean)


def normal_reach(level: float) -> float:
    """Half the width of a normal interval in standard errors."""
    from scipy.special import ndtri

    return float(ndtri((1 + level) / 2))
