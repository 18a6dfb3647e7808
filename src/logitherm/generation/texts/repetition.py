"""Texts that repeat themselves."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

Tokens = Sequence[int] | np.ndarray


def n_grams(tokens: Tokens, n: int) -> list[tuple[int, ...]]:
    """All runs of n tokens, in order."""
    listed = list(map(int, tokens))
    return list(zip(*(listed[i:] for i in range(n))))


def repeated_n(tokens: Tokens, n: int = 4) -> float:
    """Share of the n-grams of one text that are in it already: 1 - (different n-grams) / (all n-grams), seq-rep-n.

    Limits: 0 where none comes twice; near 1 for a loop; NaN for fewer than n tokens. Longer texts repeat more, so
    compare texts of one length.

    Parameters
    ----------
    tokens : sequence of integers
    n : int
        At least 1.

    Returns
    -------
    float

    References
    ----------
    Welleck et al. (2020), Neural text generation with unlikelihood training.

    Examples
    --------
    >>> repeated_n([1, 2, 1, 2, 1, 2], n=2)         # 12 21 12 21 12: two of five are new
    0.6
    """
    grams = n_grams(tokens, require_count(n, "n"))
    return 1.0 - len(set(grams)) / len(grams) if grams else math.nan


def final_loop(tokens: Tokens, repeats: int = 3, span: int = 10) -> int | None:
    """The period of the cycle in which a text ends, the shortest where there are several; None where it ends in none.

    A cycle of p tokens counts if the text ends in at least `repeats` full rounds of it, which together have at least
    `span` tokens: three equal characters are no loop yet.

    Parameters
    ----------
    tokens : sequence of integers
    repeats : int
        At least 2.
    span : int
        Least tokens in the loop.

    Returns
    -------
    int or None

    Examples
    --------
    >>> final_loop([9, 8, 1, 2, 1, 2, 1, 2], span=6)
    2
    >>> final_loop([9, 8, 1, 2, 1, 2, 1, 3], span=6) is None
    True
    """
    if require_count(repeats, "repeats") < 2:
        raise ValueError(f"repeats: must be at least 2; got {repeats}; one round is no loop")
    x = np.asarray(tokens)
    for period in range(1, len(x) // repeats + 1):
        if x[-1] != x[-1 - period]:
            continue
        other = np.flatnonzero(x[period:][::-1] != x[:-period][::-1])
        length = period + (int(other[0]) if len(other) else len(x) - period)
        rounds = length // period
        if rounds >= repeats and rounds * period >= span:
            return period
    return None


def loop_rate(sequences: Sequence[Tokens], repeats: int = 3, span: int = 10) -> float:
    """Share of texts that end in a loop, as `final_loop` has it: what a model does that is too cold.

    Parameters
    ----------
    sequences : sequence of token sequences
    repeats, span : int
        As in `final_loop`.

    Returns
    -------
    float
        NaN of no texts.

    References
    ----------
    Holtzman et al. (2020), The curious case of neural text degeneration, on loops.

    Examples
    --------
    >>> loop_rate([[1, 2] * 8, [1, 2, 3, 4, 5, 6, 7, 8]])
    0.5
    """
    if not len(sequences):
        return math.nan
    return sum(final_loop(tokens, repeats, span) is not None for tokens in sequences) / len(sequences)


def require_count(value: int, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise ValueError(f"{name}: must be a whole number of at least 1; got {value!r}; give 4, say")
    return int(value)
