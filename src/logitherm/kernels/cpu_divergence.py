"""CPU kernels of divergences between two tempered laws: value of every row, and slopes in the place of the logits.

What a row needs to know of itself is collected first, from all of its states or from one block of the vocabulary after
the other; then its terms and slopes are found block by block.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from logitherm.kernels.cpu import _FLAGS, _REDUCE, LN2, _exp2, _floor, _full_width, _maximum
from logitherm.kernels.cpu_sampling import BLOCK, _block_sum, _scale, _top

FORWARD, REVERSE = range(2)
# Of a row's state: largest logit and sum of weights relative to it, of either side; the student's sum at T = 1; and the
# sum of the student's weights times the difference of z / T, in bits.
S_TOP, S_SUM, T_TOP, T_SUM, ONE_SUM, APART = range(6)
NEAR = 0.5  # |log(p / q)| up to which the series serves, to 2e-9


@njit(fastmath=_REDUCE, **_FLAGS)
def _value(a, a_top, a_scale, a_log, b, b_top, b_scale, b_log):
    """Sum of p log(p / q) - p + q over a block, p of `a` and q of `b`: terms that are not negative, for which a common
    error of log p - log q does not matter.

    In float32 the exponentials' own errors would: near 0 the term is p (d - 1 + e^-d), d = log(p / q), by its series.
    """
    _full_width()
    kind = a.dtype.type
    zero, ln2, near = kind(0), kind(LN2), kind(NEAR if np.finfo(a.dtype).eps > 1e-10 else 0)
    c2, c3, c4, c5, c6 = kind(1 / 2), kind(-1 / 6), kind(1 / 24), kind(-1 / 120), kind(1 / 720)
    c7, c8, c9 = kind(-1 / 5040), kind(1 / 40320), kind(-1 / 362880)
    lowest, total = _floor(zero), zero
    for j in range(a.shape[0]):
        log_p, log_q = (a[j] - a_top) * a_scale - a_log, (b[j] - b_top) * b_scale - b_log
        p, q = _exp2(_maximum(log_p, lowest)), _exp2(_maximum(log_q, lowest))
        d = (log_p - log_q) * ln2
        series = (((((((c9 * d + c8) * d + c7) * d + c6) * d + c5) * d + c4) * d + c3) * d + c2) * d * d
        far = (p * d if p > zero else zero) - p + q
        total += p * series if abs(d) < near else far
    return total


@njit(fastmath=_REDUCE, **_FLAGS)
def _difference(s, s_top, s_scale, s_log, t, t_top, t_scale, t_log, factor):
    """factor (q - p) in the place of the student's logits."""
    _full_width()
    lowest = _floor(s.dtype.type(0))
    for j in range(s.shape[0]):
        q = _exp2(_maximum((s[j] - s_top) * s_scale - s_log, lowest))
        p = _exp2(_maximum((t[j] - t_top) * t_scale - t_log, lowest))
        s[j] = factor * (q - p)


@njit(fastmath=_REDUCE, **_FLAGS)
def _centred(s, s_top, s_scale, s_log, t, t_top, t_scale, t_log, mean, factor):
    """factor q (log q - log p - mean) in the place of the student's logits; `mean` is that of the difference."""
    _full_width()
    zero, ln2 = s.dtype.type(0), s.dtype.type(LN2)
    lowest = _floor(zero)
    for j in range(s.shape[0]):
        log_q, log_p = (s[j] - s_top) * s_scale - s_log, (t[j] - t_top) * t_scale - t_log
        q = _exp2(_maximum(log_q, lowest))
        s[j] = factor * q * ((log_q - log_p) * ln2 - mean) if q > zero else zero


@njit(fastmath=_REDUCE, **_FLAGS)
def _apart(s, s_top, s_scale, t, t_top, t_scale):
    """Sum over a block of the student's weights times the difference of z / T, all relative to the block's tops."""
    _full_width()
    zero = s.dtype.type(0)
    lowest, total = _floor(zero), zero
    for j in range(s.shape[0]):
        x = (s[j] - s_top) * s_scale
        q = _exp2(_maximum(x, lowest))
        total += q * (x - (t[j] - t_top) * t_scale) if q > zero else zero
    return total


@njit(fastmath=_REDUCE, **_FLAGS)
def _weights(s, top, scale, log, factor, out):
    _full_width()
    lowest = _floor(s.dtype.type(0))
    for j in range(s.shape[0]):
        out[j] = factor * _exp2(_maximum((s[j] - top) * scale - log, lowest))


@njit(**_FLAGS)
def collect(kind, student, teacher, t_s, t_t, hard, state):
    """Add these states to what is known of every row; NaN for the top of a side with NaN or +inf."""
    states = student.shape[1]
    lowest = np.finfo(student.dtype).min
    one = _scale(1.0, student.dtype)
    for i in range(student.shape[0]):
        s_scale, t_scale = _scale(t_s[i], student.dtype), _scale(t_t[i], student.dtype)
        for start in range(0, states, BLOCK):
            s, t = student[i, start : start + BLOCK], teacher[i, start : start + BLOCK]
            s_top, s_sound, s_allowed = _top(s)
            t_top, t_sound, t_allowed = _top(t)
            state[i, S_TOP] = state[i, S_TOP] if int(s_sound) == s.shape[0] else np.nan
            state[i, T_TOP] = state[i, T_TOP] if int(t_sound) == t.shape[0] else np.nan
            if t_allowed:
                rise = np.float64(t_top) - state[i, T_TOP]
                if rise > 0:
                    state[i, T_TOP] = t_top
                    state[i, T_SUM] *= np.exp2(-rise * t_scale)
                state[i, T_SUM] += np.exp2(min(rise, 0) * t_scale) * np.float64(_block_sum(t, t_top, t_scale, lowest))
            if s_allowed:
                rise = np.float64(s_top) - state[i, S_TOP]
                if rise > 0:
                    state[i, S_TOP] = s_top
                    state[i, S_SUM] *= np.exp2(-rise * s_scale)
                    state[i, APART] *= np.exp2(-rise * s_scale)
                    state[i, ONE_SUM] *= np.exp2(-rise * one)
                step = np.exp2(min(rise, 0) * s_scale)
                weight = np.float64(_block_sum(s, s_top, s_scale, lowest))
                state[i, S_SUM] += step * weight
                if hard[i] > 0:
                    state[i, ONE_SUM] += np.exp2(min(rise, 0) * one) * np.float64(_block_sum(s, s_top, one, lowest))
                if kind == REVERSE and step * weight > 0:
                    between = np.float64(s_top) * s_scale - np.float64(t_top) * t_scale
                    if t_allowed:
                        between = weight * between + np.float64(_apart(s, s_top, s_scale, t, t_top, t_scale))
                    state[i, APART] += step * between


@njit(**_FLAGS)
def finish(kind, student, teacher, t_s, t_t, state, factor, labels, first, hard, softcap, slopes, value, room):
    """Add to value[i] what these states, of which the first has the number `first`, add to the loss of row i.

    That is factor[i] KL + hard[i] (-log softmax(z)_label). With `slopes` the student's logits become its slopes in
    them, before a cap softcap tanh(z / softcap) where that is finite. `room` is two rows of BLOCK values.
    """
    states = student.shape[1]
    number = student.dtype.type
    one, endless = _scale(1.0, student.dtype), not softcap < np.inf
    own, capped = room
    for i in range(student.shape[0]):
        s_scale, t_scale = _scale(t_s[i], student.dtype), _scale(t_t[i], student.dtype)
        s_top, t_top = number(state[i, S_TOP]), number(state[i, T_TOP])
        s_bits, t_bits = np.log2(state[i, S_SUM]), np.log2(state[i, T_SUM])
        s_log, t_log = number(s_bits), number(t_bits)
        scaled, mean = number(factor[i] / t_s[i]), number(0)
        if kind == REVERSE:
            of_all = state[i, S_TOP] * s_scale + s_bits - state[i, T_TOP] * t_scale - t_bits
            mean = number((state[i, APART] / state[i, S_SUM] - of_all) * LN2)
        one_log = number(np.log2(state[i, ONE_SUM])) if hard[i] > 0 else number(0)
        here = hard[i] > 0 and 0 <= labels[i] - first < states
        if here:
            z = student[i, labels[i] - first]
            value[i] -= hard[i] * LN2 * np.float64((z - s_top) * one - one_log)
            hit = hard[i] * (1.0 if endless else 1 - (z / softcap) ** 2)
        total = 0.0
        for start in range(0, states, BLOCK):
            s, t = student[i, start : start + BLOCK], teacher[i, start : start + BLOCK]
            if kind == FORWARD:
                total += np.float64(_value(t, t_top, t_scale, t_log, s, s_top, s_scale, s_log))
            else:
                total += np.float64(_value(s, s_top, s_scale, s_log, t, t_top, t_scale, t_log))
            if not slopes:
                continue
            if hard[i] > 0:
                _weights(s, s_top, one, one_log, number(hard[i]), own)
            for j in range(0 if endless else s.shape[0]):
                capped[j] = 1 - (s[j] / number(softcap)) ** 2
            if kind == FORWARD:
                _difference(s, s_top, s_scale, s_log, t, t_top, t_scale, t_log, scaled)
            else:
                _centred(s, s_top, s_scale, s_log, t, t_top, t_scale, t_log, mean, scaled)
            for j in range(s.shape[0] if hard[i] > 0 else 0):
                s[j] += own[j]
            for j in range(0 if endless else s.shape[0]):
                s[j] *= capped[j]
        value[i] += factor[i] * max(total, 0.0)
        if here and slopes:
            student[i, labels[i] - first] -= number(hit)


@njit(**_FLAGS)
def divergence(kind, student, teacher, t_s, t_t, factor, labels, hard, softcap, slopes, value):
    """All of it for whole rows, one after the other, while they are in the cache.

    Returns the first row with NaN, +inf or no allowed state in the student and in the teacher, else -1 of each.
    """
    state, room = np.empty((1, 6)), np.empty((2, BLOCK), student.dtype)
    for i in range(student.shape[0]):
        row = slice(i, i + 1)
        state[0] = 0
        state[0, S_TOP] = state[0, T_TOP] = -np.inf
        collect(kind, student[row], teacher[row], t_s[row], t_t[row], hard[row], state)
        if not np.isfinite(state[0, S_TOP]):
            return i, -1
        if not np.isfinite(state[0, T_TOP]):
            return -1, i
        finish(
            kind, student[row], teacher[row], t_s[row], t_t[row], state, factor[row], labels[row], 0, hard[row],
            softcap, slopes, value[row], room,
        )  # fmt: skip
    return -1, -1
