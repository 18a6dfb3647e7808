"""What several tries at one task are worth."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

import numpy as np


def pass_at_k(n: int, right: int, k: int) -> float:
    """Probability that one of k tries at least is right, from n of which some were: 1 - C(n - right, k) / C(n, k).

    Unbiased, and computed as 1 - prod over i = n - right + 1 .. n of (1 - k / i), in which nothing overflows.

    Parameters
    ----------
    n, right, k : int
        0 <= right <= n, 1 <= k <= n.

    Returns
    -------
    float

    References
    ----------
    Chen et al. (2021), Evaluating large language models trained on code, section 2.1 and figure 3.

    Examples
    --------
    >>> round(pass_at_k(4, 2, 2), 6)            # 1 - 1/6
    0.833333
    """
    if not (0 <= right <= n and 1 <= k <= n):
        raise ValueError(
            f"right, k: must be 0 <= right <= n and 1 <= k <= n; got n={n}, right={right}, k={k}; mend them"
        )
    if n - right < k:
        return 1.0
    return 1.0 - math.prod(1.0 - k / i for i in range(n - right + 1, n + 1))


def best_of(scores: Sequence[float] | np.ndarray, k: int) -> float:
    """Expected largest score of k of the tries: the mean over all C(n, k) choices, so unbiased.

    It is sum over i = k .. n of s_(i) C(i - 1, k - 1) / C(n, k), s_(i) the i-th smallest; for scores of 0 and 1 it is
    `pass_at_k`.

    Parameters
    ----------
    scores : array, shape (n,)
        Finite.
    k : int
        1 <= k <= n.

    Returns
    -------
    float

    References
    ----------
    Chen et al. (2021), section 2.1, for scores of 0 and 1; Halmos (1946), The theory of unbiased estimation.

    Examples
    --------
    >>> best_of([0.0, 1.0, 5.0], k=2)           # (1 + 5 + 5) / 3
    3.6666666666666665
    """
    s = np.sort(np.asarray(scores, dtype=np.float64))
    n = len(s)
    if not np.isfinite(s).all():
        raise ValueError("scores: must be finite; leave out what has no score, or give it the worst")
    if not 1 <= k <= n:
        raise ValueError(f"k: must lie in [1, {n}], the number of scores; got {k}; score more tries")
    weights = np.ones(n)  # C(i - 1, k - 1) / C(n, k) = k / n * prod over j = i .. n - 1 of (j - k + 1) / j
    for i in range(n - 1, 0, -1):
        weights[i - 1] = weights[i] * max(i - k + 1, 0) / i
    return float(weights @ s * k / n)


def majority_vote(answers: Sequence[Hashable], scores: Sequence[float] | np.ndarray) -> float:
    """Score of the answer that most tries gave; the mean score where several answers have equally many.

    Parameters
    ----------
    answers : sequence
        What every try says, hashable: "42", say. None is a try without an answer: it does not vote.
    scores : array, shape (n,)
        Of every try, such as 1 for right and 0 for wrong; equal for equal answers, or their mean is taken.

    Returns
    -------
    float
        0 where no try has an answer.

    References
    ----------
    Wang et al. (2023), Self-consistency improves chain of thought reasoning in language models, section 2.

    Examples
    --------
    >>> majority_vote(["42", "17", "42"], [1, 0, 1])
    1.0
    >>> majority_vote(["42", "17"], [1, 0])
    0.5
    """
    if len(answers) != len(scores):
        raise ValueError(f"scores: must be one an answer; got {len(scores)} for {len(answers)}; give as many")
    votes: dict[Hashable, list[float]] = {}
    for answer, score in zip(answers, scores):
        if answer is not None:
            votes.setdefault(answer, []).append(float(score))
    if not votes:
        return 0.0
    most = max(map(len, votes.values()))
    first = [sum(each) / most for each in votes.values() if len(each) == most]
    return sum(first) / len(first)
