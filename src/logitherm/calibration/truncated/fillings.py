"""What the answers that an interface does not list may be: completions of a truncated distribution.

Of a row are known the largest probabilities, bounds of the `mass` that all M others have together, and a `cap` that
none of them exceeds. A filling spends the mass on them. For sums of g(q) = q^b (log q - c), b = 1/T, over the missing
states, the extreme fillings follow from the shape of g, which bends once: at the maximum for b <= 1 (and the minimum
for b >= 1) as many states as possible share the q of the tangent through the origin, log q = c + 1 / (1 - b), and the
others have nothing; at the other extreme all have the same, or some have the cap and the others the q of the tangent
through the cap. The sum bends but one way in the mass too, so that the best mass is where g alone is best, or the bound
next to it. The number of states of each kind may be a fraction, so that an extreme is at most one state beyond what can
be. A filling is a few states with numbers of copies, the prior weights of a Gibbs distribution.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from logitherm import kernels
from logitherm._array import silent
from logitherm._solve import find_root
from logitherm.kernels import Moments

BINS = 24  # of the ranks of a power law
HALVINGS = 80
MOST_STEPS = 60
CLOSE = 1e-11
STEEPEST = 1e6  # exponent of a power law


class Truncated(NamedTuple):
    """The known part of every row, float64: (n, k) and (n,)."""

    listed: np.ndarray  # log-probabilities, -inf where a column is empty
    log_mass: np.ndarray  # of the missing states together, a guess; -inf for nothing
    log_least: np.ndarray  # bounds of it
    log_most: np.ndarray
    log_cap: np.ndarray  # of one of them at most
    missing: np.ndarray  # how many there are, at least 1
    columns: bool  # whether they are the empty columns

    def take(self, rows: np.ndarray) -> Truncated:
        return Truncated(*(field[rows] for field in self[:-1]), self.columns)  # type: ignore[call-arg, arg-type]


class Filling(NamedTuple):
    """States of the missing part: (n, states) both."""

    logits: np.ndarray
    log_copies: np.ndarray  # -inf for none


def completed(rows: Truncated, filling: Filling, inverse_temperature: float, *, listed: bool = True) -> Moments:
    """The state of every row with its filling, or of the filling alone."""
    z = np.concatenate([rows.listed if listed else rows.listed[:, :0], filling.logits], axis=1)
    copies = np.zeros_like(z)
    copies[:, z.shape[1] - filling.logits.shape[1] :] = filling.log_copies
    z = np.where(copies == -math.inf, -math.inf, z)
    return kernels.moments(z, np.full(len(z), 1 / inverse_temperature), copies, False)


def log_probabilities(rows: Truncated, filling: Filling, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """Of the listed states, and of each copy of a state of the filling."""
    z = np.concatenate([rows.listed, np.where(filling.log_copies > -math.inf, filling.logits, -math.inf)], axis=1)
    copies = np.concatenate([np.zeros_like(rows.listed), filling.log_copies], axis=1)
    p = kernels.softmax(z, np.full(len(z), temperature), copies, logarithm=True, check=False)
    k = rows.listed.shape[1]
    return p[:, :k], p[:, k:] - np.where(filling.log_copies > -math.inf, filling.log_copies, 0.0)


def log_weight(state: Moments, inverse_temperature: float) -> np.ndarray:
    """log Z."""
    return np.asarray(state.top * inverse_temperature + state.log_weight + np.log1p(state.rest))


def mean_and_variance(state: Moments, inverse_temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """Of the logits of a state."""
    return state.top - state.gap, state.spread / (1 + state.rest) / inverse_temperature**2


def even(rows: Truncated, log_mass: np.ndarray) -> Filling:
    """So much mass shared equally."""
    return _one_kind(np.minimum(rows.log_cap, log_mass - np.log(rows.missing)), log_mass)


def concentrated(rows: Truncated, log_mass: np.ndarray) -> Filling:
    """As few states as the cap allows."""
    return _one_kind(rows.log_cap, log_mass)


def corners(rows: Truncated) -> list[Filling]:
    """The fillings that add least and most to Z at any T are among these."""
    return [spread(rows, mass) for spread in (even, concentrated) for mass in (rows.log_least, rows.log_most)]


def nothing(rows: Truncated) -> Filling:
    """No state has anything."""
    return _one_kind(rows.log_cap, np.full_like(rows.log_cap, -math.inf))


def single(rows: Truncated) -> Filling:
    """One state with all that it may have."""
    return Filling(rows.log_cap[:, None], np.where(rows.log_most > -math.inf, 0.0, -math.inf)[:, None])


def power_law(rows: Truncated) -> Filling:
    """q of rank j proportional to j^-a after the k listed states, from the cap on, with the a that spends the mass.

    A guess between the extremes, like the tails of language models.
    """
    count = (rows.listed > -math.inf).sum(axis=1)
    first, last = (count + 0.5)[:, None], (count + rows.missing + 0.5)[:, None]
    ends = first * (last / first) ** np.linspace(0, 1, BINS + 1)
    ends = np.round(ends - 0.5) + 0.5  # whole states in every bin
    copies = np.diff(ends, axis=1)
    with np.errstate(divide="ignore"):
        log_copies = np.log(copies)
    z = -np.log(np.sqrt((ends[:, :-1] + 0.5) * (ends[:, 1:] - 0.5)) / count[:, None])
    target = rows.log_mass - rows.log_cap

    @silent
    def short(exponent: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        state = kernels.moments(z, 1 / exponent, log_copies, False)
        total = exponent * state.top + state.log_weight + np.log1p(state.rest)
        return target - total, -(state.top - state.gap)

    start = np.ones(len(z))
    a = find_root(short, start, 1e-6, STEEPEST, value_tolerance=1e-12, step_tolerance=1e-10).x
    logits = rows.log_cap[:, None] + a[:, None] * z
    spent = rows.log_mass > -math.inf
    return Filling(logits, np.where(spent[:, None], log_copies, -math.inf))


def extreme_mean(
    rows: Truncated, inverse_temperature: float, *, largest: bool, listed: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """The largest or smallest mean logit over all fillings, and the variance there: (n,) both.

    The mean is a ratio of sums; its extreme c is where that of sum of p^b (log p - c) is 0 (Dinkelbach 1967).
    """
    filling = even(rows, rows.log_mass)
    mean = mean_and_variance(completed(rows, filling, inverse_temperature, listed=listed), inverse_temperature)[0]
    for _ in range(MOST_STEPS):
        filling = extreme_filling(rows, inverse_temperature, mean, largest=largest)
        state = completed(rows, filling, inverse_temperature, listed=listed)
        before, (mean, variance) = mean, mean_and_variance(state, inverse_temperature)
        if np.nanmax(np.abs(mean - before) / (1 + np.abs(mean)), initial=0.0) <= CLOSE:
            break
    return mean, variance


@silent
def extreme_filling(rows: Truncated, inverse_temperature: float, centre: np.ndarray, *, largest: bool) -> Filling:
    """The filling of the largest or smallest sum of q^b (log q - centre)."""
    b = inverse_temperature
    # where g is best: the cap or nothing for the largest sum, its lowest point for the smallest
    best = np.where(rows.log_cap > centre, rows.log_cap, -math.inf) if largest else centre - 1 / b
    best = np.minimum(best, rows.log_cap) + np.log(rows.missing)
    log_mass = np.clip(best, rows.log_least, rows.log_most)
    share = np.minimum(log_mass - np.log(rows.missing), rows.log_cap)  # of a state if all have the same
    if largest == (b <= 1):
        steepness = np.inf if b == 1 else 1 / (1 - b)
        return _one_kind(np.maximum(share, np.minimum(centre + steepness, rows.log_cap)), log_mass)
    if b == 1:
        return _one_kind(share, log_mass)
    return _two_kinds(rows, b, centre, share, log_mass, largest)


@silent
def _one_kind(log_q: np.ndarray, log_mass: np.ndarray) -> Filling:
    copies = np.where(log_mass > -math.inf, log_mass - log_q, -math.inf)
    return Filling(log_q[:, None], copies[:, None])


def _two_kinds(
    rows: Truncated, b: float, centre: np.ndarray, share: np.ndarray, log_mass: np.ndarray, largest: bool
) -> Filling:
    """All equal where that is beyond the tangent through the cap; else some at the cap, the others at the tangent.

    With q = cap * exp(u) and k = log cap - centre, g is proportional to f(u) = exp(b u) (u + k) and the tangent is
    where h(u) = k - f(u) - exp((b - 1) u) (b (u + k) + 1) (1 - exp(u)) is 0.
    """
    k, even_u = rows.log_cap - centre, share - rows.log_cap

    def h(u: np.ndarray, k: np.ndarray) -> np.ndarray:
        bend = kernels.exponential((b - 1) * u)
        return k - bend * kernels.exponential(u) * (u + k) + bend * (b * (u + k) + 1) * np.expm1(u)

    turn = -k - (2 * b - 1) / (b * (b - 1))  # where g bends the other way
    sign = -1.0 if largest else 1.0  # h falls to its root for the smallest sum and rises for the largest
    beyond = (even_u < np.minimum(turn, 0)) & (sign * h(even_u, k) >= 0)
    mixed = (log_mass > -math.inf) & (turn < 0) & (even_u < 0) & ~beyond
    rooted = np.flatnonzero(mixed & (k < 0) if largest else mixed)  # else the tangent goes through the origin
    high = np.minimum(turn, even_u)[rooted]
    low = np.minimum(-800 / (b - 1) if largest else -k[rooted] - 1 / b, high)  # there h is below, above 0
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        left = sign * h(middle, k[rooted]) >= 0
        low, high = np.where(left, middle, low), np.where(left, high, middle)
    other_u = np.where(mixed, -math.inf, even_u)
    other_u[rooted] = low
    # n at the cap and the others elsewhere: n + (missing - n) exp(other_u) = missing * exp(even_u)
    at_other = kernels.exponential(other_u)
    capped = np.where(mixed, rows.missing * (kernels.exponential(even_u) - at_other) / (1 - at_other), 0.0)
    copies = np.stack([capped, rows.missing - capped], axis=1)
    copies[log_mass == -math.inf] = 0
    copies[other_u == -math.inf, 1] = 0
    return Filling(np.stack([rows.log_cap, rows.log_cap + other_u], axis=1), np.log(copies))
