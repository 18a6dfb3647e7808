"""Steps that keep the states at or above a threshold: which one, says the law at this point of the pipeline.

Equal logits are kept or removed together, so what is kept depends on the law alone and not on the order of the
vocabulary.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from logitherm._array import Array, like, namespace
from logitherm.generation.steps.context import Context, per_row, require
from logitherm.generation.steps.laws import entropy, log_softmax, softmax


class Truncation:
    """What they share: `threshold` gives the smallest logit to keep of every row; the largest is always kept."""

    kind: ClassVar[str] = "support"
    needs_history: ClassVar[bool] = False

    def threshold(self, logits: Array, context: Context) -> Array:
        """The smallest logit to keep, shape (rows,)."""
        raise NotImplementedError

    def __call__(self, logits: Array, context: Context) -> Array:
        xp = namespace(logits)
        least = xp.minimum(self.threshold(logits, context), xp.max(logits, axis=-1))
        return xp.where(logits >= least[..., None], logits, xp.full_like(logits, -math.inf))


def column(values: np.ndarray, logits: Array) -> Array:
    """One number a row in the dtype and library of the logits."""
    return namespace(logits).astype(like(values, logits), logits.dtype)


def sorted_law(logits: Array, most: int | None = None) -> tuple[Array, Array]:
    """Logits in falling order, of the `most` largest, and their probabilities."""
    ordered = namespace(logits).flip(namespace(logits).sort(logits, axis=-1), axis=-1)[:, :most]
    return ordered, softmax(ordered)


def last_kept(ordered: Array, keep: Array) -> Array:
    """The value of the last state of a kept prefix."""
    xp = namespace(ordered)
    return xp.min(xp.where(keep, ordered, xp.full_like(ordered, math.inf)), axis=-1)


def _at_least(logits: Array, log_probability: Array) -> Array:
    """The logit of states of this probability."""
    xp = namespace(logits)
    return log_probability + (xp.max(logits, axis=-1) - xp.max(log_softmax(logits), axis=-1))


@dataclass(frozen=True)
class TopK(Truncation):
    """The k largest logits, and those equal to the k-th.

    Attributes
    ----------
    k : int or integer array of the batch shape
        1 <= k <= states.
    clamp : bool
        Whether a k beyond the number of states means all of them, as some engines have it; it is an error otherwise.

    References
    ----------
    Fan, Lewis and Dauphin (2018), Hierarchical neural story generation, section 5.4.
    """

    k: Any
    clamp: bool = False

    def count(self, rows: int, states: int) -> np.ndarray:
        """k of every row."""
        k = per_row(self.k, rows, "k")
        require((k >= 1) & (k == np.floor(k)), k, "k", "a whole number of at least 1", "leave the step out to keep all")
        if not self.clamp:
            require(k <= states, k, "k", f"at most the {states} states", "give fewer, or clamp=True")
        return np.minimum(k, states).astype(np.int64)

    def threshold(self, logits: Array, context: Context) -> Array:
        xp = namespace(logits)
        rows, states = logits.shape
        k = like(self.count(rows, states), logits)
        ordered = xp.sort(logits, axis=-1)
        return xp.take_along_axis(ordered, (states - k)[:, None], axis=-1)[:, 0]


@dataclass(frozen=True)
class TopP(Truncation):
    """The nucleus: the most probable states up to the one at which their mass reaches p.

    Attributes
    ----------
    p : float or array of the batch shape
        0 < p <= 1.

    References
    ----------
    Holtzman, Buys, Du, Forbes and Choi (2020), The curious case of neural text degeneration, section 3.1.
    """

    p: Any

    def mass(self, rows: int) -> np.ndarray:
        """p of every row."""
        p = per_row(self.p, rows, "p")
        require((p > 0) & (p <= 1), p, "p", "in (0, 1]", "leave the step out to keep all; a temperature of 0 is greedy")
        return p

    def threshold(self, logits: Array, context: Context) -> Array:
        xp = namespace(logits)
        p = like(self.mass(logits.shape[0]), logits)[:, None]
        ordered, probability = sorted_law(logits)
        before = xp.cumulative_sum(probability, axis=-1, dtype=xp.float64) - probability
        return last_kept(ordered, ((before < p) & (probability > 0)) | ((p >= 1) & (ordered > -math.inf)))


@dataclass(frozen=True)
class MinP(Truncation):
    """States at least p times as probable as the most probable one.

    Attributes
    ----------
    p : float or array of the batch shape
        0 < p <= 1.

    References
    ----------
    Nguyen, Baker, Neo, Roush, Kirsch and Shwartz-Ziv (2024), Turning up the heat: min-p sampling, section 3.
    """

    p: Any

    def gap(self, rows: int) -> np.ndarray:
        """How far below the largest logit the threshold is, in nats."""
        p = per_row(self.p, rows, "p")
        require((p > 0) & (p <= 1), p, "p", "in (0, 1]", "leave the step out to keep all")
        return -np.log(p)

    def threshold(self, logits: Array, context: Context) -> Array:
        return namespace(logits).max(logits, axis=-1) - column(self.gap(logits.shape[0]), logits)


@dataclass(frozen=True)
class TopNSigma(Truncation):
    """Logits within n standard deviations of the largest: the same states at every temperature.

    Attributes
    ----------
    n : float or array of the batch shape
        n >= 0.
    correction : int
        1 for the n - 1 convention of torch.std; the deviation is that of the allowed logits.

    References
    ----------
    Tang, Liu and Xu (2024), Top-n-sigma: not all logits are you need, section 3.
    """

    n: Any
    correction: int = 0

    def threshold(self, logits: Array, context: Context) -> Array:
        xp = namespace(logits)
        n = per_row(self.n, logits.shape[0], "n")
        require((n >= 0) & (n < math.inf), n, "n", "finite and at least 0", "1 is usual")
        allowed = logits > -math.inf
        top = xp.max(logits, axis=-1)
        below = xp.where(allowed, logits - top[:, None], xp.zeros_like(logits))
        count = xp.astype(xp.sum(xp.astype(allowed, logits.dtype), axis=-1), logits.dtype)
        mean = xp.sum(below, axis=-1) / count
        squares = xp.where(allowed, (below - mean[:, None]) ** 2, xp.zeros_like(below))
        freedom = xp.maximum(count - self.correction, xp.ones_like(count))
        return top - column(n, logits) * xp.sqrt(xp.sum(squares, axis=-1) / freedom)


@dataclass(frozen=True)
class Epsilon(Truncation):
    """States of at least the probability epsilon.

    Attributes
    ----------
    epsilon : float or array of the batch shape
        0 < epsilon < 1.

    References
    ----------
    Hewitt, Manning and Liang (2022), Truncation sampling as language model desmoothing, section 4.
    """

    epsilon: Any

    def _epsilon(self, logits: Array) -> Array:
        epsilon = per_row(self.epsilon, logits.shape[0], "epsilon")
        require((epsilon > 0) & (epsilon < 1), epsilon, "epsilon", "in (0, 1)", "3e-4 to 2e-3 is usual")
        return column(epsilon, logits)

    def threshold(self, logits: Array, context: Context) -> Array:
        return _at_least(logits, namespace(logits).log(self._epsilon(logits)))


@dataclass(frozen=True)
class Eta(Epsilon):
    """States of at least min(epsilon, sqrt(epsilon) exp(-S)), S the entropy: fewer where the model is sure.

    References
    ----------
    Hewitt, Manning and Liang (2022), Truncation sampling as language model desmoothing, section 4.
    """

    def threshold(self, logits: Array, context: Context) -> Array:
        xp = namespace(logits)
        log_epsilon = xp.log(self._epsilon(logits))
        return _at_least(logits, xp.minimum(log_epsilon, log_epsilon / 2 - entropy(logits)))


@dataclass(frozen=True)
class TopH(Truncation):
    """The longest run of the most probable states whose entropy, renormalised, is at most alpha times that of all.

    Attributes
    ----------
    alpha : float or array of the batch shape
        0 <= alpha <= 1.

    References
    ----------
    Baghaei Potraghloo et al. (2025), Top-H decoding, algorithm 1.
    """

    alpha: Any = 0.4

    def threshold(self, logits: Array, context: Context) -> Array:
        xp = namespace(logits)
        alpha = per_row(self.alpha, logits.shape[0], "alpha")
        require((alpha >= 0) & (alpha <= 1), alpha, "alpha", "in [0, 1]", "0.4 is usual")
        ordered, probability = sorted_law(logits)
        surprise = xp.where(probability > 0, -xp.log(xp.where(probability > 0, probability, 1)), probability)
        mass = xp.cumulative_sum(probability, axis=-1, dtype=xp.float64)
        inside = xp.cumulative_sum(probability * surprise, axis=-1, dtype=xp.float64) / mass + xp.log(mass)
        limit = like(alpha, logits)[:, None] * inside[:, -1:]
        over = xp.cumulative_sum(xp.astype(inside > limit, xp.int64), axis=-1)
        return last_kept(ordered, (over == 0) & (ordered > -math.inf))


@dataclass(frozen=True)
class PLess(Truncation):
    """States at least as probable as two draws are to agree: p_i >= sum p_j^2; nothing to choose.

    References
    ----------
    Tan, Wu and Howard (2025), p-less sampling: a robust hyperparameter-free approach for LLM decoding, section 3.
    """

    def threshold(self, logits: Array, context: Context) -> Array:
        xp = namespace(logits)
        return _at_least(logits, xp.log(xp.sum(softmax(logits) ** 2, axis=-1)))


@dataclass(frozen=True)
class Typical:
    """States whose surprise is closest to the entropy, up to the one at which their mass reaches m.

    Attributes
    ----------
    mass : float or array of the batch shape
        0 < m <= 1.

    References
    ----------
    Meister, Pimentel, Wiher and Cotterell (2023), Locally typical sampling, section 4.
    """

    kind: ClassVar[str] = "support"
    needs_history: ClassVar[bool] = False
    mass: Any

    def __call__(self, logits: Array, context: Context) -> Array:
        xp = namespace(logits)
        mass = per_row(self.mass, logits.shape[0], "mass")
        require((mass > 0) & (mass <= 1), mass, "mass", "in (0, 1]", "0.9 to 0.95 is usual")
        log_p, probability = log_softmax(logits), softmax(logits)
        allowed = log_p > -math.inf
        distance = xp.abs(xp.where(allowed, -log_p, xp.full_like(log_p, math.inf)) - entropy(logits)[:, None])
        order = xp.argsort(distance, axis=-1)
        p = xp.take_along_axis(probability, order, axis=-1)
        before = xp.cumulative_sum(p, axis=-1, dtype=xp.float64) - p
        ordered = xp.take_along_axis(distance, order, axis=-1)
        keep = (before < like(mass, logits)[:, None]) & (ordered < math.inf)
        farthest = xp.max(xp.where(keep, ordered, xp.zeros_like(ordered)), axis=-1)
        return xp.where(distance <= farthest[:, None], logits, xp.full_like(logits, -math.inf))
