"""Class-wise calibration error, for the weights of the rows or for many sets of random weights at once.

Nearly all probabilities lie in the lowest bin. Its sums are one dense matrix product a block; those of the few entries
above it (fewer than `bins` a row, since a row sums to 1) are a sparse one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from logitherm._array import Array
from logitherm.metrics.binning import bin_index, per_mass
from logitherm.metrics.options import as_bins
from logitherm.metrics.rows import BLOCK_VALUES, Inputs, as_inputs, probabilities, row_blocks


def classwise_ece(
    logits: Array, labels: Array, temperature: Any = 1.0, *, bins: int = 15, weights: Array | None = None
) -> float:
    """Mean over classes of the binned |mean p_k - frequency of k|, each bin by its weight of rows.

    Every class is a yes-or-no forecast of its own, in equal-width, right-closed bins. (The marginal kind of an error of
    absolute gaps is the same number.) With many classes nearly all
    probabilities are in the lowest bin and the values are small: compare models on one data set, not data sets.

    Limits: T = 0 gives 2/classes times the error rate where no logits tie; T = inf gives the mean over classes of
    |frequency of k - 1/classes| where all are allowed.

    Parameters
    ----------
    logits, labels, temperature, weights
        As for `accuracy`.
    bins : int
        Number of bins, 1 to 1000.

    Returns
    -------
    float
        Between 0 and 1.

    Raises
    ------
    TypeError, ValueError
        As for `accuracy`; `bins` out of range.

    References
    ----------
    Kull et al. (2019), Beyond temperature scaling, section 2 (classwise-ECE); Nixon et al. (2019), Measuring
    calibration in deep learning, section 3 (SCE).

    Examples
    --------
    >>> import numpy as np
    >>> classwise_ece(np.array([[0.0, 0.0], [0.0, 0.0]]), [0, 0])
    0.5
    """
    bins = as_bins(bins)
    inputs = as_inputs(logits, labels, temperature, weights)
    return float(classwise_errors(inputs, bins, 1, lambda rows: inputs.weights[rows, None])[0])


def classwise_errors(inputs: Inputs, bins: int, sets: int, weights_of: Callable[[slice], np.ndarray]) -> np.ndarray:
    """Class-wise ECE under each of `sets` sets of weights; `weights_of(rows)` gives those of a slice, (rows, sets)."""
    classes = inputs.logits.shape[-1]
    edges = np.linspace(0.0, 1.0, bins + 1)
    mass = np.zeros(sets)
    lowest = np.zeros((classes, sets))  # sums of p_k - y_k in the lowest bin of each class
    higher = np.zeros((0, sets))  # the same sums for each (class, bin) above it that has been met
    place = np.full(classes * bins, -1, dtype=np.int32)  # where in `higher`
    # many sets: larger blocks, for larger products
    for block in row_blocks(inputs, width=sets, values=BLOCK_VALUES if sets == 1 else 4 * BLOCK_VALUES):
        weights = weights_of(block.rows)
        residuals = probabilities(block)
        flat = residuals.reshape(-1)
        entries = np.flatnonzero(flat > edges[1])
        row, klass = np.divmod(entries, classes)
        met, entry_of = np.unique(klass * bins + bin_index(flat[entries], edges), return_inverse=True)
        residuals[np.arange(len(residuals)), block.labels] -= 1
        sums = _sparse_product(flat[entries], entry_of, row, (len(met), len(residuals)), weights)
        flat[entries] = 0.0
        higher = _with_room(higher, place, met)
        higher[place[met]] += sums
        lowest += residuals.T @ weights
        mass += weights.sum(axis=0)
    errors = np.abs(lowest).sum(axis=0) + np.abs(higher).sum(axis=0)
    return per_mass(errors, classes * mass)  # a set without weight says nothing: NaN


def _sparse_product(
    values: np.ndarray, row: np.ndarray, column: np.ndarray, shape: tuple[int, int], dense: np.ndarray
) -> np.ndarray:
    from scipy.sparse import csr_array

    return np.asarray(csr_array((values, (row, column)), shape=shape) @ dense)


def _with_room(higher: np.ndarray, place: np.ndarray, met: np.ndarray) -> np.ndarray:
    """Give each bin that is met for the first time a place in `higher`, which grows by at least half."""
    new = met[place[met] < 0]
    used = int(place.max()) + 1
    place[new] = np.arange(used, used + len(new))
    lacking = used + len(new) - len(higher)
    if lacking <= 0:
        return higher
    return np.concatenate([higher, np.zeros((max(lacking, len(higher) // 2), higher.shape[1]))])
