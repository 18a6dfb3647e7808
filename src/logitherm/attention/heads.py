"""What becomes of every head over many queries: sums of its state by position and by length, batch after batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from logitherm._array import Array, is_torch, namespace, to_numpy
from logitherm.attention.inputs import ranges
from logitherm.attention.state import AttentionState, attention_state
from logitherm.kernels.attention import share

QUANTITIES = ("entropy", "normalised_entropy", "support", "top_probability", "first_key", "heat_capacity")
PER_OCTAVE = 4  # bins of lengths


@dataclass(frozen=True)
class Seen:
    """How many states every query weighs, its keys and perhaps a sink: (batch, heads or 1, queries); and the number of
    the first key that any query of a sequence sees: (batch,)."""

    states: np.ndarray
    first: np.ndarray


def seen_by(inputs: Mapping[str, Any]) -> Seen:
    """Counted from what `attention_state` is given: mask, bias, causal, window and sink.

    Examples
    --------
    >>> import numpy as np
    >>> from logitherm.attention.heads import seen_by
    >>> seen_by({"q": np.zeros((1, 2, 3, 4)), "k": np.zeros((1, 2, 5, 4)), "causal": True}).states.tolist()
    [[[3, 4, 5]]]
    """
    q, k = inputs["q"], inputs["k"]
    batch, queries, keys = q.shape[0], q.shape[-2], k.shape[-2]
    extra = 0 if inputs.get("sink") is None else 1
    start, stop = _ranges_of(inputs)
    allowed = [inputs[name] for name in ("mask", "bias") if inputs.get(name) is not None]
    if not allowed:
        states = np.broadcast_to((stop - start)[None, None] + extra, (batch, 1, queries))
        return Seen(states, np.full(batch, start.min()))
    allowed = [x if "bool" in str(x.dtype) else x > -np.inf for x in allowed]
    both = allowed[0] if len(allowed) == 1 else allowed[0] & allowed[1]
    xp = namespace(both)
    both = xp.broadcast_to(both, (batch, both.shape[-3] if both.ndim > 2 else 1, queries, keys))
    if (stop - start < keys).any():
        place = np.arange(keys)
        inside = (place >= start[:, None]) & (place < stop[:, None])
        both = both & (xp.asarray(inside, device=both.device) if is_torch(both) else inside)
    anywhere = to_numpy(both.any(1).any(1))
    return Seen(to_numpy(both.sum(-1)) + extra, anywhere.argmax(-1))


def _ranges_of(inputs: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    queries, keys = inputs["q"].shape[-2], inputs["k"].shape[-2]
    return ranges(queries, keys, bool(inputs.get("causal")), inputs.get("window"), inputs.get("positions"))


def first_key_share(state: AttentionState, inputs: Mapping[str, Any], first: np.ndarray) -> np.ndarray:
    """The weight of the first key of every sequence, (batch, heads, queries): exp(x - log Z), one product a query."""
    q, k, bias, mask = inputs["q"], inputs["k"], inputs.get("bias"), inputs.get("mask")
    xp = namespace(q)
    width = q.shape[1] // k.shape[1]
    rows = [k[i, :, int(key)] for i, key in enumerate(first)]
    key = xp.stack(rows)[:, :, None, :, None]  # (batch, key heads, 1, width, 1)
    half = str(q.dtype).rpartition(".")[2] in ("float16", "bfloat16")
    grouped = q.reshape(q.shape[0], k.shape[1], width, *q.shape[2:])
    if half:
        grouped, key = grouped.float(), key.float()
    x = to_numpy((grouped @ key)[..., 0].reshape(q.shape[:3])).astype(np.float64) / inputs["temperature"]
    softcap = inputs.get("softcap")
    if softcap is not None:
        softcap = to_numpy(softcap) if is_torch(softcap) else softcap
        x = softcap * np.tanh(x / softcap)
    start, stop = _ranges_of(inputs)
    hidden = np.broadcast_to(((first[:, None] < start) | (first[:, None] >= stop))[:, None], x.shape)
    for name, pairs in (("bias", bias), ("mask", mask)):
        if pairs is not None:
            pairs = xp.broadcast_to(pairs, (*x.shape[:2], x.shape[2], k.shape[-2]))
            column = np.stack([to_numpy(pairs[i, :, :, int(key)]) for i, key in enumerate(first)])
            x = x + column if name == "bias" else x
            hidden = hidden if name == "bias" else hidden | ~column
    x[hidden] = -np.inf
    return share(x, to_numpy(state.log_partition))


@dataclass
class HeadSums:
    """Sums over the queries of one layer, by head and position; `add` takes one call of the layer after the other.

    Parameters
    ----------
    name : str
    limits : mapping
        `collapsed` and `uniform`, the thresholds of support and normalised entropy that are counted, and
        `least_keys`, how many states a query must weigh to be counted.
    """

    name: str
    limits: Mapping[str, float]
    temperatures: list[float] = field(default_factory=list)
    by_position: dict[str, np.ndarray] = field(default_factory=dict)
    counts: dict[str, np.ndarray] = field(default_factory=dict)
    by_length: dict[str, np.ndarray] = field(default_factory=dict)  # count, log2 of the length, normalised entropy
    counted: dict[str, np.ndarray] = field(default_factory=dict)  # a head: queries, collapsed, uniform, first_key
    unknown: set[str] = field(default_factory=set)

    @property
    def heads(self) -> int:
        return int(self.counted["queries"].shape[0])

    @property
    def positions(self) -> int:
        return int(self.counts["entropy"].shape[1])

    def add(self, state: AttentionState, inputs: Mapping[str, Any], places: np.ndarray | None = None) -> None:
        """One call: its state, what it was made of, and the positions of its queries, -1 for padding: (batch, queries).

        By default positions count from the first query of each sequence that sees a key.
        """
        seen = seen_by(inputs)
        entropy = to_numpy(state.entropy).astype(np.float64)
        batch, heads, _ = entropy.shape
        real: np.ndarray = np.isfinite(entropy)
        if places is not None:
            real = real & (places[:, None] >= 0)
        states = np.broadcast_to(seen.states, entropy.shape)
        with np.errstate(divide="ignore", invalid="ignore"):
            normalised = np.where(states > 1, entropy / np.log(states), np.nan)
        found = {
            "entropy": entropy,
            "normalised_entropy": normalised,
            "support": to_numpy(state.support).astype(np.float64),
            "first_key": first_key_share(state, inputs, seen.first),
        }
        for name in ("top_probability", "heat_capacity"):
            value = getattr(state, name)
            if value is None:
                self.unknown.add(name)
            else:
                found[name] = to_numpy(value).astype(np.float64)
        self.temperatures.append(float(inputs["temperature"]))
        place = positions_of(np.asarray(real.any(1))) if places is None else places
        self._grow(heads, int(place.max()) + 1)
        for name, value in found.items():
            known = real & np.isfinite(value)
            value = np.where(known, value, 0.0)
            sums, counts = self.by_position[name], self.counts[name]
            if known.all() and (place == place[0]).all():  # as of text without padding
                sums[:, place[0]] += value.sum(0)
                counts[:, place[0]] += batch
                continue
            for i in range(batch):
                some = place[i] >= 0
                sums[:, place[i][some]] += value[i][:, some]
                counts[:, place[i][some]] += known[i][:, some]
        self._count(found, states, real & (states >= self.limits["least_keys"]))

    def _grow(self, heads: int, positions: int) -> None:
        if not self.counted:
            names = ("queries", "collapsed", "uniform", "first_key")
            self.counted = {name: np.zeros(heads) for name in names}
            self.by_length = {name: np.zeros((heads, 64 * PER_OCTAVE)) for name in ("count", "length", "value")}
        for name in QUANTITIES:
            for sums in (self.by_position, self.counts):
                old = sums.get(name, np.zeros((heads, 0)))
                if positions > old.shape[1]:
                    sums[name] = np.zeros((heads, positions))
                    sums[name][:, : old.shape[1]] = old

    def _count(self, found: Mapping[str, np.ndarray], states: np.ndarray, counts: np.ndarray) -> None:
        total = self.counted
        total["queries"] += counts.sum((0, 2))
        with np.errstate(invalid="ignore"):
            total["collapsed"] += (counts & (found["support"] <= self.limits["collapsed"])).sum((0, 2))
            total["uniform"] += (counts & (found["normalised_entropy"] >= self.limits["uniform"])).sum((0, 2))
        total["first_key"] += np.where(counts, found["first_key"], 0.0).sum((0, 2))
        length = np.log2(np.maximum(states, 1))
        bins = (length * PER_OCTAVE).astype(np.int64)
        head = np.broadcast_to(np.arange(states.shape[1])[:, None], states.shape)
        put = (head[counts], bins[counts])
        size = self.by_length["count"].shape
        flat = np.ravel_multi_index(put, size)
        for name, value in (("count", None), ("length", length), ("value", found["normalised_entropy"])):
            weights = None if value is None else value[counts]
            self.by_length[name] += np.bincount(flat, weights, minlength=size[0] * size[1]).reshape(size)

    def mean(self, name: str) -> np.ndarray:
        """Over all queries, a number a head; NaN where it is not known."""
        return self._ratio(name, self.by_position[name].sum(1), self.counts[name].sum(1))

    def curve(self, name: str, edges: np.ndarray) -> np.ndarray:
        """Means over the positions from each edge to the next, (heads, bins)."""
        starts = np.minimum(edges[:-1], self.by_position[name].shape[1])
        sums, counts = (
            np.diff(np.pad(x.cumsum(1), ((0, 0), (1, 0)))[:, np.append(starts, x.shape[1])], axis=1)
            for x in (self.by_position[name], self.counts[name])
        )
        return self._ratio(name, sums, counts)

    def _ratio(self, name: str, sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
        if name in self.unknown:
            return np.full(sums.shape, np.nan)
        with np.errstate(invalid="ignore", divide="ignore"):
            return sums / counts


def positions_of(real: np.ndarray) -> np.ndarray:
    """Positions among the queries of each sequence that are real, -1 for the others: (batch, queries)."""
    if not real.any():
        raise ValueError("inputs: must have a query that is no padding; got none in a batch; leave it out")
    return np.where(real, real.cumsum(1) - 1, -1)


def at_temperatures(
    inputs: Mapping[str, Any], relative: Array, places: np.ndarray | None = None, queries: int = 64, least_keys: int = 8
) -> dict[str, np.ndarray]:
    """What a few queries of every head would be at other temperatures, relative to that of the call.

    A softcap comes before them, as in `tempered`; sinks and biases are not tempered.

    Returns
    -------
    dict
        Means (heads, temperatures) of `entropy`, `support` and `top_probability` over about so many queries, evenly
        spread over those that weigh `least_keys` states or more.
    """
    relative = np.asarray(relative, dtype=np.float64)
    q = inputs["q"]
    seen = seen_by(inputs)
    good = np.broadcast_to(seen.states, (q.shape[0], seen.states.shape[1], q.shape[2])) >= least_keys
    good = good & (True if places is None else places[:, None] >= 0)
    rows = np.flatnonzero(good.any((0, 1)))
    if not len(rows):
        return {
            name: np.full((q.shape[1], len(relative)), np.nan) for name in ("entropy", "support", "top_probability")
        }
    some = np.unique(rows[np.linspace(0, len(rows) - 1, max(1, queries // q.shape[0])).astype(int)])
    again = np.tile(some, len(relative))
    given = of_queries(inputs, again)
    each = np.repeat(relative, len(some))
    given["temperature"] = inputs["temperature"] * each
    if given.get("softcap") is not None:  # capped scores are what is divided: c tanh(s / c) / T is capped at c / T
        softcap = given["softcap"]
        given["softcap"] = (to_numpy(softcap) if is_torch(softcap) else softcap) / each
    state = attention_state(**given, method="online", empty="nan")
    shape = (q.shape[0], q.shape[1], len(relative), len(some))
    chosen = np.broadcast_to(good[:, :, None, some], shape)
    found = {}
    for name in ("entropy", "support", "top_probability"):
        value = to_numpy(getattr(state, name)).astype(np.float64).reshape(shape)
        with np.errstate(invalid="ignore", divide="ignore"):
            found[name] = np.where(chosen, value, 0.0).sum((0, 3)) / chosen.sum((0, 3))
    return found


def of_queries(inputs: Mapping[str, Any], rows: np.ndarray) -> dict[str, Any]:
    """What `attention_state` is given, of these queries alone."""
    queries, keys = inputs["q"].shape[-2], inputs["k"].shape[-2]
    found = {**inputs, "q": inputs["q"][..., rows.tolist(), :]}
    for name in ("mask", "bias"):
        pairs = inputs.get(name)
        if pairs is not None and pairs.shape[-2] > 1:
            found[name] = pairs[..., rows.tolist(), :]
    softcap: Any = inputs.get("softcap")
    if np.ndim(softcap) and softcap.shape[-1] > 1:
        found["softcap"] = softcap[..., rows.tolist()]
    if inputs.get("causal") or inputs.get("window") is not None:
        places = inputs.get("positions")
        found["positions"] = (np.arange(queries) + keys - queries if places is None else np.asarray(places))[rows]
    return found
