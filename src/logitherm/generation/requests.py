"""What belongs to one request of a batch: its noise, its history, its entries of arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import numpy as np

from logitherm._array import Array, as_logits, is_array, is_torch, namespace, to_numpy
from logitherm.generation.noise import as_words, uniforms
from logitherm.generation.steps import Context, Step
from logitherm.generation.steps.context import ShapeError
from logitherm.kernels.sampling import may_run, noise

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
NAMES = ("seed", "request", "position")


def as_rows(logits: Array) -> Array:
    """Logits of shape (requests, states) in the compute dtype."""
    if type(logits) is np.ndarray and logits.ndim == 2 and logits.dtype in FLOATS and logits.shape[1]:
        return logits  # the usual case, fast
    z = as_logits(logits)
    if z.ndim != 2:
        raise ShapeError(f"logits: must have shape (requests, states); got {tuple(z.shape)}; reshape them")
    return z


def on_device(z: Array) -> bool:
    """Whether the compiled kernels cannot reach the logits."""
    return not isinstance(z, np.ndarray) and not (is_torch(z) and z.device.type == "cpu")


def context_of(
    z: Array,
    steps: Sequence[Step],
    *,
    seed: Any = 0,
    position: Any = 0,
    request: Any = None,
    history: Any = None,
    prompt_lengths: Any = 0,
    step: Any = None,
    memory: dict[str, np.ndarray] | None = None,
) -> Context:
    """What steps may know of the requests beside their logits."""
    rows = z.shape[0]
    if request is None:
        request = np.arange(rows, dtype=np.uint64) if np.ndim(seed) == 0 else 0
    seeds, requests, positions = (_words(v, name, rows) for name, v in zip(NAMES, (seed, request, position)))
    make = noise if may_run(z) else uniforms
    lengths = np.full(rows, prompt_lengths) if type(prompt_lengths) is int else np.asarray(prompt_lengths)
    if lengths.shape not in ((), (rows,)):
        raise ShapeError(f"prompt_lengths: must be one number or one a request; got shape {lengths.shape}; mend it")
    found = _histories(history, z.shape, steps)
    lengths = lengths if lengths.ndim else np.full(rows, lengths)
    if history is not None and any(length > len(tokens) for length, tokens in zip(lengths, found)):
        row = next(row for row in range(rows) if lengths[row] > len(found[row]))
        raise ValueError(
            f"prompt_lengths: must be at most the length of the history; request {row} has {lengths[row]} for "
            f"{len(found[row])} tokens; mend it"
        )
    return Context(
        history=found,
        prompt_lengths=lengths,
        uniform=lambda stream: make(seeds, requests, positions, stream),
        step=step,
        memory={name: np.array(value) for name, value in (memory or {}).items()},
    )


def _words(values: Any, name: str, rows: int) -> np.ndarray:
    if type(values) is int and 0 <= values < 2**64:  # the usual case, fast
        return np.full(rows, values, dtype=np.uint64)
    if type(values) is np.ndarray and values.dtype == np.uint64 and values.shape == (rows,):
        return np.ascontiguousarray(values)
    found = as_words(values, name)
    if found.shape not in ((), (rows,)):
        raise ShapeError(f"{name}: must be one number or one a request, shape ({rows},); got {found.shape}; mend it")
    return np.full(rows, found) if found.ndim == 0 else np.ascontiguousarray(found)


def _histories(history: Any, shape: tuple[int, ...], steps: Sequence[Step]) -> list[np.ndarray]:
    rows, states = shape
    if history is None:
        if any(step.needs_history for step in steps):
            names = ", ".join(type(step).__name__ for step in steps if step.needs_history)
            raise ShapeError(f"history: must be given for {names}; got none; pass the tokens of every request")
        return [np.zeros(0, np.int64)] * rows
    if len(history) != rows:
        raise ShapeError(f"history: must have one entry a request, {rows}; got {len(history)}; [] is one without")
    found = [to_numpy(tokens) for tokens in history]
    for row, tokens in enumerate(found):
        if tokens.size and (tokens.dtype.kind not in "iu" or tokens.max() >= states):
            what = f"token {tokens.max()}" if tokens.dtype.kind in "iu" else f"{tokens.dtype} values"
            raise ValueError(
                f"history: must be tokens below the {states} states, negative for padding; request {row} has {what}; "
                "pass those of this model"
            )
    tokens_of = [tokens.astype(np.int64).reshape(-1) for tokens in found]
    return [tokens[tokens >= 0] for tokens in tokens_of]


def require_rows(z: Array) -> None:
    """Raise for the first request whose logits are no law."""
    top = to_numpy(namespace(z).max(z, axis=-1))
    bad = ~np.isfinite(top)  # a maximum over NaN is NaN
    if bad.any():
        row = int(np.argmax(bad))
        what = "NaN" if np.isnan(top[row]) else "+inf" if top[row] > 0 else "no allowed token (all -inf)"
        raise ValueError(
            f"logits: must be finite or -inf with at least one finite; request {row} has {what}; mend the model or the "
            'mask, or pass on_error="row"'
        )


# -- one request out of a batch --------------------------------------------------------------------------


def entry(value: Any, row: int, rows: int) -> Any:
    """What one request has of a value that may have one entry a request."""
    many = (isinstance(value, (list, tuple)) or (is_array(value) and value.ndim > 0)) and len(value) == rows
    return value[row : row + 1] if many else value


def step_of(step: Step, row: int, rows: int) -> Step:
    """The step as one request has it: parameters that are arrays have its entry alone."""
    if not is_dataclass(step):
        return step
    changed = {}
    for f in fields(step):
        value = getattr(step, f.name)
        if hasattr(value, "resolve"):
            changed[f.name] = _OfRequest(value, row, rows)
        elif is_array(value) and value.ndim == 1 and len(value) == rows:
            changed[f.name] = value[row : row + 1]
        elif isinstance(value, (list, tuple)) and len(value) == rows and f.name != "breakers":
            changed[f.name] = np.asarray(value)[row : row + 1]
    return replace(step, **changed) if changed else step  # type: ignore[type-var]


@dataclass(frozen=True)
class _OfRequest:
    """A `Temperature` that may know its batch, asked for one request of it."""

    whole: Any
    row: int
    rows: int

    def resolve(self, logits: Array, step: Any = None) -> Any:
        try:
            t = self.whole.resolve(logits, step)
        except ValueError:  # it has an entry a request: let it see as many
            wide = namespace(logits).broadcast_to(logits, (self.rows, logits.shape[-1]))
            t = self.whole.resolve(wide, step)
        return t[self.row : self.row + 1] if np.ndim(t) and len(t) == self.rows else t
