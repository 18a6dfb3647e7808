"""Sums over all pairs of rows of two matrices, in blocks: the matrix of pairs is never whole in memory.

A temperature is no argument here: (a / T) b has it in the rows of `a`, with its derivative.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

BLOCK = 1024  # rows and columns of a block: 4 MB of float32, which stay in the cache from the product to the sums


def full_precision(x: Any) -> torch.autocast:
    """No autocast where `x` is: a product of half types has an error of 1e-3, which is divided by T."""
    return torch.autocast(x.device.type if isinstance(x, Tensor) else "cpu", enabled=False)


def log_partition(a: Tensor, b: Tensor, *, skip: int | None = None, block: int = BLOCK) -> Tensor:
    """log sum_j exp(a_i . b_j) of every row i, without j = i + skip if that is given.

    Parameters
    ----------
    a, b : float32 or float64 tensors, shapes (n, d), (m, d)
        With at least one j for every i.

    Returns
    -------
    tensor, shape (n,)
    """
    return _LogPartition.apply(a, b, skip, block, False)[0]


def log_partitions(a: Tensor, b: Tensor, *, block: int = BLOCK) -> tuple[Tensor, Tensor]:
    """log sum_j exp(a_i . b_j) and log sum_j exp(a_j . b_i), both without j = i, from one product."""
    return _LogPartition.apply(a, b, 0, block, True)


def softplus_sum(a: Tensor, b: Tensor, bias: Tensor, *, skip: int, block: int = BLOCK) -> Tensor:
    """sum_j log(1 + exp(a_i . b_j + bias_i)) of every row i, without j = i + skip."""
    return _SoftplusSum.apply(a, b, bias, skip, block)


def tiles(a: Tensor, b: Tensor, skip: int | None, block: int) -> Iterator[tuple[slice, slice, Tensor]]:
    """Rows i, columns j and a_i . b_j of every block, -inf for pairs that are left out.

    The values are the caller's until the next block, which takes their place.
    """
    n, m = len(a), len(b)
    memory = _like_tiles(a, b, block)
    for i in range(0, n, block):
        rows = slice(i, min(i + block, n))
        for j in range(0, m, block):
            columns = slice(j, min(j + block, m))
            x = memory[: (rows.stop - i) * (columns.stop - j)].view(rows.stop - i, columns.stop - j)
            torch.mm(a[rows], b[columns].T, out=x)
            if skip is not None:
                x.diagonal(i + skip - j).fill_(-math.inf)  # empty where the diagonal passes the block by
            yield rows, columns, x


class _LogPartition(torch.autograd.Function):
    """Over rows, and over columns if asked for. Backward makes the products again, and their Gibbs weights."""

    @staticmethod
    def forward(ctx, a, b, skip, block, both):  # type: ignore[override]
        by_row = a.new_full((len(a),), -math.inf)
        by_column = a.new_full((len(b),), -math.inf) if both else None
        work = _like_tiles(a, b, block) if both else None
        with full_precision(a):
            for rows, columns, x in tiles(a, b, skip, block):
                if by_column is not None and work is not None:
                    found = _logsumexp(x, 0, _shaped(work, x))
                    by_column[columns] = torch.logaddexp(by_column[columns], found)
                by_row[rows] = torch.logaddexp(by_row[rows], _logsumexp(x, 1, x))
        ctx.skip, ctx.block = skip, block
        ctx.save_for_backward(a, b, by_row, by_column)
        return by_row, by_column

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_row, grad_column):  # type: ignore[override]
        a, b, by_row, by_column = ctx.saved_tensors
        slopes = _Slopes(a, b, ctx.needs_input_grad)
        work = _like_tiles(a, b, ctx.block) if by_column is not None else None
        with full_precision(a):
            for rows, columns, x in tiles(a, b, ctx.skip, ctx.block):
                q = None if work is None else torch.sub(x, by_column[columns], out=_shaped(work, x)).exp_()
                p = x.sub_(by_row[rows, None]).exp_().mul_(grad_row[rows, None])
                slopes.add(rows, columns, p if q is None else p.addcmul_(q, grad_column[columns].expand_as(q)))
        return slopes.a, slopes.b, None, None, None


class _SoftplusSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx, a, b, bias, skip, block):  # type: ignore[override]
        total = a.new_zeros(len(a))
        with full_precision(a):
            for rows, _, x in tiles(a, b, skip, block):
                x.add_(bias[rows, None]).neg_()  # log(1 + e^x) = -log sigmoid(-x)
                total[rows] -= torch.nn.functional.logsigmoid(x).sum(1)
        ctx.skip, ctx.block = skip, block
        ctx.save_for_backward(a, b, bias)
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):  # type: ignore[override]
        a, b, bias = ctx.saved_tensors
        slopes, by_bias = _Slopes(a, b, ctx.needs_input_grad), torch.zeros_like(bias)
        with full_precision(a):
            for rows, columns, x in tiles(a, b, ctx.skip, ctx.block):
                p = x.add_(bias[rows, None]).sigmoid_().mul_(grad[rows, None])
                by_bias[rows] += p.sum(1)
                slopes.add(rows, columns, p)
        return slopes.a, slopes.b, by_bias, None, None


class _Slopes:
    """Derivatives in a and b from those in the pairs, where they are needed."""

    def __init__(self, a: Tensor, b: Tensor, needed: tuple[bool, ...]) -> None:
        self._of = a, b
        self.a = torch.zeros_like(a) if needed[0] else None
        self.b = torch.zeros_like(b) if needed[1] else None

    def add(self, rows: slice, columns: slice, by_pair: Tensor) -> None:
        a, b = self._of
        if self.a is not None:
            self.a[rows].addmm_(by_pair, b[columns])
        if self.b is not None:
            self.b[columns].addmm_(by_pair.T, a[rows])


def _like_tiles(a: Tensor, b: Tensor, block: int) -> Tensor:
    """Memory for the largest block."""
    return a.new_empty(min(block, len(a)) * min(block, len(b)))


def _shaped(memory: Tensor, x: Tensor) -> Tensor:
    return memory[: x.numel()].view(x.shape)


def _logsumexp(x: Tensor, dim: int, work: Tensor) -> Tensor:
    """As torch.logsumexp, with a place for its exponentials (`x` itself, if it is not needed again)."""
    top = x.amax(dim, keepdim=True).clamp_min(torch.finfo(x.dtype).min)  # -inf - -inf would be NaN
    return torch.sub(x, top, out=work).exp_().sum(dim).log_().add_(top.squeeze(dim))
