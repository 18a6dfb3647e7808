"""What a student is trained on: one divergence of tempered laws, its scale, and its slopes in logits and temperatures.

Losses on whole logits and on blocks of them both come from `Objective.rows`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from logitherm.kernels import softmax
from logitherm.kernels import torch_divergences as divergences
from logitherm.kernels.divergence import Loss
from logitherm.kernels.torch_divergences import MIXED, NAMES, Slopes, logits_slope

SCALES = ("T2", "none", "limit")


class Rows(NamedTuple):
    """Loss of every row, and its slopes in the logits and temperatures of both sides."""

    value: Tensor
    student: Tensor
    teacher: Tensor | None  # None unless asked for
    temperature: Tensor
    teacher_temperature: Tensor


@dataclass(frozen=True)
class Objective:
    """A divergence by name, and what it is multiplied by; arguments are those of `distillation_loss`."""

    divergence: str = "forward_kl"
    mixture: float | None = None
    dkd_weights: tuple[float, float] = (1.0, 8.0)
    scale: str | float = "T2"

    def __post_init__(self) -> None:
        if self.divergence not in NAMES:
            raise ValueError(f"divergence: must be one of {', '.join(NAMES)}; got {self.divergence!r}; choose one")
        if self.mixture is not None:
            if self.divergence not in MIXED:
                raise ValueError(
                    f"mixture: must be for {', '.join(MIXED)}; got {self.divergence}, which has none; leave it out"
                )
            most = "1" if self.divergence == "jsd" else "below 1"
            if not (0 <= self.mixture <= 1 and (self.mixture < 1 or self.divergence == "jsd")):
                raise ValueError(f"mixture: must be a weight from 0 to {most}; got {self.mixture}; 0.5 or 0.1 is usual")
        number = isinstance(self.scale, (int, float)) and not isinstance(self.scale, bool)
        if self.scale not in SCALES and not (number and 0 < float(self.scale) < math.inf):
            raise ValueError(
                f"scale: must be one of {', '.join(SCALES)}, or a positive number; got {self.scale!r}; choose one"
            )
        if self.scale == "limit" and self.divergence == "dkd":
            raise ValueError(
                'scale: "limit" must be for another divergence; got dkd, whose limit has labels; take "T2"'
            )
        two = isinstance(self.dkd_weights, (tuple, list)) and len(self.dkd_weights) == 2
        if not two or any(not 0 <= weight < math.inf for weight in self.dkd_weights):
            raise ValueError(
                f"dkd_weights: must be two numbers, finite and at least 0; got {self.dkd_weights}; (1, 8) is usual"
            )

    @property
    def needs_labels(self) -> bool:
        return self.divergence == "dkd"

    def rows(
        self, student: Tensor, teacher: Tensor, t_s: Tensor, t_t: Tensor, labels: Tensor | None, both: bool
    ) -> Rows:
        """For sound logits (rows, states) of float32 or float64 and a temperature of each for every row."""
        factor, factor_s, factor_t = self.factor(t_s, t_t)
        if self.divergence == "mse":
            found = divergences.mean_squares(teacher / t_t[:, None], student / t_s[:, None])
            slope_s = found.student / t_s[:, None]
            slope_t: Tensor | None = found.teacher / t_t[:, None]
        else:
            log_q = softmax(student, t_s, logarithm=True, check=False)
            log_p = softmax(teacher, t_t, logarithm=True, check=False)
            found = self._slopes(log_p, log_q, labels)
            slope_s = logits_slope(found.student, log_q.exp(), t_s)
            slope_t = logits_slope(found.teacher, log_p.exp(), t_t) if both else None
        by_s, by_t = factor_s * found.value, factor_t * found.value
        # u = z / T, so that a slope in T is that in the logits times -z / T, whatever their zero is
        by_s -= factor * _dot(slope_s, student) / t_s
        if slope_t is not None:
            by_t -= factor * _dot(slope_t, teacher) / t_t
            slope_t = factor[:, None] * slope_t
        return Rows(factor * found.value, factor[:, None] * slope_s, slope_t, by_s, by_t)

    def on_cpu(
        self,
        t_s: Tensor,
        t_t: Tensor,
        weights: Tensor | None = None,
        labels: Tensor | None = None,
        hard_weight: float = 0.0,
        softcap: float | None = None,
    ) -> Loss:
        """The weighted loss of rows as the CPU kernels have it, for the divergences that they know."""
        t_s, t_t = t_s.detach().double(), t_t.detach().double()
        w = torch.ones_like(t_s) if weights is None else weights.double()
        y = torch.zeros(len(w), dtype=torch.int64) if labels is None else labels
        factor = self.factor(t_s, t_t)[0] * w * (1 - hard_weight)
        arrays = (value.numpy() for value in (t_s, t_t, factor, y, hard_weight * w))
        return Loss(self.divergence, *arrays, softcap or math.inf)  # type: ignore[call-arg, arg-type]

    def _slopes(self, log_p: Tensor, log_q: Tensor, labels: Tensor | None) -> Slopes:
        if self.divergence == "dkd":
            assert labels is not None
            return divergences.decoupled(log_p, log_q, labels, *self.dkd_weights)
        if self.divergence in MIXED:
            function, usual = MIXED[self.divergence]
            return function(log_p, log_q, usual if self.mixture is None else self.mixture)
        return (divergences.forward_kl if self.divergence == "forward_kl" else divergences.reverse_kl)(log_p, log_q)

    def factor(self, t_s: Tensor, t_t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What a row is multiplied by, and its slopes in both temperatures."""
        if self.scale == "none" or not isinstance(self.scale, str):
            constant = torch.full_like(t_s, 1.0 if self.scale == "none" else float(self.scale))
            return constant, torch.zeros_like(t_s), torch.zeros_like(t_s)
        k = 1.0
        if self.scale == "limit" and self.divergence.startswith("skew"):
            weight = MIXED[self.divergence][1] if self.mixture is None else self.mixture
            k = 1 / (1 - weight) ** 2
        return k * t_s * t_t, k * t_t, k * t_s


def _dot(slope: Tensor, z: Tensor) -> Tensor:
    """Sum of slope times z, whose rows of slopes sum to 0; 0 for forbidden states."""
    top = z.amax(-1, keepdim=True)
    return torch.where(z > -math.inf, slope * (z - top), 0.0).sum(-1)
