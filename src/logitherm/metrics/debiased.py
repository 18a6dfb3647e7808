"""L2 calibration error without the bias that the noise of the labels adds to squared gaps."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from logitherm._array import Array
from logitherm.metrics.binning import bin_edges, bin_index, bin_sums, per_mass
from logitherm.metrics.bootstrap import draw_counts, interval, resampled_sums
from logitherm.metrics.options import as_binning, as_bins, as_level, as_replicates
from logitherm.metrics.rows import Inputs, as_inputs, probabilities, row_blocks, row_statistics, scaled_weights
from logitherm.metrics.score import Score

FORMS = ("top_label", "marginal")
NOISES = ("residuals", "labels")
HELD_VALUES = 1 << 22  # probabilities, or random weights, held at a time: 32 MB
MARGINAL_WORK = 10**8  # multiplications of the bootstrap of the marginal form
MARGINAL_LEAST = 100  # replicates


def debiased_calibration_error(
    logits: Array,
    labels: Array,
    temperature: Any = 1.0,
    *,
    form: str = "top_label",
    bins: int = 15,
    binning: str = "equal_mass",
    noise: str = "residuals",
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

    The marginal form treats each class as a yes-or-no forecast with bins of its own, and averages the squares over
    classes before the root; uncertainty-calibration cuts each class off at 0 first, which brings bias back.

    Weights are not copies here, for copies of a row are not independent: a bin has (sum w)^2 / (sum w^2) equal rows.
    The interval is the percentile interval of the Poisson bootstrap of the mean square, bins kept, moved to have the
    estimate as its mean, cut off at 0; then the root. It holds 0 where the mean square may be 0.

    Limits: T = 0 gives the error rate, T = inf |accuracy - 1/classes|, where no logits tie and all are allowed, both
    less the variance of the accuracy in squares.

    Parameters
    ----------
    logits, labels, temperature, weights
        As for `accuracy`.
    form : {"top_label", "marginal"}
        Confidence of the prediction, or every class.
    bins, binning
        As for `expected_calibration_error`, but equal mass by default.
    noise : {"residuals", "labels"}
        Whose variance comes off.
    bootstrap, confidence, seed
        As for `evaluate`; 0 replicates leave the interval NaN. The marginal form takes fewer, though not below 100,
        where replicates * rows * classes exceeds 1e8.

    Returns
    -------
    Score
        `value`, `low`, `high` between 0 and 1.

    Raises
    ------
    TypeError, ValueError
        As for `evaluate`; another `form`, `binning` or `noise`.

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
    if form not in FORMS:
        raise ValueError(f"form: must be one of {FORMS}; got {form!r}; give one of them")
    if noise not in NOISES:
        raise ValueError(f"noise: must be one of {NOISES}; got {noise!r}; give one of them")
    bins, binning = as_bins(bins), as_binning(binning)
    replicates, level = as_replicates(bootstrap), as_level(confidence)
    rng = np.random.default_rng(seed)
    inputs = scaled_weights(as_inputs(logits, labels, temperature, weights))
    if form == "top_label":
        square, resampled = _top_label(inputs, bins, binning, noise, replicates, rng)
    else:
        square, resampled = _marginal(inputs, bins, binning, noise, replicates, rng)
    moved = resampled + (square - resampled.mean()) if len(resampled) else resampled
    low, high = interval(square, moved, level)
    return Score(*(math.sqrt(max(x, 0.0)) if not math.isnan(x) else x for x in (square, low, high)))


def debiased_square(mass: np.ndarray, squares: np.ndarray, mean_gap: np.ndarray, variance: np.ndarray) -> float:
    """Mean over bins of the debiased square, from each bin's sums of w and w^2, mean gap and variance of one row."""
    several = _several(mass, squares)
    m, s, g, v = (column[several] for column in (mass, squares, mean_gap, variance))
    return float((m * (g * g - v * s / (m * m - s))).sum() / mass.sum())


def _several(mass: np.ndarray, squares: np.ndarray) -> np.ndarray:
    """Bins of more than one row."""
    return np.asarray(mass**2 - squares > 1e-12 * mass**2)


def _plain_squares(mass: np.ndarray, gap: np.ndarray, several: np.ndarray) -> np.ndarray:
    """Mean squares of replicates, (bins, replicates): the bias is a constant that goes when they are moved."""
    squares = np.divide(gap * gap, mass, out=np.zeros_like(gap), where=(mass > 0) & several[:, None])
    return np.asarray(squares.sum(axis=0))


def _top_label(
    inputs: Inputs, bins: int, binning: str, noise: str, replicates: int, rng: np.random.Generator
) -> tuple[float, np.ndarray]:
    rows = row_statistics(inputs)
    edges = bin_edges(rows.confidence, inputs.weights, bins, binning)
    index = bin_index(rows.confidence, edges)
    residual = rows.confidence - rows.correct
    sums = _bins(index, len(edges) - 1, inputs.weights, rows.correct, residual, noise)
    square = debiased_square(*sums)
    order = np.argsort(index, kind="stable")
    starts = np.flatnonzero(np.append(True, np.diff(index[order]) > 0))
    columns = np.stack([inputs.weights, inputs.weights * residual], axis=1)[order]
    drawn = resampled_sums(columns, starts, replicates, rng)
    # the normal draws of long runs can fall below 0 only where a few rows hold nearly all weight
    mass = np.maximum(drawn[:, 0], 0.0)
    total = mass.sum(axis=0)
    several = _several(*sums[:2])[index[order[starts]]]
    said = total > 0
    return square, _plain_squares(mass[:, said], drawn[:, 1][:, said], several) / total[said]


def _bins(
    index: np.ndarray, bins: int, weights: np.ndarray, correct: np.ndarray, residual: np.ndarray, noise: str
) -> tuple[np.ndarray, ...]:
    """What `debiased_square` takes."""
    columns = (weights, weights * weights, weights * residual, weights * residual**2, weights * correct)
    mass, squares, gap, second, right = bin_sums(index, bins, *columns)
    mean, rate = per_mass(gap, mass, empty=0.0), per_mass(right, mass, empty=0.0)
    variance = rate * (1 - rate) if noise == "labels" else np.maximum(per_mass(second, mass, empty=0.0) - mean**2, 0.0)
    return mass, squares, mean, variance


def _marginal(
    inputs: Inputs, bins: int, binning: str, noise: str, replicates: int, rng: np.random.Generator
) -> tuple[float, np.ndarray]:
    n, classes = inputs.logits.shape
    replicates = min(replicates, max(MARGINAL_LEAST, MARGINAL_WORK // (n * classes)))
    state = int(rng.integers(2**63))  # every group of classes sees the same resampled rows
    square, resampled, total = 0.0, np.zeros(replicates), np.zeros(replicates)
    for some, p in _class_columns(inputs):
        again = np.random.default_rng(state)
        index, several = np.empty(p.shape, dtype=np.int64), []
        offset = 0
        for j, k in enumerate(range(some.start, some.stop)):
            hit = (inputs.labels == k).astype(np.float64)
            edges = bin_edges(p[:, j], inputs.weights, bins, binning)
            index[:, j] = bin_index(p[:, j], edges)
            p[:, j] -= hit
            sums = _bins(index[:, j], len(edges) - 1, inputs.weights, hit, p[:, j], noise)
            square += debiased_square(*sums) / classes
            several.append(_several(*sums[:2]))
            index[:, j] += offset
            offset += len(edges) - 1
        if replicates:
            plain, total = _marginal_replicates(index, p, inputs.weights, np.concatenate(several), replicates, again)
            resampled += plain / classes
    said = total > 0
    return square, resampled[said] / total[said]


def _marginal_replicates(
    index: np.ndarray,
    residual: np.ndarray,
    weights: np.ndarray,
    several: np.ndarray,
    replicates: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Sums over the bins of these classes of gap^2 / mass, and the weight of all rows, of each replicate."""
    from scipy.sparse import csr_array

    n, classes = residual.shape
    pointer = np.arange(0, n * classes + 1, classes)
    shape = n, len(several)
    gaps = csr_array((residual.ravel(), index.ravel(), pointer), shape=shape).T.tocsr()
    members = csr_array((np.ones(n * classes), index.ravel(), pointer), shape=shape).T.tocsr()
    plain, total = [], []
    step = max(1, HELD_VALUES // max(n, len(several)))
    for start in range(0, replicates, step):
        counts = draw_counts(rng, n, min(step, replicates - start)) * weights[:, None]
        plain.append(_plain_squares(members @ counts, gaps @ counts, several))
        total.append(counts.sum(axis=0))
    return np.concatenate(plain), np.concatenate(total)


def _class_columns(inputs: Inputs) -> Iterator[tuple[slice, np.ndarray]]:
    """All rows of some classes at a time: bins of equal mass need them all, and memory does not grow with classes."""
    n, classes = inputs.logits.shape
    step = max(1, min(classes, HELD_VALUES // n))
    for first in range(0, classes, step):
        some = slice(first, min(first + step, classes))
        parts = [probabilities(block)[:, some] for block in row_blocks(inputs)]
        yield some, np.concatenate(parts)
