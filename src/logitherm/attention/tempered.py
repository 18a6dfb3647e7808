"""Attention at a temperature: queries are scaled, so any backend of PyTorch's attention serves."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from logitherm._array import as_temperature, describe, dtype_name, should_check
from logitherm.attention.inputs import EACH, require_keys
from logitherm.attention.rules import Queries
from logitherm.attention.target import blocks_of_scores, target_temperature
from logitherm.thermostat import SetPoint

COLDEST = 1e-30  # T next to 0: scores over it, and q, are finite in float32


def tempered_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    temperature: Any = None,
    mask: Tensor | None = None,
    causal: bool = False,
    hard: bool = False,
    dropout: float = 0.0,
    step: Any = None,
) -> Tensor:
    """softmax(q k^T / T) v, by PyTorch's `scaled_dot_product_attention` of q / T.

    Derivatives are in q, k, v and the temperature. A T that is one number is given to the backend; others divide the
    queries, in float32 before they are rounded to a half type.

    Parameters
    ----------
    q : floating tensor, shape (batch, heads, queries, width)
    k, v : floating tensors, shape (batch, key heads, keys, width)
        Every key head serves as many heads of the queries in a row (grouped-query attention).
    temperature : float, tensor, Temperature, SetPoint or rule, optional
        0 < T <= inf, that broadcasts against (batch, heads, queries): of one a head (heads, 1). Default sqrt(width). A
        schedule or learned temperature gives T itself. `SetPoint(entropy=...)` is the T at which every query has that
        entropy, found exactly, scores a block at a time. A rule of `logitherm.attention.rules` (`LogLength`,
        `ByPosition`, `Yarn`, `Adaptive`), or a function of `Queries`, makes it from what each query sees.
    mask : boolean tensor that broadcasts against (batch, heads, queries, keys), optional
        True for keys that are seen.
    causal : bool
        Whether a query sees no key after it; the last query is at the last key.
    hard : bool
        Whether all weight is on the best key, as for T = 0 (keys that tie share it), and gradients are those of softmax
        at T: straight through.
    dropout : float
        Of weights, from 0 to below 1; with `hard` there is none.
    step : any
        Handed to temperatures that are schedules.

    Returns
    -------
    tensor, shape (batch, heads, queries, width of v)
        0 for queries that see no key. NaN passes through, as in PyTorch; `attention_state` names where it is.

    Raises
    ------
    TypeError, ValueError
        Shapes that do not fit; a temperature that is not positive.

    References
    ----------
    Vaswani et al. (2017), eq. 1; Bengio, Léonard and Courville (2013), for gradients straight through.

    Examples
    --------
    >>> import torch
    >>> from logitherm.attention import attention_state, tempered_attention
    >>> from logitherm.thermostat import SetPoint
    >>> generator = torch.Generator().manual_seed(0)
    >>> q, k, v = (torch.randn(1, 2, 8, 16, generator=generator) for _ in range(3))
    >>> usual = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    >>> torch.allclose(tempered_attention(q, k, v), usual, atol=1e-6)
    True
    >>> t = resolve_temperature(SetPoint(entropy=1.0), q, k)
    >>> attention_state(q, k, temperature=t).entropy[0, 0].round(decimals=4)
    tensor([1., 1., 1., 1., 1., 1., 1., 1.])
    >>> tempered_attention(q, k, v, temperature=SetPoint(entropy=1.0)).shape
    torch.Size([1, 2, 8, 16])
    """
    _require_fit(q, k, v, mask, causal)
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout: must be at least 0 and below 1; got {dropout}; it is a share of the weights")
    mask = mask[None] if mask is not None and mask.ndim == 1 else mask  # as backends need it
    t = resolve_temperature(temperature, q, k, mask=mask, causal=causal, step=step)
    if causal and q.shape[-2] == k.shape[-2] and mask is None:
        seen, flag = None, True
    else:
        seen, flag = _seen(q, k, mask, causal), False
    groups = q.shape[1] != k.shape[1]
    scale, scaled = 1.0, q
    if isinstance(t, float):
        scale = 1 / max(t, COLDEST)
    else:
        scaled = _divided(q, t)
    soft = nn.functional.scaled_dot_product_attention(
        scaled, k, v, seen, 0.0 if hard else dropout, is_causal=flag, scale=scale, enable_gqa=groups
    )
    return soft + (_hardest(q, k, v, Queries(q, k, mask, causal)) - soft).detach() if hard else soft


def resolve_temperature(
    temperature: Any, q: Tensor, k: Tensor, *, mask: Tensor | None = None, causal: bool = False, step: Any = None
) -> Any:
    """T as `tempered_attention` has it: a float, or a tensor that broadcasts against (batch, heads, queries)."""
    seen = Queries(q, k, mask, causal)
    if temperature is None:
        return math.sqrt(q.shape[-1])
    if isinstance(temperature, SetPoint):
        if temperature.entropy is None or temperature.pooled:
            raise ValueError(
                f"temperature: must be a set point of entropy, a query each; got {temperature}; solve others"
            )
        return target_temperature(seen, temperature)
    if isinstance(temperature, (int, float)) and not isinstance(temperature, bool):
        if not temperature > 0:
            raise ValueError(f"temperature: must be positive; got {temperature}; hard=True is the limit of T = 0")
        return float(temperature)
    if isinstance(temperature, type):
        raise TypeError(f"temperature: must be a rule itself; got the class {temperature.__name__}; call it")
    if not hasattr(temperature, "resolve") and callable(temperature):
        temperature = temperature(seen)
    one = torch.ones((), dtype=torch.promote_types(q.dtype, torch.float32), device=q.device)
    t = as_temperature(temperature, one.expand(*q.shape[:-1], 1), step=step, each=EACH)
    if should_check(None, t) and not bool((t > 0).all()):
        raise ValueError(f"temperature: must be positive; got {t.min().item():g}; hard=True is the limit of T = 0")
    return t


def _divided(q: Tensor, t: Tensor) -> Tensor:
    """q / T in the dtype that the backend will have, and finite: next to T = 0 a T at which q / T just is."""
    device = q.device.type
    kind = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else q.dtype
    most = min(torch.finfo(kind).max / 2, 1 / COLDEST)
    least = q.detach().abs().amax(-1).to(t.dtype) / most
    return (q / t.maximum(least.clamp_min(COLDEST))[..., None]).to(q.dtype)


def _seen(q: Tensor, k: Tensor, mask: Tensor | None, causal: bool) -> Tensor | None:
    queries, keys = q.shape[-2], k.shape[-2]
    if not causal or queries == 1:
        return mask
    early = torch.ones(queries, keys, dtype=torch.bool, device=q.device).tril(keys - queries)
    return early if mask is None else mask & early


@torch.no_grad()
def _hardest(q: Tensor, k: Tensor, v: Tensor, seen: Queries) -> Tensor:
    """The value of the best key of every query."""
    groups = q.shape[1] // k.shape[1]
    k, v = (x.repeat_interleave(groups, 1) for x in (k, v))
    out = torch.zeros(*q.shape[:-1], v.shape[-1], dtype=v.dtype, device=q.device)
    if not k.shape[-2]:
        return out
    for rows, scores in blocks_of_scores(q, k, seen):
        best = (scores == scores.amax(-1, keepdim=True)) & (scores > -math.inf)
        weights = best / best.sum(-1, keepdim=True).clamp_min(1)
        out[:, :, rows] = weights.to(v.dtype) @ v
    return out


def _require_fit(q: Any, k: Any, v: Any, mask: Any, causal: bool) -> None:
    for name, x in (("q", q), ("k", k), ("v", v)):
        if not isinstance(x, Tensor):
            raise TypeError(
                f"{name}: must be a tensor of PyTorch; got {type(x).__module__}.{type(x).__name__}; convert it with "
                "torch.as_tensor"
            )
        if not x.is_floating_point() or x.ndim != 4:
            raise TypeError(
                f"{name}: must be a floating tensor (batch, heads, rows, width); got {describe(x)}; mend it"
            )
    if q.shape[0] != k.shape[0] or q.shape[-1] != k.shape[-1] or q.shape[1] % k.shape[1]:
        raise ValueError(
            f"k: must have the batch and width of q, {describe(q)}, and its heads or a divisor; got {describe(k)}; "
            "axes are (batch, heads, rows, width)"
        )
    if not q.dtype == k.dtype == v.dtype and not torch.is_autocast_enabled(q.device.type):
        kinds = ", ".join(map(dtype_name, (q, k, v)))
        raise TypeError(f"q, k, v: must be of one dtype, unless under autocast; got {kinds}; convert them")
    if v.shape[:-1] != k.shape[:-1]:
        raise ValueError(f"v: must have the batch, heads and keys of k, {describe(k)}; got {describe(v)}; mend it")
    if mask is not None and (not isinstance(mask, Tensor) or mask.dtype != torch.bool):
        got = describe(mask) if isinstance(mask, Tensor) else f"{type(mask).__module__}.{type(mask).__name__}"
        raise TypeError(
            f"mask: must be a boolean tensor, True for keys that are seen; got {got}; of ones and zeros pass "
            "mask.bool(), of one that is added to scores mask == 0"
        )
    pairs = (*q.shape[:-1], k.shape[-2])
    if mask is not None and not _broadcasts(tuple(mask.shape), pairs):
        raise ValueError(
            f"mask: must broadcast against (batch, heads, queries, keys) = {pairs}; got {describe(mask)}; of padding, "
            "(batch, keys), it is mask[:, None, None]"
        )
    if causal:
        require_keys(q, k)


def _broadcasts(given: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    return len(given) <= len(wanted) and all(
        n in (1, m) for n, m in zip(reversed(given), reversed(wanted), strict=False)
    )
