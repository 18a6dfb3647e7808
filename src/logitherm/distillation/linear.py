"""The distillation loss of two linear heads, of whose logits no more than a block is there at a time.

The slopes are found with the loss, in the forward pass, so that no logits have to be kept or made again. Blocks are of
whole rows, as many as fit a few dozen megabytes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any

import torch
from torch import Tensor, nn

from logitherm._array import as_temperature, describe
from logitherm.distillation.loss import (
    as_labels,
    require_one_vocabulary,
    require_sound,
    require_temperatures,
    row_weights,
)
from logitherm.distillation.objective import Objective
from logitherm.kernels import linear, softmax
from logitherm.kernels.divergence import KINDS
from logitherm.kernels.divergence import divergence as divergence_of
from logitherm.kernels.linear import Head, blocks

BLOCK_BYTES = 64 << 20  # of the logits of both sides
FEWEST_ROWS = 32  # of a block: each adds to the whole of the weight's slope
TILE_VALUES = 1 << 18  # of logits whose slopes are found at a time, where they do not come in place


def _outside_graphs(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Not for a graph, while the model around it compiles. The compiler takes seconds to import, so not before."""

    @wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Tensor:
        if torch.compiler.is_compiling():
            return torch.compiler.disable(function)(*args, **kwargs)  # type: ignore[no-any-return]
        return function(*args, **kwargs)

    return wrapped


@_outside_graphs
def linear_distillation_loss(
    student_hidden: Tensor,
    student_head: Any,
    teacher_hidden: Tensor,
    teacher_head: Any,
    *,
    temperature: Any = 1.0,
    teacher_temperature: Any = None,
    divergence: str = "forward_kl",
    mixture: float | None = None,
    dkd_weights: tuple[float, float] = (1.0, 8.0),
    scale: str | float = "T2",
    labels: Tensor | None = None,
    hard_weight: float = 0.0,
    token_weights: Tensor | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    student_softcap: float | None = None,
    teacher_softcap: float | None = None,
    step: Any = None,
    check: bool | None = None,
) -> Tensor:
    """`distillation_loss` of the logits hidden weight^T + bias of both sides, which are never there as a whole.

    Derivatives are in the student's hidden states, weight and bias, and in the temperatures; the teacher is fixed. They
    are found with the loss and kept until the backward pass: memory is that of the gradients and of one block.

    Parameters
    ----------
    student_hidden, teacher_hidden : floating tensor, shape (..., width)
        Of one batch shape; the widths may differ.
    student_head, teacher_head : nn.Linear, weight (states, width), or (weight, bias)
        Vocabularies that are padded to different sizes are cut to the states that both have.
    temperature, teacher_temperature : float, tensor that broadcasts against the batch, or Temperature
        As in `distillation_loss`; what looks at logits sees the teacher's, block by block, and has no derivative.
    student_softcap, teacher_softcap : float, optional
        Of logits that are softcap tanh(z / softcap).
    reduction : "mean" or "sum"
    divergence, mixture, dkd_weights, scale, labels, hard_weight, token_weights, ignore_index, step, check
        As in `distillation_loss`.

    Returns
    -------
    tensor
        A number, float32 or float64.

    Raises
    ------
    TypeError, ValueError
        As `distillation_loss`; heads that do not fit the hidden states.

    References
    ----------
    As `distillation_loss`; slopes in the forward pass as in Hsu et al. (2024), Liger kernel, section 3.2.

    Examples
    --------
    >>> import torch
    >>> from logitherm.distillation import distillation_loss, linear_distillation_loss
    >>> generator = torch.Generator().manual_seed(0)
    >>> hidden, weight, large, heavy = (torch.randn(*shape, generator=generator) for shape in ((8, 4), (50, 4)) * 2)
    >>> blocked = linear_distillation_loss(hidden, weight, large, heavy, temperature=2.0)
    >>> whole = distillation_loss(hidden @ weight.T, large @ heavy.T, temperature=2.0)
    >>> bool(torch.isclose(blocked, whole))
    True
    """
    objective = Objective(divergence, mixture, dkd_weights, scale)
    if reduction not in ("mean", "sum"):
        raise ValueError(f"reduction: must be mean or sum; got {reduction!r}; distillation_loss has none")
    student = as_head(student_head, student_softcap, student_hidden, "student")
    teacher = as_head(teacher_head, teacher_softcap, teacher_hidden, "teacher")
    states = require_one_vocabulary(len(student.weight), len(teacher.weight))
    batch = tuple(student_hidden.shape[:-1])
    if tuple(teacher_hidden.shape[:-1]) != batch:
        raise ValueError(
            f"teacher_hidden: must have the batch {batch} of the student; got {describe(teacher_hidden)}; align them"
        )
    double = torch.float64 in (student_hidden.dtype, student.weight.dtype)
    kind = torch.float64 if double else torch.float32
    shell = torch.empty((*batch, states), dtype=kind, device="meta")
    y = as_labels(labels, batch, states, ignore_index, objective, hard_weight, check)
    count = torch.ones((), dtype=kind, device=student_hidden.device)
    weights = row_weights(y, token_weights, batch, ignore_index, count)
    t_s = _early(temperature, shell, count, step, check)
    t_t = t_s if teacher_temperature is None else _early(teacher_temperature, shell, count, step, check)
    if t_s is None and teacher_temperature is not None:
        raise TypeError(
            f"temperature: must not depend on the student's logits; got {describe(temperature)}; a number, say, or "
            "distillation_loss"
        )
    late = temperature if t_s is None else teacher_temperature if t_t is None else None
    w = torch.ones(batch, dtype=kind, device=count.device) if weights is None else weights
    if reduction == "mean":
        w = w / w.sum().clamp_min(torch.finfo(kind).tiny)
    rows = _Batch(student_hidden, teacher_hidden, t_s, t_t, y, w).flat()
    plan = _Plan(objective, teacher, student.softcap, states, hard_weight, late, step, check)
    loss: Tensor = _Loss.apply(
        rows.student, student.weight, student.bias, rows.t_s, rows.t_t, rows, plan, torch.is_grad_enabled()
    )
    return loss


@dataclass(frozen=True)
class _Batch:
    """Everything with an entry a row; T of a side is None where it is resolved block by block."""

    student: Tensor
    teacher: Tensor
    t_s: Tensor | None
    t_t: Tensor | None
    labels: Tensor | None
    weights: Tensor

    def flat(self) -> _Batch:
        """Rows in one axis, without those that do not count."""
        keep = self.weights.reshape(-1) > 0
        every = bool(keep.all())
        axes = self.weights.ndim

        def one(value: Tensor | None) -> Tensor | None:
            if value is None:
                return None
            value = value.reshape(-1, *value.shape[axes:])
            return value if every else value[keep]

        return _Batch(*(one(getattr(self, name)) for name in self.__dataclass_fields__))  # type: ignore[arg-type]

    def take(self, rows: slice) -> _Batch:
        values = (getattr(self, name) for name in self.__dataclass_fields__)
        return _Batch(*(None if value is None else value[rows] for value in values))  # type: ignore[arg-type]


@dataclass(frozen=True)
class _Plan:
    """What is the same for all rows."""

    objective: Objective
    teacher: Head
    softcap: float | None
    states: int
    hard_weight: float
    late: Any  # a Temperature that looks at the teacher's logits
    step: Any
    check: bool | None


class _Loss(torch.autograd.Function):
    """The weighted sum of the rows' losses; the slopes are found with it."""

    @staticmethod
    def forward(ctx, hidden, weight, bias, t_s, t_t, rows, plan, grad):  # type: ignore[override]
        needs = [grad and need for need in ctx.needs_input_grad[:5]]
        with torch.autocast(hidden.device.type, enabled=False):
            loss, slopes = _summed(rows, Head(weight, bias, plan.softcap), plan, needs)
        ctx.save_for_backward(*slopes)
        return loss

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):  # type: ignore[override]
        scaled = [None if slope is None else slope if grad == 1 else slope * grad for slope in ctx.saved_tensors]
        return *scaled, None, None, None


def _summed(rows: _Batch, head: Head, plan: _Plan, needs: list[bool]) -> tuple[Tensor, list[Tensor | None]]:
    """The loss, and its slopes in hidden states, weight, bias and temperatures where they are needed."""
    states, kind, n = plan.states, rows.weights.dtype, len(rows.student)
    student, teacher = _cut(head, states), _cut(plan.teacher, states)
    size = max(FEWEST_ROWS, BLOCK_BYTES // (2 * states * rows.weights.element_size()))
    z_s, z_t = (linear.scratch(rows.weights[:, None], size, states) for _ in range(2))
    slopes: list[Tensor | None] = [None] * 5
    if needs[0]:
        slopes[0] = torch.zeros(rows.student.shape, dtype=rows.student.dtype, device=rows.student.device)
    if needs[1]:
        slopes[1] = torch.zeros(head.weight.shape, dtype=kind, device=head.weight.device)
    if needs[2] and head.bias is not None:
        slopes[2] = torch.zeros(head.bias.shape, dtype=kind, device=head.bias.device)
    by_t = [torch.zeros_like(rows.weights) if need else None for need in needs[3:]]
    weight = student.weight.to(kind)
    total = torch.zeros((), dtype=torch.float64, device=rows.weights.device)
    for part in blocks(n, size):
        block = rows.take(part)
        h_s = block.student.to(kind)
        s, t = student.logits(h_s, z_s), teacher.logits(block.teacher.to(kind), z_t)
        total += _in_place(
            s, t, block, plan, part.start, any(needs[:3]), [by if by is None else by[part] for by in by_t]
        )
        if slopes[0] is not None:
            slopes[0][part] = torch.mm(s, weight)
        if slopes[1] is not None:
            slopes[1][:states].addmm_(s.T, h_s)
        if slopes[2] is not None:
            slopes[2][:states] += s.sum(0)
    if slopes[1] is not None:
        slopes[1] = slopes[1].to(head.weight.dtype)
    if slopes[2] is not None:
        slopes[2] = slopes[2].to(head.bias.dtype)  # type: ignore[union-attr]
    return total.to(kind), [*slopes[:3], *by_t]


def _cut(head: Head, states: int) -> Head:
    return Head(head.weight[:states], None if head.bias is None else head.bias[:states], head.softcap)


def _in_place(
    z_s: Tensor, z_t: Tensor, block: _Batch, plan: _Plan, first: int, slopes: bool, by_t: list[Tensor | None]
) -> Tensor:
    """The loss of a block; the student's logits become its slopes in them before the cap, and T's go to `by_t`."""
    late = None
    if plan.late is not None:
        late = require_temperatures(as_temperature(plan.late, z_t, plan.check, plan.step), "temperature", plan.check)
    t_s, t_t = (late if t is None else t.detach() for t in (block.t_s, block.t_t))
    assert t_s is not None and t_t is not None
    by_kernel = plan.objective.divergence in KINDS and z_s.device.type == "cpu" and all(by is None for by in by_t)
    if by_kernel and not plan.hard_weight and plan.softcap is None:
        factor, _, _ = plan.objective.factor(t_s, t_t)
        arrays = [x.numpy() for x in (z_s, z_t)] + [x.double().numpy() for x in (t_s, t_t, factor * block.weights)]
        found = divergence_of(plan.objective.divergence, *arrays, slopes=slopes, first_row=first)
        return (torch.from_numpy(found) * factor * block.weights).sum()
    total = torch.zeros((), dtype=torch.float64, device=z_s.device)
    for rows in blocks(len(z_s), max(1, TILE_VALUES // z_s.shape[1])):
        s, t, w = z_s[rows], z_t[rows], block.weights[rows, None]
        for name, z in (("student", s), ("teacher", t)):
            require_sound(z, name, plan.check, first=first + rows.start)
        y = None if block.labels is None else block.labels[rows]
        soft = plan.objective.rows(s, t, t_s[rows], t_t[rows], y, by_t[1] is not None)
        share = 1 - plan.hard_weight
        value, slope = share * soft.value, share * soft.student
        if plan.hard_weight:
            assert y is not None
            log_p = softmax(s, torch.ones_like(s[:, 0]), logarithm=True, check=False)
            value = value - plan.hard_weight * log_p.gather(-1, y[:, None])[:, 0]
            slope += plan.hard_weight * log_p.exp()
            slope.scatter_add_(-1, y[:, None], slope.new_full((len(s), 1), -plan.hard_weight))
        if plan.softcap is not None:
            slope *= 1 - (s / plan.softcap) ** 2
        total += (value * w[:, 0]).sum()
        for by, slope_t in zip(by_t, (soft.temperature, soft.teacher_temperature)):
            if by is not None:
                by[rows] = share * w[:, 0] * slope_t
        s.copy_(slope * w)
    return total


# -- what comes in ---------------------------------------------------------------------------------------


def as_head(given: Any, softcap: float | None, hidden: Tensor, side: str) -> Head:
    """A head from a layer, its weight, or (weight, bias), that fits the hidden states."""
    if isinstance(given, nn.Linear):
        weight, bias = given.weight, given.bias
    elif isinstance(given, (tuple, list)) and len(given) == 2:
        weight, bias = given
    else:
        weight, bias = given, None
    if not isinstance(weight, Tensor) or weight.ndim != 2 or not weight.is_floating_point():
        raise TypeError(
            f"{side}_head: must be nn.Linear, a weight (states, width) or (weight, bias); got {describe(given)}"
        )
    if not isinstance(hidden, Tensor) or not hidden.is_floating_point() or hidden.shape[-1] != weight.shape[1]:
        raise ValueError(
            f"{side}_hidden: must be floating, of the head's width {weight.shape[1]}; got {describe(hidden)}; mend it"
        )
    if bias is not None and tuple(bias.shape) != (weight.shape[0],):
        raise ValueError(f"{side}_head: must have a bias of shape ({weight.shape[0]},); got {describe(bias)}; mend it")
    if softcap is not None and not 0 < softcap < math.inf:
        raise ValueError(f"{side}_softcap: must be finite and positive; got {softcap}; None is without")
    return Head(weight, bias, softcap)


def _early(temperature: Any, shell: Tensor, like: Tensor, step: Any, check: bool | None) -> Tensor | None:
    """T of every row where it does not depend on logits, of which there is only the shape; else None."""
    if hasattr(temperature, "resolve"):
        try:
            found = temperature.resolve(shell, step)
        except (NotImplementedError, RuntimeError, TypeError):  # it wants values
            return None
        if isinstance(found, Tensor) and found.is_meta:
            return None
        temperature = found
    t = as_temperature(temperature, like.expand(*shell.shape[:-1], 1), check)
    return require_temperatures(t, "temperature", check)
