"""The numbers of a reliability diagram."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from logitherm._array import Array
from logitherm.metrics.analytic import wilson_interval
from logitherm.metrics.binning import bin_edges, bin_index, bin_sums, per_mass
from logitherm.metrics.bootstrap import interval, resampled_sums, runs
from logitherm.metrics.options import as_binning, as_bins, as_level, as_replicates, to_lists
from logitherm.metrics.rows import as_inputs, row_statistics


@dataclass(frozen=True, eq=False)
class Reliability:
    """Bins of a reliability diagram; every array but `edges` has one number a bin, NaN where the bin is empty."""

    edges: np.ndarray  # (bins + 1,), from 0 to 1; bins are right-closed
    count: np.ndarray  # the weight of the rows: their number where no weights were given
    confidence: np.ndarray  # mean confidence
    accuracy: np.ndarray
    low: np.ndarray  # band of the accuracy
    high: np.ndarray

    def to_dict(self) -> dict[str, Any]:
        """Plain lists for JSON; None for NaN."""
        return {name: to_lists(values) for name, values in vars(self).items()}


def reliability(
    logits: Array,
    labels: Array,
    temperature: Any = 1.0,
    *,
    bins: int = 15,
    binning: str = "equal_width",
    bootstrap: int = 1000,
    confidence: float = 0.95,
    seed: int | np.random.Generator = 0,
    weights: Array | None = None,
) -> Reliability:
    """Confidence and accuracy of the top label in bins of confidence, with a bootstrap band of the accuracy.

    The bins are those of `expected_calibration_error`, which is sum(count * |accuracy - confidence|) / sum(count) of
    the bins that are not empty. The band is the percentile interval of the accuracy of each bin, the bins kept as they
    are; where all rows of a bin are right (or all wrong) it is Wilson's, as no replicate differs.

    Limits: T = 0 puts all rows without ties into the last bin, T = inf into the bin of 1/classes where all are allowed.

    Parameters
    ----------
    logits, labels, temperature, bins, bootstrap, confidence, seed, weights
        As for `evaluate`; ties may leave fewer bins of equal mass, and no bootstrap leaves the band NaN.
    binning : {"equal_width", "equal_mass"}
        Bins of equal width, or bins that hold equal weights of rows (their edges are confidences of rows).

    Returns
    -------
    Reliability
        Arrays `edges`, `count`, `confidence`, `accuracy`, `low`, `high`, float64; `to_dict()` for JSON.

    Raises
    ------
    TypeError, ValueError
        As for `evaluate`; another `binning`.

    References
    ----------
    DeGroot & Fienberg (1983), The comparison and evaluation of forecasters; Guo et al. (2017), section 2; Bröcker &
    Smith (2007), Increasing the reliability of reliability diagrams, for the band.

    Examples
    --------
    >>> import numpy as np
    >>> r = reliability(np.array([[0.0, 0.0], [0.0, 0.0], [9e9, 0.0]]), [0, 1, 0], bins=2, bootstrap=100)
    >>> r.edges.tolist(), r.count.tolist(), r.confidence.tolist(), r.accuracy.tolist()
    ([0.0, 0.5, 1.0], [2.0, 1.0], [0.5, 1.0], [0.5, 1.0])
    """
    bins, binning = as_bins(bins), as_binning(binning)
    replicates, level = as_replicates(bootstrap), as_level(confidence)
    rng = np.random.default_rng(seed)
    inputs = as_inputs(logits, labels, temperature, weights)
    rows = row_statistics(inputs)
    edges = bin_edges(rows.confidence, inputs.weights, bins, binning)
    bins = len(edges) - 1
    index = bin_index(rows.confidence, edges)
    right, wrong = inputs.weights * rows.correct, inputs.weights * (1 - rows.correct)
    mass, confident, correct = bin_sums(index, bins, inputs.weights, inputs.weights * rows.confidence, right)
    accuracy = per_mass(correct, mass)

    order, starts = runs(index)
    sums = resampled_sums(np.stack([right, wrong], axis=1)[order], starts, replicates, rng)
    band = np.full((2, bins), np.nan)
    for b, (hits, misses) in zip(index[order[starts]], sums):
        if mass[b] > 0:
            drawn = hits + misses > 0
            band[:, b] = interval(float(accuracy[b]), hits[drawn] / (hits + misses)[drawn], level)
            if replicates and accuracy[b] in (0.0, 1.0):  # no replicate can differ
                here = index == b
                band[:, b] = wilson_interval(rows.correct[here], inputs.weights[here], level)
    return Reliability(edges, mass, per_mass(confident, mass), accuracy, band[0], band[1])
