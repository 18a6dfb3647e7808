"""The temperature of few rows, drawn towards what is known beforehand: a log-normal prior."""

from __future__ import annotations

import math

import numpy as np

from logitherm._solve import find_root
from logitherm.kernels import exponential
from logitherm.thermometer.search import REACH
from logitherm.thermometer.sources import Source

CLOSE = 1e-9  # last step in log T
MOST_STEPS = 60


def most_probable(source: Source, temperature: float, deviation: float) -> tuple[float, float]:
    """The T that maximises likelihood times a log-normal prior, and the standard error of log T from the curvature
    there.

    The prior of log T is normal about log `temperature` with standard deviation `deviation`. There always is a maximum,
    also where the likelihood alone has none.
    """
    precision, centre = deviation**-2, -math.log(temperature)  # in x = log(1 / T)
    curvature = [0.0]

    def slope(x: np.floating) -> tuple[np.floating, np.floating]:
        inverse = float(exponential(float(x)))
        total = source.totals(np.array([inverse]))
        first, second = float(total.score[0]) * inverse, float(total.curvature[0]) * inverse**2
        curvature[0] = second + precision
        # where the likelihood is not convex in x, its information is a slope that still leads downhill
        return np.float64(first + precision * (float(x) - centre)), np.float64(max(first, 0.0) + second + precision)

    found = find_root(slope, np.float64(centre), -REACH, REACH, step_tolerance=CLOSE, max_iterations=MOST_STEPS)
    slope(found.x)
    return float(exponential(-float(found.x))), 1 / math.sqrt(curvature[0])
