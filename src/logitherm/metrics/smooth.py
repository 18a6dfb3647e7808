"""Smooth calibration error: no bins, and a bandwidth that the rows choose."""

from __future__ import annotations

from typing import Any

import numpy as np

from logitherm._array import Array
from logitherm.metrics.bootstrap import interval
from logitherm.metrics.one_vs_rest import affordable, bin_matrix, class_columns, resampled_weights, with_weight
from logitherm.metrics.options import as_bandwidth, as_kind, as_level, as_replicates
from logitherm.metrics.rows import Inputs, Rows, as_inputs, row_statistics
from logitherm.metrics.score import Score
from logitherm.metrics.smoothing import Grid, Points, error_at, fixed_point, replicate_errors, resampled_errors


def smooth_calibration_error(
    logits: Array,
    labels: Array,
    temperature: Any = 1.0,
    *,
    kind: str = "top_label",
    bandwidth: float | None = None,
    bootstrap: int = 1000,
    confidence: float = 0.95,
    seed: int | np.random.Generator = 0,
    weights: Array | None = None,
) -> Score:
    """Smooth ECE: the integral over [0, 1] of the absolute smoothed (confidence - correct).

    The kernel is a Gaussian reflected at 0 and 1. Without `bandwidth` it is the fixed point sigma at which
    smECE_sigma = sigma, so no bins and no parameter are left, and the value moves continuously with the logits. It is
    at least |mean confidence - accuracy|, which it equals where the smoothed residual keeps one sign.

    The value is within 2e-6 of its definition, unless the bandwidth is below 1e-4 of the span of the confidences.
    (relplot 1.0.3 counts rows of confidence 1 by half, those within 1/1000 of it in part; it differs on sharp models.)

    The class-wise form is the mean over classes of the error of p_k as a yes-or-no forecast, each with a bandwidth of
    its own; the marginal form of an absolute error is the same.

    The interval is the percentile interval of the Poisson bootstrap moved to have the value as its mean, as for the
    calibration errors of `evaluate`: it covers the expectation of the estimate for this number of rows, which exceeds
    0 even for a calibrated model (by about n^(-1/3): 0.044 of 300 rows, 0.023 of 2000). Rows are binned to a quarter of
    a bandwidth for it, and weights within a bin count as equal ones of the same variance. Every replicate finds its own
    bandwidth: in a simulation (10 classes, 300 and 2000 rows, overconfident by T = 1 to 2.5) intervals of 95 % then
    held the expectation in 93 to 100 % of the samples. With the bandwidth of the sample they did in 94 to 100 %, but
    were up to 46 % wider near calibration, 1.8 times as wide as the estimate spreads.

    Limits: T = 0 gives the error rate where no logits tie (class-wise, at most 2/classes times that, as residuals at 0
    and 1 may meet); T = inf gives |accuracy - 1/classes| where all are allowed (class-wise, the mean of
    |frequency of k - 1/classes|).

    Parameters
    ----------
    logits, labels, temperature, bootstrap, confidence, seed, weights
        As for `evaluate`. The class-wise form takes fewer replicates, though not below 100, where
        replicates * rows * classes exceeds 1e8.
    kind : {"top_label", "class_wise", "marginal"}
        Calibration of the prediction, or of every class.
    bandwidth : float, optional
        Of the kernel, above 0 and at most 1, in units of confidence; the fixed point unless given.

    Returns
    -------
    Score
        `value`, between 0 and 1 (of the top label also the bandwidth, where none was given), `low` and `high`.

    Raises
    ------
    TypeError, ValueError
        As for `evaluate`; another `kind`; a bandwidth outside (0, 1].

    References
    ----------
    Blasiok & Nakkiran (2023), Smooth ECE: principled reliability diagrams via kernel smoothing. Kumar, Liang & Ma
    (2019), Verified uncertainty calibration, definition 2.4, for the marginal form.

    Examples
    --------
    >>> import numpy as np
    >>> z = np.log([[0.9, 0.1], [0.6, 0.4], [0.7, 0.3]])
    >>> score = smooth_calibration_error(z, [0, 1, 0], bootstrap=200)
    >>> round(score.value, 4), score.low < score.value < score.high
    (0.1392, True)
    """
    kind, width = as_kind(kind), as_bandwidth(bandwidth, 1.0)
    replicates, level = as_replicates(bootstrap), as_level(confidence)
    rng = np.random.default_rng(seed)
    inputs = as_inputs(logits, labels, temperature, weights)
    if kind == "top_label":
        return smooth_score(row_statistics(inputs), inputs.weights, replicates, level, rng, width)
    value, resampled = _class_wise(inputs, width, affordable(inputs, replicates), rng)
    return Score(value, *interval(value, resampled, level, recentre=True))


def smooth_score(
    rows: Rows,
    weights: np.ndarray,
    replicates: int,
    level: float,
    rng: np.random.Generator,
    bandwidth: float | None = None,
) -> Score:
    """The smooth error of the top label, from the statistics of rows."""
    share = weights / weights.sum()
    counted = share > 0
    points = Points(rows.confidence[counted], rows.correct[counted], share[counted])
    value = _value(points, bandwidth)
    resampled = replicate_errors(points, _width(value, bandwidth), bandwidth is None, replicates, rng)
    return Score(value, *interval(value, resampled, level, recentre=True))


def _value(points: Points, bandwidth: float | None) -> float:
    return min(fixed_point(points) if bandwidth is None else error_at(points, bandwidth)[0], 1.0)


def _width(value: float, bandwidth: float | None) -> float:
    return value if bandwidth is None else bandwidth


def _class_wise(
    inputs: Inputs, bandwidth: float | None, replicates: int, rng: np.random.Generator
) -> tuple[float, np.ndarray]:
    inputs = with_weight(inputs)
    share = inputs.weights / inputs.weights.sum()
    state = int(rng.integers(2**63))  # every group of classes sees the same resampled rows
    values, sums, total = [], np.zeros(replicates), np.zeros(replicates)
    for some, p in class_columns(inputs):
        hits = inputs.labels[:, None] == np.arange(some.start, some.stop)
        classes = [Points(p[:, j], hits[:, j].astype(np.float64), share) for j in range(p.shape[1])]
        found = [_value(points, bandwidth) for points in classes]
        values += found
        grids = [Grid.of(points.confidence, _width(value, bandwidth)) for points, value in zip(classes, found)]
        matrices = [_cell_gaps(points, grid) for points, grid in zip(classes, grids)] if replicates else []
        done = 0
        for drawn in resampled_weights(inputs, replicates, state):
            now = slice(done, done + drawn.shape[1])
            total[now] = drawn.sum(axis=0)
            for gaps, grid in zip(matrices, grids):
                mean = (gaps @ drawn).T / np.maximum(total[now], np.finfo(np.float64).tiny)[:, None]
                sums[now] += resampled_errors(mean, grid, bandwidth is None)
            done = now.stop
    return float(np.mean(values)), sums[total > 0] / inputs.logits.shape[1]


def _cell_gaps(points: Points, grid: Grid) -> Any:
    """What takes weights of rows to sums of confidence - correct over the cells."""
    return bin_matrix(grid.place[:, None], (points.confidence - points.correct)[:, None], grid.cells)
