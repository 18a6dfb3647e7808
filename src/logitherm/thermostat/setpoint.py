"""The temperature that holds a set point: an entropy, a mean energy, a top probability, a divergence."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from logitherm import kernels
from logitherm._array import (
    Array,
    as_array,
    as_log_prior,
    as_logits,
    as_temperature,
    describe,
    first_true,
    forbid,
    is_array,
    is_jax,
    is_torch,
    is_traced,
    like,
    namespace,
    require_rows,
    should_check,
    to_numpy,
)
from logitherm._labels import place
from logitherm.kernels import reference
from logitherm.thermostat.search import Answer, Problem, search


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
    the residual, not T, which is ill-conditioned near the limits: the quantity meets its target within 8 roundings of
    the compute dtype (16 for a divergence), relative to the target or to 1, whichever is larger; for a mean energy, in
    place of 1, to the mean distance of the logits from the largest. In PyTorch and JAX the answer is differentiable in
    logits, target and reference temperature, by the implicit function theorem; once, not twice.

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
    targets = {"entropy": entropy, "mean_energy": mean_energy, "top_probability": top_probability, "kl": kl}
    name = require_one_target(targets, side, out_of_range)
    if log_prior is not None and name == "top_probability":
        raise ValueError("log_prior: must be absent with top_probability, which need not be monotone under a prior")
    z = as_logits(logits, axis)
    xp = namespace(z)
    batch = tuple(z.shape[:-1])
    q = as_log_prior(log_prior, z, check)
    goal = _as_target(name, targets[name], z, () if pooled else batch)
    if q is None and name != "mean_energy" and should_check(check, z, goal):
        _require_possible(name, goal)
    t0 = as_temperature(reference_temperature, z, check)
    if q is not None:
        z = forbid(z, q)
    if should_check(check, z):
        require_rows(xp.max(z, axis=-1))
    if name == "kl" and should_check(check, z, t0) and not bool(xp.all((t0 > 0) & (t0 < math.inf))):
        raise ValueError(f"reference_temperature: must lie in (0, inf); got {describe(reference_temperature)}")
    if pooled and math.prod(batch) == 0:
        raise ValueError(f"logits: must hold at least one row to pool; got {describe(logits)}")
    if pooled and is_array(reference_temperature) and math.prod(reference_temperature.shape) > 1:
        raise ValueError(f"reference_temperature: must be one number if pooled; got {describe(reference_temperature)}")
    looked_at = should_check(check, z, goal)
    problem = Problem(name, side, pooled, z, q, t0)
    answer = _answer(problem, goal)
    t, inside = answer.temperature, answer.inside
    if out_of_range == "raise":
        if looked_at:
            _require_inside(name, goal, answer, batch, pooled)
        t = xp.where(inside, t, xp.full_like(t, math.nan))
    return _attach(problem, goal, t, inside)


def require_one_target(targets: dict[str, Any], side: str | None, out_of_range: str) -> str:
    """The name of the one target that is given, with options that fit it."""
    given = [name for name, value in targets.items() if value is not None]
    if len(given) != 1:
        raise ValueError(f"{', '.join(targets)}: give exactly one; got {given or 'none'}")
    if (side is not None) != (given == ["kl"]) or side not in (None, "hot", "cold"):
        raise ValueError(f"side: must be 'hot' or 'cold' with kl, and absent otherwise; got {side!r} with {given[0]}")
    if out_of_range not in ("raise", "limit"):
        raise ValueError(f"out_of_range: must be 'raise' or 'limit'; got {out_of_range!r}")
    return given[0]


def _as_target(name: str, target: Any, z: Array, shape: tuple[int, ...]) -> Array:
    xp = namespace(z)
    if isinstance(target, (int, float)):
        goal = xp.full_like(xp.sum(z[..., :0]), target)
    else:
        goal = as_array(target, name)
        goal = xp.astype(goal if namespace(goal) is xp else like(to_numpy(goal), z), z.dtype)
    try:
        goal = xp.broadcast_to(goal, shape)
    except (ValueError, RuntimeError, TypeError) as error:
        raise ValueError(f"{name}: must broadcast against the batch {shape}; got {describe(target)}") from error
    if not is_traced(goal) and not is_traced(z) and bool(xp.any(xp.isnan(goal))):
        raise ValueError(f"{name}: must be a number; got NaN at index {first_true(xp.isnan(goal))}; mend it")
    return goal


def _require_possible(name: str, goal: Array) -> None:
    """Refuse what no logits can have, whatever is to happen to targets that only these cannot reach."""
    most = 1.0 if name == "top_probability" else math.inf
    impossible = (goal < 0) | (goal > most)
    if bool(namespace(goal).any(impossible)):
        row = first_true(impossible)
        raise ValueError(
            f"{name}: must lie in [0, {most:g}]; got {float(to_numpy(goal).reshape(-1)[row]):g}; "
            + ("give a share, not a percentage" if most == 1 else "it is in nats")
        )


def _require_inside(name: str, goal: Array, answer: Answer, batch: tuple[int, ...], pooled: bool) -> None:
    xp = namespace(goal)
    if bool(xp.all(answer.inside)):
        return
    row = first_true(~answer.inside)
    wanted, low, high = (float(to_numpy(v).reshape(-1)[row]) for v in (goal, answer.low, answer.high))
    low, high = min(low, high), max(low, high)
    raise ValueError(
        f"{name}: must lie between its values at the limits of T, ({low:.6g}, {high:.6g}) for "
        f"{'the mean of the rows' if pooled else place(row, batch)}; got {wanted:.6g}; "
        "pass out_of_range='limit' to take the nearest limit"
    )


# -- the answer, and its derivatives ----------------------------------------------------------------------


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


def _attach(problem: Problem, goal: Array, t: Array, inside: Array) -> Array:
    """T with the derivatives of the implicit function theorem: dT = (d target - dQ) / (dQ/dT).

    The quantity is evaluated once more as a differentiable function of the logits at the fixed T; what is added to T
    is 0.
    """
    z = problem.z
    xp = namespace(z)
    if is_torch(z):
        import torch

        wanted = z.requires_grad or goal.requires_grad or problem.reference_temperature.requires_grad
        if not (torch.is_grad_enabled() and (wanted or is_traced(z))):
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
