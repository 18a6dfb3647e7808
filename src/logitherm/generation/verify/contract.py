"""Promises about noise: the same seed has the same draws, and a request the same draw in any batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from logitherm.generation.verify.oracle import Law, law_of
from logitherm.generation.verify.results import LEVEL, Check

Draw = Callable[[Any, int, Any], Any]


def reproducibility(draw: Draw, logits: np.ndarray, seed: int = 0, case: str = "", law: Law | None = None) -> Check:
    """Whether a seed has the same draws twice, and another seed others.

    Parameters
    ----------
    draw : callable
        `draw(logits, n, seed)`.
    logits : floating array, shape (rows, states)
    seed : int
    case : str
    law : Law, optional
        What is drawn from, if not plain softmax. Where it leaves little to chance two seeds may agree.

    Returns
    -------
    Check
        A fact.

    Examples
    --------
    >>> import numpy as np
    >>> from logitherm.generation.verify import draws_of
    >>> reproducibility(draws_of(), np.zeros((20, 50))).verdict()
    'right   reproducibility, , 20 draws: same seed, same draws; another seed, others'
    """
    n = len(logits)
    first, again, other = (drawn(draw, logits, n, s) for s in (seed, seed, seed + 1))
    changed = int((first != again).sum())
    if changed:
        return Check("reproducibility", case, 0.0, n, f"{changed} draws change under the same seed")
    agreement = float(np.prod((np.square((law_of(logits) if law is None else law).p)).sum(axis=-1)))
    if (first == other).all() and agreement < LEVEL:
        return Check("reproducibility", case, 0.0, n, "another seed has the same draws")
    return Check("reproducibility", case, 1.0, n, "same seed, same draws; another seed, others")


def batch_invariance(draw: Draw, logits: np.ndarray, seeds: np.ndarray, case: str = "") -> Check:
    """Whether requests with seeds of their own have the same draws alone, in a part of the batch and in another order.

    Parameters
    ----------
    draw : callable
        `draw(logits, n, seeds)`.
    logits : floating array, shape (rows, states)
    seeds : integer array, shape (rows,)
    case : str

    Returns
    -------
    Check
        A fact.

    References
    ----------
    He and Thinking Machines (2025), Defeating nondeterminism in LLM inference, for why batches differ.

    Examples
    --------
    >>> import numpy as np
    >>> from logitherm.generation.verify import draws_of
    >>> batch_invariance(draws_of(), np.zeros((20, 50)), np.arange(20)).p_value
    1.0
    """
    n = len(logits)
    whole = drawn(draw, logits, n, seeds)
    order = np.random.default_rng(0).permutation(n)
    half = order[: max(1, n // 2)]
    wrong = {
        "in another order": drawn(draw, logits[order], n, seeds[order]) != whole[order],
        "in half of the batch": drawn(draw, logits[half], len(half), seeds[half]) != whole[half],
        "alone": np.array([drawn(draw, logits[i : i + 1], 1, seeds[i : i + 1])[0] != whole[i] for i in half[:16]]),
    }
    told = [f"{int(changed.sum())} draws change {place}" for place, changed in wrong.items() if changed.any()]
    return Check("batch invariance", case, float(not told), n, "; ".join(told) or "same draws alone, in part, permuted")


def drawn(draw: Draw, logits: np.ndarray, n: int, seed: Any) -> np.ndarray:
    """What a sampler returns, once it is what it should be: n state numbers."""
    tokens = np.asarray(draw(logits, n, seed))
    if tokens.shape != (n,) or tokens.dtype.kind not in "iu":
        raise ValueError(f"draw: must return {n} integers; got {tokens.dtype} of shape {tokens.shape}; see the module")
    if tokens.size and not 0 <= int(tokens.min()) <= int(tokens.max()) < logits.shape[-1]:
        raise ValueError(
            f"draw: must return numbers of the {logits.shape[-1]} states; got {tokens.min()} to {tokens.max()}; -1 "
            "is an error of the sampler's own"
        )
    return tokens.astype(np.int64)
