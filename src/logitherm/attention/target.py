"""The temperature at which every query's attention has a given entropy, exactly, and its derivative."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from logitherm._solve import find_root
from logitherm.attention.rules import Queries
from logitherm.kernels import reference, values
from logitherm.kernels.graphs import outside_graphs
from logitherm.thermostat import SetPoint

VALUES = 1 << 22  # scores of a block
COLDEST = 1e-6  # of the largest score, in place of T = 0
REACH = 30.0  # of log T, about that of the largest score
TOLERANCE = {"float32": 1e-6, "float64": 1e-13}  # of the entropy


@outside_graphs
def target_temperature(seen: Queries, target: SetPoint) -> Tensor:
    """T (batch, heads, queries) that holds a set point of entropy, with derivatives in q, k and the entropy.

    Scores are made a block of queries at a time. An entropy that a query cannot have gives the closest it can: T = inf
    if it sees too few keys; a T that is next to nothing if its best keys tie, or the entropy is 0.
    """
    shape = seen.q.shape[:-1]
    _require_target(target)
    if 0 in (*shape, seen.k.shape[-2]):
        return torch.full(shape, math.inf, dtype=_kind(seen.q), device=seen.q.device)
    entropy = torch.as_tensor(target.entropy, dtype=_kind(seen.q), device=seen.q.device).broadcast_to(shape)
    k = seen.k.repeat_interleave(shape[1] // seen.k.shape[1], 1)
    found: Tensor = _Target.apply(seen.q, k, entropy, seen, target)
    return found


def _require_target(target: SetPoint) -> None:
    if target.out_of_range != "limit":
        raise ValueError(
            f"temperature: must have out_of_range='limit' in attention, where some queries see few keys; got "
            f"{target.out_of_range!r}; leave it out"
        )
    if not bool((torch.as_tensor(target.entropy) >= 0).all()):
        raise ValueError(f"temperature: must have an entropy of 0 or more; got {target}; it is in nats")


class _Target(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q, k, entropy, seen, target):  # type: ignore[override]
        t = torch.empty(q.shape[:-1], dtype=_kind(q), device=q.device)
        count = seen.visible.expand(t.shape)
        for rows, scores in blocks_of_scores(q, k, seen):
            hot = entropy[:, :, rows] >= count[:, :, rows].log()  # those that see no key too
            scores = torch.where((count[:, :, rows] == 0)[..., None], 0.0, scores)
            if not bool(scores.amax(-1).isfinite().all()):
                raise ValueError("q, k: must be finite, and their products; got NaN or infinity; mend them")
            solved = torch.where(hot, math.inf, _solved(scores, entropy[:, :, rows]))
            t[:, :, rows] = solved.maximum(COLDEST * scores.amax(-1).abs() + torch.finfo(t.dtype).tiny)
        ctx.seen = seen._replace(q=None, k=None)
        ctx.save_for_backward(q, k, t)
        return t

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):  # type: ignore[override]
        # S(z, T) is held: dT / dz = p (x - <x>) / C and dT / dS = T / C, with x = z / T and C = Var x
        q, k, t = ctx.saved_tensors
        d_q, d_k, d_entropy = torch.zeros_like(q), torch.zeros_like(k), torch.zeros_like(t)
        for rows, scores in blocks_of_scores(q, k, ctx.seen):
            x = torch.where(scores > -math.inf, scores / t[:, :, rows, None], -math.inf)  # T may be inf
            p = x.softmax(-1)
            p = torch.where(p > 0, p, 0.0)  # queries that see no key have NaN
            x = torch.where(p > 0, x, 0.0)
            above = x - (p * x).sum(-1, keepdim=True)
            heat = (p * above**2).sum(-1)
            free = (heat > 0) & torch.isfinite(t[:, :, rows])  # T is not at a limit
            share = torch.where(free, grad[:, :, rows] / torch.where(free, heat, 1.0), 0.0)
            slope = (share[..., None] * p * above).to(q.dtype)
            d_q[:, :, rows] = slope @ k
            d_k += slope.mT @ q[:, :, rows]
            d_entropy[:, :, rows] = torch.where(free, share * t[:, :, rows], 0.0)
        return d_q, d_k, d_entropy, None, None


def _solved(scores: Tensor, entropy: Tensor) -> Tensor:
    """T of every row of scores, where there is one."""
    if scores.device.type != "cpu":
        return SetPoint(entropy=entropy, out_of_range="limit").resolve(scores)
    z, wanted = scores.reshape(-1, scores.shape[-1]).numpy(), entropy.reshape(-1).double().numpy()

    def residual(y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        t = np.exp(y)
        m = values.row_moments(z, t)
        return reference.entropy(m, t) - wanted, reference.heat_capacity(m, t)

    start = np.zeros(len(z)) + math.log(1e-30 + float(np.abs(z, where=z > -math.inf, out=np.zeros_like(z)).max()))
    tolerance = TOLERANCE[z.dtype.name] * np.maximum(1, wanted)
    root = find_root(residual, start, start - REACH, start + REACH, value_tolerance=tolerance, step_tolerance=1e-12)
    return torch.from_numpy(np.exp(root.x)).reshape(entropy.shape).to(scores.dtype)


def blocks_of_scores(q: Tensor, k: Tensor, seen: Queries) -> Iterator[tuple[slice, Tensor]]:
    """Queries, and their scores q k^T with -inf for keys that they do not see, float32 at least."""
    batch, heads, queries = q.shape[:3]
    size = max(1, VALUES // max(1, batch * heads * k.shape[-2]))
    q, k = q.to(_kind(q)), k.to(_kind(q))  # in half types scores would overflow, and tie where they do not
    for start in range(0, queries, size):
        rows = slice(start, min(start + size, queries))
        with torch.autocast(q.device.type, enabled=False):
            scores = q[:, :, rows] @ k.mT
        yield rows, _hidden(scores, seen, rows, k.shape[-2], queries)


def _kind(q: Tensor) -> torch.dtype:
    return torch.float64 if q.dtype == torch.float64 else torch.float32


def _hidden(scores: Tensor, seen: Queries, rows: slice, keys: int, queries: int) -> Tensor:
    """Scores of some queries, -inf at keys that they do not see."""
    if seen.causal:
        place = torch.arange(keys - queries, keys, device=scores.device)[rows, None]
        scores = scores.masked_fill(torch.arange(keys, device=scores.device) > place, -math.inf)
    if seen.mask is None:
        return scores
    mask = seen.mask.expand(*seen.mask.shape[:-2], queries, keys)[..., rows, :]
    return scores.masked_fill(~mask, -math.inf)
