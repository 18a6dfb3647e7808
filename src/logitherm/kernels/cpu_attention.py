"""The CPU kernel of attention: what is known of every row of scores grows by one block of keys after the other."""

from __future__ import annotations

import numpy as np
from numba import njit

from logitherm.kernels.cpu import _FLAGS, _REDUCE, LN2, _exp2, _floor, _full_width, _maximum
from logitherm.kernels.cpu_sampling import BLOCK, _top

TOP, REST, GAP, SPREAD = range(4)  # of a row's state, at T = 1; see `logitherm.kernels.reference.Moments`


@njit(fastmath=_REDUCE, **_FLAGS)
def _sums(row, top, scale):
    """Number of maxima; sums of 2^x, 2^x x and 2^x x^2 over the states below it, x = (score - top) scale."""
    _full_width()
    zero, one = row.dtype.type(0), row.dtype.type(1)
    floor = _floor(zero)
    ties, s0, s1, s2 = zero, zero, zero, zero
    for j in range(row.shape[0]):
        d = row[j] - top
        x = _maximum(d * scale, floor)
        e = _exp2(x)
        ties += one if row[j] >= top else zero
        e = e if d < zero else zero
        t = e * x
        s0 += e
        s1 += t
        s2 += t * x
    return ties, s0, s1, s2


@njit(**_FLAGS)
def collect(scores, start, stop, state):
    """Add the scores start[i] to stop[i] of row i to state[i]; its top becomes NaN or +inf where one of them is."""
    number = scores.dtype.type
    scale = number(1 / LN2)
    for i in range(scores.shape[0]):
        for begin in range(start[i], stop[i], BLOCK):
            part = scores[i, begin : min(begin + BLOCK, stop[i])]
            top, sound, allowed = _top(part)
            if int(sound) < part.shape[0]:
                state[i, TOP] = np.inf if top == np.inf else np.nan
                break
            if not allowed:
                continue
            ties, s0, s1, s2 = _sums(part, top, scale)
            rest = np.float64(ties) - 1 + np.float64(s0)
            gap = -np.float64(s1) * LN2 / (1 + rest)
            spread = np.float64(s2) * LN2 * LN2 - gap * gap * (1 + rest)
            rise = np.float64(top) - state[i, TOP]
            if state[i, TOP] == -np.inf:
                state[i, TOP], state[i, REST], state[i, GAP], state[i, SPREAD] = top, rest, gap, spread
                continue
            if rise > 0:  # what was known is the lower of the two
                low_rest, low_gap, low_spread = state[i, REST], state[i, GAP], state[i, SPREAD]
                state[i, TOP], state[i, REST], state[i, GAP], state[i, SPREAD] = top, rest, gap, spread
            else:
                low_rest, low_gap, low_spread, rise = rest, gap, spread, -rise
            step = np.exp(-rise)
            weight = step * (1 + low_rest)
            high = 1 + state[i, REST]
            share = weight / (high + weight)
            apart = rise + low_gap - state[i, GAP]  # between the means
            state[i, REST] += weight
            state[i, GAP] += share * apart
            state[i, SPREAD] += step * low_spread + high * share * apart * apart
