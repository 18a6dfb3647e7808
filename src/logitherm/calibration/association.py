"""Whether labels belong to their logits, or fit them no better than the same labels in another order would."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from logitherm._array import Array, to_numpy
from logitherm._json import plain
from logitherm.calibration.rows import row_blocks
from logitherm.gibbs import softmax

CHANCE = 2.0  # standard deviations above shuffled labels from which order matters


@dataclass(frozen=True)
class Association:
    """What `association` found.

    Attributes
    ----------
    accuracy, by_chance : float
        Share of the rows whose label is the prediction, and its mean over all orders of the same labels.
    accuracy_z, probability_z : float
        How many standard deviations above that mean the accuracy is, and the probability that the labels are given on
        average; 0 where no order differs from another.
    """

    accuracy: float
    by_chance: float
    accuracy_z: float
    probability_z: float

    @property
    def none(self) -> bool:
        """Whether neither predictions nor probabilities go with the labels beyond chance."""
        return max(self.accuracy_z, self.probability_z) <= CHANCE

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dict(plain(asdict(self)))


def association(logits: Array, labels: np.ndarray, temperature: float = 1.0) -> Association:
    """Compare the labels with the same labels in random order, which keep the frequencies of classes and predictions.

    Accuracy is not held against the share of the most frequent class: a bad model may be right less often than that and
    still know something. The probabilities at `temperature` see what predictions do not, a weak model of rare events,
    say; being bounded, they are not ruled by a few blunders.

    Parameters
    ----------
    logits : floating array, shape (n, classes)
    labels : integer array, shape (n,)
    temperature : float
        Of the probabilities.

    Returns
    -------
    Association

    References
    ----------
    Hoeffding (1951), A combinatorial central limit theorem: mean and variance over all orders.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> z = rng.normal(size=(500, 4))
    >>> labels = (z + rng.gumbel(size=z.shape)).argmax(axis=1)
    >>> association(z, labels).none, association(z, rng.permutation(labels)).none
    (False, True)
    """
    z = to_numpy(logits)
    count = np.bincount(labels, minlength=z.shape[1]).astype(np.float64)
    right, sure = _Orders(count), _Orders(count)
    for block in row_blocks(z):
        rows, y = z[block].astype(np.float64), labels[block]
        right.add(np.eye(z.shape[1])[rows.argmax(axis=1)], y)
        sure.add(np.asarray(softmax(rows, temperature)) - 1 / z.shape[1], y)  # centred: at high T all are nearly alike
    n = len(z)
    return Association(right.seen / n, right.expected / n, right.z, sure.z)


class _Orders:
    """Sum of m[i, y_i] over rows, and its mean and variance over all orders of y, in one pass."""

    def __init__(self, count: np.ndarray) -> None:
        self.count, self.n = count, float(count.sum())
        self.seen = self.of_rows = 0.0
        self.sums, self.squares = np.zeros_like(count), np.zeros_like(count)

    def add(self, m: np.ndarray, labels: np.ndarray) -> None:
        self.seen += float(m[np.arange(len(labels)), labels].sum())
        self.sums += m.sum(axis=0)
        self.squares += (m**2).sum(axis=0)
        self.of_rows += float(((m @ self.count / self.n) ** 2).sum())

    @property
    def expected(self) -> float:
        return float(self.count @ self.sums) / self.n

    @property
    def z(self) -> float:
        """The mean over rows i and labels j of m[i, y_j], less those of row and label, squared, is the variance."""
        means = float(self.count @ (self.sums / self.n) ** 2)
        total = float(self.count @ self.squares)
        left = total - self.n * self.of_rows - self.n * means + self.expected**2
        if left <= 1e-9 * total or self.n < 2:  # rounding: no order differs
            return 0.0
        return (self.seen - self.expected) / math.sqrt(left / (self.n - 1))
