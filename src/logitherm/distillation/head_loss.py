"""Losses of linear heads of whose logits no more than a block is there at a time.

Slopes are found with the loss, in the forward pass, so that no logits have to be kept or made again.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from logitherm._array import describe
from logitherm.distillation.guard import described, require_tensor, row_temperature
from logitherm.kernels import linear
from logitherm.kernels.linear import Head, blocks

BLOCK_BYTES = 64 << 20  # of the logits of a block, of all sides together
FEWEST_ROWS = 32  # of a block of rows: each adds to the whole of the weight's slope
TILE_VALUES = 1 << 18  # of logits that are worked on at a time on the CPU, where no kernel does it

Slopes = list[Tensor | None]  # in hidden states, weight, bias, and whatever else the loss has derivatives in
Find = Callable[[list[bool]], tuple[Tensor, Slopes]]  # which of them are needed -> the loss and its slopes


def with_slopes(find: Find, *learned: Tensor | None) -> Tensor:
    """The loss that `find` finds, with derivatives in `learned`, which are in the order of its slopes."""
    loss: Tensor = _Loss.apply(find, torch.is_grad_enabled(), *learned)
    return loss


class _Loss(torch.autograd.Function):
    @staticmethod
    def forward(ctx, find, grad, hidden, *others):  # type: ignore[override]
        with torch.autocast(hidden.device.type, enabled=False):
            loss, slopes = find([grad and need for need in ctx.needs_input_grad[2:]])
        ctx.save_for_backward(*slopes)
        return loss

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):  # type: ignore[override]
        scaled = [None if slope is None else slope if grad == 1 else slope * grad for slope in ctx.saved_tensors]
        return None, None, *scaled


def by_rows(
    hidden: Tensor, head: Head, states: int, like: Tensor, sides: int, needs: list[bool],
    work: Callable[[Tensor, slice], Tensor],
) -> tuple[Tensor, Slopes]:  # fmt: skip
    """The sum of `work(logits, rows)` over blocks of rows, and its slopes in hidden states, weight and bias.

    `work` leaves in the place of the logits its slopes in them, if any is needed, before the head's cap. A block has
    logits of so many `sides`, all of the dtype of `like`, for the first `states` of the head.
    """
    kind = like.dtype
    student = cut(head, states)
    size = rows_of_a_block(states, sides, like)
    out = linear.scratch(like[:, None], size, states)
    slopes = empty_slopes(hidden, head, needs, (hidden.dtype, kind, kind))
    weight = student.weight.to(kind)
    total = torch.zeros((), dtype=torch.float64, device=hidden.device)
    for part in blocks(len(hidden), size):
        h = hidden[part].to(kind)
        z = student.logits(h, out)
        total += work(z, part)
        if slopes[0] is not None:
            slopes[0][part] = torch.mm(z, weight)
        if slopes[1] is not None:
            slopes[1][:states].addmm_(z.T, h)
        if slopes[2] is not None:
            slopes[2][:states] += z.sum(0)
    return total.to(kind), in_dtypes(slopes, hidden, head)


def rows_of_a_block(states: int, sides: int, like: Tensor) -> int:
    return max(FEWEST_ROWS, BLOCK_BYTES // (sides * states * like.element_size()))


def tiles(z: Tensor) -> list[slice]:
    """Rows of a block that fit the cache together."""
    return list(blocks(len(z), max(1, TILE_VALUES // z.shape[1]) if z.device.type == "cpu" else len(z)))


def empty_slopes(hidden: Tensor, head: Head, needs: list[bool], dtypes: tuple[torch.dtype, ...]) -> Slopes:
    """Room for the slopes in hidden states, weight and bias; what is added to often has the full precision."""
    values = zip((hidden, head.weight, head.bias), needs, dtypes)
    return [
        torch.zeros(value.shape, dtype=dtype, device=value.device) if need and value is not None else None
        for value, need, dtype in values
    ]


def in_dtypes(slopes: Slopes, hidden: Tensor, head: Head) -> Slopes:
    pairs = zip(slopes, (hidden, head.weight, head.bias))
    return [None if slope is None or value is None else slope.to(value.dtype) for slope, value in pairs]


def cut(head: Head, states: int) -> Head:
    return Head(head.weight[:states], None if head.bias is None else head.bias[:states], head.softcap)


def as_head(given: Any, softcap: float | None, hidden: Any, side: str) -> Head:
    """A head from a layer, its weight, or (weight, bias), that fits the hidden states."""
    if isinstance(given, nn.Linear):
        weight, bias = given.weight, given.bias
    elif isinstance(given, (tuple, list)) and len(given) == 2:
        weight, bias = given
    else:
        weight, bias = given, None
    if not isinstance(weight, Tensor) or weight.ndim != 2 or not weight.is_floating_point():
        raise TypeError(
            f"{side}_head: must be nn.Linear, a weight (states, width) or (weight, bias), floating torch tensors; got "
            f"{describe(given) if isinstance(given, Tensor) else described(given)}; pass one of these"
        )
    require_tensor(weight, f"{side}_head")
    require_tensor(hidden, f"{side}_hidden")
    if not hidden.is_floating_point() or not hidden.ndim or hidden.shape[-1] != weight.shape[1]:
        raise ValueError(
            f"{side}_hidden: must be floating, of the head's width {weight.shape[1]}; got {describe(hidden)}; mend it"
        )
    if bias is not None and tuple(bias.shape) != (weight.shape[0],):
        raise ValueError(f"{side}_head: must have a bias of shape ({weight.shape[0]},); got {describe(bias)}; mend it")
    if softcap is not None and not 0 < softcap < math.inf:
        raise ValueError(f"{side}_softcap: must be finite and positive; got {softcap}; None is without")
    return Head(weight, bias, softcap)


def compute_dtype(hidden: Tensor, head: Head) -> torch.dtype:
    return torch.float64 if torch.float64 in (hidden.dtype, head.weight.dtype) else torch.float32


def require_one_number(reduction: str, whole: str) -> None:
    if reduction not in ("mean", "sum"):
        raise ValueError(f"reduction: must be mean or sum; got {reduction!r}; {whole} gives that of every row")


def shares(weights: Tensor | None, batch: tuple[int, ...], like: Tensor, reduction: str) -> Tensor:
    """What every row counts in the loss, batch shape."""
    w = torch.ones(batch, dtype=like.dtype, device=like.device) if weights is None else weights
    return w / w.sum().clamp_min(torch.finfo(w.dtype).tiny) if reduction == "mean" else w


def early_temperature(
    temperature: Any, batch: tuple[int, ...], states: int, like: Tensor, step: Any, check: bool | None,
    name: str = "temperature",
) -> Tensor | None:  # fmt: skip
    """T of every row where it does not depend on logits, of which there is only the shape; else None."""
    if hasattr(temperature, "resolve"):
        try:
            found = temperature.resolve(torch.empty((*batch, states), dtype=like.dtype, device="meta"), step)
        except (NotImplementedError, RuntimeError, TypeError):  # it wants values
            return None
        if isinstance(found, Tensor) and found.is_meta:
            return None
        temperature = found
    return row_temperature(temperature, like.expand(*batch, 1), name, check)
