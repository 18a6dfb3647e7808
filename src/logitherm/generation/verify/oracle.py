"""The law a sampler should have, in float64, and the states that rounding puts into its support or not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from logitherm.generation.pipeline import Pipeline
from logitherm.gibbs import softmax

SLACK = 1e-5  # relative change of logits, far more than rounding makes in float32 and far less than anyone would see


@dataclass(frozen=True)
class Law:
    """Probabilities, and what is open about them.

    Attributes
    ----------
    p : float64 array, shape (..., states)
    undecided : bool array, same shape
        States in the support or not as logits are rounded: a draw of them is neither right nor wrong.
    """

    p: np.ndarray
    undecided: np.ndarray

    @property
    def decided(self) -> Any:
        """Rows without any such state."""
        return ~self.undecided.any(axis=-1)

    @property
    def states(self) -> int:
        return self.p.shape[-1]


def law_of(logits: np.ndarray, pipeline: Pipeline | Callable[[np.ndarray], np.ndarray] | None = None) -> Law:
    """The law of a pipeline, or of plain softmax, computed in float64 as its steps are defined.

    Limits: without a truncation no state is undecided.

    Parameters
    ----------
    logits : floating array, shape (states,) or (rows, states)
    pipeline : Pipeline or callable, optional
        Without noise or history of its own. A callable takes float64 logits (rows, states) and returns probabilities:
        an oracle that owes nothing to this library, say.

    Returns
    -------
    Law

    Examples
    --------
    >>> import numpy as np
    >>> from logitherm.generation import TopK
    >>> law_of(np.array([1.0, 1.0, 0.0, 0.0]), Pipeline([TopK(2)])).p.tolist()
    [0.5, 0.5, 0.0, 0.0]
    """
    rows = np.atleast_2d(np.asarray(logits)).astype(np.float64)

    def probabilities(z: np.ndarray) -> np.ndarray:
        if pipeline is None:
            return softmax(z)
        if isinstance(pipeline, Pipeline):
            return pipeline.probabilities(z, seed=0, position=0)
        return np.asarray(pipeline(z), dtype=np.float64)

    p = probabilities(rows)
    kept = p > 0
    undecided = np.zeros_like(kept)
    if (kept != (rows > -np.inf)).any():
        finite = np.where(np.isfinite(rows), rows, 0.0)
        jitter = SLACK * np.maximum(1.0, np.abs(finite)) * _of_the_value(finite)
        for change in (finite * SLACK, -finite * SLACK, jitter, -jitter):
            undecided |= (probabilities(rows + change) > 0) != kept
    shape = np.shape(logits)
    return Law(p.reshape(shape), undecided.reshape(shape))


def _of_the_value(z: np.ndarray) -> np.ndarray:
    """Numbers in [-1, 1) that are the same for equal values and look random for others: ties are not broken."""
    bits = (z + 0.0).view(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return ((bits ^ (bits >> np.uint64(32))) * np.uint64(0xD6E8FEB86659FD93)).astype(np.float64) * 2.0**-63 - 1
