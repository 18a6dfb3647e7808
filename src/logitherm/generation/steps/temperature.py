"""The temperature as a step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from logitherm._array import Array, as_temperature, namespace, silent
from logitherm.generation.steps.context import Context, per_row, require
from logitherm.kernels.reference import over


@dataclass(frozen=True)
class Temperature:
    """(z - max z) / T.

    Limits: T = 0 keeps the largest logits, all of them where several tie; T = inf makes all allowed states equal.

    Attributes
    ----------
    temperature : float, array of the batch shape, or Temperature
        0 <= T <= inf; a number, one a request, a set point, a schedule over tokens, a fitted calibrator.

    Examples
    --------
    >>> import numpy as np
    >>> from logitherm.generation import Pipeline, Temperature
    >>> Pipeline([Temperature(0.5)]).probabilities(np.array([[1.0, 0.0]])).round(3).tolist()
    [[0.881, 0.119]]
    """

    kind: ClassVar[str] = "logits"
    needs_history: ClassVar[bool] = False
    temperature: Any = 1.0

    def of(self, logits: Array, context: Context) -> Array:
        """T of every row, in the dtype of the logits."""
        t, _ = self._checked(logits, context)
        return as_temperature(t, logits, check=False)

    def numbers(self, logits: np.ndarray, context: Context) -> np.ndarray:
        """The same as float64, rounded to the dtype of the logits."""
        with np.errstate(over="ignore"):  # beyond the dtype it is inf
            return self._checked(logits, context)[1].astype(logits.dtype).astype(np.float64)

    def _checked(self, logits: Array, context: Context) -> tuple[Any, np.ndarray]:
        t = self.temperature
        if hasattr(t, "resolve"):
            t = t.resolve(logits, context.step)
        numbers = per_row(t, logits.shape[0], "temperature")
        require(numbers >= 0, numbers, "temperature", "in [0, inf]", "0 is greedy")
        return t, numbers

    def __call__(self, logits: Array, context: Context) -> Array:
        top = namespace(logits).max(logits, axis=-1, keepdims=True)
        return silent(over)(logits - top, self.of(logits, context)[..., None])
