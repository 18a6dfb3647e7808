"""How sharp attention is: the state of every row of scores, without the matrix of scores."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from logitherm._array import (
    HALF_TYPES,
    Array,
    as_array,
    as_temperature,
    describe,
    dtype_name,
    is_torch,
    like,
    namespace,
    to_numpy,
)
from logitherm.attention.inputs import EACH, as_cap, as_heads, as_pairs, ranges, require_fit
from logitherm.kernels import attention, reference
from logitherm.kernels.attention import Block
from logitherm.kernels.reference import Moments
from logitherm.thermostat import SetPoint


@dataclass(frozen=True)
class AttentionState:
    """What is to be known of every row of attention weights p = softmax(x), x = scores / T: (..., heads, queries).

    Attributes
    ----------
    log_partition : array
        log Z = logsumexp(x).
    mean_score : array
        sum p x.
    entropy : array
        In nats: log Z - mean score.
    top_probability, heat_capacity : array or None
        max p, and the variance of x, which is dS / d ln T; None where the route does not give them.
    """

    log_partition: Array
    mean_score: Array
    entropy: Array
    top_probability: Array | None
    heat_capacity: Array | None

    @property
    def support(self) -> Array:
        """e^S, over how many keys the weight is spread."""
        return namespace(self.entropy).exp(self.entropy)


def attention_state(
    q: Array,
    k: Array,
    *,
    temperature: Any = None,
    mask: Array | None = None,
    causal: bool = False,
    softcap: float | None = None,
    bias: Array | None = None,
    window: int | None = None,
    sink: Array | None = None,
    positions: Any = None,
    method: str | Callable[..., Any] = "auto",
    empty: str = "raise",
) -> AttentionState:
    """The state of softmax(q k^T / T) for every head and query, of whose scores no more than a block is ever there.

    The weights are softmax(x) with x = cap(q k^T / T) + bias over the keys that a query sees, and the sink. Nothing is
    learned through it.

    Parameters
    ----------
    q : floating array, shape (batch, heads, queries, width), (heads, queries, width) or (queries, width)
        Heads come before queries, as in PyTorch; of (batch, queries, heads, width) pass `q.transpose(1, 2)`.
    k : the same with keys for queries
        With fewer heads every one serves several of the queries' in a row (grouped-query attention).
    temperature : float or array that broadcasts against (batch, heads, queries), optional
        0 < T <= inf; default sqrt(width), as everywhere. One a head is (heads, 1). Of a rule or set point
        `resolve_temperature` makes T.
    mask : boolean array that broadcasts against (batch, heads, queries, keys), optional
        Which keys a query sees, as in PyTorch: True where it does. One of padding, (batch, keys), is passed as
        `mask[:, None, None]`.
    causal : bool
        Whether a query sees no key after it. The last query is at the last key, so that of a cache works.
    softcap : float or array that broadcasts against (batch, heads, queries), optional
        cap(x) = softcap tanh(x / softcap).
    bias : floating array that broadcasts like `mask`, optional
        Added to scores over T: it is not tempered. -inf hides a key.
    window : int, optional
        A query sees keys that are fewer than so many places away.
    sink : array that broadcasts against (batch, heads, queries), optional
        One more score, of no key, that takes its share of the weight; as in gpt-oss, (heads, 1) there.
    positions : integers (queries,), optional
        The key at which each query stands, for `causal` and `window`; default the last of them, in order.
    method : "auto", "online", "fused" or callable
        "online" goes through blocks of scores: all quantities, within 2e-6 of float64 in float32. "fused" asks
        PyTorch's fused kernel for log Z and for the mean key, by passing the keys as values: sum p x = q sum(p k) / T.
        That is log Z, mean score and entropy and no more, the last a difference of large numbers: within 1e-4 in
        float32 where scores spread by 32. It knows T and `causal` alone. A callable is another such kernel: (q, k, v,
        causal) -> (softmax(q k^T) v, log Z), for heads of equal number; its log Z is tried on a few rows first. "auto"
        is "fused" for float32 and float64 on other devices than the CPU where that serves, else "online".
    empty : "raise" or "nan"
        What becomes of queries that see no key.

    Returns
    -------
    AttentionState
        Arrays (batch, heads, queries) of the kind and compute dtype of `q`.

    Raises
    ------
    TypeError, ValueError
        Shapes that do not fit; scores with NaN or +inf; queries that see no key, by batch, head and query.

    References
    ----------
    Milakov and Gimelshein (2018), Online normalizer calculation for softmax, for running sums; the mean and the
    variance are merged as in Chan, Golub and LeVeque (1983).

    Examples
    --------
    >>> import numpy as np
    >>> from logitherm.attention import attention_state
    >>> rng = np.random.default_rng(0)
    >>> q, k = rng.normal(size=(2, 4, 8, 16)), rng.normal(size=(2, 2, 8, 16))    # 4 heads, keys of 2
    >>> state = attention_state(q, k, causal=True)
    >>> state.support[0, 0].round(2).tolist()    # the first query sees one key
    [1.0, 1.98, 2.13, 3.11, 3.97, 4.28, 3.81, 6.05]
    """
    given = q
    q, k = as_heads(q, "q"), as_heads(k, "k")
    lead = tuple(q.shape[:-2])
    require_fit(q, k, causal and positions is None)
    if window is not None and (isinstance(window, bool) or not isinstance(window, (int, np.integer)) or window < 1):
        raise ValueError(f"window: must be an integer, at least 1; got {window!r}; None is without")
    if empty not in ("raise", "nan"):
        raise ValueError(f"empty: must be raise or nan; got {empty!r}; choose one")
    xp = namespace(q)
    if isinstance(temperature, SetPoint) or (callable(temperature) and not hasattr(temperature, "resolve")):
        raise TypeError(
            f"temperature: must be a number or an array; got {describe(temperature)}; "
            "logitherm.attention.resolve_temperature makes T of set points and rules"
        )
    t = math.sqrt(q.shape[-1]) if temperature is None else temperature
    t = as_temperature(t, xp.broadcast_to(q[..., :1], (*q.shape[:-1], 1)), each=EACH)
    t = t.detach() if is_torch(t) else t
    if not bool(xp.all(t > 0)):
        raise ValueError(
            f"temperature: must be positive for attention; got {describe(temperature)}; a small T is nearly the limit"
        )
    q, k, t = (xp.reshape(value, (-1, *value.shape[len(lead) - 1 :])) for value in (q, k, t))
    batch, heads, queries, _ = q.shape
    key_heads, keys = k.shape[1:3]
    plain = mask is None and softcap is None and bias is None and window is None and sink is None
    plain = plain and (not causal or queries == keys) and positions is None
    if _fused(method, q, given, plain):
        return _by_kernel(method, q / t[..., None], k, causal, (*lead, queries))
    shape = (batch, heads, queries, keys)
    seen = None if mask is None else as_pairs(mask, "mask", q, lead, shape)
    added = None if bias is None else as_pairs(bias, "bias", q, lead, shape)
    cap = None if softcap is None else as_cap(softcap, q)
    start, stop = ranges(queries, keys, causal, window, positions)

    def finish(x: Array, block: Block) -> Array:
        one, head = np.divmod(np.arange(block.heads.start, block.heads.stop), heads)
        if cap is not None:
            of_rows = cap[one, head, block.queries][..., None]
            x /= of_rows
            xp.tanh(x, out=x)
            x *= of_rows
        if added is not None:
            x += xp.asarray(added[one, head, block.queries, block.keys], dtype=x.dtype)
        if seen is not None:
            x[~seen[one, head, block.queries, block.keys]] = -math.inf
        return x

    m = attention.moments(
        xp.reshape(q, (batch * heads, queries, -1)),
        xp.reshape(k, (batch * key_heads, keys, -1)),
        xp.reshape(t, (batch * heads, queries)),
        np.arange(batch * heads) // (heads // key_heads),
        np.broadcast_to(start, (batch * heads, queries)),
        np.broadcast_to(stop, (batch * heads, queries)),
        finish if cap is not None or seen is not None or added is not None else None,
    )
    if sink is not None:
        m = _with_sink(m, sink, (batch, heads, queries))
    return _state(m, (*lead, queries), q, k, empty)


def _fused(method: Any, q: Array, given: Array, plain: bool) -> bool:
    """Whether a fused kernel is to be asked."""
    if method == "online":
        return False
    if method == "auto":
        return plain and is_torch(q) and q.device.type != "cpu" and dtype_name(given) not in HALF_TYPES
    if method != "fused" and not callable(method):
        raise ValueError(f"method: must be auto, online, fused or a kernel; got {method!r}; choose one")
    if not plain or not is_torch(q):
        got = "arrays of NumPy" if not is_torch(q) else "more options, or a cache"
        raise ValueError(
            "method: fused kernels must have PyTorch tensors, with T and causal alone, that with as many keys as "
            f"queries; got {got}; take online"
        )
    return True


def _by_kernel(method: Any, q: Array, k: Array, causal: bool, shape: tuple[int, ...]) -> AttentionState:
    from logitherm.attention.fused import kernel_for, log_z_and_mean

    kernel = method if callable(method) else kernel_for(q.device.type)
    log_z, mean = log_z_and_mean(q, k.repeat_interleave(q.shape[1] // k.shape[1], 1), causal, kernel)
    log_z, mean = log_z.reshape(shape), mean.reshape(shape)
    bad = ~(log_z + mean).isfinite()  # of NaN in a query some kernels make a log Z that is finite
    if bool(bad.any()):
        _raise_bad_query(to_numpy(bad), to_numpy(log_z + mean), shape, k)
    return AttentionState(log_z, mean, (log_z - mean).clamp_min(0), None, None)


def _with_sink(m: Moments, sink: Any, shape: tuple[int, ...]) -> Moments:
    """With one more state, of this score."""
    value = np.asarray(to_numpy(as_array(sink, "sink")), dtype=np.float64)
    if np.isnan(value).any() or (value == math.inf).any():
        raise ValueError(f"sink: must be finite or -inf; got {describe(sink)} with NaN or +inf; mend it")
    try:
        value = np.broadcast_to(value, shape).reshape(m.top.shape)
    except ValueError as error:
        raise ValueError(
            f"sink: must broadcast against (batch, heads, queries) = {shape}; got {describe(sink)}; (heads, 1), say"
        ) from error
    nothing = np.zeros_like(value)
    return reference.merge(m, Moments(value, nothing, nothing, nothing, nothing), np.ones_like(value))


def _raise_bad_query(bad: np.ndarray, top: np.ndarray, shape: tuple[int, ...], k: Array) -> None:
    place = tuple(int(i) for i in np.argwhere(bad)[0])
    value = float(top[place])
    what = "NaN" if math.isnan(value) else "+inf" if value > 0 else "no key that it sees"
    bad_keys = np.argwhere(~np.isfinite(to_numpy(k)).all(-1))  # (batch, key head, key)
    if len(bad_keys):
        what += f", and key {tuple(int(i) for i in bad_keys[0][-len(shape) :])} is not finite"
    raise ValueError(
        f"q, k: every query must see a key, with finite scores; query {place} of {shape} has {what}; mend it"
        + ('; empty="nan" lets those of padding pass' if value == -math.inf else "")
    )


def _state(m: Moments, shape: tuple[int, ...], q: Array, k: Array, empty: str) -> AttentionState:
    top = m.top.reshape(shape)
    bad = ~np.isfinite(top)
    if empty == "nan":
        bad &= top != -math.inf
    if bad.any():
        _raise_bad_query(bad, top, shape, k)
    one = np.ones_like(m.top)
    found = {
        "log_partition": reference.log_partition(m, one),
        "mean_score": -reference.mean_energy(m, one),
        "entropy": reference.entropy(m, one),
        "top_probability": reference.top_probability(m, one),
        "heat_capacity": reference.heat_capacity(m, one),
    }
    kind = dtype_name(q)
    return AttentionState(
        **{
            name: like(np.where(np.isfinite(m.top), value, math.nan).reshape(shape).astype(kind), q)
            for name, value in found.items()
        }
    )
