"""Scores of one number each: accuracy, NLL, Brier score and the calibration errors of the top label."""

from __future__ import annotations

from typing import Any

import numpy as np

from logitherm._array import Array
from logitherm.metrics.binning import bin_edges, bin_index, bin_sums, expected_error, largest_error
from logitherm.metrics.options import as_binning, as_bins
from logitherm.metrics.rows import as_inputs, row_blocks, row_statistics, weighted_mean


def accuracy(logits: Array, labels: Array, temperature: Any = 1.0, *, weights: Array | None = None) -> float:
    """Share of rows whose label is the prediction: the first largest logit.

    No temperature changes it: the prediction is read from the logits, so that neither rounding nor T = 0 or T = inf
    makes ties.

    Parameters
    ----------
    logits : array, shape (..., classes)
        Floating scores, NumPy or torch; -inf forbids a class.
    labels : array of integers, shape (...)
        Each in [0, classes).
    temperature : float, array of the batch shape, or Temperature
        In the units of the logits, 0 <= T <= inf; validated only.
    weights : array, shape (...), optional
        Nonnegative weight of each row; 1 unless given.

    Returns
    -------
    float
        Between 0 and 1.

    Raises
    ------
    TypeError
        Logits that are not floating, labels that are not integers.
    ValueError
        No rows; shapes that differ; a label out of range; a row with NaN, +inf or no allowed class (the first is
        named); weights that are negative, not finite or all zero; a temperature that is negative or NaN.

    References
    ----------
    Guo et al. (2017), On calibration of modern neural networks, section 4.2 (temperature keeps the prediction).

    Examples
    --------
    >>> import numpy as np
    >>> accuracy(np.array([[2.0, 0.0], [1.0, 1.0], [0.0, 3.0]]), [0, 1, 1])
    0.6666666666666666
    """
    inputs = as_inputs(logits, labels, temperature, weights)
    correct = np.concatenate([block.predicted == block.labels for block in row_blocks(inputs)])
    return weighted_mean(correct, inputs.weights)


def nll(logits: Array, labels: Array, temperature: Any = 1.0, *, weights: Array | None = None) -> float:
    """Mean negative log-likelihood -log p(label), in nats: the loss a temperature is fitted to.

    Limits: inf where a label has probability 0 (its logit is -inf, or T = 0 and it is not a largest logit); nothing is
    clipped. T = inf gives the mean log of the number of allowed classes.

    Parameters and errors are those of `accuracy`.

    Returns
    -------
    float
        0 to inf, nats a row.

    References
    ----------
    Good (1952), Rational decisions; Guo et al. (2017), eq. 6.

    Examples
    --------
    >>> import numpy as np
    >>> round(nll(np.array([[0.0, 0.0], [0.0, 0.0]]), [0, 1]), 4)
    0.6931
    >>> nll(np.array([[1.0, 0.0]]), [1], temperature=0)
    inf
    """
    inputs = as_inputs(logits, labels, temperature, weights)
    return weighted_mean(row_statistics(inputs).nll, inputs.weights)


def brier(logits: Array, labels: Array, temperature: Any = 1.0, *, weights: Array | None = None) -> float:
    """Mean over rows of the sum over classes of (p_k - y_k)^2, with y the one-hot label.

    The range is 0 to 2, as in Brier's paper: for two classes it is twice the score of the positive class alone.

    Limits: T = 0 gives twice the error rate where no logits tie; T = inf gives 1 - 1/classes where all are allowed.

    Parameters and errors are those of `accuracy`.

    Returns
    -------
    float
        Between 0 and 2.

    References
    ----------
    Brier (1950), Verification of forecasts expressed in terms of probability.

    Examples
    --------
    >>> import numpy as np
    >>> brier(np.array([[0.0, 0.0]]), [0])
    0.5
    >>> brier(np.array([[3.0, 0.0]]), [1], temperature=0)
    2.0
    """
    inputs = as_inputs(logits, labels, temperature, weights)
    return weighted_mean(row_statistics(inputs).brier, inputs.weights)


def expected_calibration_error(
    logits: Array,
    labels: Array,
    temperature: Any = 1.0,
    *,
    bins: int = 15,
    binning: str = "equal_width",
    weights: Array | None = None,
) -> float:
    """ECE of the top label: the mean over bins, by weight, of |accuracy - mean confidence|.

    Bins are right-closed, (0, 1/15], (1/15, 2/15], ..., so that a confidence of exactly 1 is in the last one.
    Equal-mass bins never part rows of equal confidence: the result does not depend on the order of the rows, and ties
    may leave fewer bins. With few rows a bin the estimate is biased upward; `evaluate` gives an interval.

    Limits: T = 0 gives the error rate where no logits tie; T = inf gives |accuracy - 1/classes| where all are allowed.

    Parameters
    ----------
    logits, labels, temperature, weights
        As for `accuracy`.
    bins : int
        Number of bins, 1 to 1000.
    binning : {"equal_width", "equal_mass"}
        Bins of equal width, or bins that hold equal weights of rows.

    Returns
    -------
    float
        Between 0 and 1.

    Raises
    ------
    TypeError, ValueError
        As for `accuracy`; `bins` out of range; another `binning`.

    References
    ----------
    Naeini et al. (2015), Obtaining well calibrated probabilities using Bayesian binning; Guo et al. (2017), eq. 3;
    Nixon et al. (2019), Measuring calibration in deep learning, section 3 for equal mass.

    Examples
    --------
    >>> import numpy as np
    >>> expected_calibration_error(np.array([[0.0, 0.0], [0.0, 0.0]]), [0, 0])
    0.5
    """
    mass, gap = _top_label_sums(logits, labels, temperature, bins, binning, weights)
    return float(expected_error(mass, gap))


def maximum_calibration_error(
    logits: Array,
    labels: Array,
    temperature: Any = 1.0,
    *,
    bins: int = 15,
    binning: str = "equal_width",
    weights: Array | None = None,
) -> float:
    """MCE of the top label: the largest |accuracy - mean confidence| of a bin that is not empty.

    One row alone in its bin decides it: read it beside the counts of `reliability`, or with equal-mass bins.

    Parameters, limits and errors are those of `expected_calibration_error`.

    Returns
    -------
    float
        Between 0 and 1.

    References
    ----------
    Naeini et al. (2015); Guo et al. (2017), eq. 5.

    Examples
    --------
    >>> import numpy as np
    >>> maximum_calibration_error(np.array([[0.0, 0.0], [9e9, 0.0]]), [0, 0])
    0.5
    """
    mass, gap = _top_label_sums(logits, labels, temperature, bins, binning, weights)
    return float(largest_error(mass, gap))


def _top_label_sums(
    logits: Array, labels: Array, temperature: Any, bins: int, binning: str, weights: Array | None
) -> tuple[np.ndarray, np.ndarray]:
    bins, binning = as_bins(bins), as_binning(binning)
    inputs = as_inputs(logits, labels, temperature, weights)
    rows = row_statistics(inputs)
    edges = bin_edges(rows.confidence, inputs.weights, bins, binning)
    gaps = inputs.weights * (rows.confidence - rows.correct)
    mass, gap = bin_sums(bin_index(rows.confidence, edges), len(edges) - 1, inputs.weights, gaps)
    return mass, gap
