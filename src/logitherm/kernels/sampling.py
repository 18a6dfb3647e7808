"""Sampling: draws by inverse cumulative distribution, as it is defined, and the way to its compiled twin."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from logitherm._array import Array, namespace, read_only
from logitherm.kernels import values
from logitherm.kernels.threads import SINGLE_THREAD, map_blocks

FEWEST = 1 << 12  # states of a row below which the reference serves: it takes less time than loading Numba


def inverse_cdf(x: Array, uniform: Array) -> tuple[Array, Array]:
    """The first state at which the cumulative weight exp(x - max x) passes uniform times its sum, and its log p.

    For x (rows, states), where -inf is a state that is not there.
    """
    xp = namespace(x)
    x = x - xp.max(x, axis=-1, keepdims=True)
    weights = xp.exp(x)
    cumulative = xp.cumulative_sum(weights, axis=-1)
    total = cumulative[:, -1:]
    here = (cumulative > uniform[:, None] * total) & (weights > 0)
    last = weights.shape[1] - 1 - xp.argmax(xp.flip(xp.astype(weights > 0, xp.int64), axis=-1), axis=-1)
    chosen = xp.where(xp.any(here, axis=-1), xp.argmax(xp.astype(here, xp.int64), axis=-1), last)
    return chosen, xp.take_along_axis(x, chosen[:, None], axis=-1)[:, 0] - xp.log(total[:, 0])


class Rows:
    """Rows of logits (rows, states), float32 or float64, with what every kernel needs: the maxima of their blocks.

    `top` is NaN for a row with NaN or +inf and -inf for one without an allowed state.
    """

    def __init__(self, z: np.ndarray) -> None:
        from logitherm.kernels import cpu_sampling

        values.cpu()  # says that kernels are compiled, if they are
        self.kernels = cpu_sampling
        self.z = read_only(z)
        rows, states = z.shape
        self.tops = np.empty((rows, -(-states // cpu_sampling.BLOCK)), z.dtype)
        self.top = np.empty(rows, z.dtype)
        self._each("tops", self.tops, self.top)

    def _each(self, name: str, *arrays: np.ndarray) -> None:
        """One kernel on blocks of rows."""
        kernel = getattr(self.kernels, name)
        values.ran[name] += 1
        if self.z.size < SINGLE_THREAD:  # a row or two: no time for blocks
            kernel(self.z, *arrays)
            return

        def work(rows: slice) -> None:
            kernel(self.z[rows], *(array[rows] for array in arrays))

        map_blocks(work, *self.z.shape)

    def full(self) -> np.ndarray:
        """Thresholds that keep everything."""
        return np.full(len(self.z), -math.inf, self.z.dtype)

    def kth(self, k: np.ndarray) -> np.ndarray:
        """The k-th largest value of every row."""
        out = self.full()
        self._each("kth", self.tops, self.top, k, out)
        return out

    def nucleus(self, temperatures: np.ndarray, floors: np.ndarray, mass: np.ndarray) -> np.ndarray:
        """The threshold at or above which the law has the mass."""
        out = self.full()
        self._each("nucleus", self.tops, self.top, temperatures, floors, mass, out)
        return out

    def counts(self, floors: np.ndarray) -> np.ndarray:
        """Number of states at or above the floor."""
        out = np.zeros(len(self.z), np.int64)
        self._each("counts", self.tops, self.top, floors, out)
        return out

    def compact(self, floors: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
        """The states at or above the floor, -1 after the last, and their values, -inf there."""
        states, found = np.empty((len(self.z), width), np.int64), np.empty((len(self.z), width), self.z.dtype)
        self._each("compact", self.tops, floors, states, found)
        return states, found

    def draw(self, temperatures: np.ndarray, floors: np.ndarray, uniform: np.ndarray) -> tuple[np.ndarray, ...]:
        """Token, log p and number of states kept, of softmax(z / T) over z >= floor."""
        rows = len(self.z)
        token, log_p, kept = np.full(rows, -1, np.int64), np.full(rows, math.nan), np.zeros(rows, np.int64)
        self._each("draw", self.tops, self.top, temperatures, floors, uniform, token, log_p, kept)
        return token, log_p, kept


def noise(seeds: np.ndarray, requests: np.ndarray, positions: np.ndarray, stream: int) -> np.ndarray:
    """Uniform numbers of the counter-based noise, compiled."""
    from logitherm.kernels import cpu_sampling

    out = np.empty(len(seeds))
    values.cpu()
    cpu_sampling.uniforms(seeds, requests, positions, np.uint64(stream), out)
    return out


def may_run(z: Any) -> bool:
    """Whether the compiled kernels serve rows of so many states; how many rows there are must not matter."""
    return z.shape[-1] >= FEWEST
