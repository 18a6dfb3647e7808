"""Calibration error in as many equal-mass bins as keep the accuracy monotone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from logitherm._array import Array
from logitherm.metrics.binning import bin_index, bin_sums, expected_error
from logitherm.metrics.bootstrap import interval, resampled_sums
from logitherm.metrics.options import as_level, as_replicates, finite_or_none
from logitherm.metrics.rows import as_inputs, row_statistics

MOST_BINS = 4096
_ROUNDING = 1e-12  # of an accuracy


@dataclass(frozen=True)
class SweepError:
    """The error, its bootstrap interval and the number of bins that the sweep has chosen."""

    value: float
    low: float
    high: float
    bins: int

    def to_dict(self) -> dict[str, float | None]:
        """For JSON: NaN is None."""
        return {name: finite_or_none(value) for name, value in vars(self).items()}


def sweep_calibration_error(
    logits: Array,
    labels: Array,
    temperature: Any = 1.0,
    *,
    bootstrap: int = 1000,
    confidence: float = 0.95,
    seed: int | np.random.Generator = 0,
    weights: Array | None = None,
) -> SweepError:
    """ECE of the top label in equal-mass bins, as many as keep the accuracy from falling with the confidence.

    The number of bins grows from 1 until the accuracy of one is below that of the bin before; the last number before
    that is taken, at most 4096 and at most the number of distinct confidences. Rows of equal confidence never part. The
    error is the mean of |mean confidence - accuracy|, by weight.

    The interval is the percentile interval of the Poisson bootstrap in these bins, moved to have the value as its
    mean, within [0, 1], as for the calibration errors of `evaluate`. It does not know that the number of bins was
    chosen on the same rows.

    Limits: T = 0 gives the error rate and T = inf |accuracy - 1/classes|, in one bin, where no logits tie and all are
    allowed.

    Parameters
    ----------
    logits, labels, temperature, weights
        As for `accuracy`.
    bootstrap, confidence, seed
        As for `evaluate`; 0 replicates leave the interval NaN.

    Returns
    -------
    SweepError
        `value`, `low`, `high` between 0 and 1, and `bins`; `to_dict()` for JSON.

    Raises
    ------
    TypeError, ValueError
        As for `evaluate`.

    References
    ----------
    Roelofs, Cain, Shlens & Mozer (2022), Mitigating bias in calibration error estimation, section 4 (ECE_sweep).

    Examples
    --------
    >>> import numpy as np
    >>> z = np.log([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4]])
    >>> error = sweep_calibration_error(z, [0, 0, 1, 0], bootstrap=0)
    >>> round(error.value, 4), error.bins
    (0.15, 2)
    """
    replicates, level = as_replicates(bootstrap), as_level(confidence)
    rng = np.random.default_rng(seed)
    inputs = as_inputs(logits, labels, temperature, weights)
    rows = row_statistics(inputs)
    counted = inputs.weights > 0
    confident, correct, weight = rows.confidence[counted], rows.correct[counted], inputs.weights[counted]
    edges = sweep_edges(confident, correct, weight)
    bins = len(edges) - 1
    index = bin_index(confident, edges)
    gap = weight * (confident - correct)
    value = float(expected_error(*bin_sums(index, bins, weight, gap)))
    order = np.argsort(index, kind="stable")
    starts = np.flatnonzero(np.append(True, np.diff(index[order]) > 0))
    drawn = resampled_sums(np.stack([weight, gap], axis=1)[order], starts, replicates, rng)
    said = drawn[:, 0].sum(axis=0) > 0  # a replicate without rows says nothing
    replicated = expected_error(drawn[:, 0, said].T, drawn[:, 1, said].T)
    return SweepError(value, *interval(value, replicated, level, recentre=True), bins)


def sweep_edges(confidence: np.ndarray, correct: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Edges of the most bins of equal mass, counted up from one, whose accuracies do not fall; weights above 0."""
    values, group = np.unique(confidence, return_inverse=True)
    mass, right = np.cumsum(np.bincount(group, weights)), np.cumsum(np.bincount(group, weights * correct))
    middle = (mass - np.diff(mass, prepend=0.0) / 2) / mass[-1]
    most = min(len(values), MOST_BINS)
    ends = np.array([len(values) - 1])
    # means of runs of a monotone sequence are monotone: then no number of bins is too many
    if _rises(mass, right, np.arange(len(values))):
        ends = _ends(middle, most)
    else:
        for bins in range(2, most + 1):
            tried = _ends(middle, bins)
            if not _rises(mass, right, tried):
                break
            ends = tried
    return np.concatenate([[0.0], values[ends[:-1]], [1.0]])


def _ends(middle: np.ndarray, bins: int) -> np.ndarray:
    """The last distinct confidence of each bin: those of one have the middle of their mass in one share of it."""
    starts = np.searchsorted(middle, np.arange(1, bins) / bins, side="left")
    return np.unique(np.append(starts[starts > 0], len(middle)) - 1)


def _rises(mass: np.ndarray, right: np.ndarray, ends: np.ndarray) -> bool:
    accuracy = np.diff(right[ends], prepend=0.0) / np.diff(mass[ends], prepend=0.0)
    return bool(np.all(np.diff(accuracy) >= -_ROUNDING))
