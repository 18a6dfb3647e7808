"""The maximum of a likelihood that is known by its sums on a grid of inverse temperatures alone."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from logitherm._solve import find_root

OCTAVES, PER_OCTAVE = 6, 4  # 2^-6 to 2^6 about the reference
COLD, HOT = 1e29, 1e-29  # inverse temperatures that stand for the limits
NOISE = 1e-12  # of the scores at the limits


def grid(reference_temperature: float) -> np.ndarray:
    """Inverse temperatures, in rising order, the first and the last for the limits; the middle one is the reference."""
    octaves = np.linspace(-OCTAVES, OCTAVES, 2 * OCTAVES * PER_OCTAVE + 1)
    return np.concatenate([[HOT], 2.0**octaves, [COLD]]) / reference_temperature


def optimum(inverse: np.ndarray, sums: np.ndarray) -> tuple[float, float | None, float, str | None]:
    """T, its relative error if any, the NLL there, and the bound, from sums (4, temperatures) as in `Totals`."""
    hot, *_, cold = sums[1]
    noise = NOISE * (abs(hot) + abs(cold))
    nll, score, curvature, squares = sums[:, 1:-1]
    if hot >= -noise:
        return math.inf, None, math.nan, "infinite"
    if cold <= noise:
        return 0.0, None, math.nan, "zero"
    if score[0] > 0 or score[-1] < 0:
        return math.nan, None, math.nan, "above grid" if score[0] > 0 else "below grid"
    left = min(int(np.flatnonzero(score <= 0)[-1]), len(score) - 2)
    cell, width = slice(left, left + 2), math.log(2) / PER_OCTAVE
    nodes = inverse[1:-1][cell]
    share = _root(score[cell], width * nodes * curvature[cell])
    beta = float(nodes[0]) * 2.0 ** (share / PER_OCTAVE)
    after = _cubic(share, nll[cell], width * nodes * score[cell])[0]
    slope = _cubic(share, score[cell], width * nodes * curvature[cell])[1] / width  # in log beta
    if not squares[cell].min() > np.finfo(np.float64).tiny:  # weights whose squares underflow
        return 1 / beta, None, after, None
    variance = float(squares[left] * (squares[left + 1] / squares[left]) ** share)
    return 1 / beta, float(math.sqrt(variance) / slope), float(after), None


def _cubic(share: Any, values: np.ndarray, slopes: np.ndarray) -> tuple[Any, Any]:
    """Hermite's cubic through values and slopes at 0 and 1, and its derivative, at a share of the way."""
    step, bend = values[1] - values[0], slopes[0] + slopes[1] - 2 * (values[1] - values[0])
    rise = 3 * step - 2 * slopes[0] - slopes[1]
    value = values[0] + share * (slopes[0] + share * (rise + share * bend))
    return value, slopes[0] + share * (2 * rise + 3 * share * bend)


def _root(values: np.ndarray, slopes: np.ndarray) -> float:
    """Where the cubic vanishes between 0 and 1."""
    start = np.float64(np.clip(values[0] / (values[0] - values[1]), 0.0, 1.0))
    found = find_root(lambda share: _cubic(share, values, slopes), start, 0.0, 1.0, step_tolerance=1e-13)
    return float(found.x)
