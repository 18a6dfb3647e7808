"""The distillation loss against a teacher of whom only a few tokens are known."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from logitherm._array import as_logits, as_temperature, describe, should_check
from logitherm.distillation.loss import (
    as_labels,
    in_place_of_rows,
    kept_rows,
    reduced,
    require_one_vocabulary,
    require_reduction,
    row_weights,
    with_labels,
)
from logitherm.distillation.objective import Objective
from logitherm.distillation.sparse import SampledTeacher, SparseTeacher, lumped, require_known
from logitherm.kernels import softmax

DIVERGENCES = ("forward_kl", "reverse_kl", "jsd", "skew_forward", "skew_reverse")


def sparse_distillation_loss(
    student: Tensor,
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
    step: Any = None,
    check: bool | None = None,
) -> Tensor:
    """`distillation_loss` where only some tokens of the teacher are known.

    Of a `SparseTeacher` it is the divergence between laws of k + 1 states, its k tokens and all others together, for
    both sides: at most that of whole laws, and the same for k = states. Value and slope are 0 at student = teacher.
    How the student divides its tail is not learned from it.

    Of a `SampledTeacher` it is the cross-entropy -sum p_i log q_i with the estimate for p, so the forward divergence
    plus the teacher's entropy. Its slope q sum(p) - p, over T, has the mean q - p of the whole law.

    All in log space; the tail of the student is a sum over its states and no difference from 1. Slopes are in closed
    form, in the student's logits; memory is one array of their size, kept for them.

    Parameters
    ----------
    student : floating tensor, shape (..., states)
        -inf forbids a state. If its vocabulary is padded to another size than the teacher's, tokens that only one has
        do not count; what padding weighs in the tail of a stored teacher stays there.
    teacher : SparseTeacher or SampledTeacher
        One row for every row of the student's batch, in its order.
    temperature : float, tensor that broadcasts against the batch, or Temperature
        T of both, each one that the teacher is known at. Nothing is learned through it.
    divergence : str
        "forward_kl"; of a SparseTeacher also "reverse_kl", "jsd", "skew_forward", "skew_reverse".
    mixture, scale, labels, hard_weight, token_weights, ignore_index, reduction, step, check
        As in `logitherm.distillation.distillation_loss`.

    Returns
    -------
    tensor, float32 or float64
        A number, or the batch shape with "none", where rows that do not count have 0.

    Raises
    ------
    TypeError, ValueError
        As `distillation_loss`; a temperature that is not stored, with those that are.

    References
    ----------
    Hinton, Vinyals and Dean (2015), section 2; Anshumann et al. (2025), Sparse logit sampling.

    Examples
    --------
    >>> import torch
    >>> z = torch.tensor([[3.0, 1.0, 0.0, 0.0]])
    >>> teacher = SparseTeacher.from_logits(z, k=2, temperatures=(1.0, 4.0))
    >>> sparse_distillation_loss(z, teacher, temperature=4.0).item()
    0.0
    >>> round(sparse_distillation_loss(torch.zeros(1, 4), teacher, temperature=4.0).item(), 4)
    0.8498
    """
    objective = Objective(divergence, mixture, scale=scale)
    require_teacher(teacher, divergence)
    require_reduction(reduction)
    z = as_logits(student)
    batch = tuple(z.shape[:-1])
    require_row_for_row(teacher, batch)
    common = require_one_vocabulary(z.shape[-1], teacher.states)
    z = z[..., :common]
    labels = as_labels(labels, batch, common, ignore_index, objective, hard_weight, check)
    weights = row_weights(labels, token_weights, batch, ignore_index, z)
    t = stored_temperature(as_temperature(temperature, z, check, step), teacher)
    keep = kept_rows(weights)
    z = z.reshape(-1, common)
    y = None if labels is None else labels.reshape(-1)
    tokens, known = known_of(teacher, t, common)
    if keep is not None:
        z, t, tokens, known = (value[keep] for value in (z, t, tokens, known))
        y = None if y is None else y[keep]
    rows = _Rows.apply(z, tokens, known, t, teacher, objective, should_check(check, z))
    if hard_weight:
        assert y is not None
        rows = with_labels(rows, z, y, hard_weight, check)
    return reduced(in_place_of_rows(rows, keep).reshape(batch), weights, reduction)


def known_of(teacher: SparseTeacher | SampledTeacher, t: Tensor, states: int) -> tuple[Tensor, Tensor]:
    """The tokens, and what is known of them: coarse logits (rows, k + 1), or the estimate that each draw adds to."""
    tokens = teacher.tokens.to(t.device)
    known = (teacher.shares if isinstance(teacher, SampledTeacher) else teacher.coarse_logits(t)).to(t)
    if teacher.states > states:  # tokens that the student lacks are forbidden, and stand where nothing is changed
        lacking = tokens >= states
        nothing = 0.0 if isinstance(teacher, SampledTeacher) else -math.inf
        known[:, : tokens.shape[1]].masked_fill_(lacking, nothing)
    return tokens, known


class _Rows(torch.autograd.Function):
    """Loss of every row; the slope is found with the value."""

    @staticmethod
    def forward(ctx, student, tokens, known, t, teacher, objective, check):  # type: ignore[override]
        value, slope = rows_of(teacher)(student, tokens, known, t, objective, check)
        if ctx.needs_input_grad[0]:
            ctx.save_for_backward(slope)
        return value

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):  # type: ignore[override]
        (slope,) = ctx.saved_tensors
        return grad[:, None] * slope, None, None, None, None, None, None


def rows_of(teacher: SparseTeacher | SampledTeacher) -> Callable[..., tuple[Tensor, Tensor]]:
    """The function from logits, what `known_of` gives, T, objective and check to losses and slopes."""
    return drawn_rows if isinstance(teacher, SampledTeacher) else coarse_rows


def coarse_rows(
    student: Tensor, tokens: Tensor, known: Tensor, t: Tensor, objective: Objective, check: bool
) -> tuple[Tensor, Tensor]:
    """Between laws of k tokens and the rest: loss of every row, and its slope in the student's logits."""
    near, log_rest, within = lumped(widened(student, tokens), tokens, t, check)
    coarse = torch.cat([near, (t * log_rest)[:, None]], -1)
    found = objective.rows(coarse, known, t, t, None, False)
    slope = within.mul_(found.student[:, -1:]).scatter_(-1, tokens, found.student[:, :-1])
    return found.value, slope[:, : student.shape[-1]]


def drawn_rows(
    student: Tensor, tokens: Tensor, shares: Tensor, t: Tensor, objective: Objective, check: bool
) -> tuple[Tensor, Tensor]:
    """Cross-entropy with the shares that draws have: loss of every row, and its slope in the student's logits."""
    log_q = softmax(widened(student, tokens), t, logarithm=True, check=check)
    factor = objective.factor(t, t)[0]
    value = -factor * torch.where(shares > 0, shares * log_q.gather(-1, tokens), 0.0).sum(-1)
    slope = log_q.exp_().mul_(shares.sum(-1, keepdim=True)).scatter_add_(-1, tokens, -shares)
    return value, slope.mul_((factor / t)[:, None])[:, : student.shape[-1]]


def widened(student: Tensor, tokens: Tensor) -> Tensor:
    """The student's logits, with -inf for tokens that it lacks."""
    lacking = int(tokens.max()) + 1 - student.shape[-1] if tokens.numel() else 0
    return torch.nn.functional.pad(student, (0, lacking), value=-math.inf) if lacking > 0 else student


def stored_temperature(t: Tensor, teacher: SparseTeacher | SampledTeacher) -> Tensor:
    """T of every row, in a line; each is one that the teacher is known at."""
    if t.requires_grad:
        raise ValueError("temperature: must be constant with a stored teacher; got one that is learned; detach it")
    known = t.new_tensor(teacher.temperatures)
    return known[require_known(t.reshape(-1), teacher.temperatures)]


def require_row_for_row(teacher: SparseTeacher | SampledTeacher, batch: tuple[int, ...]) -> None:
    if math.prod(batch) != len(teacher):
        raise ValueError(
            f"teacher: must have the {math.prod(batch)} rows of the student; got {len(teacher)}; align them"
        )


def require_teacher(teacher: Any, divergence: str) -> None:
    if not isinstance(teacher, (SparseTeacher, SampledTeacher)):
        raise TypeError(
            f"teacher: must be a SparseTeacher or a SampledTeacher; got {describe(teacher)}; whole logits are for "
            "distillation_loss"
        )
    possible = DIVERGENCES if isinstance(teacher, SparseTeacher) else DIVERGENCES[:1]
    if divergence not in possible:
        raise ValueError(
            f"divergence: must be one of {', '.join(possible)} for a {type(teacher).__name__}; got {divergence}; "
            "choose one"
        )
