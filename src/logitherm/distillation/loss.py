"""The distillation loss on whole logits."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from logitherm._array import is_traced
from logitherm.distillation.guard import (
    as_labels,
    common_states,
    kept_rows,
    require_reduction,
    require_sound,
    row_weights,
    temperatures,
    tensor_of_logits,
)
from logitherm.distillation.objective import Objective
from logitherm.kernels import divergence as divergence_kernels
from logitherm.kernels import softmax
from logitherm.kernels.values import SMALLEST

EPSILON = 1e-7  # of the deviation, as in the paper's code


def distillation_loss(
    student: Tensor,
    teacher: Tensor,
    *,
    temperature: Any = 1.0,
    teacher_temperature: Any = None,
    divergence: str = "forward_kl",
    mixture: float | None = None,
    dkd_weights: tuple[float, float] = (1.0, 8.0),
    scale: str | float = "T2",
    standardize: bool = False,
    labels: Tensor | None = None,
    hard_weight: float = 0.0,
    token_weights: Tensor | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    step: Any = None,
    check: bool | None = None,
) -> Tensor:
    """How far a student's law is from its teacher's, both at a temperature.

    With p = softmax(z_t / T_t) and q = softmax(z_s / T_s) a row is scale * D(p, q), plus labels where they have a
    weight: (1 - hard_weight) * scale * D + hard_weight * (-log softmax(z_s)_y). Everything is in log space, and in
    float32 inside where logits are of a half type. The derivatives are closed forms, in the logits and temperatures of
    both sides; the teacher's logits have theirs only if they require them.

    Limits: for a high T and scale "limit" every divergence but "dkd" is half the variance over states of z_s - z_t,
    which is "mse". The forward divergence is inf where the student forbids a state that the teacher allows, the reverse
    one where it is the other way round; "jsd" and the skewed ones are finite. A label that the student forbids gives
    inf.

    Parameters
    ----------
    student, teacher : floating tensor, shape (..., states)
        -inf forbids a state. Vocabularies that are padded to different sizes, by 1024 states and 1 in 16 at most, are
        cut to the states that both have.
    temperature : float, tensor that broadcasts against the batch, or Temperature
        T of both, 0 < T < inf. What has to look at logits (a set point) sees the teacher's; with a
        `teacher_temperature` it is that of the student alone and sees hers. `SetPoint(entropy=log V - radius)` is the
        T that a robust loss of that radius gives every token (Qiu et al. 2024).
    teacher_temperature : the same, optional
        `SetPoint(entropy=logitherm.entropy(student.detach()))` makes every row of the teacher as uncertain as the
        student's is.
    divergence : str
        "forward_kl", "reverse_kl", "jsd", "skew_forward", "skew_reverse" (`logitherm.kernels.torch_divergences` has the
        formulas), "dkd", or "mse".
    mixture : float, optional
        Of "jsd" the weight of the teacher, default 0.5: 0 is the forward divergence, 1 the reverse one. Of the skewed
        ones the weight in the mixture of the law itself, default 0.1.
    dkd_weights : (float, float)
        Of "dkd": weights of the label against the others, and of the others among themselves.
    scale : "T2", "none", "limit", or float
        "T2": T_s T_t, which is T^2 of one temperature: the gradient is then as large at every high T. "limit": that,
        times what makes the limit the same for all divergences, (1 - mixture)^-2 of the skewed ones.
    standardize : bool
        Whether logits have mean 0 and deviation 1 over states before they are tempered (Sun et al. 2024).
    labels : integer tensor, batch shape, optional
        Rows labelled `ignore_index` do not count.
    hard_weight : float
        In [0, 1].
    token_weights : tensor, batch shape, optional
        At least 0.
    reduction : "mean", "sum" or "none"
        "mean" is that over the weights of the rows that count: 0 if there are none.
    step : any
        Handed to temperatures that are schedules.
    check : bool, optional
        Whether values are looked at, as everywhere in the library.

    Returns
    -------
    tensor, float32 or float64
        A number, or the batch shape with "none", where rows that do not count have 0.

    Raises
    ------
    TypeError, ValueError
        Logits with NaN, temperatures that are not positive, shapes that do not match, vocabularies of different
        tokenizers.
    NotImplementedError
        Under torch.func (grad, vmap and the others); second derivatives have none either.

    References
    ----------
    Hinton, Vinyals and Dean (2015), Distilling the knowledge in a neural network, sections 2 and 2.1; Zhao et al.
    (2022), Decoupled knowledge distillation, eq. 7; Sun et al. (2024), Logit standardization in knowledge
    distillation, algorithm 1; Qiu et al. (2024), To cool or not to cool? Temperature network meets large foundation
    models via DRO, for the robust temperature.

    Examples
    --------
    >>> import torch
    >>> student = torch.tensor([[2.0, 1.0, 0.0]], requires_grad=True)
    >>> teacher = torch.tensor([[3.0, 0.0, 0.0]])
    >>> loss = distillation_loss(student, teacher, temperature=4.0)
    >>> round(loss.item(), 4)
    0.3527
    >>> loss.backward()
    >>> wanted = 4 * (torch.softmax(student / 4, -1) - torch.softmax(teacher / 4, -1))
    >>> torch.allclose(student.grad, wanted.detach())
    True
    """
    objective = Objective(divergence, mixture, dkd_weights, scale)
    require_reduction(reduction)
    z_s, z_t = common_states(tensor_of_logits(student, "student"), tensor_of_logits(teacher, "teacher"))
    batch = tuple(z_s.shape[:-1])
    labels = as_labels(labels, batch, z_s.shape[-1], ignore_index, objective, hard_weight, check)
    weights = row_weights(labels, token_weights, batch, ignore_index, z_s)
    if standardize:
        z_s_soft, z_t_soft = standardized(z_s), standardized(z_t)
    else:
        z_s_soft, z_t_soft = z_s, z_t
    t_s, t_t = temperatures(temperature, teacher_temperature, z_s_soft, z_t_soft, step, check)
    states = z_s.shape[-1]
    flat = [z.reshape(-1, states) for z in (z_s_soft, z_t_soft)] + [t.reshape(-1) for t in (t_s, t_t)]
    y = None if labels is None else labels.reshape(-1)
    keep = kept_rows(weights)
    if keep is not None:  # what does not count may be anything, NaN too
        flat = [value[keep] for value in flat]
        y = None if y is None else y[keep]
    for name, z in (("student", flat[0]), ("teacher", flat[1])):
        require_sound(z, name, check, keep)
    hard = 0.0 if standardize else hard_weight  # the labels' part sees the logits as they are
    rows = (_FastRows if _fast(objective, *flat) else _Rows).apply(*flat, y, objective, hard)
    if hard_weight > hard:
        assert y is not None
        z = z_s.reshape(-1, states)
        rows = with_labels(rows, z if keep is None else z[keep], y, hard_weight, check)
    return reduced(in_place_of_rows(rows, keep).reshape(batch), weights, reduction)


class _Rows(torch.autograd.Function):
    """Loss of every row. The slopes are found with the values, and kept in their place."""

    @staticmethod
    def forward(ctx, student, teacher, t_s, t_t, labels, objective, hard_weight):  # type: ignore[override]
        both = ctx.needs_input_grad[1] or ctx.needs_input_grad[3]
        found = objective.rows(student, teacher, t_s, t_t, labels, both)
        value, slope, soft = found.value, found.student, 1 - hard_weight
        if hard_weight:
            value = mixed_with_labels(value, slope, student, labels, hard_weight)
        others = (found.teacher, found.temperature, found.teacher_temperature)
        ctx.save_for_backward(slope, *(None if other is None else soft * other for other in others))
        return value

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):  # type: ignore[override]
        student, teacher, t_s, t_t = ctx.saved_tensors
        column, needs = grad[:, None], ctx.needs_input_grad
        return (
            column * student if needs[0] else None,
            column * teacher if needs[1] else None,
            grad * t_s if needs[2] else None,
            grad * t_t if needs[3] else None,
            None,
            None,
            None,
        )


class _FastRows(torch.autograd.Function):
    """The same by the CPU kernel, which takes one copy of the student's logits and leaves the slopes in its place."""

    @staticmethod
    def forward(ctx, student, teacher, t_s, t_t, labels, objective, hard_weight):  # type: ignore[override]
        slope = student.clone(memory_format=torch.contiguous_format)
        loss = objective.on_cpu(t_s, t_t, labels=labels, hard_weight=hard_weight)
        slopes = ctx.needs_input_grad[0]
        value = divergence_kernels.whole(loss, slope.numpy(), teacher.contiguous().numpy(), slopes=slopes)
        if slopes:
            ctx.save_for_backward(slope)
        return torch.from_numpy(value).to(student.dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):  # type: ignore[override]
        (slope,) = ctx.saved_tensors
        return grad[:, None] * slope, None, None, None, None, None, None


def _fast(objective: Objective, student: Tensor, *others: Tensor) -> bool:
    """Whether the CPU kernel can do it, and it is worth loading; it has derivatives in the student alone."""
    learned = torch.is_grad_enabled() and any(value.requires_grad for value in others)
    on_cpu = student.device.type == "cpu" and not is_traced(student)
    known = objective.divergence in divergence_kernels.KINDS
    return known and on_cpu and not learned and student.numel() >= SMALLEST


def standardized(z: Tensor) -> Tensor:
    """Logits of mean 0 and deviation 1 (that of n - 1) over the allowed states of every row."""
    allowed = z > -math.inf
    count = allowed.sum(-1, keepdim=True).clamp_min(1)
    z0 = torch.where(allowed, z, 0.0)
    below = torch.where(allowed, z - z0.sum(-1, keepdim=True) / count, 0.0)
    deviation = ((below**2).sum(-1, keepdim=True) / (count - 1).clamp_min(1)).sqrt()
    return torch.where(allowed, below / (deviation + EPSILON), z)


def mixed_with_labels(value: Tensor, slope: Tensor, z: Tensor, labels: Tensor, hard_weight: float) -> Tensor:
    """Rows mixed with -log softmax(z) at their labels, at T = 1; `slope` becomes that of the mixture."""
    log_p = softmax(z, torch.ones_like(z[:, 0]), logarithm=True, check=False)
    hit = log_p.gather(-1, labels[:, None])
    slope.mul_(1 - hard_weight).add_(log_p.exp_(), alpha=hard_weight)
    slope.scatter_add_(-1, labels[:, None], torch.full_like(hit, -hard_weight))
    return (1 - hard_weight) * value - hard_weight * hit[:, 0]


def with_labels(rows: Tensor, z: Tensor, labels: Tensor, hard_weight: float, check: bool | None) -> Tensor:
    """Rows mixed with -log softmax(z) at their labels, at T = 1."""
    log_p = softmax(z, torch.ones_like(z[:, 0]), logarithm=True, check=check)
    return (1 - hard_weight) * rows - hard_weight * log_p.gather(-1, labels[:, None])[:, 0]


def in_place_of_rows(rows: Tensor, keep: Tensor | None) -> Tensor:
    """Kept rows among those that do not count, which are 0."""
    return rows if keep is None else rows.new_zeros(keep.shape).masked_scatter(keep, rows)


def reduced(rows: Tensor, weights: Tensor | None, reduction: str) -> Tensor:
    """Rows, their weighted sum, or their mean."""
    weighted = rows if weights is None else rows * weights
    if reduction == "none":
        return weighted
    if reduction == "sum":
        return weighted.sum()
    if weights is None:
        return weighted.sum() / max(rows.numel(), 1)
    return weighted.sum() / weights.sum().clamp_min(torch.finfo(rows.dtype).tiny)
