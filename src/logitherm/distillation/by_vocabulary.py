"""The loss of two linear heads by blocks of the vocabulary, in two passes: forward and reverse KL on the CPU.

The first pass finds the laws' normalisers, the second makes the logits once more, and the slopes from them. That is
half as many products again as whole rows need. But the weight's slope is written once, not added to for every few
rows, and no head of a half type is ever whole in float32. So it serves where vocabularies are so large that a
block has few whole rows, and where heads are of half types.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from logitherm.distillation.by_tokens import Plan, Rows
from logitherm.distillation.head_loss import BLOCK_BYTES, Slopes, cut, empty_slopes, in_dtypes, rows_of_a_block
from logitherm.kernels import divergence, linear
from logitherm.kernels.linear import blocks

ROWS = 4096  # at a time
FEWEST_STATES = 512  # of a block
ENOUGH_ROWS = 80  # of whole rows in a block: with fewer, adding to the weight's slope takes longer than the products


def serves(rows: Rows, plan: Plan, needs: list[bool]) -> bool:
    """Whether this way can be taken and is the better one."""
    if not plan.by_kernel(rows.weights.device) or plan.late is not None or any(needs[3:]):
        return False
    size = rows_of_a_block(plan.states, 2, rows.weights)
    half = plan.student.weight.element_size() < 4 and plan.student.weight.numel() * 4 > BLOCK_BYTES
    return half or size < ENOUGH_ROWS < len(rows.weights)


def summed(rows: Rows, plan: Plan, needs: list[bool]) -> tuple[Tensor, Slopes]:
    """The loss, and its slopes in hidden states, weight and bias where they are needed."""
    kind, states, n = rows.weights.dtype, plan.states, len(rows.weights)
    student, teacher = cut(plan.student, states), cut(plan.teacher, states)
    once = plan.student.weight.dtype if n <= ROWS else kind  # every value of the weight's slope is written once
    slopes = empty_slopes(rows.student, plan.student, needs, (kind, once, kind))
    width = max(FEWEST_STATES, BLOCK_BYTES // (2 * min(n, ROWS) * rows.weights.element_size()))
    z_s, z_t = (linear.scratch(rows.weights[:, None], min(n, ROWS), width) for _ in range(2))
    value = np.zeros(n)
    for part in blocks(n, ROWS):
        here = rows.take(part)
        assert here.t_s is not None and here.t_t is not None
        loss = plan.loss(here, here.t_s, here.t_t)
        hidden, theirs = here.student.to(kind), here.teacher.to(kind)
        state = divergence.empty_state(len(hidden))
        for columns in blocks(states, width):
            s, t = student.logits(hidden, z_s, columns), teacher.logits(theirs, z_t, columns)
            divergence.collect(loss, s.numpy(), t.numpy(), state)
        if plan.check is not False:
            divergence.require_sound(state, part.start)
        for columns in blocks(states, width):
            s, t = student.logits(hidden, z_s, columns), teacher.logits(theirs, z_t, columns)
            divergence.finish(
                loss, s.numpy(), t.numpy(), state, value[part], first_state=columns.start, slopes=any(needs[:3])
            )
            if slopes[0] is not None:
                slopes[0][part].addmm_(s, student.weight[columns].to(kind))
            if slopes[1] is not None:
                slopes[1][columns] += torch.mm(s.T, hidden)
            if slopes[2] is not None:
                slopes[2][columns] += s.sum(0)
    return torch.tensor(math.fsum(value), dtype=kind), [*in_dtypes(slopes, rows.student, plan.student), None, None]
