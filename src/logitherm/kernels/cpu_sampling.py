"""CPU kernels of sampling: draws by a hierarchical inverse of the cumulative distribution, thresholds of truncations.

A row is cut in blocks. One pass finds the maximum of every block, a second the sum of its weights; a draw then needs
one uniform number, a walk over the sums, and a walk in one block. What a truncation keeps is all z >= threshold, so
that a block whose maximum is lower is never read again, and no row is ever sorted as a whole.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from logitherm.kernels.cpu import _FLAGS, _REDUCE, LN2, _exp2, _floor, _full_width, _maximum, _row_top

BLOCK = 256  # values: a thousandth of a large vocabulary, so that tops and sums of a row stay in the first-level cache
FEW = 1024  # values left in a bracket that are sorted rather than halved again
HALVINGS = 60
REACH = 40  # doublings of weight below the largest, where to look first

_U64 = np.uint64


# -- noise -----------------------------------------------------------------------------------------------


@njit(**_FLAGS)
def _wide_product(a, b):
    """High and low 64 bits of a * b."""
    low32, shift = _U64(0xFFFFFFFF), _U64(32)
    a0, a1, b0, b1 = a & low32, a >> shift, b & low32, b >> shift
    low = a0 * b0
    middle = a1 * b0 + (low >> shift)
    other = a0 * b1 + (middle & low32)
    return a1 * b1 + (middle >> shift) + (other >> shift), a * b


@njit(**_FLAGS)
def philox(counter0, counter1, key0, key1):
    """First of the four words of Philox4x64-10 (Salmon et al. 2011) at the counter (counter0, counter1, 0, 0)."""
    c0, c1, c2, c3 = counter0, counter1, _U64(0), _U64(0)
    for _ in range(10):
        high0, low0 = _wide_product(_U64(0xD2E7470EE14C6C93), c0)
        high1, low1 = _wide_product(_U64(0xCA5A826395121157), c2)
        c0, c1, c2, c3 = high1 ^ c1 ^ key0, low1, high0 ^ c3 ^ key1, low0
        key0 += _U64(0x9E3779B97F4A7C15)
        key1 += _U64(0xBB67AE8584CAA73B)
    return c0


@njit(**_FLAGS)
def uniforms(seeds, requests, positions, stream, out):
    """out[i] in (0, 1) from the 64 bits of (seed, request, position, stream)."""
    for i in range(out.shape[0]):
        bits = philox(positions[i], stream, seeds[i], requests[i])
        # 2^64 rounds to 1, which must not be reached
        out[i] = min((np.float64(bits) + 0.5) * 2.0**-64, 1.0 - 2.0**-53)


@njit(**_FLAGS)
def _scale(t, dtype):
    """log2(e) / T, finite for every T > 0: 0 times it is to stay 0."""
    return dtype.type(min(1 / (t * LN2), np.finfo(dtype).max))


# -- one row ---------------------------------------------------------------------------------------------


@njit(**_FLAGS)
def _block_tops(row, tops):
    """Maxima of the blocks and of the row, and the number of values that are neither NaN nor +inf."""
    top, good = row.dtype.type(-np.inf), 0
    for b in range(tops.shape[0]):
        tops[b], sound = _row_top(row[b * BLOCK : (b + 1) * BLOCK])
        top, good = max(top, tops[b]), good + sound
    return top, good


@njit(fastmath=_REDUCE, **_FLAGS)
def _block_sum(values, top, scale, floor):
    """Sum of the weights 2^x, x = (z - top) scale, of values at or above the floor."""
    _full_width()
    zero = values.dtype.type(0)
    lowest = _floor(zero)
    total = zero
    for j in range(values.shape[0]):
        x = _maximum((values[j] - top) * scale, lowest)
        e = _exp2(x)
        total += e if values[j] >= floor else zero
    return total


@njit(fastmath=_REDUCE, **_FLAGS)
def _block_weights(values, top, scale, weights):
    """The weights themselves; their sum."""
    _full_width()
    zero = values.dtype.type(0)
    lowest = _floor(zero)
    total = zero
    for j in range(values.shape[0]):
        e = _exp2(_maximum((values[j] - top) * scale, lowest))
        weights[j] = e
        total += e
    return total


@njit(fastmath=_REDUCE, **_FLAGS)
def _masked(values, weights, floor):
    """Sum and number of weights whose value is at or above the floor."""
    _full_width()
    total, count = weights.dtype.type(0), 0
    for j in range(values.shape[0]):
        inside = values[j] >= floor
        total += weights[j] if inside else weights.dtype.type(0)
        count += inside
    return total, count


@njit(**_FLAGS)
def _count(row, tops, floor):
    """Number of values at or above the floor."""
    found = 0
    for b in range(tops.shape[0]):
        if tops[b] >= floor:
            part = row[b * BLOCK : (b + 1) * BLOCK]
            for j in range(part.shape[0]):
                found += part[j] >= floor
    return found


@njit(**_FLAGS)
def _gather(row, tops, floor, ceiling, found):
    """Values in [floor, ceiling), in order; their number, which may not pass the room there is.

    Blocks without any are found by a count that has no branches: few values of many lie in a narrow bracket.
    """
    count = 0
    for b in range(tops.shape[0]):
        if tops[b] >= floor:
            part = row[b * BLOCK : (b + 1) * BLOCK]
            inside = _between(part, floor, ceiling)
            if count + inside > found.shape[0]:
                return -1
            j = 0
            while inside > 0:
                if (part[j] < ceiling) & (part[j] >= floor):
                    found[count] = part[j]
                    count += 1
                    inside -= 1
                j += 1
    return count


@njit(**_FLAGS)
def _between(values, floor, ceiling):
    """Number of values in [floor, ceiling)."""
    count = 0
    for j in range(values.shape[0]):
        count += (values[j] >= floor) & (values[j] < ceiling)
    return count


# -- the kernels: one entry a row; a row with NaN, +inf or nothing allowed is left out by its `top` ----------


@njit(**_FLAGS)
def tops(z, out, top):
    """Maxima of the blocks of every row, and of the rows: NaN where a row has NaN or +inf, -inf where nothing is
    allowed."""
    for i in range(z.shape[0]):
        top[i], good = _block_tops(z[i], out[i])
        if good < z.shape[1]:
            top[i] = np.nan


@njit(**_FLAGS)
def draw(z, tops, top, temperatures, floors, uniform, token, log_p, kept):
    """Draw from softmax(z / T) over z >= floor, with log p of what is drawn and the number of states.

    At T = 0 one of the largest, at T = inf one of all that are allowed, with equal probability.
    """
    blocks = tops.shape[1]
    sums = np.empty(blocks)
    local = np.empty(BLOCK)
    for i in range(z.shape[0]):
        if not (np.isfinite(top[i]) and floors[i] <= top[i]):
            token[i] = -1
            continue
        row, t = z[i], temperatures[i]
        floor = top[i] if t == 0 else max(floors[i], np.finfo(z.dtype).min)
        flat = (t == 0) or (t == np.inf)
        scale = z.dtype.type(0) if flat else _scale(t, z.dtype)
        total = 0.0
        for b in range(blocks):
            sums[b] = 0.0
            if tops[i, b] >= floor:
                sums[b] = np.float64(_block_sum(row[b * BLOCK : (b + 1) * BLOCK], top[i], scale, floor))
                total += sums[b]
        target = uniform[i] * total
        before, block, last = 0.0, -1, -1
        for b in range(blocks):
            if sums[b] > 0:
                last = b
                if before + sums[b] > target:
                    block = b
                    break
                before += sums[b]
        block = last if block < 0 else block  # rounding reached past the end
        # inside the block the place is relative to its own exact sum, or rounding would fall on its last state
        share = min(max((target - before) / sums[block], 0.0), 1.0)
        part = row[block * BLOCK : (block + 1) * BLOCK]
        inside = 0.0
        for j in range(part.shape[0]):
            local[j] = 0.0
            if part[j] >= floor:
                local[j] = np.exp2((np.float64(part[j]) - np.float64(top[i])) * np.float64(scale))
                inside += local[j]
        target, height, chosen = share * inside, 0.0, -1
        for j in range(part.shape[0]):
            if local[j] > 0:
                chosen = j
                height += local[j]
                if height > target:
                    break
        token[i] = block * BLOCK + chosen
        below = 0.0 if flat else (np.float64(part[chosen]) - np.float64(top[i])) / t
        log_p[i] = below - np.log(total)
        kept[i] = _count(row, tops[i], floor)  # apart: together they are slower, as sums and counts differ in width


@njit(**_FLAGS)
def kth(z, tops, top, k, out):
    """out[i] = the k[i]-th largest value of row i."""
    blocks, states = tops.shape[1], z.shape[1]
    for i in range(z.shape[0]):
        if not np.isfinite(top[i]):
            continue
        row = z[i]
        if k[i] >= states:
            out[i] = -np.inf
            continue
        guess = z.dtype.type(-np.inf)  # of k blocks the maxima are as large, so at least k values are
        if k[i] <= blocks:
            guess = np.partition(tops[i], blocks - k[i])[blocks - k[i]]
        found = np.empty(_count(row, tops[i], guess), z.dtype)
        count = _gather(row, tops[i], guess, z.dtype.type(np.inf), found)
        out[i] = np.partition(found, count - k[i])[count - k[i]]


@njit(**_FLAGS)
def nucleus(z, tops, top, temperatures, floors, mass, out):
    """out[i] = the largest threshold at or above which softmax(z / T) over z >= floor has the mass asked for."""
    blocks, states = tops.shape[1], z.shape[1]
    weights = np.empty(states, z.dtype)
    found = np.empty(FEW, z.dtype)
    for i in range(z.shape[0]):
        if not (np.isfinite(top[i]) and floors[i] <= top[i]):
            continue
        row, t = z[i], temperatures[i]
        out[i] = floors[i]
        if mass[i] >= 1 or t == np.inf:  # at T = inf all ties, and one threshold keeps all of it
            continue
        if t == 0:
            out[i] = top[i]
            continue
        scale = _scale(t, z.dtype)
        low = max(floors[i], np.finfo(z.dtype).min)
        total = 0.0
        for b in range(blocks):
            if tops[i, b] >= low:
                part = slice(b * BLOCK, min((b + 1) * BLOCK, states))
                total += np.float64(_block_weights(row[part], top[i], scale, weights[part]))
        left = states
        if low > np.finfo(z.dtype).min:
            total, left = _mass_above(row, tops[i], weights, low)
        wanted = mass[i] * total
        # `left` values are at or above `low` and have the mass, `right` at or above `high` and have less: the threshold
        # is in between, and is found among the values there once they are few
        high, above, right = np.nextafter(top[i], z.dtype.type(np.inf)), 0.0, 0
        reach = z.dtype.type(REACH / scale)
        sorted_tops = np.sort(tops[i])
        for halving in range(HALVINGS):
            if left - right <= FEW:
                break
            if halving < 2:  # the tops of the blocks know best where the large values are
                pivot = sorted_tops[max(0, blocks - 1 - (blocks // 16 if halving == 0 else blocks // 2))]
            elif low < top[i] - 2 * reach:  # beyond it weights are next to nothing; for the last of them, larger steps
                pivot = min(top[i], high) - reach
                reach *= 2
            else:
                pivot = z.dtype.type(0.5 * low + 0.5 * high)
            if not (low < pivot < high):
                if halving < 2:
                    continue
                break
            heavy, count = _mass_above(row, tops[i], weights, pivot)
            if heavy >= wanted:
                low, left = pivot, count
            else:
                high, above, right = pivot, heavy, count
        count = _gather(row, tops[i], low, high, found)
        if count < 0:  # more equal values than fit: one threshold keeps all of them
            out[i] = low
            continue
        ordered = np.sort(found[:count])
        out[i] = low
        for j in range(count - 1, -1, -1):
            above += np.exp2((np.float64(ordered[j]) - np.float64(top[i])) * np.float64(scale))
            if above >= wanted:
                out[i] = ordered[j]
                break


@njit(**_FLAGS)
def _mass_above(row, tops, weights, floor):
    """Mass and number of the values at or above the floor."""
    total, count = 0.0, 0
    for b in range(tops.shape[0]):
        if tops[b] >= floor:
            part = slice(b * BLOCK, min((b + 1) * BLOCK, row.shape[0]))
            mass, inside = _masked(row[part], weights[part], floor)
            total += np.float64(mass)
            count += inside
    return total, count


@njit(**_FLAGS)
def counts(z, tops, top, floors, out):
    """out[i] = number of states of row i at or above its floor."""
    for i in range(z.shape[0]):
        floor = max(floors[i], np.finfo(z.dtype).min)
        out[i] = _count(z[i], tops[i], floor) if np.isfinite(top[i]) else 0


@njit(**_FLAGS)
def compact(z, tops, floors, states, values):
    """The states at or above the floor of every row and their values, in order; -1 and -inf after the last."""
    for i in range(z.shape[0]):
        floor = max(floors[i], np.finfo(z.dtype).min)
        count = 0
        for b in range(tops.shape[1]):
            if tops[i, b] >= floor:
                for j in range(b * BLOCK, min((b + 1) * BLOCK, z.shape[1])):
                    if (z[i, j] >= floor) and (count < states.shape[1]):
                        states[i, count] = j
                        values[i, count] = z[i, j]
                        count += 1
        for j in range(count, states.shape[1]):
            states[i, j] = -1
            values[i, j] = -np.inf
