"""The law of one row of a few states, in Python's own numbers: for agents that look at one row a step.

The array library needs a hundred times as long for four values as they are worth.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple


class OneRow(NamedTuple):
    """softmax(values / T)."""

    p: list[float]
    top: float  # the largest value
    rest: float  # sum of exp((z - top) / T) beyond the first of the largest
    gap: float  # top - <z>
    entropy: float
    capacity: float  # Var(z) / T^2, 0 at both ends


def one_row(values: Sequence[float], temperature: float) -> OneRow:
    """The law of a row in which at least one value is finite and none is NaN or +inf; -inf forbids. 0 <= T <= inf."""
    top = max(values)
    weights = [_weight(value - top, temperature) for value in values]
    anchor = weights.index(1.0)
    rest = sum(weights[:anchor]) + sum(weights[anchor + 1 :])
    total = 1.0 + rest
    below = [top - value if weight else 0.0 for value, weight in zip(values, weights)]
    gap = sum(weight * fall for weight, fall in zip(weights, below)) / total
    p = [weight / total for weight in weights]
    if temperature == 0 or temperature == math.inf:
        return OneRow(p, top, rest, gap, math.log1p(rest), 0.0)
    spread = sum(weight * ((fall - gap) / temperature) ** 2 for weight, fall in zip(weights, below) if weight)
    return OneRow(p, top, rest, gap, math.log1p(rest) + gap / temperature, spread / total)


def soft_maximum(values: Sequence[float], temperature: float) -> float:
    """T log sum exp(z / T): the maximum at T = 0, inf at T = inf for more than one allowed value."""
    row = one_row(values, temperature)
    return row.top + (temperature * math.log1p(row.rest) if row.rest and temperature else 0.0)


def mellow_maximum(values: Sequence[float], temperature: float) -> float:
    """T log mean exp(z / T) over the allowed values: from their maximum at T = 0 to their mean at T = inf.

    By expm1 and log1p, which keep the digits at large T.
    """
    allowed = [value for value in values if value > -math.inf]
    top, count = max(allowed), len(allowed)
    if temperature == 0:
        return top
    if temperature == math.inf:
        return top + sum(value - top for value in allowed) / count
    return top + temperature * math.log1p(sum(math.expm1((value - top) / temperature) for value in allowed) / count)


def _weight(difference: float, temperature: float) -> float:
    if difference == 0:
        return 1.0
    if temperature == 0 or difference == -math.inf:
        return 0.0
    return math.exp(difference / temperature)
