"""The definition: every quantity in a few readable lines of the array API. It is the oracle of the fast kernels.

All functions take logits with the states on the last axis, a temperature of the batch shape and, where there is
one, a log prior of the shape of the logits. They hold for 0 <= T <= inf and for any finite logits; NaN in, NaN out.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from logitherm._array import Array, forbid, namespace, silent, state_index


class Moments(NamedTuple):
    """The state of a Gibbs distribution in logit units; every field has the batch shape.

    With x_i = z_i/T + log q_i and a the first state of largest x (for uniform q: of largest z):
    """

    top: Array  # z_a
    log_weight: Array  # log q_a (0 for a uniform prior)
    rest: Array  # sum over i != a of exp(x_i - x_a)
    gap: Array  # <z_a - z>
    spread: Array  # sum over all i of exp(x_i - x_a) (z_i - <z>)^2 / T^2


def over(difference: Array, temperature: Array) -> Array:
    """difference / temperature with both limits: 0/0 = 0, -x/0 = -inf, x/inf = 0 and -inf/inf = -inf."""
    xp = namespace(difference)
    cold = temperature <= 0
    forbidden = difference == -math.inf
    finite = xp.where(forbidden, xp.zeros_like(difference), difference)  # so that no derivative is 0 * inf
    ratio = finite / xp.where(cold, xp.ones_like(temperature), temperature)
    frozen = xp.where(difference == 0, xp.zeros_like(ratio), xp.copysign(xp.full_like(ratio, math.inf), ratio))
    ratio = xp.where(cold & ~xp.isnan(ratio), frozen, ratio)
    return xp.where(forbidden, xp.full_like(ratio, -math.inf), ratio)


def weighted(weights: Array, values: Array) -> Array:
    """weights * values where a weight of 0 contributes 0, never 0 * inf."""
    xp = namespace(weights)
    return xp.where(weights == 0, xp.zeros_like(weights), weights * xp.where(weights == 0, weights, values))


def allowed(z: Array, log_prior: Array | None) -> tuple[Array, Array]:
    """Logits that are -inf where the prior forbids a state, and their maximum (NaN, +inf, -inf for a bad row)."""
    z = z if log_prior is None else forbid(z, log_prior)
    return z, namespace(z).max(z, axis=-1, keepdims=True)


@silent
def exponents(z: Array, temperature: Array, log_prior: Array | None) -> tuple[Array, Array, Array]:
    """x - x_a for every state, the mark of a, the first of largest x, and max z (NaN, +inf, -inf for a bad row)."""
    xp = namespace(z)
    z, top = allowed(z, log_prior)
    x = over(z - top, temperature[..., None])
    if log_prior is not None:
        x = x + log_prior
    here = state_index(z) == xp.argmax(z if log_prior is None else x, axis=-1, keepdims=True)
    return x - at(here, x)[..., None], here, top[..., 0]


def at(here: Array, values: Array) -> Array:
    """The value at the one state that is marked in every row: unlike a maximum, with one derivative where there are
    ties."""
    xp = namespace(values)
    return xp.sum(xp.where(here, values, xp.zeros_like(values)), axis=-1)


@silent
def moments(z: Array, temperature: Array, log_prior: Array | None = None) -> Moments:
    """The state of softmax(z / temperature + log_prior); a bad row has a `top` that is not finite."""
    xp = namespace(z)
    x, here, top = exponents(z, temperature, log_prior)
    weights = xp.where(here, xp.zeros_like(x), xp.exp(x))
    rest = xp.where(xp.isfinite(top), xp.sum(weights, axis=-1), xp.full_like(top, math.nan))
    log_weight = xp.zeros_like(rest) if log_prior is None else at(here, log_prior)
    anchor_logit = xp.where(xp.isfinite(top), at(here, z), top)
    below = anchor_logit[..., None] - z
    gap = xp.sum(weighted(weights, below), axis=-1) / (1 + rest)
    deviation = over(gap[..., None] - below, temperature[..., None])
    squares = weighted(xp.where(here, xp.ones_like(weights), weights), deviation**2)
    return Moments(anchor_logit, log_weight, rest, gap, xp.sum(squares, axis=-1))


def moments_or_empty(z: Array, temperature: Array, log_prior: Array | None = None) -> Moments:
    """`moments`, but the empty state, the identity of `merge`, where a row has no allowed state."""
    xp = namespace(z)
    forbidden = z == -math.inf if log_prior is None else (z == -math.inf) | (log_prior == -math.inf)
    empty = xp.all(forbidden, axis=-1)
    zero = xp.zeros_like(z)
    z = xp.where(empty[..., None], zero, z)
    m = moments(z, temperature, None if log_prior is None else xp.where(empty[..., None], zero, log_prior))
    nothing = xp.zeros_like(m.top)
    return Moments(xp.where(empty, nothing - math.inf, m.top), *(xp.where(empty, nothing, v) for v in m[1:]))


@silent
def log_softmax(z: Array, temperature: Array, log_prior: Array | None = None) -> Array:
    """log p_i = x_i - x_a - log1p(rest)."""
    xp = namespace(z)
    x, here, _ = exponents(z, temperature, log_prior)
    rest = xp.sum(xp.where(here, xp.zeros_like(x), xp.exp(x)), axis=-1, keepdims=True)
    return x - xp.log1p(rest)


@silent
def softmax(z: Array, temperature: Array, log_prior: Array | None = None) -> Array:
    """p_i = exp(x_i - x_a) / (1 + rest)."""
    xp = namespace(z)
    x, _, _ = exponents(z, temperature, log_prior)
    weights = xp.exp(x)
    return weights / xp.sum(weights, axis=-1, keepdims=True)


@silent
def merge(a: Moments, b: Moments, temperature: Array) -> Moments:
    """The state of the union of two disjoint sets of states at one temperature (associative, commutative)."""
    xp = namespace(a.top)
    a_empty, b_empty = a.top == -math.inf, b.top == -math.inf
    either, nothing = a_empty | b_empty, xp.zeros_like(b.top)
    rise = over(xp.where(either, nothing, b.top - a.top), temperature)
    rise = rise + xp.where(either, nothing, b.log_weight - a.log_weight)
    rise = xp.where(b_empty, xp.full_like(rise, -math.inf), xp.where(a_empty, xp.full_like(rise, math.inf), rise))
    high, low = (Moments(*(xp.where(rise > 0, u, v) for u, v in zip(p, q))) for p, q in ((b, a), (a, b)))
    step = xp.exp(xp.where(rise > 0, -rise, rise))  # not -|rise|, which has no derivative where two states tie
    low_weight = step * (1 + low.rest)
    rest = high.rest + low_weight
    share = low_weight / (1 + rest)
    distance = xp.where(either, nothing, (high.top - low.top) + (low.gap - high.gap))  # between the mean logits
    gap = high.gap + weighted(share, distance)
    between = weighted((1 + high.rest) * share, over(distance, temperature) ** 2)
    spread = high.spread + weighted(step, low.spread) + between
    return Moments(high.top, high.log_weight, rest, gap, spread)


# -- state functions -------------------------------------------------------------------------------------


@silent
def log_partition(m: Moments, temperature: Array) -> Array:
    """log Z = log sum_i q_i exp(z_i / T)."""
    return over(m.top, temperature) + m.log_weight + namespace(m.top).log1p(m.rest)


@silent
def entropy(m: Moments, temperature: Array) -> Array:
    """S = -sum_i p_i log(p_i / q_i) = log q_a + log1p(rest) + gap / T."""
    return m.log_weight + namespace(m.top).log1p(m.rest) + over(m.gap, temperature)


def mean_energy(m: Moments, temperature: Array) -> Array:
    """E = -sum_i p_i z_i."""
    return m.gap - m.top


@silent
def free_energy(m: Moments, temperature: Array) -> Array:
    """F = -T log Z; at T = inf, where T * log Z = T * S + <z>, the sign of S decides (S = 0 leaves F = E)."""
    xp = namespace(m.top)
    excess = m.log_weight + xp.log1p(m.rest)
    hot = temperature == math.inf
    noise = 8 * xp.finfo(excess.dtype).eps * (1 + xp.abs(m.log_weight))
    still = hot & (xp.abs(excess) <= noise)
    cooled = xp.where(still, xp.zeros_like(temperature), temperature)
    return -m.top + xp.where(still, m.gap, -weighted(excess, cooled))


@silent
def heat_capacity(m: Moments, temperature: Array) -> Array:
    """C = Var_p(z) / T^2 = spread / (1 + rest)."""
    return m.spread / (1 + m.rest)


def top_probability(m: Moments, temperature: Array) -> Array:
    """max p = 1 / (1 + rest)."""
    return 1 / (1 + m.rest)


# -- likelihood ------------------------------------------------------------------------------------------


@silent
def likelihood(z: Array, observed: Array, temperature: Array) -> tuple[Array, Array, Array]:
    """Per row: negative log-likelihood, and its first and second derivative in the inverse temperature.

    `observed` is the logit of the label, or its mean over soft labels or samples. The score <z> - observed vanishes
    in the sum at the maximum-likelihood temperature; the curvature is Var_p(z).
    """
    xp = namespace(z)
    m = moments(z, temperature)
    nll = xp.log1p(m.rest) + over(m.top - observed, temperature)
    score = (m.top - observed) - m.gap
    return nll, score, heat_capacity(m, temperature) * temperature**2


def exponential(x: Array | float) -> Array:
    """exp(x), for searches that run in the logarithm of a temperature."""
    return math.exp(x) if isinstance(x, float) else namespace(x).exp(x)
