"""Every class as a yes-or-no forecast of its own: its probabilities by groups of classes, and resampled rows.

Bins of equal mass and bandwidths need all rows of a class. Some classes at a time are held; their probabilities are
computed again for each group, so that memory does not grow with rows times classes.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from logitherm.metrics.bootstrap import draw_counts
from logitherm.metrics.rows import Inputs, probabilities, row_blocks

HELD_VALUES = 1 << 20  # random weights held at a time: 8 MB
HELD_PROBABILITIES = 1 << 22  # and probabilities: 32 MB, as every group of classes needs a softmax of all rows
WORK = 10**8  # multiplications of the bootstrap
LEAST = 100  # replicates


def class_columns(inputs: Inputs) -> Iterator[tuple[slice, np.ndarray]]:
    """The probabilities of some classes at a time, (rows, some) with every class in one piece of memory; the caller
    may write into them."""
    n, classes = inputs.logits.shape
    step = max(1, min(classes, HELD_PROBABILITIES // n))
    for first in range(0, classes, step):
        some = slice(first, min(first + step, classes))
        p = np.empty((some.stop - first, n)).T
        for block in row_blocks(inputs):
            p[block.rows] = probabilities(block)[:, some]  # copied: a list of views would hold all classes
        yield some, p


def forecasts(inputs: Inputs) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The probability of each class in turn, and where it is the label."""
    for some, p in class_columns(inputs):
        for j, k in enumerate(range(some.start, some.stop)):
            yield p[:, j], (inputs.labels == k).astype(np.float64)


def require_sound(inputs: Inputs) -> None:
    """An error names the row of the caller, which one of a part of the rows could not."""
    for _ in row_blocks(inputs):
        pass


def with_weight(inputs: Inputs) -> Inputs:
    """The rows whose weight is not 0, as one list."""
    kept = np.flatnonzero(inputs.weights > 0)
    if len(kept) == len(inputs.weights):
        return inputs
    require_sound(inputs)
    logits, labels, temperature, weights, _ = inputs
    return Inputs(logits[kept, :], labels[kept], temperature[kept], weights[kept], (len(kept),))


def affordable(inputs: Inputs, replicates: int, work: int = WORK, draw: int = 0) -> int:
    """Fewer replicates where they cost more than `work`, though not below LEAST; a row costs its classes and `draw`."""
    n, classes = inputs.logits.shape
    return min(replicates, max(LEAST, work // (n * (classes + draw))))


def resampled_weights(inputs: Inputs, replicates: int, state: int, held: int = 0) -> Iterator[np.ndarray]:
    """Weights of the rows in some replicates at a time, (rows, some): the same ones for the same `state`.

    `held` is what a replicate needs besides, in numbers.
    """
    rng = np.random.default_rng(state)
    n = len(inputs.labels)
    step = max(1, HELD_VALUES // max(n, held))
    for start in range(0, replicates, step):
        yield draw_counts(rng, n, min(step, replicates - start)) * inputs.weights[:, None]


def bin_matrix(index: np.ndarray, values: np.ndarray, bins: int) -> np.ndarray:
    """A sparse matrix that takes weights of rows to sums over bins; `index` and `values` are (rows, columns)."""
    from scipy.sparse import csr_array

    n, columns = index.shape
    pointer = np.arange(0, n * columns + 1, columns)
    return csr_array((values.ravel(), index.ravel(), pointer), shape=(n, bins)).T.tocsr()
