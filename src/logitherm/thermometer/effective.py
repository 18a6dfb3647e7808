"""The temperature of one model as seen from another."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from logitherm import kernels
from logitherm._array import Array, as_logits, describe, require_rows, to_numpy
from logitherm._json import plain
from logitherm._labels import as_weights
from logitherm.kernels.likelihood import Observed, expected_logits
from logitherm.kernels.threads import blocks
from logitherm.thermometer.fit import TemperatureFit, fit_source
from logitherm.thermometer.sources import ArraySource

BLOCK_VALUES = 1 << 17
ROUNDING = 1e-15  # a divergence that may be rounding alone


@dataclass(frozen=True)
class EffectiveTemperature:
    """The temperature at which a source comes closest to a target, and how much of their difference it is.

    Attributes
    ----------
    temperature : float
        argmin_T KL(target || softmax(source / T)), 0 <= T <= inf.
    divergence_before, divergence_after : float
        Mean KL(target || softmax(source / T)) over the rows at T = 1 and at `temperature`, in nats.
    share : float
        1 - divergence_after / divergence_before: 1 if the two differ by a temperature alone, 0 if not at all. NaN where
        they do not differ.
    at_bound : "zero", "infinite" or None
        As in `TemperatureFit`.
    n, classes : int
        Rows and states.
    """

    temperature: float
    divergence_before: float
    divergence_after: float
    share: float
    at_bound: str | None
    n: int
    classes: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: None where a number is not finite."""
        return dict(plain(asdict(self)))


def effective_temperature(source: Array, target: Array, *, weights: Any = None, axis: int = -1) -> EffectiveTemperature:
    """The temperature of `source` against `target`: argmin_T KL(softmax(target) || softmax(source / T)).

    It is directional: exchanging the two does not give 1/T. Limits: a target that is always certain of the source's
    largest logit gives T = 0, a uniform one T = inf.

    Parameters
    ----------
    source, target : floating arrays, shape (..., states)
        Logits of the two models on the same inputs; -inf forbids a state.
    weights : array, batch shape
        Nonnegative weights of the rows.
    axis : int
        The axis of the states.

    Returns
    -------
    EffectiveTemperature

    Raises
    ------
    ValueError
        Shapes that differ; a target that allows a state which the source forbids (the divergence is infinite at
        every T).

    References
    ----------
    Hinton, Vinyals and Dean (2015), section 2.1; Csiszar (1975) for the projection on an exponential family.

    Examples
    --------
    >>> import numpy as np
    >>> z = np.random.default_rng(0).normal(size=(50, 4))
    >>> found = effective_temperature(z, z / 2.5)
    >>> round(found.temperature, 6), round(found.share, 6)
    (2.5, 1.0)
    """
    z, goal = as_logits(source, axis, "source"), as_logits(target, axis, "target")
    if tuple(z.shape) != tuple(goal.shape):
        raise ValueError(f"target: must have the shape of source {tuple(z.shape)}; got {describe(goal)}")
    rows, goals = (to_numpy(v).reshape(-1, z.shape[-1]) for v in (z, goal))
    n, states = rows.shape
    w = as_weights(weights, tuple(z.shape[:-1]))

    def probabilities(block: slice) -> np.ndarray:
        for name, part in (("source", rows[block]), ("target", goals[block])):
            require_rows(part.max(axis=-1), name, numbers=np.arange(block.start, block.stop))
        return _probabilities(goals[block], 1.0)

    means = expected_logits(rows, probabilities)
    clash = means == -np.inf
    if clash.any():
        raise ValueError(
            f"source: must allow every state that the target allows; {int(clash.sum())} of {n} rows forbid one, "
            f"first row {int(clash.argmax())} (the divergence is infinite at every T); mask both or neither"
        )
    found: TemperatureFit = fit_source(
        ArraySource(rows, Observed(means=means, weights=w)), drawn=False, zero_labels="raise", confidence=0.95
    )
    weight = np.ones(n) if w is None else w
    before, after = (_divergence(rows, goals, weight, t) for t in (1.0, found.temperature))
    share = 1 - after / before if before > ROUNDING else float("nan")
    return EffectiveTemperature(found.temperature, before, after, share, found.at_bound, n, states)


def _probabilities(z: np.ndarray, temperature: float, logarithm: bool = False) -> np.ndarray:
    rows = z.astype(np.float64)
    return kernels.softmax(rows, np.full(rows.shape[0], temperature), logarithm=logarithm)


def _divergence(source: np.ndarray, target: np.ndarray, weights: np.ndarray, temperature: float) -> float:
    """Mean KL(softmax(target) || softmax(source / temperature)), summed from the difference of log-probabilities."""
    total = 0.0
    for block in blocks(source.shape[0], source.shape[1], BLOCK_VALUES):
        log_target = _probabilities(target[block], 1.0, logarithm=True)
        p = _probabilities(target[block], 1.0)
        log_model = _probabilities(source[block], temperature, logarithm=True)
        with np.errstate(invalid="ignore"):
            terms = np.where(p > 0, p * (log_target - log_model), 0.0)
        total += float((weights[block] * terms.sum(axis=-1)).sum())
    return max(0.0, total / float(weights.sum()))
