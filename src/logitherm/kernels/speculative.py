"""Two laws against each other, in logarithms: when a draft is accepted, and what is drawn where it is not."""

from __future__ import annotations

import math

from logitherm._array import Array, namespace, silent


@silent
def accept_probability(log_p: Array, log_q: Array) -> Array:
    """min(1, p / q) of drafted states, which have q > 0."""
    xp = namespace(log_p)
    return xp.exp(xp.minimum(log_p - log_q, xp.zeros_like(log_p)))


@silent
def log_residual(log_p: Array, log_q: Array) -> Array:
    """log max(p - q, 0): log p + log(1 - exp(log q - log p)), with no digit lost where the two are close.

    A row where nothing is left has p = q within rounding, and is p itself.
    """
    xp = namespace(log_p)
    nothing = xp.full_like(log_p, -math.inf)
    above = log_p > log_q
    below = xp.where(above, log_q - log_p, nothing)  # < 0; -inf where q = 0
    left = xp.where(above, log_p + xp.log(-xp.expm1(below)), nothing)
    empty = ~xp.any(left > -math.inf, axis=-1)
    return xp.where(empty[..., None], log_p, left)
