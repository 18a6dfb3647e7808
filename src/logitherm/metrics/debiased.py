"""L2 calibration error without the bias that the noise of the labels adds to squared gaps."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from logitherm._array import Array
from logitherm.metrics.analytic import normal_reach
from logitherm.metrics.binning import bin_edges, bin_index, bin_sums, per_mass
from logitherm.metrics.bootstrap import interval as percentiles
from logitherm.metrics.bootstrap import resampled_sums, runs
from logitherm.metrics.one_vs_rest import affordable, bin_matrix, class_columns, forecasts, resampled_weights
from logitherm.metrics.options import (
    INTERVALS,
    as_binning,
    as_bins,
    as_choice,
    as_kind,
    as_level,
    as_replicates,
)
from logitherm.metrics.rows import Inputs, as_inputs, row_statistics, scaled_weights
from logitherm.metrics.score import Score

NOISES = ("residuals", "labels")


def debiased_calibration_error(
    logits: Array,
    labels: Array,
    temperature: Any = 1.0,
    *,
    kind: str = "top_label",
    bins: int = 15,
    binning: str = "equal_mass",
    noise: str = "residuals",
    interval: str = "bootstrap",
    bootstrap: int = 1000,
    confidence: float = 0.95,
    seed: int | np.random.Generator = 0,
    weights: Array | None = None,
) -> Score:
    """Root of the debiased mean over bins of (mean confidence - accuracy)^2.

    From the square of each bin goes the variance of its mean residual, as the residuals (confidence - correct) of its
    rows show it: for bins given beforehand the mean square is then unbiased, where the plain one never vanishes, even
    for a calibrated model. With `noise="labels"` it is the published a (1 - a) / (n - 1) of the accuracy a, which is
    the same where a bin has one confidence, as of a recalibrator that bins; where confidences within a bin differ, as
    in the marginal form of a sharp model, it takes off too much and the result is too small. A negative mean square is
    a value of 0. Binned errors are below those of the confidences themselves. A bin of one row counts as 0.

    Class-wise and marginal forms treat each class as a yes-or-no forecast with bins of its own. The marginal form
    averages the squares over classes before the root, and is the published one; uncertainty-calibration cuts each
    class off at 0 first, which brings bias back. The class-wise form is the mean over classes of the roots, each cut
    off at 0: it has that bias too.

    Weights are not copies here, for copies of a row are not independent: a bin has (sum w)^2 / (sum w^2) equal rows.
    The interval is the percentile interval of the Poisson bootstrap of the mean square, bins kept, moved to have the
    estimate as its mean, cut off at 0; then the root. It holds 0 where the mean square may be 0. That of the class-wise
    form is moved class by class, and then as a whole.

    `interval="analytic"` draws nothing: it is normal about the mean square, with the variance of its first-order
    expansion in the rows, and at least that of the noise of the bins alone, which is what a calibrated model has. The
    class-wise form has none, as a root has no slope at 0.

    Limits: T = 0 gives the error rate, T = inf |accuracy - 1/classes|, where no logits tie and all are allowed, both
    less the variance of the accuracy in squares.

    Parameters
    ----------
    logits, labels, temperature, bootstrap, confidence, seed, weights
        As for `evaluate`. The forms of every class take fewer replicates, though not below 100, where
        replicates * rows * classes exceeds 1e8.
    kind : {"top_label", "class_wise", "marginal"}
        Calibration of the prediction, or of every class.
    bins, binning
        As for `expected_calibration_error`, but equal mass by default.
    noise : {"residuals", "labels"}
        Whose variance comes off.
    interval : {"bootstrap", "analytic"}
        Where the interval comes from.

    Returns
    -------
    Score
        `value`, `low`, `high` between 0 and 1.

    Raises
    ------
    TypeError, ValueError
        As for `evaluate`; another `kind`, `binning` or `noise`; a class-wise analytic interval.

    References
    ----------
    Kumar, Liang & Ma (2019), Verified uncertainty calibration, section 5 (debiased estimator) and definition 2.4
    (marginal calibration error).

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> z = rng.normal(size=(2000, 3))
    >>> y = (z + rng.gumbel(size=z.shape)).argmax(axis=1)
    >>> for t in (1, 0.5):
    ...     error = debiased_calibration_error(z, y, t, bootstrap=200)
    ...     print(round(error.value, 3), round(error.low, 3), round(error.high, 3))
    0.028 0.0 0.056
    0.148 0.127 0.168
    """
    kind, binning = as_kind(kind), as_binning(binning)
    noise, interval = as_choice(noise, "noise", NOISES), as_choice(interval, "interval", INTERVALS)
    if interval == "analytic" and kind == "class_wise":
        raise ValueError(
            'interval: must be "bootstrap" for kind="class_wise"; got "analytic"; give that, or "marginal"'
        )
    bins, replicates, level = as_bins(bins), as_replicates(bootstrap), as_level(confidence)
    rng = np.random.default_rng(seed)
    inputs = scaled_weights(as_inputs(logits, labels, temperature, weights))
    if interval == "analytic":
        return _normal(inputs, kind, bins, binning, noise, level)
    if kind == "top_label":
        square, resampled = _top_label(inputs, bins, binning, noise, replicates, rng)
    else:
        squares, drawn = _class_wise(inputs, bins, binning, noise, affordable(inputs, replicates), rng)
        if kind == "class_wise":
            roots = np.sqrt(np.maximum(_moved(squares[:, None], drawn), 0.0)).mean(axis=0)
            value = float(np.sqrt(np.maximum(squares, 0.0)).mean())
            return Score(value, *percentiles(value, roots, level, recentre=True))
        square, resampled = float(squares.mean()), drawn.mean(axis=0)
    return _root(square, *percentiles(square, _moved(square, resampled), level))


def _moved(square: Any, resampled: np.ndarray) -> np.ndarray:
    """The bias of plain squares is a constant: it goes when the replicates get the estimate as their mean."""
    return resampled + (square - resampled.mean(axis=-1, keepdims=True)) if resampled.size else resampled


def _root(*squares: float) -> Score:
    return Score(*(math.sqrt(max(x, 0.0)) if not math.isnan(x) else x for x in squares))


def debiased_square(mass: np.ndarray, squares: np.ndarray, mean_gap: np.ndarray, variance: np.ndarray) -> float:
    """Mean over bins of the debiased square, from each bin's sums of w and w^2, mean gap and variance of one row."""
    several = _several(mass, squares)
    m, s, g, v = (column[several] for column in (mass, squares, mean_gap, variance))
    return float((m * (g * g - v * s / (m * m - s))).sum() / mass.sum())


def _several(mass: np.ndarray, squares: np.ndarray) -> np.ndarray:
    """Bins of more than one row."""
    return np.asarray(mass**2 - squares > 1e-12 * mass**2)


def _plain_squares(mass: np.ndarray, gap: np.ndarray, several: np.ndarray) -> np.ndarray:
    """The squares of the bins by their mass, (bins, replicates), biased."""
    return np.divide(gap * gap, mass, out=np.zeros_like(gap), where=(mass > 0) & several[:, None])


def _top_label(
    inputs: Inputs, bins: int, binning: str, noise: str, replicates: int, rng: np.random.Generator
) -> tuple[float, np.ndarray]:
    rows = row_statistics(inputs)
    edges = bin_edges(rows.confidence, inputs.weights, bins, binning)
    index = bin_index(rows.confidence, edges)
    residual = rows.confidence - rows.correct
    sums = _bins(index, len(edges) - 1, inputs.weights, rows.correct, residual, noise)
    square = debiased_square(*sums)
    order, starts = runs(index)
    columns = np.stack([inputs.weights, inputs.weights * residual], axis=1)[order]
    drawn = resampled_sums(columns, starts, replicates, rng)
    # the normal draws of long runs can fall below 0 only where a few rows hold nearly all weight
    mass = np.maximum(drawn[:, 0], 0.0)
    total = mass.sum(axis=0)
    several = _several(*sums[:2])[index[order[starts]]]
    said = total > 0
    return square, _plain_squares(mass[:, said], drawn[:, 1][:, said], several).sum(axis=0) / total[said]


def _bins(
    index: np.ndarray, bins: int, weights: np.ndarray, correct: np.ndarray, residual: np.ndarray, noise: str
) -> tuple[np.ndarray, ...]:
    """What `debiased_square` takes."""
    columns = (weights, weights * weights, weights * residual, weights * residual**2, weights * correct)
    mass, squares, gap, second, right = bin_sums(index, bins, *columns)
    mean, rate = per_mass(gap, mass, empty=0.0), per_mass(right, mass, empty=0.0)
    variance = rate * (1 - rate) if noise == "labels" else np.maximum(per_mass(second, mass, empty=0.0) - mean**2, 0.0)
    return mass, squares, mean, variance


def _class_wise(
    inputs: Inputs, bins: int, binning: str, noise: str, replicates: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """The square of each class, and plain squares of replicates, (classes, replicates)."""
    classes = inputs.logits.shape[1]
    state = int(rng.integers(2**63))  # every group of classes sees the same resampled rows
    squares, drawn, total = np.zeros(classes), np.zeros((classes, replicates)), np.ones(replicates)
    for some, p in class_columns(inputs):
        index, several, firsts = np.empty(p.shape, dtype=np.int64), [], []
        offset = 0
        for j, k in enumerate(range(some.start, some.stop)):
            edges = bin_edges(p[:, j], inputs.weights, bins, binning)
            hit = (inputs.labels == k).astype(np.float64)
            index[:, j] = bin_index(p[:, j], edges)
            p[:, j] -= hit
            sums = _bins(index[:, j], len(edges) - 1, inputs.weights, hit, p[:, j], noise)
            squares[k] = debiased_square(*sums)
            several.append(_several(*sums[:2]))
            index[:, j] += offset
            firsts.append(offset)
            offset += len(edges) - 1
        if not replicates:
            continue
        gaps, members = bin_matrix(index, p, offset), bin_matrix(index, np.ones(p.shape), offset)
        found, masses = [], []
        for weights in resampled_weights(inputs, replicates, state, offset):
            plain = _plain_squares(members @ weights, gaps @ weights, np.concatenate(several))
            found.append(np.add.reduceat(plain, firsts, axis=0))
            masses.append(weights.sum(axis=0))
        drawn[some], total = np.concatenate(found, axis=1), np.concatenate(masses)
    said = total > 0
    return squares, drawn[:, said] / total[said]


def _normal(inputs: Inputs, kind: str, bins: int, binning: str, noise: str, level: float) -> Score:
    """The normal interval of the mean square, whose rows add up over classes as they are the same rows."""
    if kind == "top_label":
        rows = row_statistics(inputs)
        said: Iterable[tuple[np.ndarray, np.ndarray]] = [(rows.confidence, rows.correct)]
        count = 1
    else:
        said, count = forecasts(inputs), inputs.logits.shape[1]
    share = inputs.weights / inputs.weights.sum()
    square, influence, noises = 0.0, np.zeros(len(share)), []
    for p, hit in said:
        edges = bin_edges(p, inputs.weights, bins, binning)
        index = bin_index(p, edges)
        sums = _bins(index, len(edges) - 1, inputs.weights, hit, p - hit, noise)
        mass, squares, gap, variance = sums
        several = _several(mass, squares)
        off = np.divide(variance * squares, mass**2 - squares, out=np.zeros_like(mass), where=several)
        each = np.where(several, gap * gap - off, 0.0)
        found = debiased_square(*sums)
        slope = np.where(several, 2 * gap, 0.0)
        influence += share * (slope[index] * (p - hit - gap[index]) + each[index] - found) / count
        noises.append(2 * float(((mass / mass.sum()) ** 2) @ (off * off)) / count**2)
        square += found / count
    # plug-in squares of the gaps hold the noise of the bins twice; that of the classes may go together
    spread = float(influence @ influence) - sum(noises)
    error = math.sqrt(max(spread, float(np.sqrt(noises).sum()) ** 2))
    reach = normal_reach(level) * error
    return _root(square, square - reach, square + reach)
