"""The temperature that minimises another score than the NLL."""

from __future__ import annotations

import math
from collections.abc import Callable

from scipy.optimize import minimize_scalar

from logitherm.calibration.rows import Labelled
from logitherm.kernels import exponential
from logitherm.metrics.rows import Rows, as_inputs, row_statistics, weighted_mean
from logitherm.metrics.smoothing import Points, fixed_point

OBJECTIVES = ("nll", "brier", "smooth_ece")
REACH, SCANNED = 1.5, 25  # log T looked at around the likeliest one, and how often; the scores may have several minima
FARTHEST = 12.0  # in log T; beyond it the scan goes on only while it beats the limits
EQUAL = 1e-12  # relative difference of scores that is rounding
CLOSE = 1e-6  # in log T
STEP = 1e-3  # in log T, of the derivatives of the Brier score


def best_temperature(data: Labelled, objective: str, likeliest: float) -> tuple[float, float | None]:
    """The T of the least Brier score or smooth ECE, and the sandwich error of log T (Brier score).

    0 or inf where no T in between scores better.
    """

    def rows_at(temperature: float) -> Rows:
        return row_statistics(as_inputs(data.logits, data.labels, temperature, data.weights))

    def score(temperature: float) -> float:
        rows = rows_at(temperature)
        if objective == "brier":
            return weighted_mean(rows.brier, data.weights)
        counted = data.weights > 0
        share = data.weights[counted] / data.weights.sum()
        return fixed_point(Points(rows.confidence[counted], rows.correct[counted], share))

    limits = {limit: score(limit) for limit in (0.0, math.inf)}
    limit = min(limits, key=lambda limit: limits[limit])
    x = _minimum(lambda x: score(float(exponential(x))), math.log(likeliest), limits[limit])
    if x is None or limits[limit] <= score(float(exponential(x))) * (1 + EQUAL):
        return limit, None
    found = float(exponential(x))
    if objective != "brier":
        return found, None
    below, at, above = (data.weights * rows_at(float(exponential(x + step))).brier for step in (-STEP, 0.0, STEP))
    slopes, curvature = (above - below) / (2 * STEP), float((above - 2 * at + below).sum()) / STEP**2
    return found, math.sqrt(float(slopes @ slopes)) / curvature if curvature > 0 else None


def _minimum(score: Callable[[float], float], centre: float, limit: float) -> float | None:
    """The least of a scan, refined; the scan moves on while its end is the least. None where that runs away to a limit,
    whose score this is."""
    step = 2 * REACH / (SCANNED - 1)
    scanned = {i: score(centre + i * step) for i in range(-(SCANNED // 2), SCANNED // 2 + 1)}
    while (best := min(scanned, key=lambda i: scanned[i])) in (min(scanned), max(scanned)):
        beyond = best + (1 if best == max(scanned) else -1)
        if abs(beyond * step) > FARTHEST and limit <= scanned[best]:
            return None
        scanned[beyond] = score(centre + beyond * step)
    around = (centre + (best - 1) * step, centre + (best + 1) * step)
    return float(minimize_scalar(score, bounds=around, method="bounded", options={"xatol": CLOSE}).x)
