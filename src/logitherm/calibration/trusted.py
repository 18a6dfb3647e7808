"""Which of the two p-values of a fit to trust: the same for the terminal, the report and whoever else asks."""

from __future__ import annotations

import math

from logitherm.calibration.verdict import few_decide
from logitherm.thermometer import TemperatureFit


def robust_p_value(fit: TemperatureFit) -> float | None:
    """Two-sided p-value of T = 1 by the sandwich error of log T; None without such an error, or at a bound."""
    if not fit.sandwich_error or not 0 < fit.temperature < math.inf:
        return None
    return math.erfc(abs(math.log(fit.temperature)) / (fit.sandwich_error / fit.temperature) / math.sqrt(2))


def trusted_p_value(fit: TemperatureFit) -> tuple[float | None, bool]:
    """The p-value of T = 1, and whether it is the robust one, which stands in where a few rows decide."""
    return (robust_p_value(fit), True) if few_decide(fit) else (fit.p_value, False)
