"""Calibration error in as many equal-mass bins as keep the accuracy monotone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from logitherm._array import Array
from logitherm.metrics.binning import bin_index, bin_sums, expected_error, per_mass
from logitherm.metrics.bootstrap import interval, resampled_sums, runs
from logitherm.metrics.one_vs_rest import affordable, bin_matrix, class_columns, resampled_weights, with_weight
from logitherm.metrics.options import as_kind, as_level, as_replicates, finite_or_none
from logitherm.metrics.rows import Inputs, as_inputs, row_statistics

MOST_BINS = 4096
_ROUNDING = 1e-12  # of an accuracy


@dataclass(frozen=True)
class SweepError:
    """The error, its bootstrap interval and the number of bins that the sweep has chosen, of all classes together."""

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
    kind: str = "top_label",
    bootstrap: int = 1000,
    confidence: float = 0.95,
    seed: int | np.random.Generator = 0,
    weights: Array | None = None,
) -> SweepError:
    """ECE of the top label in equal-mass bins, as many as keep the accuracy from falling with the confidence.

    The number of bins grows from 1 until the accuracy of one is below that of the bin before; the last number before
    that is taken, at most 4096 and at most the number of distinct confidences. Rows of equal confidence never part. The
    error is the mean of |mean confidence - accuracy|, by weight.

    The class-wise form is the mean over classes of the error of p_k as a yes-or-no forecast, each in bins of its own;
    the marginal form of an absolute error is the same.

    The interval is the percentile interval of the Poisson bootstrap in these bins, moved to have the value as its
    mean, within [0, 1], as for the calibration errors of `evaluate`. It does not know that the number of bins was
    chosen on the same rows.

    Limits: T = 0 gives the error rate and T = inf |accuracy - 1/classes|, in one bin, where no logits tie and all are
    allowed; class-wise T = inf gives the mean of |frequency of k - 1/classes|.

    Parameters
    ----------
    logits, labels, temperature, bootstrap, confidence, seed, weights
        As for `evaluate`. The class-wise form takes fewer replicates, though not below 100, where
        replicates * rows * classes exceeds 1e8.
    kind : {"top_label", "class_wise", "marginal"}
        Calibration of the prediction, or of every class.

    Returns
    -------
    SweepError
        `value`, `low`, `high` between 0 and 1, and `bins`; `to_dict()` for JSON.

    Raises
    ------
    TypeError, ValueError
        As for `evaluate`; another `kind`.

    References
    ----------
    Roelofs, Cain, Shlens & Mozer (2022), Mitigating bias in calibration error estimation, section 4 (ECE_sweep). Kumar,
    Liang & Ma (2019), Verified uncertainty calibration, definition 2.4, for the marginal form.

    Examples
    --------
    >>> import numpy as np
    >>> z = np.log([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4]])
    >>> error = sweep_calibration_error(z, [0, 0, 1, 0], bootstrap=0)
    >>> round(error.value, 4), error.bins
    (0.15, 2)
    """
    kind, replicates, level = as_kind(kind), as_replicates(bootstrap), as_level(confidence)
    rng = np.random.default_rng(seed)
    inputs = with_weight(as_inputs(logits, labels, temperature, weights))
    if kind == "top_label":
        value, replicated, bins = _top_label(inputs, replicates, rng)
    else:
        value, replicated, bins = _class_wise(inputs, affordable(inputs, replicates), rng)
    return SweepError(value, *interval(value, replicated, level, recentre=True), bins)


def _top_label(inputs: Inputs, replicates: int, rng: np.random.Generator) -> tuple[float, np.ndarray, int]:
    rows, weight = row_statistics(inputs), inputs.weights
    edges = sweep_edges(rows.confidence, rows.correct, weight)
    bins = len(edges) - 1
    index = bin_index(rows.confidence, edges)
    gap = weight * (rows.confidence - rows.correct)
    value = float(expected_error(*bin_sums(index, bins, weight, gap)))
    order, starts = runs(index)
    drawn = resampled_sums(np.stack([weight, gap], axis=1)[order], starts, replicates, rng)
    said = drawn[:, 0].sum(axis=0) > 0  # a replicate without rows says nothing
    return value, expected_error(drawn[:, 0, said].T, drawn[:, 1, said].T), bins


def _class_wise(inputs: Inputs, replicates: int, rng: np.random.Generator) -> tuple[float, np.ndarray, int]:
    classes = inputs.logits.shape[1]
    state = int(rng.integers(2**63))  # every group of classes sees the same resampled rows
    value, bins, errors, total = 0.0, 0, np.zeros(replicates), np.zeros(replicates)
    for some, p in class_columns(inputs):
        index, offset = np.empty(p.shape, dtype=np.int64), 0
        for j, k in enumerate(range(some.start, some.stop)):
            hit = (inputs.labels == k).astype(np.float64)
            edges = sweep_edges(p[:, j], hit, inputs.weights)
            index[:, j] = offset + bin_index(p[:, j], edges)
            p[:, j] -= hit
            offset += len(edges) - 1
        gaps = bin_matrix(index, p, offset)
        value += float(np.abs(gaps @ inputs.weights).sum())
        bins += offset
        done = 0
        for weights in resampled_weights(inputs, replicates, state, offset):
            now = slice(done, done + weights.shape[1])
            errors[now] += np.abs(gaps @ weights).sum(axis=0)
            total[now] = weights.sum(axis=0)
            done = now.stop
    said = total > 0
    return value / classes / float(inputs.weights.sum()), errors[said] / total[said] / classes, bins


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
    # a bin may weigh nothing to those before it: its accuracy is NaN, and rises from nothing
    accuracy = per_mass(np.diff(right[ends], prepend=0.0), np.diff(mass[ends], prepend=0.0))
    return bool(np.all(np.diff(accuracy) >= -_ROUNDING))
