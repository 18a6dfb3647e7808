"""Reliability at every temperature of a grid, for a slider."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from logitherm._array import Array, as_array, describe, require_temperature, to_numpy
from logitherm.metrics.binning import bin_index, bin_sums, expected_error, per_mass
from logitherm.metrics.options import as_bins, to_lists
from logitherm.metrics.rows import as_inputs, block_statistics, row_blocks


@dataclass(frozen=True, eq=False)
class ReliabilityGrid:
    """The bins and scores of each temperature; bins without rows are NaN."""

    temperatures: np.ndarray  # (m,)
    edges: np.ndarray  # (bins + 1,), equal width, right-closed
    count: np.ndarray  # (m, bins), the weight of the rows
    confidence: np.ndarray  # (m, bins)
    accuracy: np.ndarray  # (m, bins)
    nll: np.ndarray  # (m,), nats
    brier: np.ndarray  # (m,), 0 to 2
    ece: np.ndarray  # (m,)

    def to_dict(self) -> dict[str, Any]:
        """Plain lists for JSON; None for NaN and infinity."""
        return {name: to_lists(values) for name, values in vars(self).items()}


def reliability_grid(
    logits: Array, labels: Array, temperatures: Any, *, bins: int = 15, weights: Array | None = None
) -> ReliabilityGrid:
    """Bins of confidence, NLL, Brier score and ECE at each temperature, in one pass over the logits.

    Each temperature gives what `reliability`, `nll`, `brier` and `expected_calibration_error` give there; the limits
    T = 0 and T = inf are theirs.

    Parameters
    ----------
    logits, labels, weights
        As for `accuracy`.
    temperatures : array, shape (m,)
        Each in [0, inf], in the units of the logits.
    bins : int
        Number of bins of equal width, 1 to 1000.

    Returns
    -------
    ReliabilityGrid
        Arrays of m temperatures, float64; `to_dict()` for JSON.

    Raises
    ------
    TypeError, ValueError
        As for `accuracy`; temperatures that are not a list of at least one; `bins` out of range.

    References
    ----------
    Guo et al. (2017), section 2 and eq. 9.

    Examples
    --------
    >>> import numpy as np
    >>> grid = reliability_grid(np.array([[1.0, 0.0], [0.0, 1.0]]), [0, 1], [0, 1, np.inf], bins=10)
    >>> grid.nll.round(4).tolist(), grid.ece.round(4).tolist()
    ([0.0, 0.3133, 0.6931], [0.0, 0.2689, 0.5])
    """
    bins = as_bins(bins)
    given = as_array(temperatures, "temperatures")
    if given.ndim != 1 or given.shape[0] == 0:
        raise ValueError(f"temperatures: must be a list of at least one; got {describe(given)}; give [1.0], say")
    require_temperature(given)
    grid = to_numpy(given).astype(np.float64)
    inputs = as_inputs(logits, labels, 1.0, weights)

    edges = np.linspace(0.0, 1.0, bins + 1)
    sums, means = np.zeros((3, len(grid), bins)), np.zeros((2, len(grid)))
    for block in row_blocks(inputs):
        w = inputs.weights[block.rows]
        share = w / inputs.weights.sum()
        for i, temperature in enumerate(grid):
            rows = block_statistics(block._replace(temperature=np.full(len(w), temperature)))
            columns = w, w * rows.confidence, w * rows.correct
            sums[:, i] += bin_sums(bin_index(rows.confidence, edges), bins, *columns)
            means[:, i] += share @ np.where(w > 0, rows.nll, 0.0), share @ rows.brier
    mass, confident, correct = sums
    return ReliabilityGrid(
        temperatures=grid,
        edges=edges,
        count=mass,
        confidence=per_mass(confident, mass),
        accuracy=per_mass(correct, mass),
        nll=means[0],
        brier=means[1],
        ece=expected_error(mass, confident - correct),
    )
