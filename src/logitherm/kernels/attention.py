"""The state of every row of attention scores, a block of them at a time: scores are never there as a whole."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from logitherm._array import Array, is_torch, namespace, state_index, to_numpy
from logitherm.kernels import reference, values
from logitherm.kernels.linear import blocks
from logitherm.kernels.reference import Moments
from logitherm.kernels.threads import map_blocks

VALUES = 1 << 22  # scores of a block: 16 MB in float32
QUERIES, KEYS = 256, 8192  # of a block, at most: the fewer queries, the fewer keys that none of them sees
BLOCK_VALUES = 1 << 18  # of a thread's share


class Block(NamedTuple):
    """Which scores: a few heads (of all batches, in a line), queries, and keys."""

    heads: slice
    queries: slice
    keys: slice


def moments(
    q: Array,
    k: Array,
    temperature: Array,
    of_head: np.ndarray,
    start: np.ndarray,
    stop: np.ndarray,
    finish: Callable[[Array, Block], Array] | None = None,
) -> Moments:
    """States of the scores q k^T / T of every head and query, each (heads, queries), float64.

    q (heads, queries, width), T (heads, queries); k (key heads, keys, width), of which head h has of_head[h]. Query
    (h, i) sees the keys start[h, i] to stop[h, i]. `finish` may change a block of scores.
    """
    heads, queries = q.shape[:2]
    on_cpu = not is_torch(q) or q.device.type == "cpu"
    where = {"device": q.device} if is_torch(q) else {}
    out = namespace(q).empty(min(VALUES, heads * queries * k.shape[1]), dtype=q.dtype, **where)
    known = _Known(heads, queries) if on_cpu else _KnownElsewhere(q)
    for block in _blocks(start, stop, k.shape[1]):
        some = q[block.heads, block.queries] / temperature[block.heads, block.queries, None]
        x = _product(some, k, of_head[block.heads], block.keys, out)
        if finish is not None:
            x = finish(x, block)
        first, last = (
            np.clip(ends[block.heads, block.queries] - block.keys.start, 0, x.shape[2]) for ends in (start, stop)
        )
        known.add(x, first, last, block)
    return known.moments()


class _Known:
    """What is known of the rows so far, by the CPU kernel."""

    def __init__(self, heads: int, queries: int) -> None:
        self.state = np.zeros((heads, queries, 4))
        self.state[..., 0] = -math.inf

    def add(self, x: Array, first: np.ndarray, last: np.ndarray, block: Block) -> None:
        values.cpu()
        from logitherm.kernels import cpu_attention

        shape = (x.shape[0] * x.shape[1], x.shape[2])
        scores, first, last = to_numpy(x).reshape(shape), first.reshape(-1), last.reshape(-1)
        here = self.state[block.heads, block.queries]
        state = here.reshape(-1, 4)  # a copy where the block has several heads and not all queries

        def work(rows: slice) -> None:
            cpu_attention.collect(scores[rows], first[rows], last[rows], state[rows])

        map_blocks(work, *shape, BLOCK_VALUES)
        values.ran["attention"] += 1
        here[...] = state.reshape(here.shape)

    def moments(self) -> Moments:
        top, rest, gap, spread = np.moveaxis(self.state, -1, 0)
        return Moments(top, np.zeros_like(top), rest, gap, spread)


class _KnownElsewhere:
    """The same by the definition, where the arrays are."""

    def __init__(self, q: Array) -> None:
        xp = namespace(q)
        nothing = xp.zeros_like(q[..., 0])
        self.state = Moments(nothing - math.inf, *(xp.zeros_like(nothing) for _ in range(4)))
        self.one = nothing + 1

    def add(self, x: Array, first: np.ndarray, last: np.ndarray, block: Block) -> None:
        xp = namespace(x)
        where, place = {"device": x.device} if is_torch(x) else {}, state_index(x)
        first, last = (xp.asarray(ends, **where)[..., None] for ends in (first, last))
        x = xp.where((place >= first) & (place < last), x, xp.full_like(x, -math.inf))
        here, one = (block.heads, block.queries), self.one[block.heads, block.queries]
        before = Moments(*(value[here] for value in self.state))
        after = reference.merge(before, reference.moments_or_empty(x, one), one)
        for value, new in zip(self.state, after):
            value[here] = new

    def moments(self) -> Moments:
        return Moments(*(to_numpy(value).astype(np.float64) for value in self.state))


def _blocks(start: np.ndarray, stop: np.ndarray, keys: int) -> Iterator[Block]:
    """Blocks that hold every key that some query sees, and few that none does."""
    heads, queries = start.shape
    wide = max(1, min(keys, KEYS))
    rows = max(1, min(queries, QUERIES, VALUES // wide))
    several = max(1, VALUES // (rows * wide))
    for some in blocks(heads, several):
        for part in blocks(queries, rows):
            low, high = int(start[some, part].min()), int(stop[some, part].max())
            for keys_from in range(low, high, wide):
                yield Block(some, part, slice(keys_from, min(keys_from + wide, high)))


def _product(q: Array, k: Array, of_head: np.ndarray, keys: slice, out: Array) -> Array:
    shape = (*q.shape[:2], keys.stop - keys.start)
    x = out[: math.prod(shape)].reshape(shape)
    first, last = int(of_head[0]), int(of_head[-1])
    alone = last - first + 1 == len(of_head)  # every head has keys of its own, which need no copy
    theirs = k[first : last + 1, keys] if alone else k[of_head.tolist(), keys]
    if is_torch(q):
        import torch

        torch.bmm(q, theirs.mT, out=x)
    else:
        np.matmul(q, theirs.transpose(0, 2, 1), out=x)
    return x


def share(x: np.ndarray, log_partition: np.ndarray) -> np.ndarray:
    """The probability exp(x - log Z) of a state; 0 where x is -inf, NaN where log Z is not known."""
    return np.exp(x - log_partition)
