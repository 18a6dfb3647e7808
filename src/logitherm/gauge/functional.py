"""What a probability costs in logits, and the functional whose minimum is the softmax."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from logitherm._array import (
    HALF_TYPES,
    Array,
    as_array,
    as_log_prior,
    as_logits,
    as_temperature,
    describe,
    dtype_name,
    first_true,
    in_dtype_of,
    namespace,
    require_rows,
    require_temperature,
    should_check,
    silent,
)
from logitherm.metrics.options import as_count

WHOLE = 1e-3  # |sum - 1| of probabilities, at most: those of half types are no closer


def logit_gap(probability: Any, temperature: Any = 1.0, *, states: int = 2) -> Array:
    """The lead T log((K - 1) q / (1 - q)) in logits that gives a state the probability q among K, all others alike.

    For two states it is T log(q / (1 - q)). No finite logits reach q = 0 or 1: a target that asks for certainty asks
    for logits without end. Of label smoothing e the gap is T log(1 + K (1 - e) / e), a finite one.

    Limits: q = 0 and 1 give -inf and inf, q = 1/K gives 0. T = 0 gives 0: any lead beyond it is certainty.
    T = inf gives -inf or inf, except for q = 1/K.

    Parameters
    ----------
    probability : float or floating array
        In [0, 1].
    temperature : float or array
        In the units of the logits, 0 <= T <= inf; broadcasts against `probability`.
    states : int
        K, at least 2.

    Returns
    -------
    array, the shape of both together, compute dtype
        In the units of the logits.

    Raises
    ------
    TypeError
        Probabilities or a temperature that are not numbers.
    ValueError
        Probabilities outside [0, 1], a temperature that is negative or NaN, fewer than 2 states.

    References
    ----------
    The inverse of the softmax of one state against K - 1 alike. Müller, Kornblith and Hinton (2019), When does label
    smoothing help?, for targets of a finite gap.

    Examples
    --------
    >>> float(logit_gap(0.99).round(4)), float(logit_gap(0.99, temperature=2.0).round(4))
    (4.5951, 9.1902)
    >>> smoothing, classes = 0.1, 10
    >>> float(logit_gap(1 - smoothing + smoothing / classes, states=classes).round(4))    # log(1 + 10 * 0.9 / 0.1)
    4.5109
    """
    as_count(states, "states", 2)
    q = as_array(probability, "probability")
    if "int" in dtype_name(q) and not hasattr(probability, "dtype"):
        q = q.astype(np.float64)  # 0 and 1, as one writes them
    xp = namespace(q)
    if "float" not in dtype_name(q):
        raise TypeError(f"probability: must be floating point; got {describe(q)}; convert with float64")
    q = xp.astype(q, xp.float32) if dtype_name(q) in HALF_TYPES else q
    if should_check(None, q):
        bad = ~((q >= 0) & (q <= 1))
        if bool(xp.any(bad)):
            at = first_true(bad)
            worst = float(xp.reshape(q, (-1,))[at])
            raise ValueError(f"probability: must lie in [0, 1]; got {worst:g} at index {at}; mend it")
        require_temperature(temperature)
    return _times(temperature, _log_odds(q, states))


@silent
def _log_odds(q: Array, states: int) -> Array:
    xp = namespace(q)
    return xp.log(q) - xp.log1p(-q) + math.log(states - 1)


@silent
def _times(temperature: Any, values: Array) -> Array:
    """T * values where 0 * inf is 0, on either side."""
    xp = namespace(values)
    t = in_dtype_of(values, temperature) + xp.zeros_like(values)
    values = values + xp.zeros_like(t)
    lost = ((t == 0) & xp.isinf(values)) | ((t == math.inf) & (values == 0))
    return xp.where(lost, xp.zeros_like(values), t * xp.where(lost, xp.ones_like(values), values))


def free_energy_functional(
    logits: Array,
    probabilities: Array,
    temperature: Any = 1.0,
    *,
    axis: int = -1,
    log_prior: Array | None = None,
    check: bool | None = None,
) -> Array:
    """F[p] = sum_i p_i E_i - T S(p), with E_i = -z_i and S = -sum_i p_i log(p_i / q_i), of any law p.

    Among all laws softmax(logits / T) alone has the smallest, and that is `free_energy`; every other one costs
    T KL(p || softmax(logits / T)) more. It is what a temperature trades: energy against entropy.

    Limits: T = 0 gives the mean energy, least for the largest logit; T = inf gives -inf where S > 0, inf where S < 0,
    and the mean energy where S = 0. A law that uses a forbidden state has inf.

    Parameters
    ----------
    logits : array, shape (..., states)
        Floating scores; -inf forbids a state.
    probabilities : array, shape of `logits`
        Not negative; each row sums to 1. Derivatives in them are those of the formula, off the simplex too.
    temperature : float, array of the batch shape, or Temperature
        In the units of the logits, 0 <= T <= inf.
    axis : int
        The axis of the states.
    log_prior : array, optional
        Log weights q that are not tempered, broadcastable against the logits with the states last.
    check : bool, optional
        Whether bad rows raise: yes unless False or under a trace, where NaN comes out.

    Returns
    -------
    array, batch shape, compute dtype of `logits`
        In the units of the logits.

    Raises
    ------
    TypeError
        Logits or probabilities that are not floating.
    ValueError
        Shapes that differ; rows of probabilities that are negative, NaN or do not sum to 1 within 1e-3; bad logits.

    References
    ----------
    Gibbs (1902), Elementary Principles in Statistical Mechanics, ch. XI, theorem III; Jaynes (1957), Information
    theory and statistical mechanics.

    Examples
    --------
    >>> from logitherm import free_energy, softmax
    >>> z = np.array([2.0, 1.0, 0.0])
    >>> float(free_energy_functional(z, softmax(z, 0.5), 0.5).round(6)), float(free_energy(z, 0.5).round(6))
    (-2.071466, -2.071466)
    >>> float(free_energy_functional(z, np.array([1.0, 0.0, 0.0]), 0.5))    # the largest alone has no entropy
    -2.0
    """
    z, p = as_logits(logits, axis), as_logits(probabilities, axis, "probabilities")
    xp = namespace(z)
    if tuple(p.shape) != tuple(z.shape):
        raise ValueError(
            f"probabilities: must have the shape of logits {tuple(z.shape)}; got {describe(p)}; give one a state"
        )
    p = in_dtype_of(z, p)
    t, q = as_temperature(temperature, z, check), as_log_prior(log_prior, z, check)
    if should_check(check, z, p, t):
        require_rows(xp.max(z, axis=-1))
        _require_laws(p)
    return _functional(z, p, t, q)


@silent
def _functional(z: Array, p: Array, t: Array, q: Array | None) -> Array:
    xp = namespace(z)
    nothing, used = xp.zeros_like(p), p != 0
    forbidden = z == -math.inf if q is None else (z == -math.inf) | (q == -math.inf)
    logs = xp.log(xp.where(used, p, xp.ones_like(p)))
    if q is not None:
        logs = logs - xp.where(forbidden, nothing, q)
    energy = -xp.sum(p * xp.where(forbidden, nothing, z), axis=-1)
    surplus = xp.sum(xp.where(used, p * logs, nothing), axis=-1)  # -S
    noise = 8 * xp.finfo(p.dtype).eps
    still = (t == 0) | ((t == math.inf) & (xp.abs(surplus) <= noise))  # a prior that sums to 1 is its own law
    found = energy + xp.where(still, xp.zeros_like(t), xp.where(still, xp.ones_like(t), t) * surplus)
    return xp.where(xp.any(used & forbidden, axis=-1), xp.full_like(found, math.inf), found)


def _require_laws(p: Array) -> None:
    """Raise unless every row is a law."""
    xp = namespace(p)
    totals = xp.sum(p, axis=-1)
    negative = xp.any(p < 0, axis=-1)
    good = ~negative & (xp.abs(totals - 1) <= WHOLE)  # False for NaN
    if bool(xp.all(good)):
        return
    row = first_true(~good)
    total = float(xp.reshape(totals, (-1,))[row])
    what = "a negative one" if bool(xp.reshape(negative, (-1,))[row]) else f"the sum {total:g}"
    raise ValueError(
        f"probabilities: rows must be at least 0 and sum to 1; row {row} has {what}; divide it by its sum, or take "
        "softmax of logits"
    )
