"""A pipeline on the CPU without reading the logits more often than need be.

The logits stay as they are. What steps make of them is told by one temperature and one threshold a row as long as steps
are temperatures, top-k, top-p and min-p; from the first step of another kind on, or once little is left, the steps run
as they are defined, but on the states that are left.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from logitherm.generation.noise import DRAW
from logitherm.generation.steps import Context, MinP, Step, Temperature, TopK, TopP
from logitherm.kernels.sampling import Rows, inverse_cdf

THRESHOLDS = (Temperature, TopK, TopP, MinP)
SMALL = 4096  # states left in every row, below which steps run on them alone


@dataclass
class Outcome:
    """Tokens, their log p, the number of states kept, and which these are."""

    token: np.ndarray
    log_probability: np.ndarray
    kept: np.ndarray
    floors: np.ndarray | None = None  # in the logits given; None where `states` has them
    states: np.ndarray | None = None


def split(steps: Sequence[Step]) -> tuple[list[Step], list[Step]]:
    """Steps that thresholds tell, and those from the first that they do not."""
    count = next((i for i, step in enumerate(steps) if type(step) not in THRESHOLDS), len(steps))
    return list(steps[:count]), list(steps[count:])


def run(rows: Rows, steps: Sequence[Step], context: Context) -> Outcome | None:
    """Draw one token a row; None where what is left is too much for steps that thresholds cannot tell."""
    z = rows.z
    temperatures, floors = np.ones(len(z)), rows.full()
    told, others = split(steps)
    for i, step in enumerate(told):
        if isinstance(step, Temperature):
            if hasattr(step.temperature, "resolve") and (floors.max() > -math.inf or (temperatures != 1).any()):
                others = [*told[i:], *others]  # it has to see the logits as they are by now
                break
            temperatures = _times(temperatures, np.asarray(step.of(z, context), dtype=np.float64))
        elif isinstance(step, TopK):
            least = np.maximum(floors, rows.kth(step.count(*z.shape)))
            floors = np.where(temperatures == math.inf, floors, least)  # there all that is left ties
        elif isinstance(step, TopP):
            floors = rows.nucleus(temperatures, floors, step.mass(len(z)))
        elif isinstance(step, MinP):
            gap = np.where(np.isfinite(temperatures), temperatures, 0.0) * step.gap(len(z))
            gap = np.where(np.isfinite(temperatures), gap, np.inf)
            floors = np.maximum(floors, (rows.top - gap).astype(z.dtype))
        rest = [*told[i + 1 :], *others]
        if rest and not isinstance(step, Temperature):
            kept = rows.counts(floors)
            if kept.max() <= SMALL:
                return _on_what_is_left(rows, temperatures, floors, int(kept.max()), rest, context)
    if others:
        return None
    token, log_p, kept = rows.draw(temperatures, floors, context.uniform(DRAW))
    floors = np.where(temperatures == 0, rows.top, floors)
    return Outcome(token, log_p, kept, floors=np.maximum(floors, np.finfo(z.dtype).min))


def _times(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """One temperature after the other; at 0 only ties are left, which no further one tells apart."""
    with np.errstate(invalid="ignore"):
        return np.where(a == 0, 0.0, np.where(b == 0, np.where(a == math.inf, math.inf, 0.0), a * b))


def _on_what_is_left(
    rows: Rows, temperatures: np.ndarray, floors: np.ndarray, width: int, steps: Sequence[Step], context: Context
) -> Outcome:
    states, values = rows.compact(floors, max(1, width))
    top = rows.top[:, None].astype(np.float64)
    flat = (temperatures == 0) | (temperatures == math.inf)
    with np.errstate(invalid="ignore"):
        x = np.where(states < 0, -math.inf, (values - top) / np.where(flat, 1.0, temperatures)[:, None])
    x = np.where((temperatures == 0)[:, None], np.where(values == rows.top[:, None], 0.0, -math.inf), x)
    x = np.where((temperatures == math.inf)[:, None] & (states >= 0), 0.0, x)
    for step in steps:
        if isinstance(step, TopK):
            step.count(*rows.z.shape)  # k is refused for what it is of the whole vocabulary
            step = replace(step, clamp=True)
        x = step(x, context)
    chosen, log_p = inverse_cdf(x, context.uniform(DRAW))
    states = np.where(x > -math.inf, states, -1)
    token = np.take_along_axis(states, chosen[:, None], axis=1)[:, 0]
    return Outcome(token, log_p, (states >= 0).sum(axis=1), states=states)
