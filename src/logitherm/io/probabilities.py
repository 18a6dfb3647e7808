"""Rows on the simplex: are they, and their logarithm.

Rounding a probability to its storage type moves the sum of a row by at most half an epsilon, and each entry too small
for a normal number by half the smallest one. Softmax itself, in float32, adds a few epsilon. Hence the tolerance on
|sum - 1|: max(epsilon of the stored type, 1e-5) + K * max(smallest subnormal, 1e-8), that is about 1e-3 for float16,
8e-3 for bfloat16, 1e-5 for float32, and the same for float64 and text, which often hold float32 numbers. A negative
entry is never rounding.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from logitherm.io.errors import InputError

BFLOAT16_EPSILON = 2.0**-7
_BLOCK = 1 << 20  # entries looked at together: no temporary grows with the file


def tolerance(classes: int, dtype: np.dtype, *, bfloat16: bool = False) -> float:
    """How far from 1 the sum of a row may be by rounding alone."""
    kind = np.finfo(dtype)
    epsilon = BFLOAT16_EPSILON if bfloat16 else float(kind.eps)
    return max(epsilon, 1e-5) + classes * max(float(kind.smallest_subnormal), 1e-8)


def looks_like_probabilities(rows: np.ndarray, *, bfloat16: bool = False) -> bool:
    """Whether every row is on the simplex. Only ever used for a hint: the kind of input is said, not guessed."""
    if rows.shape[1] < 2:
        return False
    limit = tolerance(rows.shape[1], rows.dtype, bfloat16=bfloat16)
    return all(not np.any(_off(block, limit)) for _, block in _blocks(rows))


def log_probabilities(rows: np.ndarray, place: str, *, bfloat16: bool = False) -> tuple[np.ndarray, int]:
    """log of rows on the simplex and how many entries are exactly zero; those become -inf.

    float16 rows give float32 logarithms, the others keep their type. No zero is clipped: the constant would decide
    the temperature.

    Raises
    ------
    InputError
        Rows off the simplex beyond rounding, with their count and the first one.

    Examples
    --------
    >>> log_probabilities(np.array([[0.0, 1.0]]), "p.npz")
    (array([[-inf,   0.]]), 1)
    """
    _require_simplex(rows, place, tolerance(rows.shape[1], rows.dtype, bfloat16=bfloat16))
    logarithm = np.empty(rows.shape, dtype=np.result_type(rows.dtype, np.float32))
    with np.errstate(divide="ignore"):
        np.log(rows, out=logarithm, dtype=logarithm.dtype)
    return logarithm, int(rows.size - np.count_nonzero(rows))


def _blocks(rows: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    step = max(1, _BLOCK // rows.shape[1])
    for start in range(0, rows.shape[0], step):
        yield start, rows[start : start + step]


def _off(block: np.ndarray, limit: float) -> np.ndarray:
    """Which rows are off the simplex; NaN and infinities are."""
    with np.errstate(invalid="ignore", over="ignore"):
        on: np.ndarray = (np.min(block, axis=1) >= 0) & (np.abs(np.sum(block, axis=1, dtype=np.float64) - 1.0) <= limit)
    return ~on


def _require_simplex(rows: np.ndarray, place: str, limit: float) -> None:
    count, first = 0, -1
    for start, block in _blocks(rows):
        off = _off(block, limit)
        if off.any():
            count += int(np.count_nonzero(off))
            first = first if first >= 0 else start + int(np.argmax(off))
    if not count:
        return
    row = rows[first].astype(np.float64)
    low, total = float(row.min()), float(row.sum())
    what = f"holds {low:.6g}" if low < 0 else "is not finite" if not np.isfinite(total) else f"sums to {total:.9g}"
    mend = "are these logits? then drop --probabilities" if low < 0 else "renormalise them if that is what they lack"
    raise InputError(
        f"{place}: rows of probabilities must be >= 0 and sum to 1 within {limit:.2g}; {count} of {len(rows)} do not, "
        f"the first is row {first} (from 0), which {what}; {mend}"
    )
