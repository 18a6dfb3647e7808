"""The state of attention from a fused kernel that returns log Z: the mean score is what it makes of keys as values."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

from logitherm._array import describe, dtype_name

# (q, k, v, causal) -> softmax(q k^T) v and log Z, for heads of equal number; causal as in PyTorch, for equal lengths
Kernel = Callable[[Tensor, Tensor, Tensor, bool], tuple[Tensor, Tensor]]
TRIED = 16  # queries and keys on which a kernel's log Z is tried
CLOSE = 1e-3
WHAT = ("first result is softmax(q k^T) v", "second result is log Z = logsumexp(q k^T)")


def log_z_and_mean(q: Tensor, k: Tensor, causal: bool, kernel: Kernel) -> tuple[Tensor, Tensor]:
    """log Z and sum p x of x = q k^T, each (batch, heads, queries): sum p x = q sum(p k)."""
    require_log_z(kernel, q.device.type, dtype_name(q))
    with torch.no_grad():
        mean_key, log_z = kernel(q, k, k, causal)
    return log_z, (q * mean_key).sum(-1)


@cache
def require_log_z(kernel: Kernel, device: str, dtype: str) -> None:
    """Try a kernel on a few rows: one has returned log2 Z, another was off by log 2."""
    generator = torch.Generator().manual_seed(0)
    q, k = (torch.randn(1, 2, TRIED, TRIED, generator=generator) for _ in range(2))
    given = [x.to(device, getattr(torch, dtype)) for x in (q, k)]
    for causal in (False, True):
        x = q.double() @ k.double().mT
        if causal:
            x = x.masked_fill(torch.ones(TRIED, TRIED, dtype=torch.bool).triu(1), -math.inf)
        found = kernel(given[0], given[1], given[1], causal)
        wanted = x.softmax(-1) @ k.double(), x.logsumexp(-1)
        if not _are_of_shape(found, wanted):
            raise TypeError(
                "method: must be a kernel that returns the tensors softmax(q k^T) v, shaped as q, and log Z, (batch, "
                f'heads, queries); got {_shapes(found)}; take method="online"'
            )
        for what, one, other in zip(WHAT, found, wanted, strict=True):
            off = (one.double().cpu() - other).abs().max().item()
            if not off < CLOSE:
                raise RuntimeError(
                    f"method: must be a kernel whose {what}; got one that is off by {off:.3g}, causal={causal}; take "
                    'method="online"'
                )


def _are_of_shape(found: Any, wanted: tuple[Tensor, Tensor]) -> bool:
    if not isinstance(found, (tuple, list)) or len(found) != 2:
        return False
    return all(isinstance(x, Tensor) and x.shape == y.shape for x, y in zip(found, wanted, strict=True))


def _shapes(found: Any) -> str:
    return ", ".join(map(describe, found)) if isinstance(found, (tuple, list)) else describe(found)


def kernel_for(device: str) -> Kernel:
    """PyTorch's own that returns log Z there."""
    return _cpu if device == "cpu" else _flex


def _cpu(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> tuple[Tensor, Tensor]:
    found: Any = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, 0.0, causal, scale=1.0)
    return found[0], found[1]


@cache
def _compiled() -> Any:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention)


def _flex(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> tuple[Tensor, Tensor]:
    from torch.nn.attention.flex_attention import AuxRequest, create_block_mask

    mask = None
    if causal:
        mask = create_block_mask(lambda b, h, i, j: i >= j, None, None, q.shape[-2], k.shape[-2], device=q.device)
    out, aux = _compiled()(q, k, v, scale=1.0, block_mask=mask, return_aux=AuxRequest(lse=True))
    return out, aux.lse
