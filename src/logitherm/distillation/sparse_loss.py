"""The distillation loss against a teacher of whom only a few tokens are known."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from logitherm._array import describe, require_rows, should_check
from logitherm.distillation.guard import (
    as_labels,
    kept_rows,
    require_one_vocabulary,
    require_reduction,
    row_temperature,
    row_weights,
    tensor_of_logits,
)
from logitherm.distillation.loss import in_place_of_rows, reduced
from logitherm.distillation.objective import Objective
from logitherm.distillation.sparse import SampledTeacher, SparseTeacher, require_known
from logitherm.kernels.apart import set_apart, spread

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
    z = tensor_of_logits(student, "student")
    batch = tuple(z.shape[:-1])
    require_row_for_row(teacher, batch)
    common = require_one_vocabulary(z.shape[-1], teacher.states)
    z = z[..., :common]
    labels = as_labels(labels, batch, common, ignore_index, objective, hard_weight, check)
    weights = row_weights(labels, token_weights, batch, ignore_index, z)
    t = stored_temperature(row_temperature(temperature, z, "temperature", check, step), teacher)
    keep = kept_rows(weights)
    z = z.reshape(-1, common)
    rows = Known(*known_of(teacher, t, common), t, None if labels is None else labels.reshape(-1))
    if keep is not None:
        z, rows = z[keep], rows.take(keep)
    loss = _Rows.apply(z, rows, objective, hard_weight, check)
    return reduced(in_place_of_rows(loss, keep).reshape(batch), weights, reduction)


class Known(NamedTuple):
    """What is known of the rows besides the student's logits."""

    tokens: Tensor  # (rows, k)
    coarse: Tensor | None  # the teacher's logits of k tokens and the tail (rows, k + 1)
    shares: Tensor | None  # or what every draw adds to the estimate of its token (rows, k)
    t: Tensor
    labels: Tensor | None

    def take(self, rows: Any) -> Known:
        return Known(*(None if value is None else value[rows] for value in self))  # type: ignore[arg-type]


class _Rows(torch.autograd.Function):
    """Loss of every row; the slope is found with the value."""

    @staticmethod
    def forward(ctx, student, known, objective, hard_weight, check):  # type: ignore[override]
        z = student.clone(memory_format=torch.contiguous_format)
        value = rows_in_place(z, known, objective, hard_weight, check)
        if ctx.needs_input_grad[0]:
            ctx.save_for_backward(z)
        return value

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):  # type: ignore[override]
        (slope,) = ctx.saved_tensors
        return grad[:, None] * slope, None, None, None, None


def rows_in_place(
    z: Tensor,
    known: Known,
    objective: Objective,
    hard_weight: float = 0.0,
    check: bool | None = None,
    *,
    weights: Tensor | None = None,
    softcap: float | None = None,
    first: int = 0,
) -> Tensor:
    """Loss of every row, times its weight; the logits become its slopes in them, or in those before their cap."""
    tokens, t, y = known.tokens, known.t, known.labels
    at_label = z.gather(-1, y[:, None])[:, 0] if y is not None and hard_weight else None
    apart = set_apart(z, tokens if known.shares is None else tokens[:, :0], t, hot=bool(hard_weight))
    top = apart.top
    if should_check(check, z):
        require_rows(top, "student", numbers=np.arange(first, first + len(z)))
    if known.coarse is not None:
        near = apart.near
        tail = t * apart.log_rest_below(top, t)
        found = objective.rows(torch.cat([near - top[:, None], tail[:, None]], -1), known.coarse, t, t, None, False)
        value, factor, slope = found.value, found.student[:, -1], found.student[:, :-1]
    else:
        assert known.shares is not None
        near = z.gather(-1, torch.where(tokens < z.shape[-1], tokens, 0))
        log_q = (near - apart.high[:, None]) / t[:, None] - apart.log_rest.to(z.dtype)[:, None]
        scale = objective.factor(t, t)[0]
        value = -scale * torch.where(known.shares > 0, known.shares * log_q, 0.0).sum(-1)
        factor = known.shares.sum(-1) * scale / t
        slope = -known.shares * (scale / t)[:, None]
    w = torch.ones_like(t) if weights is None else weights
    soft, hard = (1 - hard_weight) * w, hard_weight * w
    log_all = torch.zeros_like(t)
    value, slope = soft * value, soft[:, None] * slope
    if at_label is not None:
        log_all = torch.where(apart.high > -math.inf, apart.high + apart.log_rest_one.to(z.dtype), -math.inf)
        if known.coarse is not None:
            log_all = torch.logaddexp(log_all, near.logsumexp(-1))
            slope = slope + hard[:, None] * (near - log_all[:, None]).exp()
        value = value + hard * (log_all - at_label)
    spread(z, t, apart, soft * factor, log_all, hard, softcap)
    _add(z, tokens, slope if softcap is None else slope * (1 - (near / softcap) ** 2))
    if at_label is not None:
        assert y is not None
        missed = hard if softcap is None else hard * (1 - (at_label / softcap) ** 2)
        z.scatter_add_(-1, y[:, None], -missed[:, None])
    return value


def _add(z: Tensor, tokens: Tensor, slope: Tensor) -> None:
    """To what stands there, 0 for states that are set apart; tokens that the student lacks are left out."""
    there = tokens < z.shape[-1]
    z.scatter_add_(-1, torch.where(there, tokens, 0), torch.where(there, slope, 0.0))


def known_of(
    teacher: SparseTeacher | SampledTeacher, t: Tensor, states: int
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """The tokens, and what is known of them; those that a student of so many states lacks are forbidden."""
    tokens = teacher.tokens.to(t.device)
    lacking = tokens >= states
    if isinstance(teacher, SampledTeacher):
        return tokens, None, teacher.shares.to(t).masked_fill(lacking, 0.0)
    coarse = teacher.coarse_logits(t)
    coarse[:, :-1].masked_fill_(lacking, -math.inf)
    return tokens, coarse, None


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
            "distillation_loss, or for their from_logits"
        )
    possible = DIVERGENCES if isinstance(teacher, SparseTeacher) else DIVERGENCES[:1]
    if divergence not in possible:
        raise ValueError(
            f"divergence: must be one of {', '.join(possible)} for a {type(teacher).__name__}; got {divergence}; "
            "choose one"
        )
