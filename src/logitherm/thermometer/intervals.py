"""Intervals of a temperature, which are those of its logarithm."""

from __future__ import annotations

import math
from statistics import NormalDist

from logitherm.kernels import exponential
from logitherm.thermometer.search import FAR


def around(temperature: float, relative_error: float, confidence: float) -> tuple[float, float]:
    """Interval of T from the standard error of log T, by the normal approximation; (0, inf) where that is too wide to
    say anything.

    Examples
    --------
    >>> low, high = around(2.0, 0.1, 0.95)
    >>> round(low, 2), round(high, 2)
    (1.64, 2.43)
    """
    width = NormalDist().inv_cdf(0.5 + confidence / 2) * relative_error
    factor = float(exponential(width)) if width < FAR else math.inf
    return temperature / factor, temperature * factor
