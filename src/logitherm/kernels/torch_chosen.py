"""PyTorch: the log-probability of one state a row with its derivatives, block by block.

d log p_a = sum_i (1[i = a] - p_i) / T dz_i - (z_a - <z>) / T^2 dT, taken as 0 at T = 0. Only the logits are kept for
the way back, which makes one array of their size: the gradient.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from logitherm.kernels import values
from logitherm.kernels.chosen import of_moments, take
from logitherm.kernels.reference import Moments
from logitherm.kernels.threads import blocks
from logitherm.kernels.torch_autograd import state_function

BLOCK_VALUES = 1 << 23  # logits of a block, of which there are a few arrays


class _LogProbability(torch.autograd.Function):
    """(logits (n, states), temperatures (n,), chosen (n,)) -> log p of the chosen state, (n,)."""

    @staticmethod
    def forward(ctx, z, temperature, chosen):  # type: ignore[override]
        parts = [
            values.moments(z[rows], temperature[rows], check=False)
            for rows in blocks(len(z), z.shape[-1], BLOCK_VALUES)
        ]
        m = Moments(*(torch.cat(field) for field in zip(*parts))) if parts else Moments(*[temperature] * 5)
        own = take(z, chosen)
        ctx.save_for_backward(z, temperature, chosen, m.top - own - m.gap)
        return of_moments(m, own, temperature)

    @staticmethod
    def backward(ctx, grad):  # type: ignore[override]
        z, temperature, chosen, fall = ctx.saved_tensors
        if torch.is_grad_enabled():  # for derivatives of derivatives: the same, in steps that have them
            own = take(z, chosen)
            again = -state_function("log_partition", z - own[:, None], temperature, None, False)
            wanted = [x for x in (z, temperature) if x.requires_grad]
            found = iter(torch.autograd.grad(again, wanted, grad, create_graph=True))
            return *(next(found) if x.requires_grad else None for x in (z, temperature)), None
        share = torch.where(temperature > 0, grad / temperature, 0.0)
        dz = _slopes(z, temperature, chosen, share) if ctx.needs_input_grad[0] else None
        dt = None
        if ctx.needs_input_grad[1]:
            dt = torch.where(temperature > 0, share * fall / temperature, 0.0)
        return dz, dt, None


def _slopes(z: Tensor, temperature: Tensor, chosen: Tensor, share: Tensor) -> Tensor:
    dz = torch.empty_like(z)
    for rows in blocks(len(z), z.shape[-1], BLOCK_VALUES):
        p = values.softmax(z[rows], temperature[rows], None, False, False)
        torch.mul(p, -share[rows, None], out=dz[rows])
    return dz.scatter_add_(1, chosen[:, None], share[:, None])


def log_probability(z: Tensor, temperature: Tensor, chosen: Tensor) -> Tensor:
    """log softmax(z / T) of the `chosen` state of every row, batch shape."""
    flat: Any = z.reshape(-1, z.shape[-1]), temperature.reshape(-1), chosen.reshape(-1)
    found: Tensor = _LogProbability.apply(*flat)
    return found.reshape(z.shape[:-1])
