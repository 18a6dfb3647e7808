"""What calibrators need of every row when each may have its own temperature."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from logitherm import kernels
from logitherm._array import Array, describe, require_rows, to_numpy
from logitherm._labels import as_labels, as_weights
from logitherm.kernels.likelihood import Observed
from logitherm.kernels.reference import entropy, heat_capacity, over
from logitherm.kernels.threads import blocks

BLOCK_VALUES = 1 << 20


def row_blocks(z: np.ndarray) -> Iterator[slice]:
    """Ranges of rows of a few megabytes."""
    return blocks(z.shape[0], z.shape[1], BLOCK_VALUES)


class Labelled(NamedTuple):
    """Sound rows with their labels and weights."""

    logits: np.ndarray  # (n, classes), floating
    labels: np.ndarray  # (n,), int64
    weights: np.ndarray  # (n,), float64

    def take(self, rows: np.ndarray) -> Labelled:
        return Labelled(self.logits[rows], self.labels[rows], self.weights[rows])


def as_groups(groups: Any, n: int) -> np.ndarray:
    """One group a row, integers or strings."""
    found = np.asarray(groups)
    if found.shape != (n,):
        raise ValueError(f"groups: must have one entry a row, shape ({n},); got {describe(found)}; give one a row")
    if found.dtype.kind not in "iuUS":
        raise TypeError(f"groups: must be integers or strings; got {describe(found)}; number them")
    return found


def labelled(
    logits: Array, labels: np.ndarray, weights: np.ndarray | None = None, *, exclude: bool = False
) -> Labelled:
    """Check the rows and their labels; weights of 1 where there are none. `exclude` leaves impossible labels out."""
    z = to_numpy(logits)
    z = z.astype(np.float32) if z.dtype == np.float16 else z
    for block in row_blocks(z):
        require_rows(z[block].max(axis=1), numbers=np.arange(block.start, block.stop))
    y, w = as_labels(labels, z.shape[:1], z.shape[1]), as_weights(weights, z.shape[:1])
    data = Labelled(z, y, np.ones(len(y)) if w is None else w)
    return data.take(possible(z, y)) if exclude else data


def possible(logits: Array, labels: np.ndarray) -> np.ndarray:
    """Rows whose label is not forbidden."""
    return np.flatnonzero(Observed(labels=labels).logits(to_numpy(logits)) > -np.inf)


def observed(data: Labelled) -> np.ndarray:
    """Logit of every row's label, float64."""
    return Observed(labels=data.labels).logits(data.logits)


class Likelihoods(NamedTuple):
    """Of every row at its temperature, float64 (n,)."""

    nll: np.ndarray
    score: np.ndarray  # derivative of the NLL in the inverse temperature
    capacity: np.ndarray  # heat capacity: the second derivative over T^2


def likelihoods(data: Labelled, temperatures: np.ndarray | float) -> Likelihoods:
    """At the temperature of every row, or one for all."""
    t = np.broadcast_to(np.asarray(temperatures, dtype=np.float64), data.labels.shape)
    m = kernels.row_moments(data.logits, t)
    below = m.top - observed(data)
    return Likelihoods(np.log1p(m.rest) + over(below, t), below - m.gap, heat_capacity(m, t))


def limits(data: Labelled) -> tuple[np.ndarray, np.ndarray]:
    """Probability of every row's label at T = 0, where the largest logits share, and at T = inf."""
    cold, hot, seen = np.zeros(len(data.labels)), np.zeros(len(data.labels)), observed(data)
    for block in row_blocks(data.logits):
        z = data.logits[block]
        top = z.max(axis=1)
        cold[block] = (seen[block] == top) / np.count_nonzero(z == top[:, None], axis=1)
        hot[block] = 1 / np.count_nonzero(z > -np.inf, axis=1)
    return cold, hot


def relative_entropies(logits: Array, temperature: float) -> np.ndarray:
    """Entropy of softmax(z / T) over its maximum, the logarithm of the number of allowed classes: 0 to 1."""
    z = to_numpy(logits)
    most = np.concatenate([np.zeros(0), *(np.count_nonzero(z[block] > -np.inf, axis=1) for block in row_blocks(z))])
    t = np.full(len(z), float(temperature))
    return np.clip(entropy(kernels.row_moments(z, t), t) / np.log(np.maximum(most, 2)), 0.0, 1.0)
