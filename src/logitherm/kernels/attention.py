"""The state of every row of attention scores, a block of them at a time: scores are never there as a whole."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from logitherm._array import Array, is_torch, namespace, to_numpy
from logitherm.kernels import values
from logitherm.kernels.linear import blocks
from logitherm.kernels.reference import Moments
from logitherm.kernels.threads import map_blocks

VALUES = 1 << 22  # scores of a block: 16 MB in float32
QUERIES, KEYS = 512, 8192  # of a block, at most


class Block(NamedTuple):
    """Which scores: a few heads (of all batches, in a line), queries, and keys."""

    heads: slice
    queries: slice
    keys: slice


def moments(
    q: Array,
    k: Array,
    of_head: np.ndarray,
    start: np.ndarray,
    stop: np.ndarray,
    finish: Callable[[Array, Block], Array] | None = None,
) -> Moments:
    """States at T = 1 of the scores q k^T of every head and query, each (heads, queries), float64.

    q (heads, queries, width), already divided by the temperature; k (key heads, keys, width), of which head h has
    of_head[h]. Query (h, i) sees the keys start[h, i] to stop[h, i]. `finish` may change a block of scores.
    """
    heads, queries = q.shape[:2]
    state = np.zeros((heads, queries, 4))
    state[..., 0] = -math.inf
    xp = namespace(q)
    out = xp.empty(
        min(VALUES, heads * queries * k.shape[1]), dtype=q.dtype, **({"device": q.device} if is_torch(q) else {})
    )
    for block in _blocks(start, stop, k.shape[1]):
        x = _product(q[block.heads, block.queries], k, of_head[block.heads], block.keys, out)
        if finish is not None:
            x = finish(x, block)
        first, last = (
            np.clip(ends[block.heads, block.queries] - block.keys.start, 0, x.shape[2]) for ends in (start, stop)
        )
        _collect(x, first, last, state[block.heads, block.queries])
    top, rest, gap, spread = np.moveaxis(state, -1, 0)
    return Moments(top, np.zeros_like(top), rest, gap, spread)


def _blocks(start: np.ndarray, stop: np.ndarray, keys: int) -> Iterator[Block]:
    """Blocks that hold every key that some query sees, and few that none does."""
    heads, queries = start.shape
    wide = max(1, min(keys, KEYS))
    rows = max(1, min(queries, QUERIES, VALUES // wide))
    several = max(1, VALUES // (rows * wide)) if rows == queries else 1
    for some in blocks(heads, several):
        for part in blocks(queries, rows):
            low, high = int(start[some, part].min()), int(stop[some, part].max())
            for keys_from in range(low, high, wide):
                yield Block(some, part, slice(keys_from, min(keys_from + wide, high)))


def _product(q: Array, k: Array, of_head: np.ndarray, keys: slice, out: Array) -> Array:
    shape = (*q.shape[:2], keys.stop - keys.start)
    x = out[: math.prod(shape)].reshape(shape)
    if len(of_head) == 1:
        theirs = k[of_head[0] : of_head[0] + 1, keys]
    else:
        theirs = k[of_head.tolist(), keys]
    if is_torch(q):
        import torch

        torch.bmm(q, theirs.mT, out=x)
    else:
        np.matmul(q, theirs.transpose(0, 2, 1), out=x)
    return x


def _collect(x: Array, start: np.ndarray, stop: np.ndarray, state: np.ndarray) -> None:
    """`state` (heads, queries, 4) of a block, which may be a view, gets the scores that each query sees."""
    shape = (x.shape[0] * x.shape[1], x.shape[2])
    scores, first, last = to_numpy(x).reshape(shape), start.reshape(-1), stop.reshape(-1)
    known = state.reshape(-1, 4)  # a copy where the block has not all queries
    values.cpu()
    from logitherm.kernels import cpu_attention

    def work(rows: slice) -> None:
        cpu_attention.collect(scores[rows], first[rows], last[rows], known[rows])

    map_blocks(work, *shape, 1 << 18)
    values.ran["attention"] += 1
    state[...] = known.reshape(state.shape)
