"""The only root finder: safeguarded Newton on increasing functions, vectorised over rows.

Each step is Newton's, corrected for the bend of the function by the secant of the last two slopes, and taken if it
stays in the bracket and the last one halved the residual; otherwise the bracket is bisected.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from logitherm._array import Array, is_jax, namespace, silent


class Root(NamedTuple):
    """Where the search stands; every field but the count has the shape of the start."""

    x: Array
    lower: Array
    upper: Array
    value: Array  # at `seen`
    slope: Array  # at `seen`
    seen: Array  # the last point that was evaluated
    done: Array
    iterations: Array


@silent
def find_root(
    function: Callable[[Array], tuple[Array, Array]],
    start: Array,
    lower: Array,
    upper: Array,
    *,
    value_tolerance: Array | float = 0.0,
    step_tolerance: float = 0.0,
    bend: Array | float = math.nan,
    max_iterations: int = 100,
) -> Root:
    """Root x in [lower, upper] of a function that increases in x, for every row on its own.

    `function(x)` returns value and slope. A row is done when |value| <= value_tolerance, or when the step or the
    bracket is at most step_tolerance, in which case the step is still taken, not evaluated. A function without a sign
    change leads to the bound. Works under JAX's jit (`start` must be of JAX then); in other libraries the loop is
    Python's.
    """
    xp = namespace(start)
    nothing = start - start
    unknown = nothing + math.nan
    root = Root(start, nothing + lower, nothing + upper, unknown, unknown, unknown, start != start, 0)

    where = _choose if isinstance(start, np.floating) else xp.where

    def advance(r: Root) -> Root:
        value, slope = function(r.x)
        low = where(value < 0, r.x, r.lower)
        high = where(value > 0, r.x, r.upper)
        newton = -value / where(slope > 0, slope, nothing + math.nan)
        relative = (slope - r.slope) / (r.x - r.seen) / slope
        half = 0.5 * newton * where(xp.isnan(relative), nothing + bend, relative)
        step = where(xp.abs(half) < 0.5, newton * (1 - half), newton)  # False for an unknown bend
        target = r.x + step
        slow = xp.abs(value) > 0.5 * xp.abs(r.value)
        safe = (target > low) & (target < high) & ~slow
        middle = low + 0.5 * (high - low)
        target = where(safe, target, middle)
        exact = xp.abs(value) <= value_tolerance
        near = (xp.abs(target - r.x) <= step_tolerance) | (high - low <= step_tolerance)
        x = where(r.done | exact, r.x, target)
        keep = r.done
        return Root(
            x,
            where(keep, r.lower, low),
            where(keep, r.upper, high),
            where(keep, r.value, value),
            where(keep, r.slope, slope),
            where(keep, r.seen, r.x),
            keep | exact | near,
            r.iterations + 1,
        )

    if is_jax(start):
        import jax

        root = root._replace(iterations=xp.asarray(0))
        return jax.lax.while_loop(lambda r: (~xp.all(r.done)) & (r.iterations < max_iterations), advance, root)
    while root.iterations < max_iterations and not bool(xp.all(root.done)):
        root = advance(root)
    return root


def _choose(condition: Any, yes: Any, no: Any) -> Any:
    """`where` for single numbers, for which NumPy's takes longer than all the rest of a step."""
    return yes if condition else no


def find_root_of_one(
    function: Callable[[float], tuple[float, float]],
    start: float,
    lower: float,
    upper: float,
    *,
    value_tolerance: float = 0.0,
    step_tolerance: float = 0.0,
    max_iterations: int = 100,
) -> float:
    """`find_root` for one number, in Python's own arithmetic: step for step the same, and ten times as fast."""
    x, last = start, (math.nan, math.nan, math.nan)  # point, value and slope of the step before
    for _ in range(max_iterations):
        value, slope = function(x)
        if abs(value) <= value_tolerance:
            break
        lower, upper = (x if value < 0 else lower), (x if value > 0 else upper)
        newton = -value / slope if slope > 0 else math.nan
        relative = (slope - last[2]) / (x - last[0]) / slope if slope and x != last[0] else math.nan
        half = 0.5 * newton * relative
        target = x + (newton * (1 - half) if abs(half) < 0.5 else newton)
        safe = lower < target < upper and not abs(value) > 0.5 * abs(last[1])
        target = target if safe else lower + 0.5 * (upper - lower)
        near = abs(target - x) <= step_tolerance or upper - lower <= step_tolerance
        x, last = target, (x, value, slope)
        if near:
            break
    return x
