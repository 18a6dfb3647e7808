"""The CPU kernel of the thermostat: for every row of its own, the temperature that holds a set point.

The search is that of `_solve.find_root` (Newton in log T, corrected for its bend, inside a bracket), for a tile of rows
at once, transposed as in `cpu.py` where rows have few states. A row that has arrived leaves the tile and the last one
takes its place, so that no exponential is computed for rows that are done. Everything is float64, in units of the
row: u = (z - max z) / unit and T = unit exp(y), so that y is near 0 and nothing overflows.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from logitherm.kernels.cpu import _FLAGS, _FUSE, _REDUCE, LN2, NARROW, _exp2, _full_width, _maximum, _power_of_two

ENTROPY, MEAN_ENERGY, TOP_PROBABILITY, KL_HOT, KL_COLD = range(5)
MOST = 100  # steps
REACH = 300.0  # |log T| within which a temperature is searched for
FLOOR = -1023.0  # the exponent at and below which a weight is exactly 0
SPAN = 512  # states summed before the sum goes on in a new variable

# What is kept of a row under way ...
ROW, TOP, UNIT, TIES, FIRST, LAST, FAR, NEAR, WANTED, TOLERANCE, Y, LOWER, UPPER, VALUE, SLOPE, SEEN, KEPT = range(17)
# ... and what a temperature gives: the sums of weights, times x and x^2 in units of log 2, and where the anchor is
COLD, S0, S1, S2, ANCHOR, ANCHOR_PRIOR, SUMS = range(7)


@njit(fastmath=_FUSE, **_FLAGS)
def _cold(y, rows, cold):
    """exp(-y) / log 2: the inverse temperature in units of log 2."""
    _full_width()
    for i in range(rows):
        x = y[i] * (-1 / LN2)
        n = np.float64(np.int64(x))
        n += 1.0 if x > n else 0.0
        cold[i] = _exp2(x - n) * _power_of_two(np.int64(n)) * (1 / LN2)


@njit(fastmath=_FUSE, **_FLAGS)
def _column_sums(u, rows, cold, s0, s1, s2):
    """Sums of 2^x, 2^x x, 2^x x^2 over the states below the maximum, x = u cold; lanes across rows."""
    _full_width()
    for i in range(rows):
        s0[i] = s1[i] = s2[i] = 0.0
    for k in range(u.shape[0]):
        column = u[k]
        for i in range(rows):
            x = _maximum(column[i] * cold[i], FLOOR)
            e = _exp2(x)
            e = e if column[i] < 0.0 else 0.0
            t = e * x
            s0[i] += e
            s1[i] += t
            s2[i] += t * x


@njit(fastmath=_REDUCE, **_FLAGS)
def _span_sums(u, cold):
    """The same for a part of one row, lanes along the states."""
    _full_width()
    s0, s1, s2 = 0.0, 0.0, 0.0
    for k in range(u.shape[0]):
        x = _maximum(u[k] * cold, FLOOR)
        e = _exp2(x)
        e = e if u[k] < 0.0 else 0.0
        t = e * x
        s0 += e
        s1 += t
        s2 += t * x
    return s0, s1, s2


@njit(fastmath=_FUSE, **_FLAGS)
def _anchor(u, log_prior, rows, cold, most, anchor, anchor_prior):
    """x of the most probable state of every row, and the log prior of that state."""
    _full_width()
    for i in range(rows):
        most[i] = -np.inf
    for k in range(u.shape[0]):
        column, prior = u[k], log_prior[k]
        for i in range(rows):
            x = column[i] * cold[i]
            more = x + prior[i] > most[i]
            most[i] = x + prior[i] if more else most[i]
            anchor[i] = x if more else anchor[i]
            anchor_prior[i] = prior[i] if more else anchor_prior[i]


@njit(fastmath=_FUSE, **_FLAGS)
def _prior_sums(u, log_prior, rows, cold, anchor, anchor_prior, s0, s1, s2):
    """The sums of `_column_sums` under a prior, all states counted, relative to the most probable state."""
    _full_width()
    for i in range(rows):
        s0[i] = s1[i] = s2[i] = 0.0
    for k in range(u.shape[0]):
        column, prior = u[k], log_prior[k]
        for i in range(rows):
            away = _maximum(column[i] * cold[i] - anchor[i], -1e150)  # a forbidden state has weight 0, not 0 * inf
            e = _exp2(_maximum(away + (prior[i] - anchor_prior[i]), FLOOR))
            t = e * away
            s0[i] += e
            s1[i] += t
            s2[i] += t * away


@njit(**_FLAGS)
def _evaluate(u, log_prior, rows, sums):
    """All sums at the inverse temperatures sums[COLD]."""
    if log_prior.shape[0]:
        _anchor(u, log_prior, rows, sums[COLD], sums[S0], sums[ANCHOR], sums[ANCHOR_PRIOR])
        _prior_sums(u, log_prior, rows, sums[COLD], sums[ANCHOR], sums[ANCHOR_PRIOR], sums[S0], sums[S1], sums[S2])
    elif u.shape[1] > 1 or u.shape[0] < NARROW:
        _column_sums(u, rows, sums[COLD], sums[S0], sums[S1], sums[S2])
    else:
        sums[S0, 0] = sums[S1, 0] = sums[S2, 0] = 0.0
        row = u[:, 0]
        for start in range(0, row.shape[0], SPAN):
            s0, s1, s2 = _span_sums(row[start : start + SPAN], sums[COLD, 0])
            sums[S0, 0] += s0
            sums[S1, 0] += s1
            sums[S2, 0] += s2


@njit(**_FLAGS)
def _state(sums, i, ties, uniform):
    """Of row i, relative to its anchor: log of the weights, mean distance and variance (in x); and the anchor's x."""
    if uniform:
        rest = ties + sums[S0, i]
        excess, weight, anchor = np.log1p(rest), 1 + rest, 0.0
    else:
        weight, anchor = sums[S0, i], sums[ANCHOR, i] * LN2
        excess = sums[ANCHOR_PRIOR, i] * LN2 + np.log(weight)
    share = LN2 / weight
    gap = -sums[S1, i] * share
    return excess, gap, max(0.0, sums[S2, i] * (share * LN2) - gap * gap), anchor


@njit(**_FLAGS)
def _quantity(quantity, t, excess, gap, heat, anchor, near):
    """The quantity in units of the row, and its slope in log T; increasing but for a divergence below T0."""
    if quantity == ENTROPY:
        return excess + gap, heat
    if quantity == MEAN_ENERGY:
        return (gap - anchor) * t, heat * t
    if quantity == TOP_PROBABILITY:
        p = np.exp(-excess)
        return -p, p * gap
    return max(0.0, (gap - anchor) * t - (excess + gap) + near), heat * (t - 1)


@njit(**_FLAGS)
def _turned(quantity, value):
    """What the search sees of a value: the root of a divergence, nearly linear in log T, increasing on either side."""
    if quantity == KL_HOT:
        return np.sqrt(value)
    return -np.sqrt(value) if quantity == KL_COLD else value


@njit(**_FLAGS)
def _advance(kept, i, value, slope, exact, step_tolerance):
    """One step of row i, as in `find_root`; whether the row has arrived."""
    y, low, high = kept[Y, i], kept[LOWER, i], kept[UPPER, i]
    if exact:
        return True
    if value < 0:
        low = y
    elif value > 0:
        high = y
    newton = -value / slope if slope > 0 else np.nan
    half = 0.5 * newton * (slope - kept[SLOPE, i]) / ((y - kept[SEEN, i]) * slope)
    target = y + (newton * (1 - half) if abs(half) < 0.5 else newton)
    if not (low < target < high) or abs(value) > 0.5 * abs(kept[VALUE, i]):
        target = low + 0.5 * (high - low)
    arrived = abs(target - y) <= step_tolerance or high - low <= step_tolerance
    kept[LOWER, i], kept[UPPER, i] = low, high
    kept[VALUE, i], kept[SLOPE, i], kept[SEEN, i], kept[Y, i] = value, slope, y, target
    return arrived


@njit(**_FLAGS)
def _load(row, log_prior, unit, i, kept, u, held_prior):
    """Puts a row into lane i; False for a bad one. Keeps what both limits of T need: log of the weights of the largest
    logits (FIRST) and of all (LAST), and the mean distance from the largest at T = inf (FAR)."""
    states = row.shape[0]
    uniform = log_prior.shape[0] == 0
    top, bad, allowed, ties, far = -np.inf, False, 0, -1, 0.0
    for k in range(states):
        value = row[k] if uniform or log_prior[k] > -np.inf else -np.inf
        bad |= not value < np.inf
        u[k, i] = value
        top = max(top, value)
    if bad or top == -np.inf:
        return False
    for k in range(states):
        if u[k, i] > -np.inf:
            allowed += 1
            ties += u[k, i] == top
            far += top - u[k, i]
    if np.isnan(unit):
        unit = far / allowed
        if not 0 < unit < np.inf:
            unit = 1.0
    for k in range(states):
        u[k, i] = (u[k, i] - top) / unit
    kept[TOP, i], kept[UNIT, i], kept[TIES, i] = top, unit, ties
    if uniform:
        kept[FIRST, i], kept[LAST, i], kept[FAR, i] = np.log(1.0 + ties), np.log(1.0 * allowed), far / allowed / unit
        return True
    most, mass, first, far = -np.inf, 0.0, 0.0, 0.0
    for k in range(states):
        held_prior[k, i] = log_prior[k] / LN2
        if u[k, i] > -np.inf:
            most = max(most, log_prior[k])
    most_first = -np.inf
    for k in range(states):
        if u[k, i] == 0:
            most_first = max(most_first, log_prior[k])
    for k in range(states):
        if u[k, i] > -np.inf:
            weight = np.exp(log_prior[k] - most)
            mass += weight
            far -= weight * u[k, i]
        if u[k, i] == 0:
            first += np.exp(log_prior[k] - most_first)
    kept[FIRST, i], kept[LAST, i], kept[FAR, i] = most_first + np.log(first), most + np.log(mass), far / mass
    return True


@njit(**_FLAGS)
def _guess(quantity, share, span):
    """log T in units of the row for a target so far between its limits, and entropies that span so much.

    A fit by eye to normal, uniform and exponential logits of 2 to 100 states: it saves three steps of eight.
    """
    bend, half = (1.0, 0.65) if quantity == ENTROPY else (1.8, 1.1)
    guess = 0.5 * (np.log(share) - bend * np.log1p(-share)) + np.log(half / span)
    return min(max(guess, -30.0), 30.0)


@njit(**_FLAGS)
def _aim(quantity, goal, reference, heat, eps, kept, i, out):
    """What row i is to reach and where it begins; writes the ends, and the answer where that is one of them: False."""
    first, last, far, near = kept[FIRST, i], kept[LAST, i], kept[FAR, i], kept[NEAR, i]
    top, unit = kept[TOP, i], kept[UNIT, i]
    wanted, coldest, hottest, y, lower, upper = goal, 0.0, np.inf, np.nan, -REACH, REACH
    if quantity == ENTROPY:
        low, high = first, last
        out[2], out[3] = low, high
    elif quantity == MEAN_ENERGY:
        low, high, wanted = 0.0, far, (goal + top) / unit
        out[2], out[3] = -top, far * unit - top
    elif quantity == TOP_PROBABILITY:
        low, high, wanted = -np.exp(-first), -np.exp(-last), -goal
        out[2], out[3] = -low, -high
    else:
        move = min(max(np.sqrt(2 * goal / max(heat, 1e-30)), 1e-6), 10.0)
        if quantity == KL_HOT:
            low, high, coldest, lower, y = 0.0, max(0.0, far + near - last), reference, 0.0, move
        else:
            low, high, hottest, upper, y = max(0.0, near - first), 0.0, reference, 0.0, -move
        out[2], out[3] = low, high
        low, high, wanted = _turned(quantity, low), _turned(quantity, high), _turned(quantity, goal)
    kept[WANTED, i] = wanted
    kept[TOLERANCE, i] = 4 * eps * max(abs(goal) / (unit if quantity == MEAN_ENERGY else 1.0), 1.0)
    kept[Y, i], kept[LOWER, i], kept[UPPER, i] = y, lower, upper
    kept[VALUE, i] = kept[SLOPE, i] = kept[SEEN, i] = np.nan
    inside = low < wanted < high
    if inside and np.isnan(y):
        share = (wanted - low) / (high - low)
        if quantity == TOP_PROBABILITY:
            share = (-np.log(-wanted) - first) / (last - first)
        kept[Y, i] = _guess(quantity, share, last - first)
    out[1] = inside
    if not inside:
        out[0] = coldest if wanted <= low else hottest if wanted >= high else np.nan
    return inside


@njit(**_FLAGS)
def _drop(i, last, kept, u, prior):
    """The last row of the tile takes the place of row i."""
    if i < last:
        for table in (kept, u, prior):  # as loops: assignments of slices take ten times as long
            for k in range(table.shape[0]):
                table[k, i] = table[k, last]


@njit(**_FLAGS)
def roots(z, log_prior, goals, references, quantity, eps, out):
    """out[row] = T, whether the goal is in the open range, and the quantity at both ends of that range.

    float64 logits (n, states); log_prior of the same shape, or (n, 0) for none; a bad row has NaN.
    """
    n, states = z.shape
    size = max(1, min(256, n, 8192 // states)) if states < NARROW else 1
    uniform, divergence = log_prior.shape[1] == 0, quantity >= KL_HOT
    lanes = size + 8 * (size > 1)  # or all states of a row would fall into the same few lines of the cache
    u, prior = np.empty((states, lanes)), np.empty((log_prior.shape[1], lanes))
    kept, sums = np.empty((KEPT, lanes)), np.empty((SUMS, lanes))
    for start in range(0, n, size):
        rows = 0
        for row in range(start, min(start + size, n)):
            unit = references[row] if divergence else np.nan
            kept[ROW, rows], kept[NEAR, rows], sums[COLD, rows] = row, 0.0, 1 / LN2
            if _load(z[row], log_prior[row], unit, rows, kept, u, prior):
                rows += 1
            else:
                out[row] = np.nan
        if divergence:
            _evaluate(u, prior, rows, sums)
        for i in range(rows - 1, -1, -1):
            row, heat = np.int64(kept[ROW, i]), 0.0
            if divergence:
                excess, gap, heat, anchor = _state(sums, i, kept[TIES, i], uniform)
                kept[NEAR, i] = excess + anchor
            if not _aim(quantity, goals[row], references[row], heat, eps, kept, i, out[row]):
                rows -= 1
                _drop(i, rows, kept, u, prior)
        for step in range(MOST):
            if rows == 0:
                break
            _cold(kept[Y], rows, sums[COLD])
            _evaluate(u, prior, rows, sums)
            for i in range(rows - 1, -1, -1):
                excess, gap, heat, anchor = _state(sums, i, kept[TIES, i], uniform)
                t = 1 / (sums[COLD, i] * LN2)
                value, slope = _quantity(quantity, t, excess, gap, heat, anchor, kept[NEAR, i])
                seen = _turned(quantity, value)
                if divergence:
                    exact = abs(value - kept[WANTED, i] ** 2) <= kept[TOLERANCE, i]
                    slope = slope / (2 * seen) if value > 0 else np.nan
                else:
                    exact = abs(value - kept[WANTED, i]) <= kept[TOLERANCE, i]
                if _advance(kept, i, seen - kept[WANTED, i], slope, exact, 0.25 * eps) or step == MOST - 1:
                    out[np.int64(kept[ROW, i]), 0] = kept[UNIT, i] * np.exp(kept[Y, i])
                    rows -= 1
                    _drop(i, rows, kept, u, prior)
