"""How a teacher lies on disk: one record of fixed size for every token.

A record is packed, little-endian, and has these fields in this order:

    tokens    (n, b) uint8      n ids of b bytes, the lowest first; b = 2 for up to 65536 states, 3 up to 2^24, else 4
    logits    (k,) float        of the k largest, minus the row's top; in float16 finite ones stay at or above -65504
    log_rest  (t,) float32      log sum exp(z / T) over all other states, of the same zero, for every temperature
    weights   (draws,) float32  p / r of every draw, where draws are not from p itself
    context   () int32          the token after which the teacher was asked, where that is kept

The k largest logits have `logits` and `log_rest`, draws have `weights` at most. As the rest is kept and not the
log-partition function, what is read is a law that sums to 1, whatever was rounded: a student with these logits has loss
and slope 0.

Bytes a token: k (b + 2 or 4) + 4 temperatures, or draws (b, or b + 4 with weights); 4 more with the context. For 128256
states, three temperatures and a context: 336 for k = 64 in float16, 96 for k = 16, 52 for 16 draws; whole logits in
float16 have 256512.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from logitherm._array import to_numpy
from logitherm.distillation.sparse import SampledTeacher, SparseTeacher, as_temperatures

DTYPES = ("float16", "float32")
LOWEST = float(np.finfo(np.float16).min)


@dataclass(frozen=True)
class Layout:
    """What is stored of every token.

    Parameters
    ----------
    states : int
    temperatures : tuple of float
        Of `draws` one.
    top_k, draws : int, optional
        How many logits, or how many draws; one of the two.
    dtype : "float16" or "float32"
        Of the logits.
    proposal_power : float
        Of draws, see `SampledTeacher`.
    context : bool
        Whether the token before is kept.

    Examples
    --------
    >>> Layout(128256, (1.0, 2.0, 4.0), top_k=64).record.itemsize
    332
    """

    states: int
    temperatures: tuple[float, ...]
    top_k: int | None = None
    draws: int | None = None
    dtype: str = "float16"
    proposal_power: float = 1.0
    context: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "temperatures", as_temperatures(self.temperatures))
        if (self.top_k is None) == (self.draws is None):
            raise ValueError(f"top_k: must be given, or draws, not both; got {self.top_k} and {self.draws}; choose one")
        if self.top_k is not None and not 1 <= self.top_k <= self.states:
            raise ValueError(f"top_k: must lie between 1 and the {self.states} states; got {self.top_k}; 64 is usual")
        if self.draws is not None and self.draws < 1:
            raise ValueError(f"draws: must be at least 1; got {self.draws}; 16 is usual")
        if self.draws is not None and len(self.temperatures) != 1:
            raise ValueError(
                f"temperatures: must be one for draws; got {self.temperatures}; draw again for another, or take top_k"
            )
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype: must be one of {', '.join(DTYPES)}; got {self.dtype!r}; choose one")

    @property
    def size(self) -> int:
        """Tokens of a record."""
        return self.draws if self.top_k is None else self.top_k  # type: ignore[return-value]

    @property
    def record(self) -> np.dtype[Any]:
        width = 2 if self.states <= 1 << 16 else 3 if self.states <= 1 << 24 else 4
        fields: list[Any] = [("tokens", "u1", (self.size, width))]
        if self.top_k is not None:
            fields += [("logits", "<f2" if self.dtype == "float16" else "<f4", (self.size,))]
            fields += [("log_rest", "<f4", (len(self.temperatures),))]
        elif self.proposal_power != 1:
            fields += [("weights", "<f4", (self.size,))]
        return np.dtype(fields + [("context", "<i4")] * self.context)

    def bytes_per_token(self, size: int) -> int:
        """With another number of logits or draws."""
        changed = {"draws": size} if self.top_k is None else {"top_k": size}
        return replace(self, **changed).record.itemsize  # type: ignore[arg-type]

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "temperatures": list(self.temperatures)}

    def pack(self, teacher: SparseTeacher | SampledTeacher, context: Any = None) -> np.ndarray[Any, Any]:
        """The records of a teacher's rows."""
        self._require(teacher)
        if (context is None) == self.context:
            raise ValueError(f"context: must {'' if self.context else 'not '}be given, as in the other records")
        records = np.zeros(len(teacher), dtype=self.record)
        records["tokens"] = _split(to_numpy(teacher.tokens), records["tokens"].shape[-1])
        if isinstance(teacher, SparseTeacher):
            logits, rest = (to_numpy(x).astype(np.float64) for x in (teacher.logits, teacher.log_rest))
            with np.errstate(invalid="ignore"):  # -inf is forbidden
                top = np.where((high := logits.max(axis=-1, keepdims=True)) > -np.inf, high, 0.0)
            near = logits - top
            if self.dtype == "float16":  # what is only unlikely must not become forbidden
                near = np.where(near > -np.inf, np.maximum(near, LOWEST), near)
            records["logits"], records["log_rest"] = near, rest - top / np.array(self.temperatures)
        elif teacher.weights is not None:
            records["weights"] = to_numpy(teacher.weights)
        if self.context:
            records["context"] = to_numpy(context)
        return records

    def unpack(self, records: np.ndarray[Any, Any]) -> SparseTeacher | SampledTeacher:
        import torch

        tokens = torch.from_numpy(_joined(records["tokens"]))
        if self.top_k is None:
            weights = torch.from_numpy(records["weights"].copy()) if self.proposal_power != 1 else None
            return SampledTeacher(tokens, self.temperatures[0], self.states, weights, self.proposal_power)
        logits, rest = (torch.from_numpy(records[name].astype(np.float32)) for name in ("logits", "log_rest"))
        return SparseTeacher(tokens, logits, rest, self.temperatures, self.states)

    def _require(self, teacher: SparseTeacher | SampledTeacher) -> None:
        kind = SampledTeacher if self.top_k is None else SparseTeacher
        if not isinstance(teacher, kind):
            raise TypeError(f"teacher: must be a {kind.__name__} for these records; got {type(teacher).__name__}")
        own = [teacher.states, teacher.tokens.shape[1], teacher.temperatures, getattr(teacher, "proposal_power", 1.0)]
        kept = [self.states, self.size, self.temperatures, self.proposal_power]
        names = ("states", "tokens a row", "temperatures", "proposal_power")
        for name, mine, theirs in zip(names, kept, own):
            if mine != theirs:
                raise ValueError(f"teacher: must have {name} = {mine} as the other records; got {theirs}; make it so")


def _split(tokens: np.ndarray[Any, Any], width: int) -> np.ndarray[Any, Any]:
    """Ids as bytes, the lowest first."""
    return np.ascontiguousarray(tokens, dtype="<u4").view("u1").reshape(*tokens.shape, 4)[..., :width]


def _joined(parts: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    whole = np.zeros((*parts.shape[:-1], 4), dtype="u1")
    whole[..., : parts.shape[-1]] = parts
    return whole.view("<u4")[..., 0].astype(np.int64)
