"""Likelihood statistics of a block of rows at several inverse temperatures: one pass, nothing of the size of the logits kept."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from logitherm._array import Array, is_torch, namespace, raise_bad_row, require_rows, to_numpy
from logitherm.kernels import reference, values
from logitherm.kernels.threads import BLOCK_VALUES, map_blocks

COPY_VALUES = 1 << 16  # values of a block that must be converted or copied before the kernel can read it


class Observed(NamedTuple):
    """What happened in every row: labels, or soft labels, or several samples; with optional weights and a row mask."""

    labels: np.ndarray | None = None  # (n,) or, for samples, (n, draws); int64
    soft: Array | None = None  # (n, states)
    weights: np.ndarray | None = None  # (n,) float64
    keep: np.ndarray | None = None  # (n,) bool

    def block(self, rows: slice) -> Observed:
        return Observed(*(None if field is None else field[rows] for field in self))


class Totals(NamedTuple):
    """Sums over rows; the arrays have one entry for every inverse temperature."""

    nll: np.ndarray  # weighted negative log-likelihood
    score: np.ndarray  # its derivative in the inverse temperature
    curvature: np.ndarray  # its second derivative, the information
    squares: np.ndarray  # sum of squared weighted scores of rows
    weight: float
    rows: int
    impossible: int  # rows left out because what was observed has probability 0

    def __add__(self, other: Totals) -> Totals:  # type: ignore[override]
        return Totals(*(a + b for a, b in zip(self, other)))


def totals(z: Array, observed: Observed, inverse_temperatures: np.ndarray, step: int = 1) -> Totals:
    """Statistics of rows 0, step, 2 step, ... of logits (n, states), summed; `observed` has the entries of those rows alone.

    Sums over any partition of the rows add up to the sums over all.
    """
    beta = np.asarray(inverse_temperatures, dtype=np.float64)
    n, states = math.ceil(z.shape[0] / step), z.shape[1]
    in_place = _on_cpu(z) and _viewable(z) and observed.soft is None and observed.keep is None

    def work(rows: slice) -> Totals:
        part, block = z[rows.start * step : (rows.stop - 1) * step + 1], observed.block(rows)
        if in_place:
            return _block_totals(part, step, block, beta, rows.start * step)
        part = part[::step]
        if block.keep is not None and not block.keep.all():
            kept = np.flatnonzero(block.keep)
            part = part[kept]
            block = Observed(*(None if f is None else f[kept] for f in block))
        return _block_totals(part, 1, block, beta, rows.start)

    parts = map_blocks(work, n, states, BLOCK_VALUES if in_place else COPY_VALUES)
    return sum(parts, start=Totals(*np.zeros((4, len(beta))), 0.0, 0, 0))


def _on_cpu(z: Array) -> bool:
    return not is_torch(z) or z.device.type == "cpu"


def _viewable(z: Array) -> bool:
    if is_torch(z):
        return z.is_contiguous() and str(z.dtype) in ("torch.float32", "torch.float64")
    return bool(z.flags.c_contiguous) and z.dtype in (np.float32, np.float64)


def _block_totals(z: Array, step: int, observed: Observed, beta: np.ndarray, offset: int) -> Totals:
    labels, weights = observed.labels, observed.weights
    single = labels is not None and labels.ndim == 1
    if labels is not None and not single:  # each of the samples of a row counts
        weights = labels.shape[1] * (np.ones(len(labels)) if weights is None else weights)
    rows = len(labels) if labels is not None else len(observed.soft)
    if _on_cpu(z) and rows * z.shape[1] >= values.SMALLEST // 4 and _within_reach(beta):
        values_in = to_numpy(z)
        values_in = np.ascontiguousarray(values_in, np.float32 if values_in.dtype == np.float16 else None)
        nothing, no_labels = np.empty(0), np.empty(0, dtype=np.int64)
        out = np.zeros((len(beta), 4))
        bad, impossible = values.cpu().likelihood(
            _read_only(values_in),
            step,
            _read_only(labels if single else no_labels),
            _read_only(nothing if single else _mean_observed(values_in[::step], observed)),
            _read_only(nothing if weights is None else weights),
            beta,
            out,
        )
        if bad >= 0:
            raise_bad_row("logits", offset + bad, float(np.max(values_in[bad])), ())
        values.ran["likelihood"] += 1
        if not impossible:
            return Totals(*out.T, float(rows if weights is None else weights.sum()), rows, 0)
    return _reference_totals(z[::step], observed, weights, beta, offset)


def _reference_totals(z: Array, observed: Observed, weights: np.ndarray | None, beta: np.ndarray, offset: int) -> Totals:
    """The definition, in float64; also where a row is impossible, which must then be left out of every count."""
    xp = namespace(z)
    z = xp.astype(z, xp.float64)
    top = xp.max(z, axis=-1)
    require_rows(top, offset=offset)
    seen = _mean_observed(to_numpy(z), observed)
    possible = seen > -np.inf
    weights = np.where(possible, 1.0 if weights is None else weights, 0.0)
    out = np.zeros((len(beta), 4))
    for b, inverse in enumerate(beta):
        seen_here = np.where(possible, seen, to_numpy(top))
        t = xp.full_like(top, np.divide(1.0, inverse) if inverse else np.inf)
        row = reference.likelihood(z, like_array(seen_here, z), t)
        nll, score, curvature = (to_numpy(v) for v in row)
        out[b] = (weights * nll).sum(), (weights * score).sum(), (weights * curvature).sum(), ((weights * score) ** 2).sum()
    return Totals(*out.T, float(weights.sum()), int(possible.sum()), int((~possible).sum()))


def like_array(values: np.ndarray, z: Array) -> Array:
    return namespace(z).asarray(values) if not is_torch(z) else z.new_tensor(values)


def _mean_observed(rows: np.ndarray, observed: Observed) -> np.ndarray:
    """Mean logit of what was observed in every row, in float64; -inf if any of it has probability 0."""
    if observed.soft is not None:
        soft = to_numpy(observed.soft).astype(np.float64)
        return np.where(soft > 0, soft * np.where(soft > 0, rows, 0.0), 0.0).sum(axis=-1) / soft.sum(axis=-1)
    labels = observed.labels if observed.labels.ndim == 2 else observed.labels[:, None]
    return np.take_along_axis(rows, labels, axis=-1).astype(np.float64).mean(axis=-1)


def _read_only(rows: np.ndarray) -> np.ndarray:
    """A view of one kind, so that the kernel is compiled once for writable and read-only input."""
    view = np.ascontiguousarray(rows).view()
    view.flags.writeable = False
    return view


def _within_reach(beta: np.ndarray) -> bool:
    return bool(np.all((beta >= 1 / values.HOTTEST) & (beta <= 1 / values.COLDEST)))


def extremes(z: Array, observed: Observed) -> tuple[float, float]:
    """Total score at zero and at infinite temperature: sums of weight times (max z, or mean z) - observed.

    The likelihood has an optimum in between if the first is positive and the second negative.
    """
    n, states = z.shape

    def work(rows: slice) -> tuple[float, float]:
        part, block = to_numpy(z[rows]).astype(np.float64), observed.block(rows)
        seen = _mean_observed(part, block)
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
