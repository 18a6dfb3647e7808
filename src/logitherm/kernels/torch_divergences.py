"""Divergences between a teacher's law p and a student's q, in log space, with their slopes in closed form.

Every function takes log p and log q (rows, states) and returns three arrays: the value of every row, and the slopes in
log p and in log q as if these were free. For normalised laws the slopes are right up to multiples of p and of q, which
drop out where they are carried on to logits: d/dz = (g - p sum(g)) / T (`logits_slope`).

    forward_kl     sum p (log p - log q)
    reverse_kl     sum q (log q - log p)
    jsd            (b KL(p, m) + (1 - b) KL(q, m)) / (b (1 - b)),  m = b p + (1 - b) q: forward_kl for b = 0, reverse_kl
                   for b = 1, and continuous in between
    skew_forward   KL(p, a p + (1 - a) q)
    skew_reverse   KL(q, a q + (1 - a) p)

Every term of a sum is taken as a log(a/b) - a + b >= 0, so that no value is negative, near the optimum either. A state
of probability 0 contributes 0; where q = 0 and p > 0 the forward divergence is inf.

References: Hinton, Vinyals and Dean (2015), section 2; Agarwal et al. (2024), GKD, eq. 1 for the JSD without its norm;
Ko, Kim, Chen and Yun (2024), DistiLLM, eq. 2 for the skewed ones; Zhao et al. (2022), DKD, eq. 7.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class Slopes(NamedTuple):
    """Value of every row, and slopes in log p and log q."""

    value: Tensor
    teacher: Tensor
    student: Tensor


def logits_slope(slope: Tensor, probability: Tensor, temperature: Tensor) -> Tensor:
    """The slope in the logits, from that in the logarithms of softmax(z / T)."""
    return (slope - probability * slope.sum(-1, keepdim=True)) / temperature[..., None]


def _product(p: Tensor, logarithm: Tensor) -> Tensor:
    """p times a logarithm that may be infinite; 0 where p is."""
    return torch.where(p > 0, p * logarithm, 0.0)


def _kl(log_a: Tensor, log_b: Tensor) -> Tensor:
    """KL of every row: a log(a / b) - a + b, which no rounding makes negative in sum."""
    a, b = log_a.exp(), log_b.exp()
    fall = torch.where(a > 0, log_a - log_b, 0.0)
    near = a * (fall + torch.expm1(-fall))
    return torch.where(fall.abs() < 0.5, torch.where(a > 0, near, b), _product(a, fall) - a + b).sum(-1).clamp_min(0)


def forward_kl(log_p: Tensor, log_q: Tensor) -> Slopes:
    p = log_p.exp()
    return Slopes(_kl(log_p, log_q), _product(p, log_p - log_q), -p)


def reverse_kl(log_p: Tensor, log_q: Tensor) -> Slopes:
    value, student, teacher = forward_kl(log_q, log_p)
    return Slopes(value, teacher, student)


def jsd(log_p: Tensor, log_q: Tensor, weight: float) -> Slopes:
    """`weight` is that of the teacher in the mixture."""
    if weight in (0.0, 1.0):
        return forward_kl(log_p, log_q) if weight == 0 else reverse_kl(log_p, log_q)
    log_m = _mixture(log_p, log_q, weight)
    value = _kl(log_p, log_m) / (1 - weight) + _kl(log_q, log_m) / weight
    teacher = _product(log_p.exp(), log_p - log_m) / (1 - weight)
    return Slopes(value, teacher, _product(log_q.exp(), log_q - log_m) / weight)


def skew_forward(log_p: Tensor, log_q: Tensor, weight: float) -> Slopes:
    """`weight` is that of the teacher in the mixture that it is compared with."""
    if weight == 0:
        return forward_kl(log_p, log_q)
    p, log_m = log_p.exp(), _mixture(log_p, log_q, weight)
    share = torch.where(log_q > -math.inf, (log_q - log_m).exp(), 0.0)  # q / m
    teacher = _product(p, log_p - log_m) - weight * p * torch.where(p > 0, (log_p - log_m).exp(), 0.0)
    return Slopes(_kl(log_p, log_m), teacher, -(1 - weight) * p * share)


def skew_reverse(log_p: Tensor, log_q: Tensor, weight: float) -> Slopes:
    """`weight` is that of the student in the mixture that it is compared with."""
    value, student, teacher = skew_forward(log_q, log_p, weight)
    return Slopes(value, teacher, student)


def _mixture(log_a: Tensor, log_b: Tensor, weight: float) -> Tensor:
    return torch.logaddexp(log_a + math.log(weight), log_b + math.log1p(-weight))


def decoupled(log_p: Tensor, log_q: Tensor, labels: Tensor, target: float, others: float) -> Slopes:
    """target * KL of (p_y, 1 - p_y) + others * KL of the other states among themselves (DKD).

    With target = 1 and others = 1 - p_y it is the forward divergence.
    """
    at = labels[:, None]
    hit = torch.zeros_like(log_p, dtype=torch.bool).scatter_(-1, at, True)
    hit_p, others_p, inner_p = _split(log_p, at, hit)
    hit_q, others_q, inner_q = _split(log_q, at, hit)
    first = _kl(torch.cat([hit_p, others_p], -1), torch.cat([hit_q, others_q], -1))
    second = _kl(inner_p, inner_q)
    own_p, own_q = inner_p.exp(), inner_q.exp()
    between = torch.where(
        hit, _product(hit_p.exp(), hit_p - hit_q), _product(others_p.exp(), others_p - others_q) * own_p
    )
    inside = _product(own_p, torch.where(own_p > 0, inner_p - inner_q, 0.0) - second[:, None])
    student = torch.where(hit, -target * hit_p.exp(), -target * others_p.exp() * own_q + others * (own_q - own_p))
    return Slopes(target * first + others * second, target * between + others * inside, student)


def _split(law: Tensor, at: Tensor, hit: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """log p of the label, of all others together, and of each of the others among themselves."""
    rest = torch.where(hit, -math.inf, law)
    total = rest.logsumexp(-1, keepdim=True)
    return law.gather(-1, at), total, torch.where(rest > -math.inf, rest - total, rest)


def mean_squares(u_t: Tensor, u_s: Tensor) -> Slopes:
    """Half the variance over states of u_s - u_t, u = z / T: what every one of them comes to at a high temperature.

    Slopes are those in u. A state that only one side forbids makes it inf.
    """
    both, one = (u_t > -math.inf) & (u_s > -math.inf), (u_t > -math.inf) ^ (u_s > -math.inf)
    count = both.sum(-1, keepdim=True).clamp_min(1)
    apart = torch.where(both, u_s - u_t, 0.0)
    apart = torch.where(both, apart - apart.sum(-1, keepdim=True) / count, 0.0)
    value = torch.where(one.any(-1), math.inf, 0.5 * (apart**2).sum(-1) / count[:, 0])
    return Slopes(value, -apart / count, apart / count)


MIXED: dict[str, tuple[Callable[[Tensor, Tensor, float], Slopes], float]] = {  # with the usual weight
    "jsd": (jsd, 0.5),
    "skew_forward": (skew_forward, 0.1),
    "skew_reverse": (skew_reverse, 0.1),
}
NAMES = ("forward_kl", "reverse_kl", *MIXED, "dkd", "mse")
