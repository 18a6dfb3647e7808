"""The distillation loss of a student's linear head against a teacher of whom only a few tokens are known."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from logitherm._array import describe
from logitherm.distillation.guard import as_labels, kept_rows, require_one_vocabulary, row_weights
from logitherm.distillation.head_loss import (
    Slopes,
    as_head,
    by_rows,
    compute_dtype,
    early_temperature,
    require_one_number,
    shares,
    with_slopes,
)
from logitherm.distillation.objective import Objective
from logitherm.distillation.sparse import SampledTeacher, SparseTeacher
from logitherm.distillation.sparse_loss import (
    Known,
    known_of,
    require_row_for_row,
    require_teacher,
    rows_in_place,
    stored_temperature,
)
from logitherm.kernels.graphs import outside_graphs


@outside_graphs
def linear_sparse_distillation_loss(
    student_hidden: Tensor,
    student_head: Any,
    teacher: SparseTeacher | SampledTeacher,
    *,
    temperature: Any = 1.0,
    divergence: str = "forward_kl",
    mixture: float | None = None,
    scale: str | float = "T2",
    labels: Tensor | None = None,
    hard_weight: float = 0.0,
    token_weights: Tensor | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    student_softcap: float | None = None,
    step: Any = None,
    check: bool | None = None,
) -> Tensor:
    """`sparse_distillation_loss` of the logits hidden weight^T + bias, which are never there as a whole.

    Derivatives are in the hidden states, weight and bias. They are found with the loss and kept until the backward
    pass: memory is that of the gradients and of one block of rows.

    Parameters
    ----------
    student_hidden : floating tensor, shape (..., width)
    student_head : nn.Linear, weight (states, width), or (weight, bias)
    teacher : SparseTeacher or SampledTeacher
        One row for every row of the student's batch, in its order.
    temperature : float, tensor that broadcasts against the batch, or Temperature that looks at no logits
        T of both, each one that the teacher is known at. Nothing is learned through it.
    student_softcap : float, optional
        Of logits that are softcap tanh(z / softcap).
    reduction : "mean" or "sum"
    divergence, mixture, scale, labels, hard_weight, token_weights, ignore_index, step, check
        As in `sparse_distillation_loss`.

    Returns
    -------
    tensor
        A number, float32 or float64.

    Raises
    ------
    TypeError, ValueError
        As `sparse_distillation_loss`; a head that does not fit the hidden states.

    References
    ----------
    As `sparse_distillation_loss` and `linear_distillation_loss`.

    Examples
    --------
    >>> import torch
    >>> from logitherm.distillation import SparseTeacher, linear_sparse_distillation_loss
    >>> generator = torch.Generator().manual_seed(0)
    >>> hidden, weight = torch.randn(8, 4, generator=generator), torch.randn(50, 4, generator=generator)
    >>> teacher = SparseTeacher.from_logits(hidden @ weight.T, k=10, temperatures=(2.0,))
    >>> linear_sparse_distillation_loss(hidden, weight, teacher, temperature=2.0).item()
    0.0
    """
    objective = Objective(divergence, mixture, scale=scale)
    require_teacher(teacher, divergence)
    require_one_number(reduction, "sparse_distillation_loss")
    head = as_head(student_head, student_softcap, student_hidden, "student")
    batch = tuple(student_hidden.shape[:-1])
    require_row_for_row(teacher, batch)
    states = require_one_vocabulary(len(head.weight), teacher.states)
    one = torch.ones((), dtype=compute_dtype(student_hidden, head), device=student_hidden.device)
    labels = as_labels(labels, batch, states, ignore_index, objective, hard_weight, check)
    weights = row_weights(labels, token_weights, batch, ignore_index, one)
    early = early_temperature(temperature, batch, states, one, step, check)
    if early is None:
        raise TypeError(
            f"temperature: must not depend on logits; got {describe(temperature)}; give one that the teacher has"
        )
    t = stored_temperature(early, teacher)
    rows = Known(*known_of(teacher, t, states), t, None if labels is None else labels.reshape(-1))
    hidden = student_hidden.reshape(-1, student_hidden.shape[-1])
    w, keep = shares(weights, batch, one, reduction).reshape(-1), kept_rows(weights)
    if keep is not None:
        hidden, w, rows = hidden[keep], w[keep], rows.take(keep)

    def work(z: Tensor, part: slice) -> Tensor:
        return rows_in_place(
            z, rows.take(part), objective, hard_weight, check, weights=w[part], softcap=head.softcap, first=part.start
        ).sum(dtype=torch.float64)

    def find(needs: list[bool]) -> tuple[Tensor, Slopes]:
        return by_rows(hidden, head, states, w, 1, needs, work)

    return with_slopes(find, hidden, head.weight, head.bias)
