"""The CPU kernels: the reference's quantities over blocks of rows, compiled by Numba to full-width SIMD.

A tile of rows is read once into the first-level cache and used for every temperature asked for. Rows with many states
are summed along the row; rows with few are transposed first, so that the vector lanes run over rows. Exponents are in
units of log 2, x = (z - max z) / T * log2(e) <= 0; the first maximum is left out of every sum, so that `rest` keeps its
digits when it is tiny.

Floating-point reassociation is allowed in the reductions only. Inside the exponential it would undo the range
reduction. All kernels release the GIL and are cached on disk.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic, overload

NARROW = 48  # rows with fewer states are transposed (the two layouts break even between 32 and 64)
TILE = 8192  # values of a tile: 32 kB of float32
LN2 = float(np.log(2.0))

_FLAGS = {"nogil": True, "cache": True, "error_model": "numpy"}
_REDUCE = {"reassoc", "contract", "nsz"}
_FUSE = {"contract"}

# Polynomials p(f) = 2^f on (-1, 0] with p(0) = 1: coefficients of f, f^2, ... with equal relative ripple (Remez):
# 8.4e-8 for float32, 3.2e-18 before rounding for float64.
# fmt: off
_P32 = tuple(np.float32(c) for c in (
    0.69314372115026683, 0.24018014289652281, 0.055297358286728778, 0.0092057982207379763, 0.00094490367514631869))
_P64 = (
    0.69314718055994475, 0.24022650695906964, 0.055504108664217349, 0.0096181291017328559, 0.0013333557810441868,
    0.00015403518293713994, 1.5252446888637686e-05, 1.3210935103557309e-06, 1.0130094785432728e-07,
    6.7299012451833494e-09, 3.1410846412428094e-10)
# fmt: on


@intrinsic
def _maximum(typing_context, a, b):
    """max(a, b) with the flags that let the loop vectoriser see a reduction; NaN is counted elsewhere."""

    def generate(context, builder, signature, arguments):
        a, b = arguments
        flags = ("nnan", "nsz")
        return builder.select(builder.fcmp_ordered(">", a, b, flags=flags), a, b, flags=flags)

    return a(a, b), generate


@intrinsic
def _power_of_two(typing_context, n):
    """2^n for an integer n, by writing the exponent bits."""
    bits, mantissa, kind, float_type = (
        (32, 23, types.float32, ir.FloatType()) if n == types.int32 else (64, 52, types.float64, ir.DoubleType())
    )

    def generate(context, builder, signature, arguments):
        integer = ir.IntType(bits)
        biased = builder.add(arguments[0], ir.Constant(integer, 2 ** (bits - mantissa - 2) - 1))
        return builder.bitcast(builder.shl(biased, ir.Constant(integer, mantissa)), float_type)

    return kind(n), generate


@intrinsic
def _full_width(typing_context):
    """Ask for the widest vectors in the calling function: LLVM stops at 256 bits on CPUs that have 512.

    Measured on an Ice Lake server: 0.51 ns a value at 256 bits, 0.36 at 512, in `_row_sums`. llvmlite knows no such
    attribute, so its list of known names is passed over.
    """

    def generate(context, builder, signature, arguments):
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')
        return context.get_dummy_value()

    return types.void(), generate


def _exp2(x):
    raise NotImplementedError("compiled code only")


@overload(_exp2, jit_options={"fastmath": _FUSE, "error_model": "numpy"})
def _exp2_overload(x):
    """2^x for x in [-127, 0] (float64: [-1023, 0]) without branches; truncation leaves a fraction in (-1, 0].

    At the lower end, where states below it are clamped to, the exponent bits are all 0 and so is the result.
    """
    if x == types.float32:
        a1, a2, a3, a4, a5 = _P32

        def exp2_float32(x):
            n = np.int32(x)
            f = x - np.float32(n)
            p = ((((a5 * f + a4) * f + a3) * f + a2) * f + a1) * f + np.float32(1)
            return p * _power_of_two(n)

        return exp2_float32

    b1, b2, b3, b4, b5, b6, b7, b8, b9, b10, b11 = _P64

    def exp2_float64(x):
        n = np.int64(x)
        f = x - np.float64(n)
        p = (((((b11 * f + b10) * f + b9) * f + b8) * f + b7) * f + b6) * f + b5
        p = ((((p * f + b4) * f + b3) * f + b2) * f + b1) * f + 1.0
        return p * _power_of_two(n)

    return exp2_float64


def _floor(x):
    raise NotImplementedError("compiled code only")


@overload(_floor)
def _floor_overload(x):
    """The exponent at and below which a weight is exactly 0."""
    lowest = np.float32(-127) if x == types.float32 else np.float64(-1023)
    return lambda x: lowest


# -- one row, one tile -----------------------------------------------------------------------------------


@njit(**_FLAGS)
def _row_top(row):
    """Maximum of a row and the number of values that are neither NaN nor +inf."""
    _full_width()
    top = row.dtype.type(-np.inf)
    good = 0
    for j in range(row.shape[0]):
        top = _maximum(row[j], top)
        good += row[j] < np.inf
    return top, good


@njit(**_FLAGS)
def _row_ties(row, top):
    """Number of further states at the maximum."""
    _full_width()
    ties = -1
    for j in range(row.shape[0]):
        ties += row[j] == top
    return ties


@njit(fastmath=_REDUCE, **_FLAGS)
def _row_sums(row, top, scale):
    """Sums of 2^x, 2^x x and 2^x x^2 over the states below the maximum, x = (z - top) scale."""
    _full_width()
    zero = row.dtype.type(0)
    floor = _floor(zero)
    s0, s1, s2 = zero, zero, zero
    for j in range(row.shape[0]):
        d = row[j] - top
        x = _maximum(d * scale, floor)
        e = _exp2(x)
        e = e if d < zero else zero
        t = e * x
        s0 += e
        s1 += t
        s2 += t * x
    return s0, s1, s2


@njit(**_FLAGS)
def _long_row_sums(row, top, scale):
    """`_row_sums` in float64 from tile to tile, so that no float32 sum grows past a tile."""
    first, second, third = 0.0, 0.0, 0.0
    for start in range(0, row.shape[0], TILE):
        s0, s1, s2 = _row_sums(row[start : start + TILE], top, scale)
        first += np.float64(s0)
        second += np.float64(s1)
        third += np.float64(s2)
    return first, second, third


@njit(**_FLAGS)
def _tile_shape(rows, states):
    """Rows of a tile, and states held in columns (0 where rows are wide)."""
    return max(1, min(256, rows, TILE // states)), states if states < NARROW else 0


@njit(**_FLAGS)
def _tile_tops(z, first, step, rows, columns, tops, ties):
    """Maxima of the rows first, first + step, ... of a tile, and the number of further maxima of each.

    Narrow rows go to `columns`, as z - max z. Returns the first row with NaN, +inf or no allowed state, else -1.
    """
    states = z.shape[1]
    if columns.shape[0] == 0:
        for i in range(rows):
            row = z[first + i * step]
            tops[i], good = _row_top(row)
            if good < states or tops[i] == -np.inf:
                return i
            ties[i] = _row_ties(row, tops[i])
        return -1
    for i in range(rows):
        row = z[first + i * step]
        for k in range(states):
            columns[k, i] = row[k]
    for i in range(rows):
        tops[i] = -np.inf
        ties[i] = -1
    good = 0
    for k in range(states):
        column = columns[k]
        for i in range(rows):
            tops[i] = _maximum(column[i], tops[i])
            good += column[i] < np.inf
    for i in range(rows):
        good -= tops[i] == -np.inf
    if good < rows * states:
        for i in range(rows):
            top, good = _row_top(z[first + i * step])
            if good < states or top == -np.inf:
                return i
    for k in range(states):
        column = columns[k]
        for i in range(rows):
            column[i] -= tops[i]
        for i in range(rows):
            ties[i] += 1 if column[i] == 0 else 0
    return -1


@njit(**_FLAGS)
def _scale_columns(columns, rows, scales, ties):
    """Divide the columns by the temperature of their row. A state so close that its exponent is 0 becomes a tie."""
    _full_width()
    for k in range(columns.shape[0]):
        column = columns[k]
        for i in range(rows):
            x = column[i] * scales[i]
            ties[i] += 1 if (x == 0) & (column[i] < 0) else 0
            column[i] = x


@njit(fastmath=_FUSE, **_FLAGS)
def _column_sums(columns, rows, scale, s0, s1, s2):
    """The sums of `_row_sums` for narrow rows, lanes across rows (few arrays, so that aliasing can be ruled out)."""
    _full_width()
    zero = columns.dtype.type(0)
    floor = _floor(zero)
    for i in range(rows):
        s0[i] = s1[i] = s2[i] = zero
    for k in range(columns.shape[0]):
        column = columns[k]
        for i in range(rows):
            d = column[i]
            x = _maximum(d * scale, floor)
            e = _exp2(x)
            e = e if d < zero else zero
            t = e * x
            s0[i] += e
            s1[i] += t
            s2[i] += t * x


@njit(**_FLAGS)
def _lanes(size, dtype_of):
    """Five arrays of a tile's length."""
    lanes = np.empty((5, size), dtype_of.dtype)
    return lanes[0], lanes[1], lanes[2], lanes[3], lanes[4]


# -- the kernels -----------------------------------------------------------------------------------------


@njit(**_FLAGS)
def moments(z, temperatures, out):
    """out[:, i] = (top, rest, gap, spread) of row i at temperatures[i]; the first bad row, or -1."""
    n, states = z.shape
    size, held = _tile_shape(n, states)
    columns = np.empty((held, size), z.dtype)
    tops, ties, s0, s1, s2 = _lanes(size, columns)
    for start in range(0, n, size):
        rows = min(size, n - start)
        bad = _tile_tops(z, start, 1, rows, columns, tops, ties)
        if bad >= 0:
            return start + bad
        if held:
            for i in range(rows):
                s0[i] = 1 / (temperatures[start + i] * LN2)
            _scale_columns(columns, rows, s0, ties)
        _column_sums(columns, rows, z.dtype.type(1), s0, s1, s2)
        for i in range(rows):
            t = temperatures[start + i]
            if held:
                sums = np.float64(s0[i]), np.float64(s1[i]), np.float64(s2[i])
            else:
                sums = _long_row_sums(z[start + i], tops[i], z.dtype.type(1 / (t * LN2)))
            rest = ties[i] + sums[0]
            mean = sums[1] / (1 + rest) * LN2
            out[0, start + i] = tops[i]
            out[1, start + i] = rest
            out[2, start + i] = -mean * t
            out[3, start + i] = max(0.0, sums[2] * LN2 * LN2 - mean * mean * (1 + rest))
    return -1


@njit(**_FLAGS)
def likelihood(z, step, labels, observed, weights, inverse_temperatures, totals):
    """Add the statistics of rows 0, step, 2 step, ... to totals[b] = sums of (w nll, w score, w curvature, (w score)^2)
    at each inverse temperature b, where score and curvature are the derivatives of the negative log-likelihood in it.

    Exactly one of `labels` and `observed` (mean observed logits) has an entry for every such row, the other none; empty
    weights mean 1. Returns the first bad row or -1, and the number of rows left out: their observed logit is -inf.
    """
    n, states = labels.shape[0] + observed.shape[0], z.shape[1]
    size, held = _tile_shape(n, states)
    columns = np.empty((held, size), z.dtype)
    tops, ties, s0, s1, s2 = _lanes(size, columns)
    sums = np.empty((3, size))
    below, mass = np.empty(size), np.empty(size)
    impossible = 0
    for start in range(0, n, size):
        rows = min(size, n - start)
        bad = _tile_tops(z, start * step, step, rows, columns, tops, ties)
        if bad >= 0:
            return (start + bad) * step, impossible
        for i in range(rows):
            row = start + i
            seen = np.float64(z[row * step, labels[row]]) if labels.shape[0] else observed[row]
            possible = seen > -np.inf
            impossible += not possible
            mass[i] = (weights[row] if weights.shape[0] else 1.0) if possible else 0.0
            below[i] = np.float64(tops[i]) - seen if possible else 0.0
        for b in range(inverse_temperatures.shape[0]):
            beta = inverse_temperatures[b]
            scale = z.dtype.type(beta / LN2)
            if held:
                _column_sums(columns, rows, scale, s0, s1, s2)
                for i in range(rows):
                    sums[0, i], sums[1, i], sums[2, i] = ties[i] + np.float64(s0[i]), s1[i], s2[i]
            else:
                for i in range(rows):
                    first, second, third = _long_row_sums(z[(start + i) * step], tops[i], scale)
                    sums[0, i], sums[1, i], sums[2, i] = ties[i] + first, second, third
            score, curvature, squares = _tile_scores(sums, below, mass, rows, beta)
            totals[b, 0] += _tile_nll(sums[0], below, mass, rows, beta, weights.shape[0] == 0)
            totals[b, 1] += score / beta
            totals[b, 2] += curvature / beta / beta
            totals[b, 3] += squares / beta / beta
    return -1, impossible


@njit(fastmath=_REDUCE, **_FLAGS)
def _tile_scores(sums, below, mass, rows, beta):
    """Sums over the rows of a tile of w score, w curvature and (w score)^2, in units of x."""
    score, curvature, squares = 0.0, 0.0, 0.0
    for i in range(rows):
        inverse = LN2 / (1 + sums[0, i])
        mean = sums[1, i] * inverse  # <z - max z> / T
        variance = sums[2, i] * inverse * LN2 - mean * mean
        slope = mass[i] * (below[i] * beta + mean)
        score += slope
        curvature += mass[i] * max(variance, 0.0)
        squares += slope * slope
    return score, curvature, squares


@njit(**_FLAGS)
def _tile_nll(rest, below, mass, rows, beta, unweighted):
    """Sum over the rows of a tile of w log1p(rest) + w (max z - observed) / T."""
    nll, product = 0.0, 0.0
    for i in range(rows):
        nll += mass[i] * (below[i] * beta)
        if not unweighted:
            nll += mass[i] * np.log1p(rest[i])
        elif mass[i] > 0:  # log1p(a) + log1p(b) = log1p(a + b + a b): one logarithm for many rows
            product += rest[i] + product * rest[i]
            if product > 1e200:
                nll += np.log1p(product)
                product = 0.0
    return nll + np.log1p(product)


@njit(**_FLAGS)
def softmax(z, temperatures, out):
    """out = softmax(z / T) row by row; the first bad row, or -1."""
    floor = _floor(z.dtype.type(0))
    for i in range(z.shape[0]):
        top, good = _row_top(z[i])
        if good < z.shape[1] or top == -np.inf:
            return i
        total = 0.0
        for start in range(0, z.shape[1], TILE):
            end = min(start + TILE, z.shape[1])
            scale = z.dtype.type(1 / (temperatures[i] * LN2))
            total += np.float64(_weights(z[i, start:end], top, scale, floor, out[i, start:end]))
        share = z.dtype.type(1 / total)
        for j in range(z.shape[1]):
            out[i, j] *= share
    return -1


@njit(fastmath=_REDUCE, **_FLAGS)
def _weights(row, top, scale, floor, out):
    """out = 2^((z - top) scale) and its sum."""
    _full_width()
    total = row.dtype.type(0)
    for j in range(row.shape[0]):
        e = _exp2(_maximum((row[j] - top) * scale, floor))
        out[j] = e
        total += e
    return total


@njit(**_FLAGS)
def residuals(z, labels, weights, out):
    """out = w (softmax(z) - one-hot label) row by row; the first bad row or -1, and the sum of w nll."""
    scale, floor = z.dtype.type(1 / LN2), _floor(z.dtype.type(0))
    nll = 0.0
    for i in range(z.shape[0]):
        top, good = _row_top(z[i])
        if good < z.shape[1] or top == -np.inf:
            return i, nll
        total = 0.0
        for start in range(0, z.shape[1], TILE):
            end = min(start + TILE, z.shape[1])
            total += np.float64(_weights(z[i, start:end], top, scale, floor, out[i, start:end]))
        share = z.dtype.type(weights[i] / total)
        for j in range(z.shape[1]):
            out[i, j] *= share
        out[i, labels[i]] -= z.dtype.type(weights[i])
        nll += weights[i] * (np.log(total) - (np.float64(z[i, labels[i]]) - np.float64(top)))
    return -1, nll


@njit(**_FLAGS)
def log_softmax(z, temperatures, out):
    """out = log softmax(z / T) row by row; the first bad row, or -1."""
    for i in range(z.shape[0]):
        top, good = _row_top(z[i])
        if good < z.shape[1] or top == -np.inf:
            return i
        sums = _long_row_sums(z[i], top, z.dtype.type(1 / (temperatures[i] * LN2)))
        inverse = z.dtype.type(1 / temperatures[i])
        log_sum = z.dtype.type(np.log1p(_row_ties(z[i], top) + sums[0]))
        for j in range(z.shape[1]):
            out[i, j] = (z[i, j] - top) * inverse - log_sum
    return -1
