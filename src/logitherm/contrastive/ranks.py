"""Features of all ranks of torch.distributed, with gradient."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def gathered(x: Tensor, group: Any, name: str) -> tuple[Tensor, int]:
    """Rows of all ranks in the order of ranks, and where those of this one begin; only its own without a group.

    The gradient of a row is the sum of what it is on all ranks.
    """
    if group is None:
        return x, 0
    sizes = [torch.zeros(1, dtype=torch.long, device=x.device) for _ in range(dist.get_world_size(group))]
    dist.all_gather(sizes, torch.tensor([len(x)], device=x.device), group=group)
    rows = [int(size) for size in sizes]
    if len(set(rows)) > 1:  # every rank sees it, so that none waits
        raise ValueError(f"{name}: must have as many rows on every rank; got {rows}; drop_last=True of a loader")
    return _Gather.apply(x, group), dist.get_rank(group) * len(x)


def total(x: Tensor, group: Any) -> Tensor:
    """Sum over ranks of a number without gradient."""
    if group is None:
        return x
    x = x.detach().clone()
    dist.all_reduce(x, group=group)
    return x


def number_of_ranks(group: Any) -> int:
    return 1 if group is None else dist.get_world_size(group)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, group):  # type: ignore[override]
        ctx.group, ctx.rows = group, len(x)
        whole = x.new_empty((dist.get_world_size(group) * len(x), *x.shape[1:]))
        dist.all_gather(list(whole.split(len(x))), x.contiguous(), group=group)
        return whole

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):  # type: ignore[override]
        grad = grad.contiguous().clone()  # what autograd hands in may be shared
        dist.all_reduce(grad, group=ctx.group)  # reduce_scatter would do, but not every backend has it
        start = dist.get_rank(ctx.group) * ctx.rows
        return grad[start : start + ctx.rows], None
