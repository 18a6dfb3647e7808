"""Counts, means and residuals of labelled rows, block by block: all that a classifier by prototypes looks at."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_array

from logitherm.kernels.threads import map_blocks


class Moments(NamedTuple):
    """Of rows `X` with labels 0 .. K-1; sums are float64."""

    X: np.ndarray  # (rows, features), float32 or float64
    labels: np.ndarray  # (rows,)
    counts: np.ndarray  # (classes,)
    means: np.ndarray  # (classes, features)
    columns: np.ndarray  # (features,) squares of residuals, summed over rows
    varies: np.ndarray  # (features,) bool: whether a feature is more than a constant
    squares: np.ndarray  # (classes,) squares of residuals, summed over rows and features

    @property
    def degrees(self) -> int:
        """Rows less means: N - K, for every feature."""
        return len(self.labels) - len(self.counts)

    @property
    def dims(self) -> int:
        """Features that vary: a constant one adds nothing, and must not make the others look narrower."""
        return int(self.varies.sum())

    def residuals(self, rows: slice = slice(None)) -> np.ndarray:
        """Rows less the mean of their class, in the dtype of the rows."""
        return self.X[rows] - self.means.astype(self.X.dtype)[self.labels[rows]]

    def sum_over(self, work: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """Per class, the sum over rows of the number that `work` makes of each residual."""

        def block(rows: slice) -> np.ndarray:
            return np.bincount(self.labels[rows], weights=work(self.residuals(rows)), minlength=len(self.counts))

        return np.sum(map_blocks(block, *self.X.shape), axis=0)


def moments(X: np.ndarray, labels: np.ndarray, classes: int) -> Moments:
    """Two passes: the means, from differences to the first row, so that a common offset costs no digits; then residuals
    to them, which cannot cancel as sums of squares less squares of sums do."""
    counts = np.bincount(labels, minlength=classes)
    shift = X[0]

    def sums(rows: slice) -> np.ndarray:
        which = labels[rows]
        order = np.argsort(which, kind="stable")
        starts = np.concatenate([[0], np.cumsum(np.bincount(which, minlength=classes))])
        member = csr_array((np.ones(len(which), X.dtype), order, starts), shape=(classes, len(which)))
        return (member @ (X[rows] - shift)).astype(np.float64)

    means = np.sum(map_blocks(sums, *X.shape), axis=0) / counts[:, None] + shift
    found = Moments(X, labels, counts, means, *3 * [np.empty(0)])

    def squares(rows: slice) -> tuple[np.ndarray, np.ndarray]:
        r = found.residuals(rows)
        of_rows = np.bincount(labels[rows], weights=row_squares(r), minlength=classes)
        return np.einsum("ij,ij->j", r, r).astype(np.float64), of_rows

    parts = map_blocks(squares, *X.shape)
    columns, of_classes = (np.sum([part[i] for part in parts], axis=0) for i in (0, 1))
    noise = len(X) * (np.finfo(X.dtype).eps * (np.abs(means).max(axis=0) + np.abs(shift))) ** 2  # of rounding alone
    columns = np.where(columns > noise, columns, 0.0)
    of_classes = np.where(of_classes > noise.sum(), of_classes, 0.0)
    return found._replace(columns=columns, varies=(columns > 0) | (np.ptp(means, axis=0) > 0), squares=of_classes)


def row_squares(x: np.ndarray) -> np.ndarray:
    return np.einsum("ij,ij->i", x, x)
