"""Kernel calibration error of whole probability vectors, and the test that a model is calibrated.

Pairs of rows are visited in blocks, each pair once; where rows times classes are many, probabilities are computed again
for each block, so that neither n x n nor n x classes numbers are held.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from logitherm._array import Array
from logitherm.metrics.analytic import normal_reach
from logitherm.metrics.one_vs_rest import require_sound, with_weight
from logitherm.metrics.options import as_bandwidth, as_choice, as_level, as_replicates, finite_or_none
from logitherm.metrics.rows import Inputs, as_inputs, probabilities, row_blocks, scaled_weights

ESTIMATORS = ("quadratic", "linear")
KERNELS = ("laplacian", "total_variation")
BLOCK_ROWS = 512  # a megabyte of float32 pairs, which stays in the cache
BLOCK_VALUES = 1 << 21  # probabilities of a block: 16 MB
BANDWIDTH_ROWS = 1000
HELD_VALUES = 1 << 22  # probabilities kept from one block to the next: 32 MB
EXACT_ROWS = 2048  # with more, pairs are float32: twice as fast, and as good as float64 to 1e-7


@dataclass(frozen=True)
class KernelError:
    """The squared kernel calibration error, its interval and the test that it is 0."""

    value: float  # unbiased, so it may be negative
    low: float
    high: float
    p_value: float  # one-sided: of a calibrated model; NaN where it cannot be had
    bandwidth: float
    estimator: str

    def to_dict(self) -> dict[str, Any]:
        """For JSON: NaN is None."""
        return {name: finite_or_none(v) if isinstance(v, float) else v for name, v in vars(self).items()}


def kernel_calibration_error(
    logits: Array,
    labels: Array,
    temperature: Any = 1.0,
    *,
    estimator: str = "quadratic",
    kernel: str = "laplacian",
    bandwidth: float | None = None,
    bootstrap: int = 1000,
    confidence: float = 0.95,
    seed: int | np.random.Generator = 0,
    weights: Array | None = None,
) -> KernelError:
    """Squared kernel calibration error (SKCE) of all probabilities at once, unbiased, with a test of calibration.

    The mean over pairs of rows of k(p, p') (y - p) . (y' - p'), with one-hot labels y: 0 on average if and only if
    the probabilities are calibrated in the strongest sense, every vector among all rows that got it.

    `"quadratic"` takes all pairs, at a cost of n^2 (classes + bootstrap) and n * bootstrap bytes (of more than 2048
    rows in float32, with sums of blocks in float64: the value is that of float64 to 1e-7); its p-value is that
    of a wild bootstrap (random signs of the rows; valid where the statistic is degenerate, as it is for a calibrated
    model), at least 1/(bootstrap + 1), and its interval is normal with the variance of a U-statistic, floored at 0.
    `"linear"` takes the pairs of rows (0, 1), (2, 3), ... as they come, so rows must not be sorted; its interval and
    p-value are normal, for many rows, and its power is far lower. Rows must be independent.

    Limits: one row (or one pair for `"linear"`'s spread) leaves NaN, and so do weights of which all but one are nothing
    to the largest; one class gives 0 and p-value 1. T = 0 and T = inf are no exception.

    Parameters
    ----------
    logits, labels, temperature, confidence
        As for `evaluate`.
    estimator : {"quadratic", "linear"}
        All pairs, or n / 2 of them.
    kernel : {"laplacian", "total_variation"}
        exp(-d / bandwidth) of the Euclidean distance, or of the total variation, half the sum of |p - p'|, which is
        slower with many classes.
    bandwidth : float, optional
        Above 0; the median distance of at most 1000 rows unless given (1 if that is 0).
    bootstrap, seed
        Random signs of the quadratic test; 0 leaves its p-value NaN.
    weights : array, shape (...), optional
        A pair weighs the product of its rows' weights; a row is never paired with itself, so weights are not copies.

    Returns
    -------
    KernelError
        `value`, `low`, `high`, `p_value`, `bandwidth`, `estimator`; `to_dict()` for JSON.

    Raises
    ------
    TypeError, ValueError
        As for `evaluate`; another `estimator` or `kernel`; a bandwidth that is not positive and finite.

    References
    ----------
    Widmann, Lindsten & Zachariah (2019), Calibration tests in multi-class classification: a unifying framework,
    table 1 (SKCE_uq, SKCE_ul) and section 5; Arcones & Gine (1992) and Dehling & Mikosch (1994) on the bootstrap of
    degenerate U-statistics; Serfling (1980), section 5.2, for the variance.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> z = rng.normal(size=(500, 3))
    >>> y = (z + rng.gumbel(size=z.shape)).argmax(axis=1)
    >>> for t in (1, 0.4):
    ...     error = kernel_calibration_error(z, y, t, bootstrap=199)
    ...     print(round(error.value, 4), error.p_value)
    -0.0003 0.675
    0.0082 0.005
    """
    estimator, kernel = as_choice(estimator, "estimator", ESTIMATORS), as_choice(kernel, "kernel", KERNELS)
    replicates, level = as_replicates(bootstrap), as_level(confidence)
    given = as_bandwidth(bandwidth)
    rng = np.random.default_rng(seed)
    inputs = scaled_weights(as_inputs(logits, labels, temperature, weights))
    require_sound(inputs)
    inputs = with_weight(inputs)
    width = _median_distance(inputs, kernel) if given is None else given
    if estimator == "linear":
        value, error, p_value = _linear(inputs, kernel, width)
    else:
        value, error, p_value = _quadratic(inputs, kernel, width, replicates, rng)
    reach = normal_reach(level) * error
    # an expectation of a square is never negative, though its estimate can be
    low = value - reach if estimator == "linear" else min(max(value - reach, 0.0), value)
    return KernelError(value, low, value + reach, p_value, width, estimator)


class _Part(NamedTuple):
    p: np.ndarray
    residual: np.ndarray  # one-hot label - p
    weights: np.ndarray


def _part(inputs: Inputs, rows: slice) -> _Part:
    some = inputs._replace(
        logits=inputs.logits[rows, :],
        labels=inputs.labels[rows],
        temperature=inputs.temperature[rows],
        weights=inputs.weights[rows],
        batch_shape=(len(inputs.labels[rows]),),
    )
    p = np.concatenate([probabilities(block) for block in row_blocks(some)])
    residual = -p
    residual[np.arange(len(p)), some.labels] += 1
    return _Part(p, residual, some.weights)


def _parts(inputs: Inputs) -> list[slice]:
    n, classes = inputs.logits.shape
    step = max(1, min(BLOCK_ROWS, BLOCK_VALUES // classes))
    return [slice(first, min(first + step, n)) for first in range(0, n, step)]


def _distances(a: np.ndarray, b: np.ndarray, kernel: str, precision: Any = np.float64) -> np.ndarray:
    if kernel == "total_variation":
        from scipy.spatial.distance import cdist

        return np.asarray(cdist(a, b, "cityblock") / 2, dtype=precision)
    # squares in float64, in which they cancel to 1e-16, and |a|^2 + |b|^2 - 2 ab in one product
    left = np.column_stack([-2 * a, np.einsum("nk,nk->n", a, a), np.ones(len(a))])
    right = np.column_stack([b, np.ones(len(b)), np.einsum("nk,nk->n", b, b)])
    squares = np.empty((len(a), len(b)), dtype=precision)
    np.maximum(left @ right.T, 0.0, out=squares, casting="same_kind")
    return np.asarray(np.sqrt(squares, out=squares))


def _pairs(a: _Part, b: _Part, kernel: str, width: float, precision: Any = np.float64) -> np.ndarray:
    """The statistic of every pair of a row of `a` and one of `b`, not weighted."""
    values = _distances(a.p, b.p, kernel, precision)
    values *= -1 / width
    np.exp(values, out=values)
    values *= a.residual.astype(precision, copy=False) @ b.residual.astype(precision, copy=False).T
    return values


def _median_distance(inputs: Inputs, kernel: str) -> float:
    step = max(1, len(inputs.labels) // BANDWIDTH_ROWS)
    p = _part(inputs, slice(0, step * BANDWIDTH_ROWS, step)).p
    if len(p) < 2:
        return 1.0
    median = float(np.median(_distances(p, p, kernel)[np.tri(len(p), k=-1, dtype=bool)]))
    return median if median > 1e-7 else 1.0  # below, it is rounding


def _quadratic(
    inputs: Inputs, kernel: str, width: float, replicates: int, rng: np.random.Generator
) -> tuple[float, float, float]:
    """Value, standard error and p-value over all pairs."""
    n, classes = inputs.logits.shape
    precision = np.float64 if n <= EXACT_ROWS else np.float32
    w = inputs.weights.astype(precision).astype(np.float64)  # a tiny one may be nothing to float32
    before = np.append(0.0, np.cumsum(w)[:-1])
    square_mass = float(w @ before)  # of all pairs, without cancellation
    if not square_mass > 0:
        return math.nan, math.nan, math.nan
    signs = rng.integers(0, 2, size=(n, replicates), dtype=np.int8) * 2 - 1
    slices = _parts(inputs)
    held = [_part(inputs, rows) for rows in slices] if n * classes <= HELD_VALUES else None
    wild, rowsums, squares = np.zeros(replicates), np.zeros(n), 0.0

    def rows_of(i: int) -> tuple[_Part, np.ndarray, np.ndarray]:
        part = held[i] if held else _part(inputs, slices[i])
        w: np.ndarray = part.weights.astype(precision)
        return part, w, signs[slices[i]] * w[:, None]

    for i, first in enumerate(slices):
        a, a_weights, left = rows_of(i)
        flipped = np.zeros_like(left)
        for j, second in enumerate(slices[i:], start=i):
            b, b_weights, right = (a, a_weights, left) if j == i else rows_of(j)
            values = _pairs(a, b, kernel, width, precision)
            once = precision(0.5 if j == i else 1.0)  # every pair of one block is met twice
            if j == i:
                np.fill_diagonal(values, 0.0)
            else:
                rowsums[second] += a_weights @ values
            rowsums[first] += values @ b_weights
            if replicates:
                flipped += once * (values @ right)
            np.square(values, out=values)
            squares += float(once * (a_weights @ (values @ b_weights)))
        wild += (left * flipped).sum(axis=0, dtype=np.float64)
    value = float(w @ rowsums) / 2 / square_mass
    # the projection of the U-statistic; the noise of the row means is taken off once of the twice it enters
    share = w / w.sum()
    others = before + np.append(np.cumsum(w[:0:-1])[::-1], 0.0)
    means = rowsums / others
    projection = 4 * float(share**2 @ (means - value) ** 2)
    degenerate = 2 * squares / square_mass * float(share @ share) ** 2
    error = math.sqrt(max(projection - degenerate, degenerate))
    if not replicates:
        return value, error, math.nan
    # rounding must not decide where all pairs are 0
    slack = np.finfo(precision).eps ** 0.75 * abs(value)
    beyond = int(np.count_nonzero(wild / square_mass >= value - slack))
    return value, error, (1 + beyond) / (1 + replicates)


def _linear(inputs: Inputs, kernel: str, width: float) -> tuple[float, float, float]:
    """Value, standard error and p-value over the pairs of rows (0, 1), (2, 3), ..."""
    values, weights = (np.concatenate(column) for column in zip(*_neighbours(inputs, kernel, width)))
    total = float(weights.sum())
    if not total > 0:
        return math.nan, math.nan, math.nan
    value = float(weights @ values / total)
    pairs = len(values)
    if pairs < 2:
        return value, math.nan, math.nan
    variance = float(weights**2 @ (values - value) ** 2) / total**2 * pairs / (pairs - 1)
    from scipy.special import ndtr

    error = math.sqrt(variance)
    if error == 0:
        return value, 0.0, 1.0 if value <= 0 else 0.0
    return value, error, float(ndtr(-value / error))


def _neighbours(inputs: Inputs, kernel: str, width: float) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    left: _Part | None = None
    for rows in _parts(inputs):
        part = _part(inputs, rows)
        if left is not None:
            part = _Part(*(np.concatenate(both) for both in zip(left, part)))
        even = len(part.p) // 2 * 2
        left = _Part(*(column[even:] for column in part))
        a, b = (_Part(*(column[start:even:2] for column in part)) for start in (0, 1))
        difference = a.p - b.p
        if kernel == "total_variation":
            distance = np.abs(difference).sum(axis=1) / 2
        else:
            distance = np.sqrt(np.einsum("nk,nk->n", difference, difference))
        yield np.exp(-distance / width) * np.einsum("nk,nk->n", a.residual, b.residual), a.weights * b.weights
