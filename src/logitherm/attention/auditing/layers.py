"""What is known of the temperature of every attention layer: records, and what follows from them."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from logitherm._json import plain


@dataclass(frozen=True)
class Factor:
    """One number that multiplies the scores of a layer.

    Attributes
    ----------
    name, source : str
        What it is, and its formula with the fields of the configuration.
    value : float or tuple of float
        For all heads, or one for each.
    part : "all" or "rotary"
        Whether it multiplies whole products q k, or only those of the dimensions that the rotation turns.
    learned : bool
        Whether it was learned. Where the weights were not read, `value` is that of a new model.
    """

    name: str
    value: float | tuple[float, ...]
    source: str
    part: str = "all"
    learned: bool = False


@dataclass(frozen=True)
class PositionTuning:
    """The query at `position` (from 0) is multiplied by 1 + slope log(1 + floor((position + offset) / interval))."""

    slope: float
    interval: float
    offset: int

    def at(self, position: Any) -> Any:
        return 1 + self.slope * np.log1p(np.floor((np.asarray(position) + self.offset) / self.interval))


@dataclass(frozen=True)
class LayerAudit:
    """One layer of attention.

    Attributes
    ----------
    index : int
    kind : str
        As configurations name it: "full_attention", "sliding_attention", "chunked_attention"; others have no softmax,
        and no temperature.
    base, base_source : float, str
        The scale that the code multiplies all scores by, and its formula.
    factors : tuple of Factor
        What multiplies them besides.
    tuning : PositionTuning or None
    similarity : "dot product" or "cosine"
    width : int or None
        Of the vectors whose products are taken.
    rotary : float
        The share of the width that is rotated; 0 without rotary positions.
    window : int or None
        How many keys a query sees; chunks of this size in "chunked_attention".
    softcap : float or None
        c of c tanh(score / c).
    sink : bool or tuple of float
        Whether one more learned score takes its share of the weight; the scores of the heads where weights were read.
    qk_norm : str or None
        How q and k are normalised before their product.
    gains : tuple of float or None
        Smallest and largest product of the gains of q and k over heads and width, where weights were read.
    """

    index: int
    kind: str
    base: float
    base_source: str
    factors: tuple[Factor, ...] = ()
    tuning: PositionTuning | None = None
    similarity: str = "dot product"
    width: int | None = None
    rotary: float = 0.0
    window: int | None = None
    softcap: float | None = None
    sink: bool | tuple[float, ...] = False
    qk_norm: str | None = None
    gains: tuple[float, float] | None = None

    @property
    def unread(self) -> tuple[str, ...]:
        """The learned factors that a configuration cannot tell."""
        gains = ("QK-norm gains",) if self.qk_norm and "gains" in self.qk_norm and self.gains is None else ()
        return gains + tuple(factor.name for factor in self.factors if factor.learned and "initial" in factor.source)

    @property
    def parts_differ(self) -> bool:
        """Whether rotated and other dimensions have temperatures of their own."""
        return 0 < self.rotary < 1 and any(factor.part == "rotary" and factor.value != 1 for factor in self.factors)

    def inverse_temperature(self, position: Any = 0, *, score: float = 0.0, part: str = "rotary") -> Any:
        """See `AttentionAudit.inverse_temperature`."""
        place = np.asarray(position)
        if place.dtype.kind not in "iu" or np.any(place < 0):
            raise ValueError(
                f"position: must be a whole number from 0, or an array of such; got {position!r}; count from 0"
            )
        if part not in ("rotary", "plain"):
            raise ValueError(f"part: must be rotary or plain; got {part!r}; choose one")
        heads: Any = self.base
        for factor in self.factors:
            if factor.part == "all" or part == "rotary":
                heads = heads * np.asarray(factor.value)
        tuned = np.ones(place.shape) if self.tuning is None else self.tuning.at(place)
        value = np.multiply.outer(heads, tuned)
        if self.softcap is not None:
            value = value * (1 - math.tanh(score / self.softcap) ** 2)
        return float(value) if np.ndim(value) == 0 else value

    @property
    def score_bound(self) -> float | None:
        """The largest score at position 0 where q and k have fixed lengths and gains of 1 or their mean; else None."""
        length = 1 if self.similarity == "cosine" else self.width if self.qk_norm and "head" in self.qk_norm else None
        if length is None:
            return None
        bound = length * float(np.max(self.inverse_temperature()))
        return bound if self.softcap is None else self.softcap * math.tanh(bound / self.softcap)

    def words(self) -> str:
        """What multiplies to the inverse temperature."""
        if math.isnan(self.base):
            return "no softmax that is known"
        said = [] if self.base_source == "1" and self.factors else [self.base_source]
        for factor in self.factors:
            said.append(
                f"{factor.source}" + (" (rotary part)" if factor.part == "rotary" and self.parts_differ else "")
            )
        if self.tuning is not None:
            t = self.tuning
            said.append(
                f"(1 + {t.slope:g} log1p(floor((position{f' + {t.offset}' * bool(t.offset)}) / {t.interval:g})))"
            )
        return " × ".join(said)

    def traits(self) -> list[str]:
        """What else decides how sharp the layer is."""
        chunk = "chunks of" if self.kind == "chunked_attention" else "window"
        return [
            *([] if self.similarity == "dot product" else [self.similarity]),
            *([] if self.qk_norm is None else [f"QK norm: {self.qk_norm}"]),
            *([] if self.softcap is None else [f"softcap {self.softcap:g}"]),
            *(["sink"] if self.sink else []),
            *([] if self.window is None else [f"{chunk} {self.window}"]),
        ]


@dataclass(frozen=True)
class AttentionAudit:
    """The inverse temperature of every layer, and where implementations are known to differ.

    Attributes
    ----------
    model_type : str
    layers : tuple of LayerAudit
    warnings : tuple of str
        Sentences: what was assumed, what a configuration cannot tell, and what some kernels and engines do otherwise.
    """

    model_type: str
    layers: tuple[LayerAudit, ...]
    warnings: tuple[str, ...]

    def inverse_temperature(self, layer: int, position: Any = 0, *, score: float = 0.0, part: str = "rotary") -> Any:
        """d score / d (q k): base times all factors; for position, slope of the softcap and part of the width.

        Parameters
        ----------
        layer : int
            From 0; negative ones count from the end.
        position : int or array of int
            Of the query, from 0.
        score : float
            With a softcap c the inverse temperature depends on the score s before it, by 1 - tanh(s / c)²: this s.
        part : "rotary" or "plain"
            Which dimensions, where the rotation turns some of them only and scales those.

        Returns
        -------
        float, or array of shape (heads,), (positions,) or (heads, positions)
            NaN for layers without softmax.

        Examples
        --------
        >>> from logitherm.attention import audit
        >>> sizes = {"num_hidden_layers": 4, "hidden_size": 64, "num_attention_heads": 4, "head_dim": 16}
        >>> tuned = audit({"model_type": "llama4_text", "floor_scale": 8192, "attn_scale": 0.1, **sizes})
        >>> tuned.inverse_temperature(3, [0, 8190, 8191, 40000]).round(4).tolist()    # layer 3 has no rotary positions
        [0.25, 0.25, 0.2673, 0.2902]
        """
        return self._layer(layer).inverse_temperature(position, score=score, part=part)

    def temperature(self, layer: int, position: Any = 0, *, score: float = 0.0, part: str = "rotary") -> Any:
        """1 over `inverse_temperature`."""
        value = 1 / np.asarray(self.inverse_temperature(layer, position, score=score, part=part))
        return float(value) if value.ndim == 0 else value

    def _layer(self, layer: int) -> LayerAudit:
        if not -len(self.layers) <= layer < len(self.layers):
            raise ValueError(
                f"layer: must be below {len(self.layers)}, the number of layers; got {layer}; count from 0"
            )
        return self.layers[layer]

    def groups(self) -> list[tuple[str, LayerAudit]]:
        """Layers that are alike but for their number, like ("0-3, 5", layer 0), in order of the first."""
        alike: dict[str, list[LayerAudit]] = {}
        for each in self.layers:
            alike.setdefault(repr(replace(each, index=0)), []).append(each)
        return [(_numbers([each.index for each in group]), group[0]) for group in alike.values()]

    def to_dict(self, position: int = 0) -> dict[str, Any]:
        """As JSON has it; with the inverse temperature at one position."""
        layers = []
        for each in self.layers:
            found = {part: each.inverse_temperature(position, part=part) for part in ("rotary", "plain")}
            value = found if each.parts_differ else found["rotary"]
            layers.append({**asdict(each), "inverse_temperature": value, "score_bound": each.score_bound})
        return plain({"model_type": self.model_type, "position": position, "layers": layers, "warnings": self.warnings})

    def __str__(self) -> str:
        lines = [f"{self.model_type}: {len(self.layers)} layers; inverse temperature of q·k at position 0"]
        for name, each in self.groups():
            value = " to ".join(f"{v:.4g}" for v in ends(each.inverse_temperature()))
            lines.append(f"  {name:<7} {value} = {'; '.join([each.words(), *each.traits()])}")
        return "\n".join([*lines, *(f"- {sentence}" for sentence in self.warnings)])


def ends(value: Any) -> tuple[float, ...]:
    """Smallest and largest over heads, one number where they are equal."""
    low, high = float(np.min(value)), float(np.max(value))
    return (low,) if low == high or math.isnan(low) else (low, high)


def _numbers(indices: list[int]) -> str:
    """0-2, 4 of 0, 1, 2, 4; of many runs the first two and the last."""
    runs: list[list[int]] = []
    for i in indices:
        if runs and runs[-1][1] == i - 1:
            runs[-1][1] = i
        else:
            runs.append([i, i])
    said = [str(first) if first == last else f"{first}-{last}" for first, last in runs]
    return ", ".join(said if len(said) < 4 else [*said[:2], "...", said[-1]])
