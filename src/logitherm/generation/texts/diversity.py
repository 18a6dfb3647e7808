"""How different texts are, within themselves and from each other."""

from __future__ import annotations

import gzip
import math
from collections import Counter
from collections.abc import Sequence

from logitherm.generation.texts.repetition import Tokens, n_grams, require_count

NO_MATCH = 0.1  # counted where no n-gram of an order matches, so that the geometric mean is not 0 at once


def distinct_n(sequences: Sequence[Tokens], n: int = 2, *, tokens: int | None = None) -> float:
    """Different n-grams over all n-grams of some texts, of their first `tokens` tokens together.

    Without a fixed count the number falls with the length of the texts, whatever these are; so give one that all sets
    of texts to be compared have. N-grams do not reach from one text into the next.

    Limits: 1 where no n-gram comes twice; NaN where there is none.

    Parameters
    ----------
    sequences : sequence of token sequences
    n : int
        At least 1.
    tokens : int, optional
        How many tokens to read, text after text; all by default.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        Fewer tokens than asked for.

    References
    ----------
    Li et al. (2016), A diversity-promoting objective function for neural conversation models; Liu et al.
    (2022), Rethinking and refining the distinct metric, on its bias by length.

    Examples
    --------
    >>> distinct_n([[1, 2, 3], [1, 2, 4]], n=2)              # 12 23 12 24
    0.75
    >>> distinct_n([[1, 2, 3], [1, 2, 4]], n=2, tokens=5)    # 12 23 12
    0.6666666666666666
    """
    require_count(n, "n")
    if tokens is not None:
        sequences = first_tokens(sequences, tokens)
    grams = [gram for sequence in sequences for gram in n_grams(sequence, n)]
    return len(set(grams)) / len(grams) if grams else math.nan


def first_tokens(sequences: Sequence[Tokens], count: int) -> list[Tokens]:
    """So many tokens of some texts, text after text."""
    found: list[Tokens] = []
    left = count
    for sequence in sequences:
        found.append(sequence[:left])
        left -= len(found[-1])
    if left > 0:
        raise ValueError(f"tokens: must be at most the {count - left} that the texts have; got {count}; give fewer")
    return found


def compression_ratio(texts: Sequence[str] | Sequence[bytes]) -> float:
    """Bytes of some texts over their bytes after gzip (level 9): the higher, the more they repeat, within a text and
    among each other.

    Limits: below 1 for a few random bytes; about 1000 for one letter for ever; NaN of no bytes. Longer texts compress
    better, so compare equal numbers of tokens.

    Parameters
    ----------
    texts : sequence of str (as UTF-8) or bytes
        Joined by line ends.

    Returns
    -------
    float

    References
    ----------
    Shaib et al. (2024), Standardizing the measurement of text diversity.

    Examples
    --------
    >>> compression_ratio(["the cat sat on the mat"]) < compression_ratio(["the cat the cat the cat "] * 9)
    True
    """
    raw = b"\n".join(text.encode() if isinstance(text, str) else bytes(text) for text in texts)
    return len(raw) / len(gzip.compress(raw, 9, mtime=0)) if raw else math.nan


def self_bleu(sequences: Sequence[Tokens], n: int = 4) -> float:
    """Mean BLEU of each text against all others: the higher, the more alike they are.

    BLEU as defined, with uniform weights up to n-grams, counts clipped at the most in any other text, and the brevity
    penalty of the closest length; an order without a match counts as 0.1 matches, one for which the text is too short
    is left out. Written here, as no library of this size is needed for it; the counts are shared, so that m texts take
    time of order m and not m^2.

    Limits: 1 where all texts are equal; NaN for fewer than two, or where all are empty.

    Parameters
    ----------
    sequences : sequence of token sequences
    n : int
        Longest n-gram, at least 1.

    Returns
    -------
    float

    References
    ----------
    Zhu et al. (2018), Texygen; Papineni et al. (2002), BLEU, section 2; Chen and Cherry (2014), smoothing
    method 1.

    Examples
    --------
    >>> self_bleu([[1, 2, 3, 4, 5]] * 3)
    1.0
    >>> round(self_bleu([[1, 2, 3, 4], [1, 2, 3, 5]], n=2), 3)       # sqrt(3/4 * 2/3)
    0.707
    """
    require_count(n, "n")
    if len(sequences) < 2:
        return math.nan
    lengths = [len(sequence) for sequence in sequences]
    counts = [[Counter(n_grams(sequence, order)) for sequence in sequences] for order in range(1, n + 1)]
    most = [_two_largest(each) for each in counts]
    scores = []
    for i, length in enumerate(lengths):
        if not length:
            continue
        logs: list[float] = []
        for each, largest in zip(counts, most):
            total = max(length - len(logs), 0)
            if total:
                logs.append(math.log((_matches(each[i], largest) or NO_MATCH) / total))
        closest = min((other for j, other in enumerate(lengths) if j != i), key=lambda m: (abs(m - length), m))
        brevity = min(0.0, 1.0 - closest / length)
        scores.append(math.exp(brevity + sum(logs) / len(logs)))
    return sum(scores) / len(scores) if scores else math.nan


Largest = dict[tuple[int, ...], tuple[int, int]]


def _two_largest(counts: Sequence[Counter[tuple[int, ...]]]) -> Largest:
    """The largest and the second largest count of every n-gram in any text."""
    found: Largest = {}
    for each in counts:
        for gram, count in each.items():
            first, second = found.get(gram, (0, 0))
            found[gram] = (count, first) if count > first else (first, max(second, count))
    return found


def _matches(own: Counter[tuple[int, ...]], largest: Largest) -> int:
    """Counts of one text, clipped at the largest of the others."""
    return sum(min(count, largest[gram][count == largest[gram][0]]) for gram, count in own.items())
