"""The noise of sampling, and its contract.

A uniform number is a function of four 64-bit integers alone: (seed, request, position, stream). It is the first word of
Philox4x64-10 with the key (seed, request) at the counter (position, stream, 0, 0), (word + 1/2) / 2^64 rounded to
float64 and never 1. So the same request gives the same tokens alone or in any batch, in any row of it, on any number of
threads, and on whatever machine; two positions, two requests or two streams have nothing to do with each other.

The streams in use: 0 the draw of a token, 1 whether XTC strikes, 2 whether a drafted token is accepted, 3 the token
drawn in its place, 4 the draws of a draft model.
"""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np

from logitherm._array import describe, is_array, to_numpy

DRAW, XTC_STRIKES, ACCEPT, RESIDUAL, DRAFT = range(5)

_LOW, _HALF = np.uint64(0xFFFFFFFF), np.uint64(32)
_MULTIPLIERS = np.uint64(0xD2E7470EE14C6C93), np.uint64(0xCA5A826395121157)
_WEYL = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBB67AE8584CAA73B)
_ROUNDS = 10
BELOW_ONE = 1.0 - 2.0**-53


def uniforms(seed: Any, request: Any, position: Any, stream: int) -> np.ndarray:
    """Numbers in (0, 1) for broadcast arrays of seeds, requests and positions: the definition, in NumPy.

    Parameters
    ----------
    seed, request, position : int or integer array
        0 <= each < 2^64.
    stream : int

    Returns
    -------
    float64 array of the broadcast shape

    References
    ----------
    Salmon, Moraes, Dror and Shaw (2011), Parallel random numbers: as easy as 1, 2, 3, section 3.3.

    Examples
    --------
    >>> uniforms(0, [0, 1], 7, DRAW).round(6).tolist()
    [0.675769, 0.803156]
    >>> uniforms(0, 1, [7, 8], DRAW).round(6).tolist()
    [0.803156, 0.565055]
    """
    key0, key1, c0 = np.broadcast_arrays(*(as_words(v, n) for v, n in zip((seed, request, position), NAMES)))
    c1, c2, c3 = np.full_like(c0, stream), np.zeros_like(c0), np.zeros_like(c0)
    with np.errstate(over="ignore"):
        for _ in range(_ROUNDS):
            (high0, low0), (high1, low1) = (_wide_product(m, c) for m, c in zip(_MULTIPLIERS, (c0, c2)))
            c0, c1, c2, c3 = high1 ^ c1 ^ key0, low1, high0 ^ c3 ^ key1, low0
            key0, key1 = key0 + _WEYL[0], key1 + _WEYL[1]
    return np.minimum((c0.astype(np.float64) + 0.5) * 2.0**-64, BELOW_ONE)


NAMES = ("seed", "request", "position")


def as_words(values: Any, name: str) -> np.ndarray:
    """64-bit words of integers; anything else is refused."""
    given = to_numpy(values) if is_array(values) else np.asarray(values, dtype=object)
    if given.dtype == object and all(isinstance(v, Integral) for v in given.flat):
        numbers = [int(v) for v in given.flat]  # beyond int64, perhaps
        bad = next((i for i, v in enumerate(numbers) if not 0 <= v < 2**64), None)
    elif given.dtype.kind in "iu":
        bad = int(np.argmax(given < 0)) if given.size and given.min() < 0 else None
    else:
        raise TypeError(f"{name}: must be whole numbers; got {describe(values)}; give one, or one a request")
    if bad is not None:
        at = f"request {bad} has" if given.ndim else "got"
        raise ValueError(f"{name}: must lie in [0, 2^64); {at} {given.flat[bad]}; take it modulo 2**64")
    return given.astype(np.uint64)


def _wide_product(a: Any, b: Any) -> tuple[np.ndarray, np.ndarray]:
    """High and low 64 bits of a * b."""
    a0, a1, b0, b1 = a & _LOW, a >> _HALF, b & _LOW, b >> _HALF
    middle = a1 * b0 + (a0 * b0 >> _HALF)
    other = a0 * b1 + (middle & _LOW)
    return a1 * b1 + (middle >> _HALF) + (other >> _HALF), a * b
