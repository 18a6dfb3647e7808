"""The loss of two linear heads by blocks of whole rows: any divergence, with derivatives in the temperatures too."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from logitherm.distillation.guard import require_sound, row_temperature
from logitherm.distillation.head_loss import Slopes, by_rows, cut, rows_of_a_block, tiles
from logitherm.distillation.loss import mixed_with_labels
from logitherm.distillation.objective import Objective
from logitherm.kernels import linear
from logitherm.kernels.divergence import KINDS, Loss, whole
from logitherm.kernels.linear import Head


class Rows(NamedTuple):
    """Everything with an entry a row; T of a side is None where it is resolved block by block."""

    student: Tensor
    teacher: Tensor
    t_s: Tensor | None
    t_t: Tensor | None
    labels: Tensor | None
    weights: Tensor

    def flat(self) -> Rows:
        """Rows in one axis, without those that do not count."""
        keep = self.weights.reshape(-1) > 0
        every, axes = bool(keep.all()), self.weights.ndim

        def one(value: Tensor) -> Tensor:
            value = value.reshape(-1, *value.shape[axes:])
            return value if every else value[keep]

        return Rows(*(None if value is None else one(value) for value in self))  # type: ignore[arg-type]

    def take(self, rows: slice) -> Rows:
        return Rows(*(None if value is None else value[rows] for value in self))  # type: ignore[arg-type]


class Plan(NamedTuple):
    """What is the same for all rows."""

    objective: Objective
    student: Head
    teacher: Head
    states: int  # that both have
    hard_weight: float
    late: Any  # a Temperature that looks at the teacher's logits
    late_name: str
    step: Any
    check: bool | None

    def by_kernel(self, device: torch.device) -> bool:
        return self.objective.divergence in KINDS and device.type == "cpu"

    def loss(self, rows: Rows, t_s: Tensor, t_t: Tensor) -> Loss:
        """What the kernels are to find for these rows."""
        return self.objective.on_cpu(t_s, t_t, rows.weights, rows.labels, self.hard_weight, self.student.softcap)


def summed(rows: Rows, plan: Plan, needs: list[bool]) -> tuple[Tensor, Slopes]:
    """The loss, and its slopes in hidden states, weight, bias and temperatures where they are needed."""
    teacher, like = cut(plan.teacher, plan.states), rows.weights
    out = linear.scratch(like[:, None], rows_of_a_block(plan.states, 2, like), plan.states)
    by_t = [torch.zeros_like(like) if need else None for need in needs[3:]]

    def work(z_s: Tensor, part: slice) -> Tensor:
        block = rows.take(part)
        z_t = teacher.logits(block.teacher.to(like.dtype), out)
        return _in_place(
            z_s, z_t, block, plan, part.start, any(needs[:3]), [by if by is None else by[part] for by in by_t]
        )

    loss, slopes = by_rows(rows.student, plan.student, plan.states, like, 2, needs, work)
    return loss, [*slopes, *by_t]


def _in_place(
    z_s: Tensor, z_t: Tensor, block: Rows, plan: Plan, first: int, slopes: bool, by_t: list[Tensor | None]
) -> Tensor:
    """The loss of a block; the student's logits become its slopes in them before the cap, and T's go to `by_t`."""
    late = None
    if plan.late is not None:
        late = row_temperature(plan.late, z_t, plan.late_name, plan.check, plan.step)
    t_s, t_t = (late if t is None else t.detach() for t in (block.t_s, block.t_t))
    assert t_s is not None and t_t is not None
    if plan.by_kernel(z_s.device) and all(by is None for by in by_t):
        loss = plan.loss(block, t_s, t_t)
        return torch.from_numpy(whole(loss, z_s.numpy(), z_t.numpy(), slopes=slopes, first_row=first)).sum()
    total = torch.zeros((), dtype=torch.float64, device=z_s.device)
    for rows in tiles(z_s):
        s, t, w = z_s[rows], z_t[rows], block.weights[rows, None]
        for name, z in (("student", s), ("teacher", t)):
            require_sound(z, name, plan.check, first=first + rows.start)
        y = None if block.labels is None else block.labels[rows]
        soft = plan.objective.rows(s, t, t_s[rows], t_t[rows], y, by_t[1] is not None)
        value, slope = soft.value, soft.student
        if plan.hard_weight:
            assert y is not None
            value = mixed_with_labels(value, slope, s, y, plan.hard_weight)
        if plan.student.softcap is not None:
            slope *= 1 - (s / plan.student.softcap) ** 2
        total += (value * w[:, 0]).sum()
        for by, slope_t in zip(by_t, (soft.temperature, soft.teacher_temperature)):
            if by is not None:
                by[rows] = (1 - plan.hard_weight) * w[:, 0] * slope_t
        s.copy_(slope * w)
    return total
