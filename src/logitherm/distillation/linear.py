"""The distillation loss of two linear heads, a student's and a teacher's, whose logits are never there as a whole."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from logitherm._array import describe
from logitherm.distillation import by_tokens, by_vocabulary
from logitherm.distillation.by_tokens import Plan, Rows
from logitherm.distillation.guard import as_labels, require_one_vocabulary, row_weights
from logitherm.distillation.head_loss import (
    Slopes,
    as_head,
    compute_dtype,
    early_temperature,
    require_one_number,
    shares,
    with_slopes,
)
from logitherm.distillation.objective import Objective
from logitherm.kernels.graphs import outside_graphs


@outside_graphs
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

    Blocks are of whole rows. They are of the vocabulary where so few rows fit that this is faster, or where a head of a
    half type would else have to be there in float32 as a whole (both KLs, on the CPU, without derivatives in T).

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
    require_one_number(reduction, "distillation_loss")
    student = as_head(student_head, student_softcap, student_hidden, "student")
    teacher = as_head(teacher_head, teacher_softcap, teacher_hidden, "teacher")
    states = require_one_vocabulary(len(student.weight), len(teacher.weight))
    batch = tuple(student_hidden.shape[:-1])
    if tuple(teacher_hidden.shape[:-1]) != batch:
        raise ValueError(
            f"teacher_hidden: must have the batch {batch} of the student; got {describe(teacher_hidden)}; align them"
        )
    one = torch.ones((), dtype=compute_dtype(student_hidden, student), device=student_hidden.device)
    y = as_labels(labels, batch, states, ignore_index, objective, hard_weight, check)
    weights = row_weights(y, token_weights, batch, ignore_index, one)
    t_s = early_temperature(temperature, batch, states, one, step, check)
    theirs = "temperature" if teacher_temperature is None else "teacher_temperature"
    t_t = t_s
    if teacher_temperature is not None:
        t_t = early_temperature(teacher_temperature, batch, states, one, step, check, theirs)
    if t_s is None and teacher_temperature is not None:
        raise TypeError(
            f"temperature: must not depend on the student's logits; got {describe(temperature)}; give a number, or "
            "take distillation_loss"
        )
    late = temperature if t_s is None else teacher_temperature if t_t is None else None
    rows = Rows(student_hidden, teacher_hidden, t_s, t_t, y, shares(weights, batch, one, reduction)).flat()
    plan = Plan(objective, student, teacher, states, hard_weight, late, theirs, step, check)

    def find(needs: list[bool]) -> tuple[Tensor, Slopes]:
        way = by_vocabulary if by_vocabulary.serves(rows, plan, needs) else by_tokens
        return way.summed(rows, plan, needs)

    return with_slopes(find, rows.student, student.weight, student.bias, rows.t_s, rows.t_t)
