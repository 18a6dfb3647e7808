"""Residuals smoothed by a Gaussian kernel that is reflected at 0 and 1: what the smooth calibration error is made of.

A cosine is an eigenfunction of the reflected Gaussian kernel on an interval, so smoothing is a cosine transform, a
product and the transform back, with all the images of the reflection and no truncation of the kernel. Only the rows
must be brought onto a grid, by cubic weights that keep their first three moments. The grid covers the confidences that
occur and ten bandwidths around them: rows that all lie at 1 - 1e-9 are resolved like any others.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from logitherm._solve import find_root
from logitherm.metrics.bootstrap import resampled_masses

LEAST_RESOLUTION, RESOLUTION = 8, 24  # cells a bandwidth
REPLICATE_RESOLUTION = 4
LARGEST_GRID = 1 << 18
REPLICATE_GRID = 1 << 12
HELD_VALUES = 1 << 20  # values of replicates transformed at a time: 8 MB
REACH = 10.0  # bandwidths to a wall that no residual feels: exp(-50)
LEAST = 1e-12  # bandwidth: a smaller one is within the rounding of confidences
CLOSE = 1e-10  # of fixed points
_NOTHING = 1e-300


class Points(NamedTuple):
    confidence: np.ndarray
    correct: np.ndarray
    share: np.ndarray  # of the weight of all rows

    @property
    def residual(self) -> np.ndarray:
        return self.share * (self.confidence - self.correct)


def fixed_point(points: Points) -> float:
    """The root of log sigma - log smECE_sigma, which increases: smECE_sigma never increases in sigma."""
    least = abs(float(points.residual.sum()))
    # equal confidences cannot be told apart at any bandwidth
    _, group = np.unique(points.confidence, return_inverse=True)
    most = float(np.abs(np.bincount(group, points.residual)).sum())
    if most <= 1e-15 or most - least <= 1e-15:  # rounding of the sums
        return most

    def excess(log_sigma: Any) -> tuple[Any, Any]:
        sigma = math.exp(float(log_sigma))
        value, slope = error_at(points, sigma)
        value = max(value, _NOTHING)
        return np.float64(log_sigma - math.log(value)), np.float64(1 - slope * sigma / value)

    low, high = math.log(max(least, 1e-12)), math.log(min(most, 1.0))
    if high <= low:
        return most
    # the slope is at least 1, so that the bandwidth is as near its root as the value is to 0, in logarithms
    root = find_root(excess, np.float64(high), low, high, value_tolerance=CLOSE / most, step_tolerance=CLOSE)
    return math.exp(float(root.x))


def error_at(points: Points, sigma: float) -> tuple[float, float]:
    """smECE_sigma and its slope in sigma."""
    sigma = max(sigma, LEAST)
    low, high = _span(points.confidence, sigma)
    length = high - low
    residual = points.residual
    cells = _grid_size(length, sigma, _resolution(float(np.abs(residual).sum())), LARGEST_GRID)
    sums = _cubic_histogram((points.confidence - low) / length, residual, cells)
    values, slopes = _absolute_integral(sums[None], np.array([sigma / length]))
    return float(values[0]), float(slopes[0]) / length


def _span(confidence: np.ndarray, sigma: float) -> tuple[float, float]:
    return max(0.0, confidence.min() - REACH * sigma), min(1.0, confidence.max() + REACH * sigma)


def _resolution(size: float) -> float:
    """Cells a bandwidth for residuals of this sum of sizes, 1 at most, that keep the error below 2e-6.

    In bandwidths, let h be the width of a cell. Cubic interpolation of the kernel errs by at most 9/16 h^4 / 24 of its
    fourth derivative, whose absolute integral is 2.8: 0.066 size h^4 in all, 6e-7 at worst. Each kink errs by h^3
    B_3/6 <= 0.008 h^3 of the second derivative on either side: about 0.016 size h^3 if they all err alike, as large for
    a class of small probabilities, whose residuals are small, as for the top label on three times as fine a grid.
    """
    return min(max(RESOLUTION * size ** (1 / 3), LEAST_RESOLUTION), RESOLUTION)


def _grid_size(length: float, sigma: float, resolution: float, largest: int) -> int:
    from scipy.fft import next_fast_len

    return int(next_fast_len(int(min(largest, max(math.ceil(resolution * 4), math.ceil(resolution * length / sigma))))))


def _cubic_histogram(position: np.ndarray, sums: np.ndarray, cells: int) -> np.ndarray:
    """`sums` spread over the four nearest cell centres by cubic interpolation; a centre outside is its mirror image."""
    at = position * cells - 0.5
    first = np.floor(at).astype(np.intp)
    f = at - first
    parts = (
        -f * (f - 1) * (f - 2) / 6,
        (f + 1) * (f - 1) * (f - 2) / 2,
        -(f + 1) * f * (f - 2) / 2,
        (f + 1) * f * (f - 1) / 6,
    )
    padded = np.zeros(cells + 4)
    for shift, part in enumerate(parts):
        padded += np.bincount(first + shift + 1, part * sums, minlength=cells + 4)  # cell -2 is the first
    histogram = padded[2:-2]
    histogram[:2] += padded[1::-1]
    histogram[-2:] += padded[:-3:-1]
    return histogram


def _absolute_integral(sums: np.ndarray, sigma: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Integral of |smoothed sums| over the unit interval and its slope in sigma, for each row of `sums`.

    The sum over the grid is exact but where the sign changes. There |S| has a kink, whose error is known to third
    order (Euler and Maclaurin; it is the second Bernoulli polynomial of the place of the kink in its cell).
    """
    from scipy.fft import dct, idct

    modes = (math.pi * np.arange(sums.shape[1])) ** 2
    spectrum = dct(sums, type=2, axis=1)
    spectrum *= np.exp(-0.5 * np.square(sigma)[:, None] * modes)
    smooth = idct(spectrum, type=2, axis=1)  # of a cell: the density over the number of cells
    spectrum *= -sigma[:, None] * modes
    slope = np.einsum("rc,rc->r", np.sign(smooth), idct(spectrum, type=2, axis=1))
    size = np.abs(smooth)
    row, cell = np.nonzero(smooth[:, 1:] * smooth[:, :-1] < 0)
    a, b = size[row, cell], size[row, cell + 1]
    kinks = np.bincount(row, a * b / (a + b) - (a + b) / 6, minlength=len(sums))
    return np.maximum(size.sum(axis=1) - kinks, np.abs(sums.sum(axis=1))), slope


class Grid(NamedTuple):
    """The cells in which rows are resampled."""

    place: np.ndarray  # the cell of each row
    cells: int
    length: float
    sigma: float

    @classmethod
    def of(cls, confidence: np.ndarray, sigma: float) -> Grid:
        sigma = max(sigma, LEAST)
        low, high = _span(confidence, sigma)
        cells = _grid_size(high - low, sigma, REPLICATE_RESOLUTION, REPLICATE_GRID)
        place = ((confidence - low) / (high - low) * cells).astype(np.intp)
        return cls(np.minimum(place, cells - 1), cells, high - low, sigma)


def replicate_errors(
    points: Points, sigma: float, solve: bool, replicates: int, rng: np.random.Generator
) -> np.ndarray:
    """Errors under resampled weights of the rows, binned to a part of the bandwidth."""
    grid = Grid.of(points.confidence, sigma)
    # hits and misses apart: within a cell each has nearly one residual, and then one draw does for all its rows
    key = 2 * grid.place + (points.correct > 0)
    met, group = np.unique(key, return_inverse=True)
    mass = np.bincount(group, points.share)
    squares = np.bincount(group, points.share * points.share)
    mean = np.bincount(group, points.residual) / mass
    cell, first = np.unique(met // 2, return_index=True)
    found = [np.empty(0)]
    step = max(1, HELD_VALUES // max(grid.cells, len(met)))
    for start in range(0, replicates, step):
        drawn = resampled_masses(mass, squares, min(step, replicates - start), rng)
        total = drawn.sum(axis=1)
        drawn, total = drawn[total > 0], total[total > 0]  # a replicate without rows says nothing
        sums = np.zeros((len(drawn), grid.cells))
        sums[:, cell] = np.add.reduceat(drawn * mean, first, axis=1) / total[:, None]
        found.append(resampled_errors(sums, grid, solve))
    return np.concatenate(found)


def resampled_errors(sums: np.ndarray, grid: Grid, solve: bool) -> np.ndarray:
    """The errors of replicates (rows of `sums` over the cells), each at its own fixed point if `solve`."""
    if not solve:
        return _absolute_integral(sums, np.full(len(sums), grid.sigma / grid.length))[0]
    return _solved(sums, grid.sigma, grid.length)


def _solved(sums: np.ndarray, start: float, length: float) -> np.ndarray:
    """The fixed point of each row, to a thousandth: far less than the replicates differ."""

    def excess(log_sigma: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        sigma = np.exp(log_sigma)
        value, slope = _absolute_integral(sums, sigma / length)
        value = np.maximum(value, _NOTHING)
        return log_sigma - np.log(value), 1 - slope / length * sigma / value

    least = np.maximum(np.abs(sums.sum(axis=1)), 1e-12)
    most = np.clip(np.abs(sums).sum(axis=1), least, 1.0)
    first = np.clip(np.log(start), np.log(least), np.log(most))
    root = find_root(excess, first, np.log(least), np.log(most), value_tolerance=1e-3, max_iterations=12)
    return np.minimum(np.exp(root.x), 1.0)
