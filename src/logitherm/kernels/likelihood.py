"""Likelihood statistics of a block of rows at several inverse temperatures: one pass, nothing of the size of the
logits kept."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from logitherm._array import Array, is_torch, like, namespace, raise_bad_row, read_only, require_rows, to_numpy
from logitherm.kernels import reference, values
from logitherm.kernels.threads import BLOCK_VALUES, map_blocks

COPY_VALUES = 1 << 16  # values of a block that must be converted or copied before the kernel can read it


class Observed(NamedTuple):
    """What happened in every row, a label or the mean logit of several observations; optional weights and row mask."""

    labels: np.ndarray | None = None  # (n,), int64
    means: np.ndarray | None = None  # (n,), float64; -inf where any of what was observed has probability 0
    weights: np.ndarray | None = None  # (n,), float64
    keep: np.ndarray | None = None  # (n,), bool

    def take(self, rows: slice | np.ndarray) -> Observed:
        """What happened in some of the rows."""
        return Observed(*(None if field is None else field[rows] for field in self))

    def logits(self, z: np.ndarray) -> np.ndarray:
        """Observed logit of every row of `z`, in float64; -inf if it has probability 0."""
        if self.means is not None:
            return self.means
        return np.take_along_axis(z, self.labels[:, None], axis=-1)[:, 0].astype(np.float64)  # type: ignore[index]


def sampled_logits(z: Array, samples: np.ndarray) -> np.ndarray:
    """Mean logit of the samples (n, draws) of every row."""

    def work(rows: slice) -> np.ndarray:
        return np.take_along_axis(to_numpy(z[rows]), samples[rows], axis=-1).astype(np.float64).mean(axis=-1)

    return np.concatenate([np.empty(0), *map_blocks(work, z.shape[0], z.shape[1], COPY_VALUES)])


def expected_logits(z: Array, probabilities: Callable[[slice], np.ndarray]) -> np.ndarray:
    """Mean logit of every row under the probabilities of a range of rows; -inf if a forbidden state has any."""

    def work(rows: slice) -> np.ndarray:
        p = probabilities(rows).astype(np.float64)
        with np.errstate(invalid="ignore"):  # of bad rows, which are met when the logits are read
            return np.where(p > 0, p * np.where(p > 0, to_numpy(z[rows]), 0.0), 0.0).sum(axis=-1) / p.sum(axis=-1)

    return np.concatenate([np.empty(0), *map_blocks(work, z.shape[0], z.shape[1], COPY_VALUES)])


@dataclass(frozen=True)
class Totals:
    """Sums over rows, at several inverse temperatures; those of disjoint rows add up."""

    sums: np.ndarray  # (4, temperatures): what the properties name
    weight: float
    rows: int
    impossible: int  # rows left out because what was observed has probability 0

    @property
    def nll(self) -> np.ndarray:
        """Weighted negative log-likelihood."""
        return self.sums[0]

    @property
    def score(self) -> np.ndarray:
        """Its derivative in the inverse temperature."""
        return self.sums[1]

    @property
    def curvature(self) -> np.ndarray:
        """Its second derivative, the information."""
        return self.sums[2]

    @property
    def squares(self) -> np.ndarray:
        """Sum of the squared weighted scores of rows."""
        return self.sums[3]

    def __add__(self, other: Totals) -> Totals:
        return Totals(
            self.sums + other.sums,
            self.weight + other.weight,
            self.rows + other.rows,
            self.impossible + other.impossible,
        )

    def at(self, index: int) -> Totals:
        """The totals at one of the temperatures."""
        return replace(self, sums=self.sums[:, index : index + 1])


def no_rows(temperatures: int) -> Totals:
    """The identity of addition."""
    return Totals(np.zeros((4, temperatures)), 0.0, 0, 0)


def totals(z: Array, observed: Observed, inverse_temperatures: np.ndarray, step: int = 1) -> Totals:
    """Statistics of rows 0, step, 2 step, ... of logits (n, states), summed; `observed` has the entries of those
    rows alone.

    Sums over any partition of the rows add up to the sums over all.
    """
    beta = np.asarray(inverse_temperatures, dtype=np.float64)
    n, states = math.ceil(z.shape[0] / step), z.shape[1]
    in_place = _on_cpu(z) and _viewable(z) and observed.keep is None and _within_reach(beta)

    def work(rows: slice) -> Totals:
        part, block = z[rows.start * step : (rows.stop - 1) * step + 1], observed.take(rows)
        numbers = np.arange(rows.start, rows.stop) * step
        if in_place:
            return _block_totals(part, step, block, beta, numbers)
        part = part[::step]
        if block.keep is not None and not block.keep.all():
            kept = np.flatnonzero(block.keep)
            part, numbers = part[kept], numbers[kept]
            block = block.take(kept)
        return _block_totals(part, 1, block, beta, numbers)

    parts = map_blocks(work, n, states, BLOCK_VALUES if in_place else COPY_VALUES)
    return sum(parts, start=no_rows(len(beta)))


def _on_cpu(z: Array) -> bool:
    return not is_torch(z) or z.device.type == "cpu"


def _viewable(z: Array) -> bool:
    if is_torch(z):
        return z.is_contiguous() and str(z.dtype) in ("torch.float32", "torch.float64")
    return bool(z.flags.c_contiguous) and z.dtype in (np.float32, np.float64)


def _block_totals(z: Array, step: int, observed: Observed, beta: np.ndarray, numbers: np.ndarray) -> Totals:
    weights = observed.weights
    rows = math.ceil(z.shape[0] / step)
    if _on_cpu(z) and rows * z.shape[1] >= values.SMALLEST // 4 and _within_reach(beta):
        block = to_numpy(z)
        block = np.ascontiguousarray(block, np.float32 if block.dtype == np.float16 else None)
        nothing, no_labels = np.empty(0), np.empty(0, dtype=np.int64)
        out = np.zeros((len(beta), 4))
        bad, impossible = values.cpu().likelihood(
            read_only(block),
            step,
            read_only(no_labels if observed.labels is None else observed.labels),
            read_only(nothing if observed.means is None else observed.means),
            read_only(nothing if weights is None else weights),
            beta,
            out,
        )
        if bad >= 0:
            raise_bad_row("logits", int(numbers[bad // step]), float(np.max(block[bad])), ())
        values.ran["likelihood"] += 1
        possible = observed.logits(block[::step]) > -np.inf if impossible else slice(None)
        weight = float(rows - impossible if weights is None else weights[possible].sum())
        return Totals(out.T, weight, rows - impossible, impossible)
    return _reference_totals(z[::step], observed, beta, numbers)


def _reference_totals(z: Array, observed: Observed, beta: np.ndarray, numbers: np.ndarray) -> Totals:
    """The definition, in float64."""
    xp = namespace(z)
    z = xp.astype(z, xp.float64)
    top = xp.max(z, axis=-1)
    require_rows(top, numbers=numbers)
    seen = observed.logits(to_numpy(z))
    possible = seen > -np.inf
    weights = np.where(possible, 1.0 if observed.weights is None else observed.weights, 0.0)
    out = np.zeros((len(beta), 4))
    for b, inverse in enumerate(beta):
        seen_here = np.where(possible, seen, to_numpy(top))
        t = xp.full_like(top, np.divide(1.0, inverse) if inverse else np.inf)
        row = reference.likelihood(z, like(seen_here, z), t)
        nll, score, curvature = (to_numpy(v) for v in row)
        out[b] = (
            (weights * nll).sum(),
            (weights * score).sum(),
            (weights * curvature).sum(),
            ((weights * score) ** 2).sum(),
        )
    return Totals(out.T, float(weights.sum()), int(possible.sum()), int((~possible).sum()))


def _within_reach(beta: np.ndarray) -> bool:
    return bool(np.all((beta >= 1 / values.HOTTEST) & (beta <= 1 / values.COLDEST)))


def extremes(z: Array, observed: Observed) -> tuple[float, float]:
    """Total score at zero and at infinite temperature: sums of weight times (max z, or mean z) - observed.

    The likelihood has an optimum in between if the first is positive and the second negative.
    """
    n, states = z.shape

    def work(rows: slice) -> tuple[float, float]:
        part, block = to_numpy(z[rows]).astype(np.float64), observed.take(rows)
        seen = block.logits(part)
        keep = seen > -np.inf if block.keep is None else (seen > -np.inf) & block.keep
        allowed = part > -np.inf
        weight = np.where(keep, 1.0 if block.weights is None else block.weights, 0.0)
        seen = np.where(keep, seen, 0.0)
        top = np.where(keep, part.max(axis=-1, initial=-np.inf), 0.0)
        below = np.where(allowed & keep[:, None], part - top[:, None], 0.0)
        mean = below.sum(axis=-1) / np.maximum(1, allowed.sum(axis=-1))
        return float((weight * (top - seen)).sum()), float((weight * (top - seen + mean)).sum())

    parts = map_blocks(work, n, states, COPY_VALUES)
    return sum(p[0] for p in parts), sum(p[1] for p in parts)
