"""What attention is given: queries and keys that fit, and for every pair of them a mask, bias or cap."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from logitherm._array import Array, as_array, as_logits, describe, dtype_name, is_torch, like, namespace, to_numpy

EACH = "(heads, 1), say: one a head"  # what T may be


def as_heads(x: Any, name: str) -> Array:
    x = as_logits(x, name=name)
    if not isinstance(x, np.ndarray) and not is_torch(x):
        raise TypeError(f"{name}: must be of NumPy or PyTorch; got {library(x)}; convert it with numpy.asarray")
    if not 2 <= x.ndim <= 4 or 0 in x.shape:
        raise ValueError(
            f"{name}: must be (batch, heads, rows, width), or without the first of these, and of no axis of 0; got "
            f"{describe(x)}; mend it"
        )
    x = x.detach() if is_torch(x) else x
    return x[None] if x.ndim == 2 else x


def library(x: Any) -> str:
    return type(x).__module__.split(".")[0]


def require_fit(q: Array, k: Array, causal: bool) -> None:
    if namespace(q) is not namespace(k) or q.dtype != k.dtype:
        raise TypeError(
            f"k: must be of the library and dtype of q, {library(q)} {dtype_name(q)}; got {library(k)} "
            f"{dtype_name(k)}; convert it"
        )
    if q.ndim != k.ndim or q.shape[:-3] != k.shape[:-3] or q.shape[-1] != k.shape[-1]:
        raise ValueError(f"k: must have the batch and width of q, {describe(q)}; got {describe(k)}; mend it")
    if q.shape[-3] % k.shape[-3]:
        raise ValueError(
            f"k: must have as many heads as q, {q.shape[-3]}, or a divisor of that; got {k.shape[-3]}; "
            "axes are (batch, heads, rows, width)"
        )
    if causal:
        require_keys(q, k)


def require_keys(q: Array, k: Array) -> None:
    """Raise where the first queries of causal attention would see no key."""
    if q.shape[-2] > k.shape[-2]:
        raise ValueError(
            f"causal: must have at least as many keys as queries; got {q.shape[-2]} queries and {k.shape[-2]} keys, of "
            "which the first queries would see none; pass the keys of the cache too"
        )


def as_pairs(x: Any, name: str, q: Array, lead: tuple[int, ...], shape: tuple[int, ...]) -> Array:
    """A mask or bias for every pair, as a view (batch, heads, queries, keys)."""
    x = as_array(x, name)
    x = x.detach() if is_torch(x) else x
    kind = dtype_name(x)
    if name == "mask" and kind != "bool":
        raise TypeError(f"mask: must be boolean, True for keys that are seen; got {describe(x)}; numbers are a bias")
    if name == "bias" and kind == "bool":
        raise TypeError(f"bias: must be floating point; got {describe(x)}; booleans are a mask")
    xp = namespace(q)
    if namespace(x) is not xp:
        x = like(to_numpy(x), q)
    try:
        return xp.reshape(xp.broadcast_to(x, (*lead, *shape[2:])), shape)
    except (ValueError, RuntimeError) as error:
        raise ValueError(
            f"{name}: must broadcast against (batch, heads, queries, keys) = {(*lead, *shape[2:])}; got {describe(x)}; "
            f"of padding, (batch, keys), it is {name}[:, None, None]"
        ) from error


def as_cap(softcap: Any, q: Array) -> Array:
    """A softcap for every query, as a view (batch, heads, queries)."""
    value = to_numpy(as_array(softcap, "softcap"))
    if not ((value > 0) & (value < math.inf)).all():
        raise ValueError(f"softcap: must be finite and positive; got {describe(softcap)}; None is without")
    try:
        return like(np.array(np.broadcast_to(value, tuple(q.shape[:-1])), dtype=dtype_name(q)), q)
    except ValueError as error:
        raise ValueError(
            f"softcap: must broadcast against (batch, heads, queries) = {tuple(q.shape[:-1])}; got "
            f"{describe(softcap)}; give one number"
        ) from error


def ranges(
    queries: int, keys: int, causal: bool, window: int | None, positions: Any = None
) -> tuple[np.ndarray, np.ndarray]:
    """The first key that each query sees, and the first after it that it does not."""
    if positions is None:
        place = np.arange(queries) + (keys - queries if causal or window is not None else 0)
    else:
        place = np.asarray(positions)
        if place.shape != (queries,) or place.dtype.kind not in "iu" or (place < 0).any() or (place >= keys).any():
            raise ValueError(
                f"positions: must be numbers of keys, from 0 to {keys - 1}, one for each of {queries} queries; got "
                f"{describe(place)}"
            )
    start = np.zeros(queries, dtype=np.int64) if window is None else np.clip(place - window + 1, 0, keys)
    stop = np.full(queries, keys) if window is None else np.clip(place + window, 0, keys)
    return start, np.minimum(stop, place + 1) if causal else stop
