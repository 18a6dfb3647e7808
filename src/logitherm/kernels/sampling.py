"""Sampling: draws by inverse cumulative distribution, as it is defined, and the way to its compiled twin."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from logitherm._array import Array, namespace, read_only
from logitherm.kernels import values
from logitherm.kernels.threads import SINGLE_THREAD, map_blocks

TEMPERATURE, TOP_K, TOP_P, MIN_P = range(4)  # codes of steps; the number of the last is the gap -log p
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


@dataclass
class Sampled:
    """What steps make of rows of logits, and what is drawn: one entry a row.

    A row of which `top` is NaN (it has NaN or +inf) or -inf (nothing is allowed) has no more than that.
    """

    z: np.ndarray
    tops: np.ndarray  # maxima of blocks, (rows, blocks)
    top: np.ndarray
    temperatures: np.ndarray
    floors: np.ndarray  # thresholds: what is left are the states at or above
    kept: np.ndarray  # their number
    token: np.ndarray  # -1 without noise
    log_p: np.ndarray

    def compact(self, width: int) -> tuple[np.ndarray, np.ndarray]:
        """The states left, -1 after the last, and their values, -inf there."""
        from logitherm.kernels import cpu_sampling

        states, found = np.empty((len(self.z), width), np.int64), np.empty((len(self.z), width), self.z.dtype)
        _each(cpu_sampling.compact, self.z, self.tops, self.floors, states, found)
        values.ran["compact"] += 1
        return states, found


def sample(z: np.ndarray, steps: Sequence[tuple[int, np.ndarray]] = (), uniform: np.ndarray | None = None) -> Sampled:
    """Take steps, codes with one number a row, and draw, if there is a uniform number for every row.

    z (rows, states) is float32 or float64.
    """
    from logitherm.kernels import cpu_sampling

    values.cpu()  # says that kernels are compiled, if they are
    rows, states = z.shape
    found = Sampled(
        z=read_only(z),
        tops=np.empty((rows, -(-states // cpu_sampling.BLOCK)), z.dtype),
        top=np.empty(rows, z.dtype),
        temperatures=np.ones(rows),
        floors=np.empty(rows, z.dtype),
        kept=np.zeros(rows, np.int64),
        token=np.full(rows, -1),
        log_p=np.full(rows, math.nan),
    )
    kernel = partial(cpu_sampling.sample, np.array([code for code, _ in steps], np.int64))
    numbers = np.empty((rows, len(steps)))
    for i, (_, number) in enumerate(steps):
        numbers[:, i] = number
    noise = np.empty(0) if uniform is None else uniform
    out = (found.tops, found.top, found.temperatures, found.floors, found.kept, found.token, found.log_p)
    _each(kernel, found.z, numbers, noise, *out)
    values.ran["sample"] += 1
    return found


def _each(kernel: Callable[..., None], z: np.ndarray, *arrays: np.ndarray) -> None:
    """One kernel on blocks of rows."""
    if z.size < SINGLE_THREAD:  # a row or two: no time for blocks
        kernel(z, *arrays)
    else:
        map_blocks(lambda rows: kernel(z[rows], *(array[rows] for array in arrays)), *z.shape)


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
