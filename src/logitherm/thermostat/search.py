"""The search for a set point: quantities that are monotone in log T, and their roots. No derivatives, no PyTorch."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from logitherm import kernels
from logitherm._array import Array, dtype_name, namespace, silent
from logitherm._solve import find_root
from logitherm.kernels import Moments, exponential, reference, roots

REACH = {"float32": 80.0, "float64": 300.0}  # |log T| within which a temperature is searched for


class Problem(NamedTuple):
    """A set point without its target."""

    name: str
    side: str | None
    pooled: bool
    z: Array
    log_prior: Array | None
    reference_temperature: Array


class Answer(NamedTuple):
    temperature: Array
    inside: Array  # whether the target lies in the open range
    low: Array  # the quantity at T = 0 (for a divergence, at the near end)
    high: Array  # the quantity at T = inf (for a divergence, at the far end)


@silent
def _quantity(problem: Problem, temperature: Array) -> tuple[Array, Array]:
    """The quantity per row and its slope in log T. No derivatives."""
    name, _, _, z, q, t0 = problem
    m = kernels.moments(z, temperature, q, False)
    heat = reference.heat_capacity(m, temperature)
    if name == "entropy":
        return reference.entropy(m, temperature), heat
    if name == "mean_energy":
        return reference.mean_energy(m, temperature), reference.weighted(heat, temperature)
    if name == "top_probability":
        p = reference.top_probability(m, temperature)
        return p, -p * reference.over(m.gap, temperature)
    near = kernels.moments(z, t0, q, False)
    return _divergence(z, m, temperature, near, t0), heat * (temperature / t0 - 1)


def _turned(problem: Problem, value: Array, slope: Array) -> tuple[Array, Array]:
    """A quantity and its slope in terms that increase with log T; the root of a divergence is nearly linear."""
    if problem.name == "top_probability":
        return -value, -slope
    if problem.name == "kl":
        xp = namespace(value)
        root = xp.sqrt(value)
        slope = slope / (2 * xp.where(root > 0, root, xp.ones_like(root)))
        return (root, slope) if problem.side == "hot" else (-root, -slope)
    return value, slope


def _divergence(z: Array, m: Moments, temperature: Array, near: Moments, t0: Array) -> Array:
    """KL(p_T || p_T0) from two states of the same logits, relative to the largest logit so that nothing large
    cancels."""
    xp = namespace(z)
    top = xp.max(z, axis=-1)
    mean = (m.top - top) - m.gap
    rise = _shifted_log_partition(near, top, t0) - _shifted_log_partition(m, top, temperature)
    return xp.maximum(reference.over(mean, temperature) - mean / t0 + rise, xp.zeros_like(mean))


def _shifted_log_partition(m: Moments, top: Array, temperature: Array) -> Array:
    return reference.over(m.top - top, temperature) + m.log_weight + namespace(top).log1p(m.rest)


@silent
def search(problem: Problem, goal: Array) -> Answer:
    """Newton in log T between the limits, per row or for the mean of all rows."""
    name, side, pooled, z, log_prior, t0 = problem
    if not pooled and roots.on_cpu(z, log_prior, t0, goal):
        return Answer(*roots.roots(name, side, z, log_prior, t0, goal))
    xp = namespace(z)
    pool: Callable[[Array], Array] = (lambda v: xp.mean(v)) if pooled else (lambda v: v)
    wanted, _ = _turned(problem, goal, goal)
    cold, hot = xp.zeros_like(t0), xp.full_like(t0, math.inf)
    if name == "kl":
        cold, hot = (t0, hot) if side == "hot" else (cold, t0)
    ends = tuple(pool(_quantity(problem, t)[0]) for t in (cold, hot))
    low, high = (_turned(problem, end, end)[0] for end in ends)
    inside = (wanted > low) & (wanted < high)
    sought = xp.where(inside, wanted, low + 0.5 * (high - low))  # or rows that have no root would search to the bound
    unit, start, lower, upper = _start(problem, goal, pool)

    def residual(y: Array) -> tuple[Array, Array]:
        t = xp.broadcast_to(unit * exponential(y), tuple(t0.shape))
        value, slope = _turned(problem, *map(pool, _quantity(problem, t)))
        return value - sought, slope

    eps = float(xp.finfo(z.dtype).eps)
    size = pool(_scale(z)) if name == "mean_energy" else xp.ones_like(wanted)
    tolerance = (2 if name == "kl" else 4) * eps * xp.maximum(xp.abs(wanted), size)
    root = find_root(residual, start, lower, upper, value_tolerance=tolerance, step_tolerance=0.25 * eps)
    t = xp.asarray(unit * exponential(root.x), dtype=z.dtype)
    t = xp.where(
        wanted <= low,
        xp.broadcast_to(pool(cold), t.shape),
        xp.where(wanted >= high, xp.broadcast_to(pool(hot), t.shape), t),
    )
    return Answer(t, inside, *ends)


def _start(problem: Problem, goal: Array, pool: Callable[[Array], Array]) -> tuple[Array, Array, Array, Array]:
    """The unit of the search, and start and bracket of y in T = unit exp(y): with y near 0, T keeps all its digits."""
    z, t0 = problem.z, problem.reference_temperature
    xp = namespace(z)
    reach = goal * 0 + REACH[dtype_name(z)]
    if problem.name != "kl":
        scale = _scale(z)
        return exponential(pool(xp.log(scale))) if problem.pooled else scale, reach * 0, -reach, reach
    heat = pool(reference.heat_capacity(kernels.moments(z, t0, problem.log_prior, False), t0))
    move = xp.clip((2 * goal / xp.maximum(heat, xp.full_like(heat, 1e-30))) ** 0.5, 1e-6, 10.0)
    unit = xp.max(t0) if problem.pooled else t0
    return (unit, move, reach * 0, reach) if problem.side == "hot" else (unit, -move, -reach, reach * 0)


def _scale(z: Array) -> Array:
    """A temperature of the order of the answer: the mean distance of allowed logits from the largest."""
    xp = namespace(z)
    top = xp.max(z, axis=-1, keepdims=True)
    fall = xp.where(z > -math.inf, top - z, xp.zeros_like(z))
    mean = xp.mean(fall, axis=-1)
    return xp.where((mean > 0) & (mean < math.inf), mean, xp.ones_like(mean))
