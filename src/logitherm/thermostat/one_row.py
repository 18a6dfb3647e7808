"""A set point of one row of a few states, in Python's own numbers: what agents ask for at every step."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence

from logitherm._solve import find_root_of_one
from logitherm.kernels.one_row import entropy_of_falls, falls_of
from logitherm.kernels.reference import exponential

REACH = 300.0  # |log T| in units of the gap, within which a temperature is searched for
TOLERANCE = 4 * sys.float_info.epsilon


def temperature_of_entropy(values: Sequence[float], entropy: float, start: float | None = None) -> float:
    """T at which softmax(values / T) has an entropy in nats; 0 or inf where it is out of range, as `SetPoint` answers.

    Parameters
    ----------
    values : sequence of float
        At least one finite, none NaN or +inf; -inf forbids.
    entropy : float
    start : float, optional
        A temperature near the answer, as that of the step before.

    Examples
    --------
    >>> import numpy as np
    >>> from logitherm import entropy
    >>> t = temperature_of_entropy([1.0, 0.5, 0.0], 0.7)
    >>> float(entropy(np.array([1.0, 0.5, 0.0]), t).round(12))
    0.7
    """
    falls = falls_of(values)
    if entropy <= math.log1p(falls.count(0.0)):
        return 0.0
    if entropy >= math.log1p(len(falls)):
        return math.inf
    unit = sum(falls) / len(falls)

    def residual(y: float) -> tuple[float, float]:
        reached, capacity = entropy_of_falls(falls, unit * exponential(y))
        return reached - entropy, capacity

    guess = math.log(start / unit) if start is not None and 0 < start < math.inf else 0.0
    tolerance = TOLERANCE * max(1.0, entropy)
    y = find_root_of_one(residual, guess, -REACH, REACH, value_tolerance=tolerance, step_tolerance=0.25 * TOLERANCE)
    return unit * exponential(y)
