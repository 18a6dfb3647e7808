"""Logits on which samplers go wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def from_counts(counts: Any, dtype: Any = np.float32) -> np.ndarray:
    """Logits whose law is that of integer counts: log counts, -inf for 0.

    Parameters
    ----------
    counts : integer array
    dtype : floating dtype

    Examples
    --------
    >>> from_counts([4, 0, 1]).round(3).tolist()
    [1.3860000371932983, -inf, 0.0]
    """
    with np.errstate(divide="ignore"):
        return np.log(np.asarray(counts, dtype=np.float64)).astype(dtype)


def ladder(states: int, gaps: Sequence[float] = (8, 12, 16, 18, 20), dtype: Any = np.float32) -> np.ndarray:
    """One likely state, and many so far below that none of them matters and all together do: the rest of a vocabulary.

    Each next gap has some ten times as many states, the last all that are left; they are mixed over the vocabulary.

    Parameters
    ----------
    states : int
        200 000 as in large vocabularies makes even 20 nats a matter of 10^5 draws.
    gaps : sequence of float
        Nats below the top, rising.
    dtype : floating dtype

    Examples
    --------
    >>> values, counts = np.unique(ladder(20_000, (8, 12, 18)), return_counts=True)
    >>> values.tolist(), counts.tolist()
    ([-18.0, -12.0, -8.0, 0.0], [18899, 1000, 100, 1])
    """
    shares = [0.005, 0.05, 0.25, 0.35][: len(gaps) - 1]
    counts = [1, *(int(states * share) for share in shares)]
    values = np.repeat([0.0, *(-float(gap) for gap in gaps)], [*counts, states - sum(counts)])
    return np.random.default_rng(0).permutation(values).astype(dtype)


def zipf(states: int, dtype: Any = np.float32) -> np.ndarray:
    """Counts that fall like a power of the rank, mixed over the vocabulary."""
    counts = np.floor(1e6 / np.arange(1, states + 1) ** 1.2).astype(np.int64)
    return from_counts(np.random.default_rng(1).permutation(counts), dtype)


def normal(rows: int, states: int, seed: int, dtype: Any = np.float32) -> np.ndarray:
    """Rows from nearly flat to sure, some states of each forbidden."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(rows, states)) * np.geomspace(0.3, 5.0, rows)[:, None]
    z[:, 1:][rng.random((rows, states - 1)) < 0.05] = -np.inf
    return z.astype(dtype)
