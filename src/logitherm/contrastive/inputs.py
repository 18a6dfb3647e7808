"""What comes into a contrastive loss: features, temperatures, labels, reductions."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from logitherm._array import FLOAT_TYPES, HALF_TYPES, as_temperature, describe, dtype_name, first_true, should_check
from logitherm.kernels.torch_pairs import full_precision
from logitherm.thermostat import SetPoint

REDUCTIONS = ("mean", "sum", "none")
ROWS = 1 << 20  # similarities that are looked at together where whole rows are needed


def as_features(x: Any, name: str, normalize: bool, check: bool | None, *, like: Tensor | None = None) -> Tensor:
    """Rows of features in float32 or float64, with norm 1 if asked for; as wide as those of `like`."""
    if not isinstance(x, Tensor) or dtype_name(x) not in FLOAT_TYPES + HALF_TYPES:
        raise TypeError(f"{name}: must be a floating tensor; got {describe(x)}; one row of features a sample")
    if x.ndim != 2 or 0 in x.shape:
        raise ValueError(f"{name}: must have shape (samples, features); got {describe(x)}; reshape it")
    if like is not None and x.shape[1] != like.shape[1]:
        raise ValueError(f"{name}: must have {like.shape[1]} features like the others; got {describe(x)}; project both")
    x = x.float() if dtype_name(x) in HALF_TYPES else x
    x = x if like is None else x.to(torch.promote_types(x.dtype, like.dtype))
    norm = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    if should_check(check, x):
        good = torch.isfinite(norm) & ((norm > 0) | (not normalize))
        if not bool(good.all()):
            row = first_true(~good)
            what, mend = (
                ("norm 0", "drop it or pass normalize=False") if float(norm[row]) == 0 else ("NaN or inf", "mend it")
            )
            raise ValueError(
                f"{name}: rows must be finite{' with a norm above 0' if normalize else ''}; "
                f"row {row} of {len(x)} has {what}; {mend}"
            )
    return x / norm if normalize else x


def require_pairs(first: Tensor, second: Tensor, name: str, *, exact: bool = True) -> None:
    """Row i of one belongs to row i of the other."""
    if len(first) != len(second) and (exact or len(second) < len(first)):
        rule = f"{len(first)} rows" if exact else f"at least {len(first)} rows"
        raise ValueError(f"{name}: must have {rule}, row i the partner of row i; got {len(second)}; align the rows")


def require_negatives(count: int, name: str) -> None:
    if count < 1:
        raise ValueError(
            f"{name}: must have a negative for every row; got one pair; take a larger batch (drop_last=True)"
        )


def row_temperature(
    temperature: Any, queries: Tensor, keys: Tensor, skip: int | None, step: Any, check: bool | None
) -> Tensor:
    """T of every query, in (0, inf).

    A set point is solved for the law of the negatives of every query, and is a constant to differentiation. Other
    objects see the shape, dtype and device of the similarities, and NaN for their values: they would need them all.
    """
    if isinstance(temperature, SetPoint):
        t = _solved(temperature, queries.detach(), keys.detach(), skip)
    else:
        nothing = queries.new_full((), math.nan).expand(len(queries), len(keys))
        t = as_temperature(temperature, nothing, check, step, usual="0.01 to 1")
    return require_positive(t, check)


def require_positive(t: Tensor, check: bool | None) -> Tensor:
    if should_check(check, t) and not bool(((t > 0) & (t < math.inf)).all()):
        bad = t[~((t > 0) & (t < math.inf))].flatten()[0].item()
        raise ValueError(f"temperature: must be positive and finite for a loss; got {bad:g}; 0.01 to 1 is usual")
    return t


def _solved(point: SetPoint, queries: Tensor, keys: Tensor, skip: int | None) -> Tensor:
    if point.pooled:
        raise ValueError("temperature: must be a set point of every row here; got a pooled one; take pooled=False")
    found = []
    with full_precision(queries):
        for rows, x in similarities(queries, keys, skip):
            if any(getattr(v, "ndim", 0) for v in vars(point).values()):  # targets of every row
                part = {name: v[rows] if getattr(v, "ndim", 0) else v for name, v in vars(point).items()}
                found.append(SetPoint(**part).resolve(x))
            else:
                found.append(point.resolve(x))
    return torch.cat([torch.as_tensor(t, dtype=queries.dtype) for t in found])


def similarities(queries: Tensor, keys: Tensor, skip: int | None) -> Any:
    """Rows, and their products with every key, -inf for those left out, in blocks of rows."""
    size = max(1, ROWS // len(keys))
    for i in range(0, len(queries), size):
        x = queries[i : i + size] @ keys.T
        if skip is not None:
            x.diagonal(i + skip).fill_(-math.inf)
        yield slice(i, i + len(x)), x


def require_reduction(reduction: str) -> None:
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction: must be one of {', '.join(REDUCTIONS)}; got {reduction!r}; choose one")


def require_block(block: int) -> int:
    if not isinstance(block, int) or block < 1:
        raise ValueError(f"block: must be a positive integer; got {describe(block)}; 256 to 4096 is usual")
    return block


def reduced(rows: Tensor, reduction: str) -> Tensor:
    return rows if reduction == "none" else rows.sum() if reduction == "sum" else rows.mean()
