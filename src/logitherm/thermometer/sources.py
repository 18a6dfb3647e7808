"""Where a fit takes its statistics from: one array, or batches that can be read again and again. Nothing is
concatenated."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np

from logitherm._array import (
    HALF_TYPES,
    Array,
    as_array,
    as_logits,
    describe,
    dtype_name,
    is_array,
    is_torch,
    namespace,
    to_numpy,
)
from logitherm._labels import as_labels, as_weights, rows_kept
from logitherm.kernels.likelihood import (
    Observed,
    Totals,
    expected_logits,
    extremes,
    no_rows,
    sampled_logits,
    totals,
)

SHARE, FEWEST_ROWS = 8, 256  # a fit starts on an eighth of the rows if that leaves enough of them
SAME = 1e-4  # relative change of the sum of observed logits from pass to pass that may be a model's rounding


class Source(Protocol):
    classes: int
    exact: bool  # whether what was observed is one state a row, whose logit then is subject to no rounding

    def totals(self, inverse_temperatures: np.ndarray) -> Totals: ...

    def extremes(self) -> tuple[float, float]: ...

    def part(self) -> Source | None:
        """A small share of the rows to start from, or None if there is little to save."""


class ArraySource:
    """Every `step`-th row of logits (n, states), and what was observed in those rows."""

    def __init__(self, logits: Array, observed: Observed, step: int = 1) -> None:
        self.logits, self.observed, self.step = logits, observed, step
        self.classes = int(logits.shape[1])
        self.exact = observed.labels is not None

    def totals(self, inverse_temperatures: np.ndarray) -> Totals:
        return totals(self.logits, self.observed, inverse_temperatures, self.step)

    def extremes(self) -> tuple[float, float]:
        return extremes(self.logits[:: self.step], self.observed)

    def mark(self) -> np.ndarray:
        """Sum of the observed logits, and of their magnitudes: by this much a batch is known again."""
        seen = self.observed.logits(to_numpy(self.logits))
        counted = np.isfinite(seen) if self.observed.keep is None else np.isfinite(seen) & self.observed.keep
        return np.array([seen[counted].sum(), np.abs(seen[counted]).sum()])

    def part(self) -> ArraySource | None:
        """Every eighth row (not the first rows, since files are often sorted by class)."""
        if self.logits.shape[0] < SHARE * self.step * FEWEST_ROWS:
            return None
        return ArraySource(self.logits, self.observed.take(np.s_[::SHARE]), self.step * SHARE)


class BatchSource:
    """Batches of (logits, labels) or (logits, labels, weights); with a model, of (inputs, labels[, weights])."""

    exact = True

    def __init__(self, batches: Iterable[Any], build: Callable[..., ArraySource], model: Any) -> None:
        self.batches, self.build, self.model = batches, build, model
        self.rows = 0
        self.mark: np.ndarray | None = None
        self.first = next(self._sources(), None)
        if self.first is None:
            raise ValueError("logits: batches must hold at least one batch; got none")
        self.classes = self.first.classes

    def _sources(self) -> Any:
        for number, batch in enumerate(self.batches):
            if not isinstance(batch, (tuple, list)) or len(batch) not in (2, 3):
                raise ValueError(
                    "logits: batches must be (logits, labels) or (logits, labels, weights); "
                    f"batch {number} is {describe(batch)}; yield tuples"
                )
            logits, labels, *weights = batch
            if self.model is not None:
                logits = _forward(self.model, logits)
            elif np.ndim(logits) > np.ndim(labels) + 1:
                raise ValueError(
                    f"logits: batches must be of logits, one axis more than labels; batch {number} is "
                    f"{describe(logits)} with labels {describe(labels)}; for inputs of a model pass model="
                )
            with _named(number):
                source = self.build(logits, labels, *weights)
            if getattr(self, "classes", source.classes) != source.classes:
                raise ValueError(
                    f"logits: batches must agree in classes; batch {number} has {source.classes} for {self.classes}"
                )
            yield source

    def totals(self, inverse_temperatures: np.ndarray) -> Totals:
        total, mark = no_rows(len(inverse_temperatures)), np.zeros(2)
        for number, source in enumerate(self._sources()):
            with _named(number):
                total = total + source.totals(inverse_temperatures)
            mark += source.mark()
        self._require_same(total.rows + total.impossible, mark)
        return total

    def _require_same(self, rows: int, mark: np.ndarray) -> None:
        """Raise unless a pass has read what the one before has, in whatever order."""
        if self.mark is None:
            self.rows, self.mark = rows, mark
        must = "logits: batches must be the same in every pass, in any order"
        if rows != self.rows:
            raise ValueError(
                f"{must}; got {rows} rows after {self.rows}; "
                "pass a list, a DataLoader or another iterable that starts afresh"
            )
        if abs(mark[0] - self.mark[0]) > SAME * self.mark[1]:
            raise ValueError(
                f"{must}; got other logits for the same {rows} rows; "
                "put the model in evaluation mode and leave random augmentation out"
            )

    def extremes(self) -> tuple[float, float]:
        both = np.array([source.extremes() for source in self._sources()]).sum(axis=0)
        return float(both[0]), float(both[1])

    def part(self) -> ArraySource | None:
        return self.first


@contextmanager
def _named(batch: int) -> Iterator[None]:
    """Say in which batch an error is."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise type(error)(f"{error} (in batch {batch})") from error


def _forward(model: Any, inputs: Any) -> Array:
    """Logits of a model, without gradients where it is PyTorch's."""
    import sys

    torch = sys.modules.get("torch")
    if torch is None:
        return model(inputs)
    with torch.no_grad():
        return model(inputs)


def make_source(
    logits: Any,
    labels: Any = None,
    *,
    soft_labels: Any = None,
    samples: Any = None,
    weights: Any = None,
    mask: Any = None,
    ignore_index: int | None = None,
    model: Any = None,
    axis: int = -1,
) -> Source:
    """The source for what the caller of `fit_temperature` handed in."""
    if not is_array(logits) and hasattr(logits, "__array__"):  # a table of numbers, of pandas say
        logits = np.asarray(logits)
    if not is_array(logits) and not _is_nested_numbers(logits):
        given = [
            name
            for name, value in (("labels", labels), ("soft_labels", soft_labels), ("samples", samples))
            if value is not None
        ]
        if not hasattr(logits, "__iter__"):
            raise TypeError(f"logits: must be an array or an iterable of batches; got {describe(logits)}; pass one")
        if given or weights is not None or mask is not None:
            raise ValueError(f"{[*given, 'weights, mask'][0]}: must not be given with batches, which carry their own")
        if isinstance(logits, Iterator):
            raise ValueError(
                "logits: batches must be readable more than once; got a one-shot "
                f"{type(logits).__name__}; pass a list, a DataLoader or an object whose __iter__ starts afresh"
            )

        if model is not None and not callable(model):
            raise TypeError(f"model: must be callable, inputs to logits; got {describe(model)}; pass the model itself")

        def build(batch: Any, batch_labels: Any, batch_weights: Any = None) -> ArraySource:
            unweighted = batch_weights is not None and not np.any(to_numpy(as_array(batch_weights, "weights")))
            batch_mask = np.zeros(np.shape(batch_labels), dtype=bool) if unweighted else None
            batch_weights = None if unweighted else batch_weights  # one batch alone may have no weight
            return _array_source(batch, batch_labels, None, None, batch_weights, batch_mask, ignore_index, axis)

        return BatchSource(logits, build, model)
    if model is not None:
        raise ValueError("model: must come with batches of inputs; got an array of logits")
    return _array_source(logits, labels, soft_labels, samples, weights, mask, ignore_index, axis)


def _is_nested_numbers(x: Any) -> bool:
    """A plain list of rows of numbers, which is an array, not batches."""
    while isinstance(x, (list, tuple)) and x:
        x = x[0]
        if is_array(x) and len(x.shape):
            return False
    return isinstance(x, (int, float))


def _array_source(
    logits: Any,
    labels: Any,
    soft_labels: Any,
    samples: Any,
    weights: Any,
    mask: Any,
    ignore_index: int | None,
    axis: int,
) -> ArraySource:
    kinds = {"labels": labels, "soft_labels": soft_labels, "samples": samples}
    given = [name for name, value in kinds.items() if value is not None]
    if len(given) != 1:
        raise ValueError(f"labels: exactly one of labels, soft_labels and samples must be given; got {given or 'none'}")
    if ignore_index is not None and labels is None:
        raise ValueError(f"ignore_index: must come with labels; pass a mask with {given[0]}")
    raw = as_array(logits, "logits")
    half = dtype_name(raw) in HALF_TYPES
    as_logits(raw[(slice(0, 1),) * raw.ndim] if half else raw, axis)  # kind and shape; values are looked at in the pass
    z = namespace(raw).moveaxis(raw, axis, -1)
    batch, states = tuple(z.shape[:-1]), int(z.shape[-1])
    if labels is not None and not batch and np.ndim(labels) == 1:
        raise ValueError(
            f"logits: must have an axis of rows and one of states; got {describe(raw)}; "
            "a single score x a row stands for the logits (0, x)"
        )
    z = (z.detach() if is_torch(z) else z).reshape(-1, states)
    z = z if is_torch(z) else to_numpy(z)

    keep = rows_kept(labels, mask, ignore_index, batch)
    observed = Observed(
        weights=as_weights(_where_kept(weights, "weights", keep), batch),
        keep=None if keep is None else keep.reshape(-1),
    )
    if soft_labels is not None:
        soft = _soft_labels(soft_labels, batch, states, observed.keep)
        observed = observed._replace(means=expected_logits(z, soft.__getitem__))
    elif samples is not None:
        drawn = to_numpy(as_array(_where_kept(samples, "samples", keep), "samples"))
        if drawn.ndim != len(batch) + 1 or drawn.shape[:-1] != batch or drawn.shape[-1] == 0:
            raise ValueError(
                f"samples: must have the shape {batch} + (draws,); got {describe(drawn)}; one draw a row is labels"
            )
        flat = as_labels(drawn, drawn.shape, states).reshape(len(z), -1)
        each = np.ones(len(z)) if observed.weights is None else observed.weights
        observed = observed._replace(means=sampled_logits(z, flat), weights=each * flat.shape[1])  # every draw counts
    else:
        observed = observed._replace(labels=as_labels(_where_kept(labels, "labels", keep), batch, states))
    return ArraySource(z, observed)


def _where_kept(values: Any, name: str, keep: np.ndarray | None) -> Any:
    """Values with 0 in the rows to leave out, which may hold anything; as they are where the shapes do not fit."""
    if values is None or keep is None:
        return values
    given = to_numpy(as_array(values, name))
    if given.shape[: keep.ndim] != keep.shape:
        return given
    return np.where(keep.reshape(keep.shape + (1,) * (given.ndim - keep.ndim)), given, np.zeros((), given.dtype))


def _soft_labels(soft_labels: Any, batch: tuple[int, ...], states: int, keep: np.ndarray | None) -> np.ndarray:
    """Distributions over the states, one for every row that is kept."""
    soft = to_numpy(as_array(soft_labels, "soft_labels"))
    if soft.dtype.kind != "f" or soft.shape != (*batch, states):
        raise ValueError(
            f"soft_labels: must be floating of shape {(*batch, states)}; got {describe(soft)}; class numbers are labels"
        )
    soft = soft.reshape(-1, states)
    total = soft.sum(axis=-1, dtype=np.float64)
    tolerance = 2e-3 if soft.dtype == np.float16 else 1e-4
    bad = ~((np.abs(total - 1) <= tolerance) & (soft.min(axis=-1) >= 0)) & (True if keep is None else keep)
    if bad.any():
        row = int(np.argmax(bad))
        raise ValueError(
            f"soft_labels: rows must be probabilities that sum to 1; {int(bad.sum())} rows are not, "
            f"first row {row} (sum {total[row]:.6g}); divide each by its sum"
        )
    return soft
