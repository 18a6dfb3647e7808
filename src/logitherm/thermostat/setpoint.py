"""The temperature that holds a set point: an entropy, a mean energy, a top probability, a divergence."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from logitherm import kernels
from logitherm._array import (
    Array,
    as_log_prior,
    as_logits,
    as_temperature,
    describe,
    first_true,
    is_array,
    is_jax,
    is_torch,
    is_traced,
    like,
    namespace,
    should_check,
    silent,
)
from logitherm._solve import find_root
from logitherm.kernels import Moments, exponential, reference

REACH = {"float32": 80.0, "float64": 300.0}  # |log T| within which a temperature is searched for


def solve_temperature(
    logits: Array,
    *,
    entropy: Any = None,
    mean_energy: Any = None,
    top_probability: Any = None,
    kl: Any = None,
    side: str | None = None,
    reference_temperature: Any = 1.0,
    pooled: bool = False,
    log_prior: Array | None = None,
    out_of_range: str = "raise",
    axis: int = -1,
    check: bool | None = None,
) -> Array:
    """The temperature at which softmax(logits / T) has a given entropy, mean energy, top probability or divergence.

    Each of these is monotone in T, so there is one answer, found by safeguarded Newton in log T. What is promised is
    the
    residual, not T, which is ill-conditioned near the limits: the quantity meets its target within 8 roundings of the
    compute dtype (relative to 1 or to the target, whichever is larger). In PyTorch and JAX the answer is
    differentiable in logits and target, by the implicit function theorem.

    Limits: targets run over the open range between their values at T = 0 and T = inf. A constant row has an empty
    range.

    Parameters
    ----------
    logits : array, shape (..., states)
        Floating scores; -inf forbids a state.
    entropy : float or array of the batch shape
        Target entropy in nats (relative to the prior where there is one).
    mean_energy : float or array
        Target of E = -<z>, in logit units.
    top_probability : float or array
        Target of max p.
    kl : float or array
        Target of KL(p_T || p_T0) in nats, with T0 = `reference_temperature`. It has a root on each side of T0: give
        `side`.
    side : "hot" or "cold"
        Which root of a divergence: T > T0 or T < T0.
    reference_temperature : float or array
        T0 of the divergence, 0 < T0 < inf.
    pooled : bool
        One T for all rows, at which the mean over the rows meets the target.
    log_prior : array, optional
        Log weights that are not tempered. A top probability with a prior is refused, since it need not be monotone.
    out_of_range : "raise" or "limit"
        What to do where the target is outside the open range: raise, or answer 0 or inf, whichever comes closest.
        Under a trace "raise" gives NaN.
    axis : int
        The axis of the states.
    check : bool, optional
        As in `softmax`.

    Returns
    -------
    array, batch shape (a scalar array if pooled), compute dtype
        T, 0 <= T <= inf.

    Raises
    ------
    ValueError
        No target or several; a target out of range; bad rows.

    References
    ----------
    Haarnoja et al. (2018) for an entropy target; Abdolmaleki et al. (2018), eq. 4, for the pooled divergence.

    Examples
    --------
    >>> import numpy as np
    >>> import logitherm
    >>> z = np.array([[4.0, 1.0, 0.0], [0.3, 0.2, 0.1]])
    >>> t = solve_temperature(z, entropy=0.5)
    >>> logitherm.entropy(z, t).round(6).tolist()
    [0.5, 0.5]
    """
    name, target = _one_target(entropy=entropy, mean_energy=mean_energy, top_probability=top_probability, kl=kl)
    if (side is not None) != (name == "kl") or side not in (None, "hot", "cold"):
        raise ValueError(f"side: must be 'hot' or 'cold' with kl, and absent otherwise; got {side!r} with {name}")
    if out_of_range not in ("raise", "limit"):
        raise ValueError(f"out_of_range: must be 'raise' or 'limit'; got {out_of_range!r}")
    if log_prior is not None and name == "top_probability":
        raise ValueError("log_prior: must be absent with top_probability, which need not be monotone under a prior")
    z = as_logits(logits, axis)
    xp = namespace(z)
    batch = tuple(z.shape[:-1])
    q = as_log_prior(log_prior, z, check)
    goal = _as_target(name, target, z, () if pooled else batch)
    t0 = as_temperature(reference_temperature, z, check)
    if name == "kl" and should_check(check, z, t0) and not bool(xp.all((t0 > 0) & (t0 < math.inf))):
        raise ValueError("reference_temperature: must lie in (0, inf)")
    looked_at = should_check(check, z, goal)
    problem = Problem(name, side, pooled, z, q, t0)
    answer = _answer(problem, goal)
    t, inside = answer.temperature, answer.inside
    if out_of_range == "raise":
        if looked_at:
            _require_inside(name, goal, answer)
        t = xp.where(inside, t, xp.full_like(t, math.nan))
    return _attach(problem, goal, t, inside)


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


def _one_target(**targets: Any) -> tuple[str, Any]:
    given = {name: value for name, value in targets.items() if value is not None}
    if len(given) != 1:
        raise ValueError(f"entropy, mean_energy, top_probability, kl: give exactly one; got {sorted(given) or 'none'}")
    return next(iter(given.items()))


def _as_target(name: str, target: Any, z: Array, shape: tuple[int, ...]) -> Array:
    xp = namespace(z)
    goal = target if is_array(target) and namespace(target) is xp else like(target, z)
    goal = xp.astype(goal if is_array(goal) else xp.asarray(goal), z.dtype)
    try:
        goal = xp.broadcast_to(goal, shape)
    except (ValueError, RuntimeError, TypeError) as error:
        raise ValueError(f"{name}: must broadcast against the batch {shape}; got {describe(target)}") from error
    if not is_traced(goal) and not is_traced(z) and bool(xp.any(xp.isnan(goal))):
        raise ValueError(f"{name}: must be a number; got NaN at index {first_true(xp.isnan(goal))}")
    return goal


def _require_inside(name: str, goal: Array, answer: Answer) -> None:
    xp = namespace(goal)
    if bool(xp.all(answer.inside)):
        return
    row = first_true(~answer.inside)
    wanted, low, high = (float(v.reshape(-1)[row]) for v in (goal, answer.low, answer.high))
    low, high = min(low, high), max(low, high)
    raise ValueError(
        f"{name}: must lie between its values at the limits of T, ({low:.6g}, {high:.6g}) for row {row}; "
        f"got {wanted:.6g}; pass out_of_range='limit' to take the nearest limit"
    )


# -- the quantities --------------------------------------------------------------------------------------


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


# -- the search ------------------------------------------------------------------------------------------


def _answer(problem: Problem, goal: Array) -> Answer:
    """The answer without derivatives; for PyTorch under compile or vmap by way of an operator of its own."""
    z = problem.z
    if is_torch(z):
        from logitherm.thermostat import torch_operator

        return torch_operator.answer(problem, goal)
    if is_jax(z):
        import jax

        stop = jax.lax.stop_gradient
        problem = problem._replace(
            z=stop(z),
            log_prior=None if problem.log_prior is None else stop(problem.log_prior),
            reference_temperature=stop(problem.reference_temperature),
        )
        return search(problem, stop(goal))
    return search(problem, goal)


@silent
def search(problem: Problem, goal: Array) -> Answer:
    """Newton in log T between the limits, per row or for the mean of all rows."""
    z, t0 = problem.z, problem.reference_temperature
    xp = namespace(z)
    pool: Callable[[Array], Array] = (lambda v: xp.mean(v)) if problem.pooled else (lambda v: v)
    wanted, _ = _turned(problem, goal, goal)
    cold, hot = xp.zeros_like(t0), xp.full_like(t0, math.inf)
    if problem.name == "kl":
        cold, hot = (t0, hot) if problem.side == "hot" else (cold, t0)
    ends = tuple(pool(_quantity(problem, t)[0]) for t in (cold, hot))
    low, high = (_turned(problem, end, end)[0] for end in ends)
    inside = (wanted > low) & (wanted < high)
    reach = REACH[str(z.dtype).rpartition(".")[2]]
    lower, upper = wanted * 0 - reach, wanted * 0 + reach
    start = xp.log(_scale(z))
    if problem.name == "kl":
        near = xp.log(t0)
        if problem.side == "hot":
            lower = xp.maximum(lower, pool(near))
        else:
            upper = xp.minimum(upper, pool(near))
        m = kernels.moments(z, t0, problem.log_prior, False)
        move = goal**0.5 * (2 / xp.maximum(pool(reference.heat_capacity(m, t0)), xp.full_like(goal, 1e-30))) ** 0.5
        start = pool(near) + xp.clip(move, 1e-6, 10.0) * (1 if problem.side == "hot" else -1)
    start = xp.clip(start if problem.name == "kl" else pool(start), lower, upper)

    def residual(log_t: Array) -> tuple[Array, Array]:
        t = xp.broadcast_to(exponential(log_t), tuple(t0.shape))
        value, slope = _turned(problem, *map(pool, _quantity(problem, t)))
        return value - wanted, slope

    eps = float(xp.finfo(z.dtype).eps)
    tolerance = 4 * eps * xp.maximum(xp.abs(wanted), xp.ones_like(wanted))
    root = find_root(residual, start, lower, upper, value_tolerance=tolerance, step_tolerance=0.25 * eps)
    t = exponential(root.x)
    t = xp.where(
        wanted <= low,
        xp.broadcast_to(pool(cold), t.shape),
        xp.where(wanted >= high, xp.broadcast_to(pool(hot), t.shape), t),
    )
    return Answer(t, inside, *ends)


def _scale(z: Array) -> Array:
    """A temperature of the order of the answer: the mean distance of allowed logits from the largest."""
    xp = namespace(z)
    top = xp.max(z, axis=-1, keepdims=True)
    fall = xp.where(z > -math.inf, top - z, xp.zeros_like(z))
    mean = xp.mean(fall, axis=-1)
    return xp.where((mean > 0) & (mean < math.inf), mean, xp.ones_like(mean))


# -- derivatives -----------------------------------------------------------------------------------------


def _attach(problem: Problem, goal: Array, t: Array, inside: Array) -> Array:
    """T with the derivatives of the implicit function theorem: dT = (d target - dQ) / (dQ/dT).

    The quantity is evaluated once more as a differentiable function of the logits at the fixed T; what is added to T
    is 0.
    """
    z = problem.z
    xp = namespace(z)
    if is_torch(z):
        import torch

        if not (torch.is_grad_enabled() and (z.requires_grad or goal.requires_grad or is_traced(z))):
            return t
        stop: Callable[[Array], Array] = lambda v: v.detach()  # noqa: E731
    elif is_jax(z):
        import jax

        stop = jax.lax.stop_gradient
    else:
        return t
    pool: Callable[[Array], Array] = (lambda v: xp.mean(v)) if problem.pooled else (lambda v: v)
    t = stop(t)
    moving = inside & (t > 0) & (t < math.inf)
    safe = xp.where(moving, t, xp.ones_like(t))
    rows = xp.broadcast_to(safe, tuple(z.shape[:-1]))
    slope = stop(pool(_slope(problem, rows)))
    change = goal - pool(_differentiable(problem, rows))
    change = (change - stop(change)) / xp.where(moving & (slope != 0), slope, xp.ones_like(slope))
    return t + xp.where(moving, change, xp.zeros_like(change))


def _differentiable(problem: Problem, t: Array) -> Array:
    """The quantity as a function of the logits, with derivatives."""
    name, _, _, z, q, t0 = problem
    xp = namespace(z)
    if name in ("entropy", "mean_energy"):
        return kernels.state_function(name, z, t, q, check=False)
    if name == "top_probability":
        return xp.max(kernels.softmax(z, t, q, check=False), axis=-1)
    p = kernels.softmax(z, t, q, check=False)
    log_p = kernels.softmax(z, t, q, logarithm=True, check=False)
    log_near = kernels.softmax(z, t0, q, logarithm=True, check=False)
    allowed = p > 0
    nothing = xp.zeros_like(p)
    return xp.sum(p * (xp.where(allowed, log_p, nothing) - xp.where(allowed, log_near, nothing)), axis=-1)


def _slope(problem: Problem, t: Array) -> Array:
    """dQ/dT of the differentiable quantity."""
    name, _, _, z, q, t0 = problem
    m = kernels.moments(z, t, q, False)
    heat = reference.heat_capacity(m, t)
    if name == "entropy":
        return heat / t
    if name == "mean_energy":
        return heat
    if name == "top_probability":
        return -reference.top_probability(m, t) * m.gap / t**2
    return heat * (1 / t0 - 1 / t)
