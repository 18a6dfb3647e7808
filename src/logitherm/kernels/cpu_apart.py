"""CPU kernels of laws of which some states are set apart from all others."""

from __future__ import annotations

import numpy as np
from numba import njit

from logitherm.kernels.cpu import _FLAGS, _REDUCE, _exp2, _floor, _full_width, _maximum
from logitherm.kernels.cpu_sampling import BLOCK, _block_sum, _scale, _top

HIGH, SUM, ONE_SUM = range(3)  # of a row's others: the largest, and the sums of weights relative to it at T and at 1


@njit(**_FLAGS)
def set_apart(z, tokens, t, near, others, hot):
    """near = z at the tokens, which are forbidden in z from then on; others[i] = (high, sum, sum at T = 1 if `hot`).

    The high of a row with NaN or +inf among the others is that.
    """
    states, lowest, endless = z.shape[1], np.finfo(z.dtype).min, np.inf
    one = _scale(1.0, z.dtype)
    for i in range(z.shape[0]):
        for j in range(tokens.shape[1]):
            known = tokens[i, j] < states
            near[i, j] = z[i, tokens[i, j]] if known else -endless
        for j in range(tokens.shape[1]):
            if tokens[i, j] < states:
                z[i, tokens[i, j]] = -endless
        scale = _scale(t[i], z.dtype)
        high, total, hot_total = -endless, 0.0, 0.0
        for start in range(0, states, BLOCK):
            part = z[i, start : start + BLOCK]
            top, sound, allowed = _top(part)
            if int(sound) < part.shape[0]:
                high = endless if top == endless else np.nan
                break
            if not allowed:
                continue
            rise = np.float64(top) - high
            if rise > 0:
                high = np.float64(top)
                total *= np.exp2(-rise * scale)
                hot_total *= np.exp2(-rise * one)
            total += np.exp2(min(rise, 0.0) * scale) * np.float64(_block_sum(part, top, scale, lowest))
            if hot:
                hot_total += np.exp2(min(rise, 0.0) * one) * np.float64(_block_sum(part, top, one, lowest))
        others[i, HIGH], others[i, SUM], others[i, ONE_SUM] = high, total, hot_total


@njit(fastmath=_REDUCE, **_FLAGS)
def _fill(z, high, scale, log, factor):
    _full_width()
    lowest = _floor(z.dtype.type(0))
    for j in range(z.shape[0]):
        z[j] = factor * _exp2(_maximum((z[j] - high) * scale - log, lowest))


@njit(fastmath=_REDUCE, **_FLAGS)
def _fill_both(z, high, scale, log, factor, one, one_log, one_factor):
    _full_width()
    lowest = _floor(z.dtype.type(0))
    for j in range(z.shape[0]):
        x = z[j] - high
        warm = one_factor * _exp2(_maximum(x * one - one_log, lowest))
        z[j] = factor * _exp2(_maximum(x * scale - log, lowest)) + warm


@njit(**_FLAGS)
def spread(z, t, high, log, factor, one_log, one_factor, softcap):
    """z = factor * the law of the others + one_factor * that at T = 1, of sums 2^log and 2^one_log, before a cap."""
    number = z.dtype.type
    one = _scale(1.0, z.dtype)
    capped = np.empty(BLOCK, z.dtype)
    for i in range(z.shape[0]):
        scale = _scale(t[i], z.dtype)
        top = number(high[i]) if high[i] > -np.inf else number(0)  # all are forbidden
        for start in range(0, z.shape[1], BLOCK):
            part = z[i, start : start + BLOCK]
            for j in range(part.shape[0] if softcap < np.inf else 0):
                capped[j] = 1 - (part[j] / number(softcap)) ** 2
            if one_factor[i] > 0:
                _fill_both(
                    part, top, scale, number(log[i]), number(factor[i]), one, number(one_log[i]), number(one_factor[i])
                )
            else:
                _fill(part, top, scale, number(log[i]), number(factor[i]))
            for j in range(part.shape[0] if softcap < np.inf else 0):
                part[j] = part[j] * capped[j] if part[j] != 0 else number(0)
