"""What a step may know beside the logits, and what every step is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np

from logitherm._array import Array, describe, is_array, to_numpy


@dataclass
class Context:
    """The batch around the logits: one entry a row everywhere.

    Attributes
    ----------
    history : sequence of int64 arrays
        Tokens of every request so far, its prompt first.
    prompt_lengths : int64 array, shape (rows,)
        How many of them are its prompt.
    uniform : callable
        Numbers in (0, 1), one a row, of a stream of the noise.
    step : any
        Handed to temperatures that are schedules.
    memory : dict
        What steps keep from token to token, by name; arrays with a row for every request.
    """

    history: list[np.ndarray]
    prompt_lengths: np.ndarray
    uniform: Callable[[int], np.ndarray]
    step: Any = None
    memory: dict[str, np.ndarray] = field(default_factory=dict)


@runtime_checkable
class Step(Protocol):
    """One step of a pipeline: logits (rows, states) to logits of the same shape, where -inf removes a state.

    `kind` is "logits" where values change and "support" where states are removed and the others stay as they are;
    `needs_history` says that the step looks at tokens by their number.
    """

    kind: ClassVar[str]
    needs_history: ClassVar[bool]

    def __call__(self, logits: Array, context: Context) -> Array: ...


class ShapeError(ValueError):
    """An argument that does not fit the batch: the fault of no single request."""


def per_row(value: Any, rows: int, name: str) -> np.ndarray:
    """One number a row, float64, from a number or an array with one a row."""
    if type(value) is float or type(value) is int:  # the usual case, fast
        return np.full(rows, value, dtype=np.float64)
    found = to_numpy(value) if is_array(value) else np.asarray(value)
    if found.dtype.kind not in "iuf" or found.shape not in ((), (rows,)):
        raise ShapeError(f"{name}: must be a number or one a request, shape ({rows},); got {describe(value)}; mend it")
    return np.array(np.broadcast_to(found, (rows,)), dtype=np.float64)


def require(valid: np.ndarray, values: np.ndarray, name: str, rule: str, mend: str) -> None:
    """Raise for the first request whose value breaks the rule."""
    if not valid.all():
        row = int(np.argmin(valid))
        raise ValueError(f"{name}: must be {rule}; request {row} has {values[row]:g}; {mend}")
