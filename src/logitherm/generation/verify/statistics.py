"""Tests of draws against a law."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from logitherm.generation.verify.oracle import Law
from logitherm.generation.verify.results import Check

LEAST = 5.0  # draws expected in a bin, and in a tail that is looked at


def support(tokens: np.ndarray, law: Law, case: str = "") -> Check:
    """Whether only states of the law were drawn; those that rounding decides are as good drawn as not.

    Parameters
    ----------
    tokens : integer array, shape (draws,)
    law : Law
        Of one row, or of one for every draw.
    case : str

    Returns
    -------
    Check
        A fact.
    """
    wrong = int(((_of(law.p, tokens) == 0) & ~_of(law.undecided, tokens)).sum())
    allowed = int(((law.p > 0) | law.undecided).sum(axis=-1).max())
    detail = f"{wrong} of states that are not in it" if wrong else f"none but the {allowed} states allowed"
    return Check("support", case, float(wrong == 0), len(tokens), detail)


def chi_square(tokens: np.ndarray, law: Law, case: str = "") -> Check:
    """Pearson's test of the counts, with states of similar probability pooled until 5 draws are expected in a bin.

    The statistic is compared with a scaled chi-square of its exact mean and variance, which with bins of few draws is
    larger than that of the usual limit. Draws of undecided states are left out.

    Parameters
    ----------
    tokens : integer array, shape (draws,)
        Draws of one law.
    law : Law
    case : str

    Returns
    -------
    Check

    References
    ----------
    Pearson (1900), On the criterion ...; Haldane (1937), The exact value of the moments of the distribution of
    chi-square, for the variance.

    Examples
    --------
    >>> import numpy as np
    >>> from logitherm.generation.verify import law_of
    >>> law = law_of(np.zeros(4))
    >>> chi_square(np.repeat([0, 1, 2, 3], 25), law).p_value
    1.0
    >>> chi_square(np.repeat([0, 1, 2, 3], [10, 20, 30, 40]), law).p_value < 1e-3
    True
    """
    from scipy.stats import chi2

    inside = (law.p > 0) & ~law.undecided
    seen = np.bincount(tokens, minlength=law.states)[inside].astype(np.float64)
    n, p = seen.sum(), law.p[inside]
    order = np.argsort(p)
    expected = n * p[order] / p.sum()
    starts = _bins(expected)
    if len(starts) < 2:
        return Check("chi-square", case, np.nan, len(tokens), "all in one bin")
    observed, expected = np.add.reduceat(seen[order], starts), np.add.reduceat(expected, starts)
    statistic = float(((observed - expected) ** 2 / expected).sum())
    bins, free = len(starts), len(starts) - 1
    variance = 2 * free + float((1 / expected).sum()) - (bins**2 + 2 * bins - 2) / n
    scale = variance / (2 * free)
    p_value = float(chi2.sf(statistic / scale, free / scale))
    return Check("chi-square", case, p_value, len(tokens), f"{statistic:.1f} on {free} degrees of freedom")


def tails(tokens: np.ndarray, law: Law, gaps: Sequence[float] = (8, 12, 16, 20), case: str = "") -> list[Check]:
    """For each gap, whether all states so far below the top are drawn as often as their mass says.

    One state of e^-16 is never missed; a vocabulary of them is one token in fifty. The p-value is that of the binomial
    distribution, on both sides.

    Limits: a tail in which fewer than 5 draws are expected is not looked at.

    Parameters
    ----------
    tokens : integer array, shape (draws,)
        Draws of one law.
    law : Law
    gaps : sequence of float
        Nats below the most probable state.
    case : str

    Returns
    -------
    list of Check
        One a gap, with z in its detail.

    References
    ----------
    Clopper and Pearson (1934), The use of confidence or fiducial limits, for the test.

    Examples
    --------
    >>> import numpy as np
    >>> from logitherm.generation.verify import law_of
    >>> law = law_of(np.array([0.0] + [-8.0] * 1000))
    >>> tails(np.zeros(1000, int), law, [8])[0].p_value < 1e-100
    True
    """
    from scipy.stats import binomtest

    with np.errstate(divide="ignore"):
        below = np.log(law.p.max()) - np.log(law.p)
    found = []
    for gap in gaps:
        inside = (below >= gap - 1e-3) & (law.p > 0) & ~law.undecided
        mass, hits, n = float(law.p[inside].sum()), int(inside[tokens].sum()), len(tokens)
        if n * mass < LEAST:
            found.append(Check(f"tail at {gap:g} nats", case, np.nan, n, f"{n * mass:.1f} expected, too few to tell"))
            continue
        z = (hits - n * mass) / np.sqrt(n * mass * (1 - mass))
        p_value = float(binomtest(hits, n, mass).pvalue)
        detail = f"{hits} where {n * mass:.1f} are expected, z = {z:.1f}"
        found.append(Check(f"tail at {gap:g} nats", case, p_value, n, detail))
    return found


def pit(tokens: np.ndarray, law: Law, seed: int, order: str = "number") -> np.ndarray:
    """What a draw is worth in its own law, uniform in (0, 1) whatever the law: mass before it + v times its own.

    Parameters
    ----------
    tokens : integer array, shape (rows,)
        One draw a row.
    law : Law
        Of every row, shape (rows, states).
    seed : int
        Of v.
    order : "number" or "probability"
        What comes before: states of lower number, or more probable ones (equal ones count as one state).

    Returns
    -------
    float64 array, shape (rows,)

    References
    ----------
    Czado, Gneiting and Held (2009), Predictive model assessment for count data, section 2.1.

    Examples
    --------
    >>> import numpy as np
    >>> from logitherm.generation.verify import law_of
    >>> law = law_of(np.log([[0.2, 0.8], [0.5, 0.5]]))
    >>> pit(np.array([0, 1]), law, seed=0).round(3).tolist()
    [0.127, 0.635]
    """
    v = np.random.default_rng(seed).random(len(tokens))
    own = _of(law.p, tokens)
    if order == "number":
        before = np.where(np.arange(law.states) < tokens[:, None], law.p, 0.0).sum(axis=1)
    else:
        before = np.where(law.p > own[:, None], law.p, 0.0).sum(axis=1)
        own = np.where(law.p == own[:, None], law.p, 0.0).sum(axis=1)
    return before + v * own


def uniformity(u: np.ndarray, case: str = "") -> Check:
    """Kolmogorov and Smirnov's test of numbers from `pit`: draws of many laws in one test, without bins.

    Parameters
    ----------
    u : float array
    case : str

    References
    ----------
    Marsaglia, Tsang and Wang (2003), Evaluating Kolmogorov's distribution.

    Examples
    --------
    >>> import numpy as np
    >>> uniformity(np.arange(1000) / 1000).verdict()
    'right   Kolmogorov-Smirnov, , 1000 draws: distance 0.001'
    """
    from scipy.stats import kstest

    found = kstest(u, "uniform")
    return Check("Kolmogorov-Smirnov", case, float(found.pvalue), len(u), f"distance {found.statistic:.2g}")


def independence(u: np.ndarray, v: np.ndarray, case: str = "") -> Check:
    """Whether two uniform numbers from `pit` have nothing to do with each other: chi-square on a table of 8 x 8.

    Parameters
    ----------
    u, v : float array, shape (pairs,)
    case : str

    Examples
    --------
    >>> import numpy as np
    >>> u = np.random.default_rng(0).random(1000)
    >>> independence(u, u).p_value < 1e-100
    True
    """
    cells = (np.minimum(u * 8, 7).astype(np.int64) * 8) + np.minimum(v * 8, 7).astype(np.int64)
    even = Law(np.full(64, 1 / 64), np.zeros(64, dtype=bool))
    found = chi_square(cells, even)
    return Check("independence", case, found.p_value, len(u), found.detail)


def _of(values: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """The entry of each token, in one row or in its own."""
    return values[tokens] if values.ndim == 1 else values[np.arange(len(tokens)), tokens]


def _bins(expected: np.ndarray) -> np.ndarray:
    """Where bins start, so that each has the least number of draws that may be expected."""
    starts, mass = [0], 0.0
    for i, value in enumerate(expected.tolist()):
        if mass >= LEAST:
            starts.append(i)
            mass = 0.0
        mass += value
    return np.array(starts if mass >= LEAST or len(starts) == 1 else starts[:-1])
