"""Some states of every row set apart from all others, whose law is then needed as a whole only. PyTorch, in place."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from logitherm._array import is_traced
from logitherm.kernels import values
from logitherm.kernels.threads import map_blocks

BLOCK_VALUES = 1 << 18


class Apart(NamedTuple):
    """Of every row of logits: those set apart, and of the others the largest and log sum exp((z - high) / T)."""

    near: Tensor  # (rows, k), -inf for states that there are not
    high: Tensor  # (rows,), -inf if no other is allowed; NaN or +inf if there is one such
    log_rest: Tensor  # (rows,), float64
    log_rest_one: Tensor  # the same at T = 1, if asked for

    @property
    def top(self) -> Tensor:
        """The largest logit of all."""
        return torch.maximum(self.high, self.near.amax(-1)) if self.near.shape[-1] else self.high

    def log_rest_below(self, top: Tensor, t: Tensor) -> Tensor:
        """log sum exp((z - top) / T) over the others."""
        step = torch.where(self.high > -math.inf, self.high - top, 0.0) / t
        return step + self.log_rest.to(step.dtype)


def set_apart(z: Tensor, tokens: Tensor, t: Tensor, *, hot: bool = False) -> Apart:
    """Logits (rows, states), contiguous, at tokens (rows, k), no state twice; they are forbidden in `z` from then on.

    0 < T < inf, (rows,). `hot` asks for the sum at T = 1 too.
    """
    if not _on_cpu(z):
        return _set_apart(z, tokens, t, hot)
    values.cpu()
    from logitherm.kernels import cpu_apart

    near, others = torch.empty(tokens.shape, dtype=z.dtype), np.empty((len(z), 3))
    arrays = z.numpy(), tokens.numpy(), t.detach().double().numpy(), near.numpy()

    def work(rows: slice) -> None:
        cpu_apart.set_apart(*(array[rows] for array in arrays), others[rows], hot)

    map_blocks(work, len(z), z.shape[1], BLOCK_VALUES)
    values.ran["set_apart"] += 1
    with np.errstate(divide="ignore"):
        logs = np.log(others[:, 1:])
    high, log_rest, one = (torch.from_numpy(np.ascontiguousarray(v)) for v in (others[:, 0], logs[:, 0], logs[:, 1]))
    return Apart(near, high.to(z.dtype), log_rest, one)


def spread(
    z: Tensor, t: Tensor, apart: Apart, factor: Tensor, log_all: Tensor, hard: Tensor, softcap: float | None
) -> None:
    """In place of the others factor times their law, plus exp(z - log_all) hard: a slope in logits before their cap."""
    if not _on_cpu(z):
        _spread(z, t, apart, factor, log_all, hard, softcap)
        return
    from logitherm.kernels import cpu_apart

    high = torch.where(apart.high > -math.inf, apart.high, 0.0).double()
    logs = [torch.where(apart.log_rest > -math.inf, apart.log_rest, 0.0), log_all.double() - high]
    columns = [t, high, logs[0] / math.log(2), factor, logs[1] / math.log(2), hard]
    arrays = z.numpy(), *(column.detach().double().numpy() for column in columns)

    def work(rows: slice) -> None:
        cpu_apart.spread(*(array[rows] for array in arrays), math.inf if softcap is None else softcap)

    map_blocks(work, len(z), z.shape[1], BLOCK_VALUES)
    values.ran["spread"] += 1


def _on_cpu(z: Tensor) -> bool:
    return z.device.type == "cpu" and not is_traced(z)


# -- their definition, which also serves other devices ---------------------------------------------------


def _set_apart(z: Tensor, tokens: Tensor, t: Tensor, hot: bool) -> Apart:
    there = tokens < z.shape[-1]
    at = torch.where(there, tokens, 0)
    near = torch.where(there, z.gather(-1, at), -math.inf)
    z.masked_fill_(torch.zeros_like(z, dtype=torch.bool).scatter_reduce_(-1, at, there, "amax"), -math.inf)
    high = z.amax(-1)
    x = z.double() - torch.where(high > -math.inf, high, 0.0)[:, None]
    log_rest = (x / t[:, None]).logsumexp(-1)
    return Apart(near, high, log_rest, x.logsumexp(-1) if hot else torch.full_like(log_rest, -math.inf))


def _spread(
    z: Tensor, t: Tensor, apart: Apart, factor: Tensor, log_all: Tensor, hard: Tensor, softcap: float | None
) -> None:
    high = torch.where(apart.high > -math.inf, apart.high, 0.0)[:, None]
    log_rest = torch.where(apart.log_rest > -math.inf, apart.log_rest, 0.0)[:, None]
    slope = factor[:, None] * ((z - high) / t[:, None] - log_rest).exp()
    slope += torch.where(hard > 0, hard, 0.0)[:, None] * (z - log_all[:, None]).exp()
    z.copy_(slope if softcap is None else torch.where(slope == 0, 0.0, slope * (1 - (z / softcap) ** 2)))
