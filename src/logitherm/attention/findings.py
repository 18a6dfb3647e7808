"""What is to be said of the heads of a model: numbers of each, those that stand out, and how length changes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from logitherm._json import plain
from logitherm.attention.heads import QUANTITIES, HeadSums

HALF = 0.5  # normalised entropy at which a head is said to turn
FEWEST_BINS, OCTAVES = 4, 2.0  # of lengths, for a trend
DIGITS = 4
RELATIVE = tuple(float(t) for t in np.geomspace(1 / 8, 8, 15))  # temperatures, over a head's own


@dataclass(frozen=True)
class AttentionReport:
    """Every head of a model over the queries of some inputs; see `attention_report` for what it finds.

    Attributes
    ----------
    layers : tuple of HeadSums
        By layer, in the order in which they ran.
    limits : mapping
        The thresholds of the findings.
    sequences : int
    lengths : (int, int)
        The shortest and the longest sequence.
    relative : tuple of float
        Temperatures, relative to each layer's own, at which `other` says what a few queries would be.
    other : tuple of mappings
        By layer `entropy`, `support`, `top_probability`, each (heads, temperatures); empty if none were asked for.
    queries : int or None
        How many of a longer sequence were looked at; None is all.
    """

    layers: tuple[HeadSums, ...]
    limits: Mapping[str, float]
    sequences: int
    lengths: tuple[int, int]
    relative: tuple[float, ...] = ()
    other: tuple[Mapping[str, np.ndarray], ...] = ()
    queries: int | None = None

    def __repr__(self) -> str:
        found = ", ".join(f"{len(getattr(self, name))} {name}" for name in ("collapsed", "uniform", "sinks"))
        return f"AttentionReport({len(self.layers)} layers, {self.heads} heads, {self.sequences} sequences: {found})"

    @property
    def heads(self) -> int:
        return sum(layer.heads for layer in self.layers)

    def values(self, name: str) -> list[np.ndarray]:
        """Of each layer the means of a quantity, a number a head: entropy, normalised_entropy, support,
        top_probability, first_key or heat_capacity."""
        if name not in QUANTITIES:
            raise ValueError(f"name: must be one of {', '.join(QUANTITIES)}; got {name!r}; choose one")
        return [layer.mean(name) for layer in self.layers]

    @property
    def temperatures(self) -> list[float]:
        """Of each layer the T that its scores q k are divided by."""
        return [float(np.mean(layer.temperatures)) for layer in self.layers]

    @property
    def collapsed(self) -> list[tuple[int, int]]:
        """Heads, as (layer, head), that look at one key nearly everywhere."""
        return self._where(lambda layer: _share(layer, "collapsed") >= self.limits["nearly"])

    @property
    def uniform(self) -> list[tuple[int, int]]:
        """Heads that look at all keys alike nearly everywhere."""
        return self._where(lambda layer: _share(layer, "uniform") >= self.limits["nearly"])

    @property
    def sinks(self) -> list[tuple[int, int]]:
        """Heads of whose weight most is on the first key."""
        return self._where(lambda layer: _share(layer, "first_key") >= self.limits["sink"])

    @property
    def trends(self) -> list[list[Trend | None]]:
        """Of each head how length changes it; None where lengths are too few to tell."""
        return [trends(layer, self.limits["drift"]) for layer in self.layers]

    def _where(self, test: Any) -> list[tuple[int, int]]:
        return [(i, int(head)) for i, layer in enumerate(self.layers) for head in np.flatnonzero(test(layer))]

    def to_dict(self) -> dict[str, Any]:
        """All of it in JSON's own types; what is not known is None."""
        edges = position_edges(max(layer.positions for layer in self.layers))
        trend = self.trends
        return plain(  # type: ignore[no-any-return]
            {
                "layers": [
                    {"name": layer.name, "heads": layer.heads, "temperature": t}
                    | {name: _mean(layer.mean(name)) for name in QUANTITIES}
                    for layer, t in zip(self.layers, self.temperatures, strict=True)
                ],
                "sequences": self.sequences,
                "lengths": list(self.lengths),
                "queries": self.queries,
                "limits": dict(self.limits),
                "heads": {name: [_short(value) for value in self.values(name)] for name in QUANTITIES},
                "findings": {
                    "collapsed": self.collapsed,
                    "uniform": self.uniform,
                    "sinks": self.sinks,
                    "melting": _of_kind(trend, "melts"),
                    "freezing": _of_kind(trend, "freezes"),
                },
                "trends": [[None if each is None else each.to_dict() for each in row] for row in trend],
                "positions": {
                    "first": (edges[:-1] + 1).tolist(),
                    "last": edges[1:].tolist(),
                    **{name: [_short(layer.curve(name, edges)) for layer in self.layers] for name in QUANTITIES},
                },
                "temperatures": {
                    "relative": list(self.relative),
                    **{
                        name: [_short(layer[name]) for layer in self.other]
                        for name in ("entropy", "support", "top_probability")
                        if self.other
                    },
                },
            }
        )


@dataclass(frozen=True)
class Trend:
    """How the normalised entropy H / log n of a head goes with the number n of keys that a query sees.

    Attributes
    ----------
    slope : float
        Its change where n doubles, by least squares over bins of log n.
    kind : str
        "melts" (ever more uniform), "freezes", or "steady".
    shortest, longest : float
        The n that it is known for.
    turns_at : float or None
        The n at which the line passes 1/2; None where it does so outside of these.
    """

    slope: float
    kind: str
    shortest: float
    longest: float
    turns_at: float | None

    def to_dict(self) -> dict[str, Any]:
        return plain(dict(self.__dict__))  # type: ignore[no-any-return]


def trends(layer: HeadSums, drift: float) -> list[Trend | None]:
    """Of each head of a layer; `drift` is the slope beyond which it melts or freezes."""
    found: list[Trend | None] = []
    for count, length, value in zip(*(layer.by_length[name] for name in ("count", "length", "value"))):
        some = count > 0
        x, y = length[some] / count[some], value[some] / count[some]
        if len(x) < FEWEST_BINS or x[-1] - x[0] < OCTAVES:
            found.append(None)
            continue
        apart = x - x.mean()
        slope = float(apart @ y / (apart @ apart))
        kind = "melts" if slope >= drift else "freezes" if slope <= -drift else "steady"
        at = x.mean() + (HALF - y.mean()) / slope if kind != "steady" else np.inf
        turns = float(2**at) if x[0] <= at <= x[-1] else None
        found.append(Trend(slope, kind, float(2 ** x[0]), float(2 ** x[-1]), turns))
    return found


def position_edges(longest: int, per_octave: int = 6) -> np.ndarray:
    """Bins of positions, from 0 on, that are evenly spaced in their logarithm."""
    steps = np.geomspace(1, longest, max(2, int(np.ceil(np.log2(max(longest, 2)) * per_octave))))
    return np.unique(np.concatenate([[0], np.round(steps), [longest]])).astype(np.int64)


def _mean(x: np.ndarray) -> float:
    return float(x.mean())


def _share(layer: HeadSums, name: str) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return layer.counted[name] / layer.counted["queries"]


def _of_kind(found: Sequence[Sequence[Trend | None]], kind: str) -> list[tuple[int, int]]:
    return [
        (i, j) for i, row in enumerate(found) for j, each in enumerate(row) if each is not None and each.kind == kind
    ]


def _short(x: np.ndarray) -> Any:
    """Few digits: of heads and positions there are many."""
    if x.ndim > 1:
        return [_short(row) for row in x]
    return [float(f"{value:.{DIGITS}g}") for value in x.tolist()]
