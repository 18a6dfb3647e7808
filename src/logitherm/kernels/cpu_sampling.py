"""CPU kernels of sampling: draws by a hierarchical inverse of the cumulative distribution, thresholds of truncations.

A row is cut in blocks. Of every block the maximum is found and the sum of its weights; a draw then needs one uniform
number, a walk over the sums, and a walk in one block. What a truncation keeps is all z >= threshold, so
that a block whose maximum is lower is never read again, and no row is ever sorted as a whole.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from logitherm.kernels.cpu import _FLAGS, _REDUCE, LN2, _exp2, _floor, _full_width, _maximum
from logitherm.kernels.sampling import MIN_P, TEMPERATURE, TOP_K, TOP_P

BLOCK = (
    512  # values: under a hundredth of a large vocabulary, so that tops and sums of a row stay in the first-level cache
)
STRETCH = 64
FEW = 1024  # values left in a bracket that are sorted rather than halved again
SHARES = 1 / 16, 1 / 2, 7 / 8, 1.0  # of the blocks, whose lowest tops are tried first, where values are sparse
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
    """log2(e) / T, finite for every T > 0: 0 times it is to stay 0. At T = 0 too it is 0, as only ties are left."""
    return dtype.type(min(1 / (t * LN2), np.finfo(dtype).max)) if t > 0 else dtype.type(0)


@njit(**_FLAGS)
def _times(t, factor):
    """After 0 only ties are left, after inf nothing but ties, which no further temperature tells apart."""
    return t if t == 0 or t == np.inf else t * factor


# -- one row ---------------------------------------------------------------------------------------------


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


# Numbers of values in a block are added up in the dtype of the values, where they are exact, so that as many lanes run
# as there are values to a vector.


@njit(fastmath=_REDUCE, **_FLAGS)
def _top(values):
    """Maximum, the number of values that are neither NaN nor +inf, and of those that are neither NaN nor -inf."""
    _full_width()
    zero, one, endless = values.dtype.type(0), values.dtype.type(1), values.dtype.type(np.inf)
    top, finite, allowed = -endless, zero, zero
    for j in range(values.shape[0]):
        top = _maximum(values[j], top)
        finite += one if values[j] < endless else zero
        allowed += one if values[j] > -endless else zero
    return top, finite, allowed


@njit(**_FLAGS)
def _tops(row, tops, scale, sums):
    """Maxima of the blocks and of the row, NaN if it has NaN or +inf; and the number of values that are not -inf.

    With a scale > 0 also the sums of the weights of the blocks, each while it is in the first-level cache.
    """
    top, finite, count = row.dtype.type(-np.inf), 0, 0
    lowest = np.finfo(row.dtype).min
    for b in range(tops.shape[0]):
        part = row[b * BLOCK : (b + 1) * BLOCK]
        tops[b], sound, allowed = _top(part)
        top, finite, count = max(top, tops[b]), finite + int(sound), count + int(allowed)
        if scale > 0:  # relative to the top of the block, as that of the row is not known yet
            sums[b] = np.float64(_block_sum(part, tops[b], scale, lowest)) if allowed else 0.0
    for b in range(tops.shape[0] if scale > 0 else 0):
        if sums[b] > 0:
            sums[b] *= np.exp2((np.float64(tops[b]) - np.float64(top)) * np.float64(scale))
    return top if finite == row.shape[0] else row.dtype.type(np.nan), count


@njit(fastmath=_REDUCE, **_FLAGS)
def _masked(values, weights, floor):
    """Sum and number of weights whose value is at or above the floor."""
    _full_width()
    zero, one = values.dtype.type(0), values.dtype.type(1)
    total, count = zero, zero
    for j in range(values.shape[0]):
        total += weights[j] if values[j] >= floor else zero
        count += one if values[j] >= floor else zero
    return total, count


@njit(fastmath=_REDUCE, **_FLAGS)
def _between(values, floor, ceiling):
    """Number of values in [floor, ceiling)."""
    _full_width()
    zero, one = values.dtype.type(0), values.dtype.type(1)
    count = zero
    for j in range(values.shape[0]):
        count += one if (values[j] >= floor) & (values[j] < ceiling) else zero
    return count


@njit(**_FLAGS)
def _count(row, tops, floor):
    """Number of values at or above the floor."""
    count, endless = 0, row.dtype.type(np.inf)
    for b in range(tops.shape[0]):
        if tops[b] >= floor:
            count += int(_between(row[b * BLOCK : (b + 1) * BLOCK], floor, endless))
    return count


@njit(**_FLAGS)
def _gather(row, tops, floor, ceiling, found):
    """Values in [floor, ceiling), in order; their number, or -1 where there is no room for them."""
    count = 0
    for b in range(tops.shape[0]):
        if tops[b] >= floor:
            part = row[b * BLOCK : (b + 1) * BLOCK]
            inside = int(_between(part, floor, ceiling))
            if count + inside > found.shape[0]:
                return -1
            for start in range(0, part.shape[0], STRETCH):  # counts are cheaper than looking at each
                if inside == 0:
                    break
                stretch = part[start : start + STRETCH]
                here = int(_between(stretch, floor, ceiling))
                inside -= here
                j = 0
                while here > 0:
                    if (stretch[j] < ceiling) & (stretch[j] >= floor):
                        found[count] = stretch[j]
                        count += 1
                        here -= 1
                    j += 1
    return count


# -- one row: what steps ask for; `top` is finite and the floor no higher --------------------------------


@njit(**_FLAGS)
def _kth(row, tops, k, found):
    """The k-th largest value; -inf where that is all of them."""
    blocks = tops.shape[0]
    if k >= row.shape[0]:
        return row.dtype.type(-np.inf)
    guess = row.dtype.type(-np.inf)  # of k blocks the maxima are as large, so at least k values are
    if k <= blocks:
        guess = np.partition(tops, blocks - k)[blocks - k]
    endless = row.dtype.type(np.inf)
    count = _gather(row, tops, guess, endless, found)
    if count < 0:
        found = np.empty(_count(row, tops, guess), row.dtype)
        count = _gather(row, tops, guess, endless, found)
    return np.partition(found[:count], count - k)[count - k]


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
def _bracket(row, tops, top, scale, weights, wanted, low, high, left):
    """Two thresholds with few values in between, and the mass above the upper one, which is less than wanted.

    `left` values are at or above `low` and have the mass, `right` at or above `high` and have less.
    """
    blocks, above, right = tops.shape[0], 0.0, 0
    reach = row.dtype.type(REACH / scale)
    sorted_tops = np.sort(tops) if left > FEW else tops
    for halving in range(HALVINGS):
        if left - right <= FEW:
            break
        if halving < len(SHARES):  # the tops of the blocks know best where the large values are
            pivot = sorted_tops[int((1 - SHARES[halving]) * (blocks - 1))]
        elif low < top - 2 * reach:  # beyond it weights are next to nothing; for the last of them, larger steps
            pivot = min(top, high) - reach
            reach *= 2
        else:
            pivot = row.dtype.type(0.5 * low + 0.5 * high)
        if not (low < pivot < high):
            if halving < len(SHARES):
                continue
            break
        heavy, count = _mass_above(row, tops, weights, pivot)
        if heavy >= wanted:
            low, left = pivot, count
        else:
            high, above, right = pivot, heavy, count
    return low, high, above


@njit(**_FLAGS)
def _nucleus(row, tops, top, t, floor, share, weights, found):
    """The largest threshold at or above which softmax(z / T) over z >= floor has this share of the mass."""
    blocks, states = tops.shape[0], row.shape[0]
    if share >= 1 or t == np.inf:  # at T = inf all ties, and one threshold keeps all of it
        return floor
    if t == 0:
        return top
    scale = _scale(t, row.dtype)
    low, high, above = floor, np.nextafter(top, row.dtype.type(np.inf)), 0.0
    few = floor > np.finfo(row.dtype).min and _count(row, tops, floor) <= FEW
    if not few:
        total = 0.0
        for b in range(blocks):
            if tops[b] >= low:
                part = slice(b * BLOCK, min((b + 1) * BLOCK, states))
                total += np.float64(_block_weights(row[part], top, scale, weights[part]))
        left = states
        if low > np.finfo(row.dtype).min:
            total, left = _mass_above(row, tops, weights, low)
        wanted = share * total
        low, high, above = _bracket(row, tops, top, scale, weights, wanted, low, high, left)
    count = _gather(row, tops, low, high, found)
    if count < 0:  # more equal values than fit: one threshold keeps all of them
        return low
    ordered = np.sort(found[:count])
    if few:
        total = 0.0
        for j in range(count):
            total += np.exp2((np.float64(ordered[j]) - np.float64(top)) * np.float64(scale))
        wanted = share * total
    for j in range(count - 1, -1, -1):
        above += np.exp2((np.float64(ordered[j]) - np.float64(top)) * np.float64(scale))
        if above >= wanted:
            return ordered[j]
    return low


@njit(**_FLAGS)
def _sums(row, tops, top, scale, floor, sums):
    """Sums of the weights of every block, of values at or above the floor."""
    for b in range(tops.shape[0]):
        sums[b] = 0.0
        if tops[b] >= floor:
            sums[b] = np.float64(_block_sum(row[b * BLOCK : (b + 1) * BLOCK], top, scale, floor))


@njit(**_FLAGS)
def _draw(row, top, t, scale, floor, uniform, sums, local):
    """A state of softmax(z / T) over z >= floor, by the sums of its blocks, and its log p."""
    blocks, total = sums.shape[0], 0.0
    for b in range(blocks):
        total += sums[b]
    target = uniform * total
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
            local[j] = np.exp2((np.float64(part[j]) - np.float64(top)) * np.float64(scale))
            inside += local[j]
    target, height, chosen = share * inside, 0.0, -1
    for j in range(part.shape[0]):
        if local[j] > 0:
            chosen = j
            height += local[j]
            if height > target:
                break
    below = 0.0 if scale == 0 else (np.float64(part[chosen]) - np.float64(top)) / t
    return block * BLOCK + chosen, below - np.log(total)


# -- the kernels -----------------------------------------------------------------------------------------


@njit(**_FLAGS)
def sample(steps, z, numbers, uniform, tops, top, temperatures, floors, kept, token, log_p):
    """Take the steps, which are codes with one number a row, and then draw, unless `uniform` is empty.

    All is done to one row before the next, so that a row is read from memory once. For every row: maxima of its blocks
    and of itself, the temperature and the threshold the steps come to, the number of states left, and what is drawn.
    Where `top` is NaN (the row has NaN or +inf) or -inf (nothing is allowed), the rest is left as it is.
    """
    lowest, drawing = np.finfo(z.dtype).min, uniform.shape[0] > 0
    weights, found = np.empty(z.shape[1], z.dtype), np.empty(FEW, z.dtype)
    sums, local = np.empty(tops.shape[1]), np.empty(BLOCK)
    cut = False  # whether anything is removed
    for s in range(steps.shape[0]):
        cut |= steps[s] != TEMPERATURE
    for i in range(z.shape[0]):
        row, t, floor = z[i], 1.0, lowest
        if not cut:
            for s in range(steps.shape[0]):
                t = _times(t, numbers[i, s])
        at_once = drawing and not cut and 0 < t < np.inf
        top[i], allowed = _tops(row, tops[i], _scale(t, z.dtype) if at_once else z.dtype.type(0), sums)
        if not np.isfinite(top[i]):
            continue
        for s in range(steps.shape[0] if cut else 0):
            x = numbers[i, s]
            if steps[s] == TEMPERATURE:
                t = _times(t, x)
            elif steps[s] == TOP_K:
                if t != np.inf:  # there all that is left ties
                    floor = max(floor, _kth(row, tops[i], int(x), found))
            elif steps[s] == TOP_P:
                floor = _nucleus(row, tops[i], top[i], t, floor, x, weights, found)
            elif steps[s] == MIN_P:
                floor = max(floor, z.dtype.type(np.float64(top[i]) - t * x if t < np.inf else -np.inf))
        floor = top[i] if t == 0 else floor
        temperatures[i], floors[i] = t, floor
        kept[i] = _count(row, tops[i], floor) if floor > lowest else allowed
        if drawing:
            scale = _scale(t, z.dtype)
            if not at_once:
                _sums(row, tops[i], top[i], scale, floor, sums)
            token[i], log_p[i] = _draw(row, top[i], t, scale, floor, uniform[i], sums, local)


@njit(**_FLAGS)
def compact(z, tops, floors, states, values):
    """The states at or above the floor of every row and their values, in order; -1 and -inf after the last."""
    for i in range(z.shape[0]):
        floor, count = floors[i], 0
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
