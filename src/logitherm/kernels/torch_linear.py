"""PyTorch: derivatives of the state functions of a linear head, by making its logits once more."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from logitherm.kernels import linear, reference
from logitherm.kernels.linear import ROWS, Head, blocks, scratch

STATES = 2048  # of a block: there are half a dozen arrays of it
FUNCTIONS = ("log_partition", "mean_energy", "entropy", "heat_capacity")


class _Linear(torch.autograd.Function):
    """(hidden, weight, bias, temperatures) -> the four state functions, each (temperatures, n)."""

    @staticmethod
    def forward(ctx, hidden, weight, bias, temperatures, softcap):  # type: ignore[override]
        with torch.autocast(hidden.device.type, enabled=False):
            found = linear.moments(hidden, Head(weight, bias, softcap), list(temperatures))
        out = [torch.stack([getattr(reference, name)(m, t) for m, t in zip(found, temperatures)]) for name in FUNCTIONS]
        ctx.softcap, ctx.has_bias = softcap, bias is not None
        ctx.save_for_backward(hidden, weight, temperatures, *out, *([] if bias is None else [bias]))
        return tuple(out)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, *grads):  # type: ignore[override]
        hidden, weight, temperatures, log_z, energy, _, heat, *bias = ctx.saved_tensors
        head = Head(weight, bias[0] if ctx.has_bias else None, ctx.softcap)
        with torch.autocast(hidden.device.type, enabled=False):
            return _slopes(ctx, hidden, head, temperatures, log_z, energy, heat, grads)


def _slopes(
    ctx: Any, hidden: Tensor, head: Head, temperatures: Tensor, log_z: Tensor, energy: Tensor, heat: Tensor, grads: Any
) -> tuple[Tensor | None, ...]:
    # With u = (z - <z>) / T, the slope of all of them is p (a + b u + c u^2) for every T (kernels/gradients.py)
    t = temperatures
    of_log_z, of_energy, of_entropy, of_heat = grads
    c = of_heat / t
    a, b = of_log_z / t - of_energy - c * heat, 2 * c - of_energy - of_entropy / t
    third = torch.zeros_like(t)
    d_hidden, d_weight = torch.zeros_like(hidden), torch.empty_like(head.weight)
    d_bias = None if head.bias is None else torch.empty_like(head.bias)
    out = scratch(hidden, ROWS, STATES)
    for part in blocks(len(head.weight), STATES):
        weight = head.weight[part].to(hidden.dtype)
        block_weight = torch.zeros_like(weight)
        block_bias = torch.zeros_like(weight[:, 0])
        for rows in blocks(len(hidden), ROWS):
            z = head.logits(hidden[rows], out, part)
            slope = torch.zeros_like(z)
            for i in range(len(t)):
                here = t[i, rows, None]
                x = z / here
                p = torch.exp(x - log_z[i, rows, None])
                u = x + energy[i, rows, None] / here
                u = torch.where(p > 0, u, 0.0)
                slope += p * (a[i, rows, None] + (b[i, rows, None] + c[i, rows, None] * u) * u)
                third[i, rows] += (p * u**3).sum(-1)
            if head.softcap is not None:
                slope *= 1 - (z / head.softcap) ** 2
            d_hidden[rows].addmm_(slope, weight)
            block_weight.addmm_(slope.T, hidden[rows])
            block_bias += slope.sum(0)
        d_weight[part] = block_weight
        if d_bias is not None:
            d_bias[part] = block_bias
    d_t = of_log_z * energy / t**2 + of_energy * heat + of_entropy * heat / t - c * (third + 2 * heat)
    return d_hidden, d_weight, d_bias, d_t, None


def state_functions(hidden: Tensor, head: Head, temperatures: Tensor) -> tuple[Tensor, ...]:
    """Each of `FUNCTIONS`, (temperatures, n), with derivatives."""
    found: tuple[Tensor, ...] = _Linear.apply(hidden, head.weight, head.bias, temperatures, head.softcap)
    return found
