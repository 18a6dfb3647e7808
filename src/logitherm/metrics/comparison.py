"""Two sets of logits for the same rows: how much better one is, with the interval of the difference itself."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from logitherm._array import Array
from logitherm.metrics.binning import bin_index, expected_error
from logitherm.metrics.bootstrap import resampled_sums, runs
from logitherm.metrics.options import as_bins, as_level, as_replicates
from logitherm.metrics.rows import as_inputs, row_statistics, weighted_mean
from logitherm.metrics.score import Score


class Change(Score):
    """A difference of scores and its bootstrap interval; NaN where it is not defined."""

    @property
    def sign(self) -> int:
        """-1 or 1 if the interval excludes 0, else 0."""
        return int(self.low > 0) - int(self.high < 0)


@dataclass(frozen=True)
class Comparison:
    """The changes that `compare` found."""

    nll: Change
    brier: Change
    ece: Change

    def to_dict(self) -> dict[str, dict[str, float | None]]:
        """Plain values for JSON."""
        return {name: change.to_dict() for name, change in vars(self).items()}


def compare(
    before: Array,
    after: Array,
    labels: Array,
    *,
    temperature_before: Any = 1.0,
    temperature_after: Any = 1.0,
    bins: int = 15,
    bootstrap: int = 1000,
    confidence: float = 0.95,
    seed: int | np.random.Generator = 0,
    weights: Array | None = None,
) -> Comparison:
    """Change of NLL, Brier score and ECE from one set of logits to another of the same rows.

    The rows are resampled in pairs, so the interval is that of the difference: often much narrower than those of the
    two scores let one think. That of the ECE is moved to have the value as its mean, as a replicate adds its own noise.

    Parameters
    ----------
    before, after : floating arrays, shape (..., classes)
        Logits of the same rows; -inf forbids a class.
    labels : integer array, batch shape
    temperature_before, temperature_after : float, array of the batch shape, or Temperature
    bins : int
        Bins of equal width of the ECE.
    bootstrap, confidence, seed, weights
        As in `evaluate`.

    Returns
    -------
    Comparison
        Changes, after minus before; negative is better. NaN for an NLL that is infinite on either side.

    Raises
    ------
    TypeError, ValueError
        As `evaluate`; shapes that differ.

    References
    ----------
    Efron and Tibshirani (1993), An introduction to the bootstrap, ch. 8.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> z = rng.normal(size=(500, 3))
    >>> found = compare(3 * z, z, (z + rng.gumbel(size=(500, 3))).argmax(axis=1))
    >>> found.nll.sign, found.ece.sign
    (-1, -1)
    """
    bins, replicates = as_bins(bins), as_replicates(bootstrap)
    level, rng = as_level(confidence), np.random.default_rng(seed)
    both = [
        as_inputs(before, labels, temperature_before, weights),
        as_inputs(after, labels, temperature_after, weights),
    ]
    w, rows = both[0].weights, [row_statistics(inputs) for inputs in both]
    edges = np.linspace(0.0, 1.0, bins + 1)
    indices = [bin_index(side.confidence, edges) for side in rows]
    gaps = [side.confidence - side.correct for side in rows]

    cell = indices[0] * bins + indices[1]  # rows that are together before and after
    order, starts = runs(cell)
    with np.errstate(invalid="ignore"):
        nll = rows[1].nll - rows[0].nll
    defined = bool(np.all(np.isfinite(nll[w > 0])))
    nll, brier = np.where(np.isfinite(nll), nll, 0.0), rows[1].brier - rows[0].brier
    columns = (w * [np.ones(len(w)), nll, brier, *gaps]).T[order]
    sums = resampled_sums(columns, starts, replicates, rng)
    sums = sums[:, :, sums[:, 0].sum(axis=0) > 0]  # a replicate without rows says nothing
    mass = sums[:, 0].sum(axis=0)
    found = []
    for index, column in zip(indices, (3, 4)):
        members = (np.arange(bins)[:, None] == index[order][starts]).astype(np.float64)
        plain = np.add.reduceat(columns[:, [0, column]], starts, axis=0)
        found.append(
            (
                float(expected_error(members @ plain[:, 0], members @ plain[:, 1])),
                expected_error((members @ sums[:, 0]).T, (members @ sums[:, column]).T),
            )
        )
    (ece_before, drawn_before), (ece_after, drawn_after) = found
    drawn = drawn_after - drawn_before
    ece = ece_after - ece_before
    return Comparison(
        nll=_change(weighted_mean(nll, w), sums[:, 1].sum(axis=0) / mass, level) if defined else _undefined(),
        brier=_change(weighted_mean(brier, w), sums[:, 2].sum(axis=0) / mass, level),
        ece=_change(ece, drawn - drawn.mean() + ece if len(drawn) else drawn, level),
    )


def _change(value: float, replicates: np.ndarray, level: float) -> Change:
    if not len(replicates):
        return Change(value, math.nan, math.nan)
    low, high = np.quantile(replicates, [(1 - level) / 2, (1 + level) / 2])
    return Change(value, min(float(low), value), max(float(high), value))


def _undefined() -> Change:
    return Change(math.nan, math.nan, math.nan)
