"""CPU kernels of divergences between two tempered laws: value of every row, and slopes in the place of the logits."""

from __future__ import annotations

import numpy as np
from numba import njit

from logitherm.kernels.cpu import _FLAGS, _REDUCE, LN2, _exp2, _floor, _full_width, _maximum
from logitherm.kernels.cpu_sampling import BLOCK, _scale, _tops

FORWARD, REVERSE = range(2)
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
    """factor q (log q - log p - mean) in the place of the student's logits."""
    _full_width()
    zero, ln2 = s.dtype.type(0), s.dtype.type(LN2)
    lowest = _floor(zero)
    for j in range(s.shape[0]):
        log_q, log_p = (s[j] - s_top) * s_scale - s_log, (t[j] - t_top) * t_scale - t_log
        q = _exp2(_maximum(log_q, lowest))
        s[j] = factor * q * ((log_q - log_p) * ln2 - mean) if q > zero else zero


@njit(**_FLAGS)
def divergence(kind, student, teacher, t_s, t_t, factor, slopes, value):
    """value[i] = KL of row i; with `slopes` the student's logits become factor[i] times its slopes in them.

    Returns the first row with NaN, +inf or no allowed state in the student and in the teacher, else -1 of each.
    """
    states = student.shape[1]
    blocks = -(-states // BLOCK)
    tops, s_sums, t_sums = np.empty(blocks, student.dtype), np.empty(blocks), np.empty(blocks)
    number = student.dtype.type
    for i in range(student.shape[0]):
        s, t = student[i], teacher[i]
        s_scale, t_scale = _scale(t_s[i], student.dtype), _scale(t_t[i], student.dtype)
        s_top, _ = _tops(s, tops, s_scale, s_sums)
        t_top, _ = _tops(t, tops, t_scale, t_sums)
        if not np.isfinite(s_top):
            return i, -1
        if not np.isfinite(t_top):
            return -1, i
        s_log, t_log = number(np.log2(s_sums.sum())), number(np.log2(t_sums.sum()))
        total = 0.0
        for b in range(blocks):
            part = slice(b * BLOCK, min((b + 1) * BLOCK, states))
            if kind == FORWARD:
                total += np.float64(_value(t[part], t_top, t_scale, t_log, s[part], s_top, s_scale, s_log))
                if slopes:
                    _difference(
                        s[part], s_top, s_scale, s_log, t[part], t_top, t_scale, t_log, number(factor[i] / t_s[i])
                    )
            else:
                total += np.float64(_value(s[part], s_top, s_scale, s_log, t[part], t_top, t_scale, t_log))
        value[i] = max(total, 0.0)
        if slopes and kind == REVERSE:
            for b in range(blocks):
                part = slice(b * BLOCK, min((b + 1) * BLOCK, states))
                scaled = number(factor[i] / t_s[i])
                _centred(s[part], s_top, s_scale, s_log, t[part], t_top, t_scale, t_log, number(value[i]), scaled)
    return -1, -1
