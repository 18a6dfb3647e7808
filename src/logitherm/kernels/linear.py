"""Softmaxes of a linear head, whose logits are made block by block and never kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from logitherm._array import Array, is_torch, namespace
from logitherm.kernels import values
from logitherm.kernels.reference import Moments, merge

ROWS, STATES = 512, 8192  # of a block, 16 MB: smaller ones pay for the change from the product's threads to ours


class Head(NamedTuple):
    """logits = cap(hidden weight^T + bias), with cap(z) = softcap tanh(z / softcap)."""

    weight: Array  # (states, width)
    bias: Array | None = None
    softcap: float | None = None

    def logits(self, hidden: Array, out: Array, states: slice = slice(None)) -> Array:
        """Logits of some rows and states in the front of `out`, in its dtype."""
        weight = _as(self.weight[states], out)
        z = out.reshape(-1)[: len(hidden) * len(weight)].reshape(len(hidden), len(weight))
        if is_torch(z):
            import torch

            torch.mm(hidden, weight.T, out=z)
        else:
            np.matmul(hidden, weight.T, out=z)
        if self.bias is not None:
            z += _as(self.bias[states], out)
        if self.softcap is not None:
            z /= self.softcap
            namespace(z).tanh(z, out=z)
            z *= self.softcap
        return z


def _as(values: Array, like: Array) -> Array:
    return namespace(values).astype(values, like.dtype, copy=False)


def blocks(n: int, size: int) -> Iterator[slice]:
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))


def scratch(hidden: Array, rows: int = ROWS, states: int = STATES) -> Array:
    """Room for the logits of a block."""
    xp = namespace(hidden)
    device = {"device": hidden.device} if is_torch(hidden) else {}
    return xp.empty((rows, states), dtype=hidden.dtype, **device)


def moments(hidden: Array, head: Head, temperatures: Sequence[Array]) -> list[Moments]:
    """The state of every row of hidden (n, width) at several temperatures, each (n,): 0 < T < inf.

    A matrix product for a block, then its state, merged with that of the states before.
    """
    n, states = hidden.shape[0], head.weight.shape[0]
    out = scratch(hidden)
    found: list[list[Moments]] = [[] for _ in temperatures]
    for rows in blocks(n, ROWS):
        merged: list[Moments | None] = [None] * len(temperatures)
        for part in blocks(states, STATES):
            z = head.logits(hidden[rows], out, part)
            for i, t in enumerate(temperatures):
                here = values.moments(z, t[rows], check=True, part=True)
                before = merged[i]
                merged[i] = here if before is None else merge(before, here, t[rows])
        for i, each in enumerate(merged):
            if each is not None:
                found[i].append(each)
    xp = namespace(hidden)
    return [Moments(*(xp.concat(list(column)) for column in zip(*parts))) for parts in found]


def label_logits(hidden: Array, head: Head, labels: Array) -> Array:
    """The logit of the label of every row."""
    xp = namespace(hidden)
    z = xp.sum(hidden * _as(head.weight[labels], hidden), axis=-1)
    if head.bias is not None:
        z = z + _as(head.bias[labels], hidden)
    return z if head.softcap is None else head.softcap * xp.tanh(z / head.softcap)
