"""What a pipeline drew."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from logitherm._array import Array, like, to_numpy
from logitherm.kernels import moments


@dataclass
class Draws:
    """One token a request, and what is known of it.

    Attributes
    ----------
    token : int64 array, shape (rows,)
        Of the kind of the logits; -1 for a request in `errors`.
    log_probability : float64 array, shape (rows,)
        log p of the token in the law it was drawn from, after every step.
    kept : int64 array, shape (rows,)
        Number of states in the support of that law.
    errors : dict of int to str
        Requests that could not be served, with `on_error="row"`.
    memory : dict
        What steps remember, for the next call.
    route : str
        How the tokens were drawn: "kernels" or "reference".
    """

    token: Array
    log_probability: np.ndarray
    kept: np.ndarray
    errors: dict[int, str] = field(default_factory=dict)
    memory: dict[str, np.ndarray] = field(default_factory=dict)
    route: str = "reference"
    _logits: Array = field(default=None, repr=False)
    _support: Callable[[int], np.ndarray] = field(default=lambda row: np.zeros(0, np.int64), repr=False)

    def support(self, row: int) -> np.ndarray:
        """The tokens that a request could have drawn, in order. Read it before the logits are changed in place."""
        return self._support(row)

    def mask(self) -> np.ndarray:
        """The supports of all requests as one bool array, shape (rows, states)."""
        kept = np.zeros(tuple(self._logits.shape), dtype=bool)
        for row in range(len(kept)):
            kept[row, self.support(row)] = True
        return kept

    @cached_property
    def raw_log_probability(self) -> np.ndarray:
        """log p of the token by the logits as they came, at T = 1 and before any step; float64, NaN for a request in
        `errors`. Read it before the logits are changed in place."""
        z = self._logits
        good = np.array([row for row in range(len(z)) if row not in self.errors], dtype=np.int64)
        found = np.full(len(z), np.nan)
        if len(good):
            rows = z[like(good, z)] if len(good) < len(z) else z
            m = moments(rows, like(np.ones(len(good)), rows), None, False)
            tokens = to_numpy(self.token)[good]
            own = to_numpy(rows[like(np.arange(len(good)), rows), like(tokens, rows)]).astype(np.float64)
            found[good] = own - to_numpy(m.top) - np.log1p(to_numpy(m.rest).astype(np.float64))
        return found
