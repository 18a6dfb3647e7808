"""A pipeline on the CPU without reading the logits more often than need be.

The logits stay as they are. What temperatures, top-k, top-p and min-p make of them is told by one temperature and one
threshold a row; from the first step of another kind on, the steps run as they are defined, but on the states that are
left. Which of it happens depends on the steps alone, so that a request is computed alike in any batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from logitherm.generation.noise import DRAW
from logitherm.generation.requests import require_rows
from logitherm.generation.steps import Context, MinP, Step, Temperature, TopK, TopP
from logitherm.kernels.sampling import MIN_P, TEMPERATURE, TOP_K, TOP_P, Sampled, inverse_cdf, sample

TRUNCATIONS = (TopK, TopP, MinP)


@dataclass
class Outcome:
    """Tokens, their log p, the number of states kept, and which these are."""

    token: np.ndarray
    log_probability: np.ndarray
    kept: np.ndarray
    floors: np.ndarray | None = None  # in the logits given; None where `states` has them
    states: np.ndarray | None = None  # -1 where none is left


class Plan(NamedTuple):
    """Which steps run on all states, which are told by thresholds after them, and which run on what is left."""

    before: tuple[Step, ...]
    told: tuple[Step, ...]
    after: tuple[Step, ...]


def plan(steps: Sequence[Step]) -> Plan | None:
    """How the kernels run these steps; None where they are of no use."""
    start = next((i for i, step in enumerate(steps) if not step.needs_history), len(steps))
    before, others = tuple(steps[:start]), tuple(steps[start:])
    count = next((i for i in range(len(others)) if not _is_told(others, i)), len(others))
    told, after = others[:count], others[count:]
    if any(step.needs_history for step in after):  # they know tokens by their number, so nothing may be left out
        return None
    if after and not any(type(step) in TRUNCATIONS for step in told):
        return None
    return Plan(before, told, after)


def _is_told(steps: Sequence[Step], i: int) -> bool:
    step = steps[i]
    if type(step) is Temperature:
        return i == 0 or not hasattr(step.temperature, "resolve")  # which has to see the logits as they are by then
    return type(step) in TRUNCATIONS


def run(z: np.ndarray, told: Sequence[Step], after: Sequence[Step], context: Context) -> Outcome:
    """Draw one token a row; -1 where a row is no law."""
    steps = [_number(step, z, context) for step in told]
    found = sample(z, steps, None if after else context.uniform(DRAW))
    if not np.isfinite(found.top).all():
        require_rows(z)
    if after:
        return _on_what_is_left(found, after, context)
    return Outcome(found.token, found.log_p, found.kept, floors=found.floors)


def _number(step: Step, z: np.ndarray, context: Context) -> tuple[int, np.ndarray]:
    """The step as the kernel has it: its code and a number a row."""
    if isinstance(step, Temperature):
        return TEMPERATURE, step.numbers(z, context)
    if isinstance(step, TopK):
        return TOP_K, step.count(*z.shape)
    if isinstance(step, TopP):
        return TOP_P, step.mass(len(z))
    assert isinstance(step, MinP)
    return MIN_P, step.gap(len(z))


def _on_what_is_left(found: Sampled, steps: Sequence[Step], context: Context) -> Outcome:
    # a power of two, of which pairwise sums do not change with the number of zeros at the end
    width = 1 << max(3, int(found.kept.max(initial=1) - 1).bit_length())
    states, values = found.compact(width)
    top = found.top[:, None].astype(np.float64)
    t = found.temperatures[:, None]
    flat = (t == 0) | (t == math.inf)
    x = np.where(states < 0, -math.inf, np.where(t == math.inf, 0.0, (values - top) / np.where(flat, 1.0, t)))
    x = np.where((t == 0) & (x < 0), -math.inf, x)
    for step in steps:
        if isinstance(step, TopK):
            step.count(*found.z.shape)  # k is refused for what it is of the whole vocabulary
            step = replace(step, clamp=True)
        x = step(x, context)
    chosen, log_p = inverse_cdf(x, context.uniform(DRAW))
    states = np.where(x > -math.inf, states, -1)
    token = np.take_along_axis(states, chosen[:, None], axis=1)[:, 0]
    return Outcome(token, log_p, (states >= 0).sum(axis=1), states=states)
