"""Out-of-distribution scores of a classifier's logits, all of them free energies F(T) = -T log sum_i exp(z_i / T).

Larger means more out-of-distribution (as in pytorch-ood; OpenOOD and the energy paper return the negative of it).
With F(0) = -max z, p the probabilities at T and K the number of allowed states:

    free energy     F(T)
    max logit       F(0)
    max softmax     -log max p = (F(0) - F(T)) / T
    entropy         S = -dF/dT
    GEN             sum_i (p_i (1 - p_i))^g, below sum_i p_i^g = exp(g (F(T) - F(T/g)) / T), a Renyi entropy of order g
    ODIN            F(0) - F(T) - T log K, which is mean z - max z at T = inf

At large T the free energy is -T log K less the mean logit: what tells one row from another there is the mean logit
alone.

The first two move with a number added to all logits of a row, which the probabilities cannot show. So they are refused
for `kind="log_probabilities"`, where log Z = 0 in every row; the others, made of differences of F, are the same for
both kinds.

Choose a temperature on in-distribution rows, never on the out-of-distribution rows that are to be told apart: a score
tuned on them is measured on its own training data. A temperature makes a model admit doubt; it adds no knowledge.

The parameters that all scores share: logits are floating, of any batch shape, with the states on `axis`; -inf forbids
a state, which then counts nowhere, not in K either. The temperature is a number, an array of the batch shape or
broadcastable to it, or a `Temperature`; 0 <= T <= inf. `check` decides whether bad rows raise, as in `logitherm.gibbs`.
Scores have the batch shape and the compute dtype: float16 and bfloat16 are computed in float32.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from logitherm._array import (
    Array,
    as_array,
    as_logits,
    as_temperature,
    describe,
    namespace,
    require_rows,
    should_check,
    silent,
    to_numpy,
)
from logitherm.gibbs import entropy, free_energy, log_partition, log_softmax
from logitherm.kernels import exponential
from logitherm.metrics.bootstrap import HELD_VALUES, interval, resampled_masses
from logitherm.metrics.options import as_choice, as_count, as_level, as_replicates, as_share, finite_or_none
from logitherm.metrics.score import Score

KINDS = ("logits", "log_probabilities")
HOT = 1e7  # times the spread of a row: where the rounding of T log K passes what is left of the temperature
GROUPS = 2048  # of neighbouring scores, in the bootstrap of an area


def free_energy_score(
    logits: Array, temperature: Any = 1.0, *, axis: int = -1, kind: str = "logits", check: bool | None = None
) -> Array:
    """Free energy F = -T log sum_i exp(z_i / T), the energy score; in logit units.

    Limits: T -> 0 gives `max_logit_score`; T -> inf gives -inf for every row of more than one allowed state, and
    F + T log K the negative mean logit. A number added to a row's logits is taken from its score.

    Parameters
    ----------
    logits, temperature, axis, check
        See the module.
    kind : "logits" or "log_probabilities"
        What is given. Of log probabilities F is not known, and refused.

    Returns
    -------
    array, batch shape, compute dtype
        Larger is more out-of-distribution.

    Raises
    ------
    TypeError
        Integer logits.
    ValueError
        A row with NaN, +inf or no allowed state; a temperature that is negative, NaN or of the wrong shape; log
        probabilities.

    References
    ----------
    Liu, Wang, Owens & Li (2020), Energy-based out-of-distribution detection, eq. 4.

    Examples
    --------
    >>> import numpy as np
    >>> free_energy_score(np.array([[9.0, 0.0], [0.0, 0.0]])).round(3).tolist()
    [-9.0, -0.693]
    """
    _require_logits(kind, "free_energy_score")
    return free_energy(logits, temperature, axis=axis, check=check)


def max_logit_score(logits: Array, *, axis: int = -1, kind: str = "logits", check: bool | None = None) -> Array:
    """Negative largest logit, F(0): the free energy at T = 0; in logit units.

    A number added to a row's logits is taken from its score. Parameters and errors are those of `free_energy_score`.

    Returns
    -------
    array, batch shape, compute dtype

    References
    ----------
    Hendrycks et al. (2022), Scaling out-of-distribution detection for real-world settings.

    Examples
    --------
    >>> import numpy as np
    >>> max_logit_score(np.array([[9.0, 0.0], [1.0, -np.inf]])).tolist()
    [-9.0, -1.0]
    """
    _require_logits(kind, "max_logit_score")
    return -_largest(as_logits(logits, axis), check)


def max_softmax_score(
    logits: Array, temperature: Any = 1.0, *, axis: int = -1, kind: str = "logits", check: bool | None = None
) -> Array:
    """Negative log of the largest probability, -log max p = (F(0) - F(T)) / T; in nats.

    It ranks rows as 1 - max p does, also where that rounds to 0.

    Limits: T -> 0 gives the log of the number of largest logits; T -> inf gives log K: see `odin_score` for what is
    left then. Parameters and errors are those of `free_energy_score`, but that log probabilities do.

    Returns
    -------
    array, batch shape, compute dtype
        0 (certain) to log K.

    References
    ----------
    Hendrycks & Gimpel (2017), A baseline for detecting misclassified and out-of-distribution examples, section 3.

    Examples
    --------
    >>> import numpy as np
    >>> max_softmax_score(np.array([[50.0, 0.0], [0.0, 0.0]])).tolist()
    [1.9287498479639178e-22, 0.6931471805599453]
    """
    as_choice(kind, "kind", KINDS)
    log_p = log_softmax(as_logits(logits, axis), temperature, check=check)
    return 0 - namespace(log_p).max(log_p, axis=-1)


def entropy_score(
    logits: Array, temperature: Any = 1.0, *, axis: int = -1, kind: str = "logits", check: bool | None = None
) -> Array:
    """Entropy S = -dF/dT of softmax(logits / temperature), in nats.

    Limits: T -> 0 gives the log of the number of largest logits; T -> inf gives log K. Parameters and errors are those
    of `max_softmax_score`.

    Returns
    -------
    array, batch shape, compute dtype
        0 (certain) to log K.

    References
    ----------
    Shannon (1948), A mathematical theory of communication, section 6.

    Examples
    --------
    >>> import numpy as np
    >>> entropy_score(np.array([[9.0, 0.0], [0.0, 0.0]])).round(4).tolist()
    [0.0012, 0.6931]
    """
    as_choice(kind, "kind", KINDS)
    return entropy(logits, temperature, axis=axis, check=check)


def generalized_entropy_score(
    logits: Array,
    temperature: Any = 1.0,
    *,
    gamma: float = 0.1,
    top: int = 100,
    axis: int = -1,
    kind: str = "logits",
    check: bool | None = None,
) -> Array:
    """Generalized entropy (GEN), sum of p^gamma (1 - p)^gamma over the largest probabilities; without unit.

    Computed from log p and log(1 - p), so that rows whose largest probability rounds to 1 keep their order.

    Limits: T -> 0 gives m (1/m (1 - 1/m))^gamma for m largest logits (0 for one); T -> inf the same for K allowed
    states, of which `top` are summed.

    Parameters
    ----------
    logits, temperature, axis, kind, check
        As for `max_softmax_score`.
    gamma : float
        Exponent in (0, 1]: small ones heed the small probabilities, as a temperature of T / gamma does.
    top : int
        How many of the largest probabilities count, at least 1.

    Returns
    -------
    array, batch shape, compute dtype

    Raises
    ------
    TypeError, ValueError
        As for `max_softmax_score`; `gamma` or `top` out of range.

    References
    ----------
    Liu, Lochman & Zach (2023), GEN: Pushing the limits of softmax-based out-of-distribution detection.

    Examples
    --------
    >>> import numpy as np
    >>> generalized_entropy_score(np.array([[9.0, 0.0], [0.0, 0.0]])).round(3).tolist()
    [0.813, 1.741]
    """
    as_choice(kind, "kind", KINDS)
    exponent, top = as_share(gamma, "gamma"), as_count(top, "top", 1)
    if exponent == 0:
        raise ValueError(f"gamma: must lie in (0, 1]; got {gamma}; give 0.1, say")
    log_p = log_softmax(as_logits(logits, axis), temperature, check=check)
    xp = namespace(log_p)
    log_p = xp.sort(log_p, axis=-1, descending=True)
    first, others = log_p[..., :1], log_p[..., 1:]
    if others.shape[-1] == 0:
        return 0 * first[..., 0]
    alone = others[..., :1] == -math.inf
    doubt = log_partition(xp.where(alone, xp.zeros_like(others), others), check=False)[..., None]  # log(1 - first)
    doubt = xp.where(alone, xp.full_like(doubt, -math.inf), doubt)
    others = others[..., : top - 1]  # at most 1/2 each, so that 1 - p loses nothing
    logs = xp.concat([first + doubt, others + xp.log1p(-exponential(others))], axis=-1)
    return xp.sum(exponential(exponent * logs), axis=-1)


@silent
def odin_score(
    logits: Array, temperature: Any = 1000.0, *, axis: int = -1, kind: str = "logits", check: bool | None = None
) -> Array:
    """ODIN without perturbation of the input, -T log(K max p) = F(0) - F(T) - T log K; in logit units.

    It ranks rows of equal K as the negative of max p at T does, which at T = 1000 is 1/K but for the last digits.
    Those are kept here: float64 inside, and beyond 1e7 times the spread of a row its limit, so that the error is
    below 1e-7 of the spread (or that of the dtype). At T below the spread sure rows tie at -T log K, where
    `max_softmax_score` tells them apart.

    Limits: T -> inf gives mean z - max z over allowed states, to which T = 1000 comes near (the difference is that
    mean's variance / 2T): ODIN is a centred max logit. T -> 0 gives 0 everywhere.

    Parameters and errors are those of `max_softmax_score`.

    Returns
    -------
    array, batch shape, compute dtype
        At most 0, which is for equal logits.

    References
    ----------
    Liang, Li & Srikant (2018), Enhancing the reliability of out-of-distribution image detection in neural networks,
    eq. 1.

    Examples
    --------
    >>> import numpy as np
    >>> z = np.array([[9.0, 0.0, 0.0], [1.0, 0.0, -1.0]])
    >>> odin_score(z).round(3).tolist(), odin_score(z, np.inf).tolist()
    ([-5.991, -1.0], [-6.0, -1.0])
    """
    as_choice(kind, "kind", KINDS)
    z = as_logits(logits, axis)
    xp = namespace(z)
    t = xp.astype(as_temperature(temperature, z, check), xp.float64)
    top = xp.astype(_largest(z, check), xp.float64)
    exact, allowed = xp.astype(z, xp.float64), z > -math.inf
    count = xp.sum(xp.astype(allowed, xp.float64), axis=-1)
    mean = xp.sum(xp.where(allowed, exact, xp.zeros_like(exact)), axis=-1) / count
    spread = top - xp.min(xp.where(allowed, exact, xp.full_like(exact, math.inf)), axis=-1)
    hot = t > HOT * spread
    warm = xp.where(hot, xp.ones_like(t), t)
    score = xp.where(hot, mean, -free_energy(exact, warm, check=check) - warm * xp.log(count)) - top
    return xp.astype(score, z.dtype)


def _largest(z: Array, check: bool | None) -> Array:
    """The largest logit of every row; NaN for a bad row that is not to be refused."""
    xp = namespace(z)
    top = xp.max(z, axis=-1)
    if should_check(check, z):
        require_rows(top)
    return xp.where(xp.isfinite(top), top, xp.full_like(top, math.nan))


def _require_logits(kind: Any, name: str) -> None:
    if as_choice(kind, "kind", KINDS) != "logits":
        raise ValueError(
            f"kind: must be 'logits' for {name}; got {kind!r}, of which log Z is 0 in every row, so that F is unknown; "
            "use max_softmax_score, entropy_score, generalized_entropy_score or odin_score, which are differences of F"
        )


# -- how well a score tells rows apart -------------------------------------------------------------------


@dataclass(frozen=True)
class Detection:
    """How well a score tells out-of-distribution rows from in-distribution rows."""

    auroc: Score
    fpr: Score  # share of the out-of-distribution rows taken for in-distribution ones at `threshold`
    aupr_in: Score  # in-distribution rows are the positives
    aupr_out: Score  # out-of-distribution rows are the positives
    threshold: float  # rows at or below are taken for in-distribution
    tpr: float  # the share of in-distribution rows to be kept
    n_in: int
    n_out: int

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers for JSON; None for NaN and infinity."""
        plain = {name: value.to_dict() if isinstance(value, Score) else value for name, value in vars(self).items()}
        return plain | {"threshold": finite_or_none(self.threshold)}


def detection(
    in_scores: Array,
    out_scores: Array,
    *,
    tpr: float = 0.95,
    bootstrap: int = 1000,
    confidence: float = 0.95,
    seed: int | np.random.Generator = 0,
) -> Detection:
    """AUROC, FPR at 95 % TPR and both AUPR of scores that are larger for out-of-distribution rows, with intervals.

    `auroc` is the probability that an out-of-distribution row scores higher than an in-distribution row, ties counting
    half; it does not depend on which class is called positive.

    `fpr` takes in-distribution rows as the positives, as the energy paper does: the threshold is the lowest score that
    keeps at least `tpr` of them at or below it, and `fpr` the share of out-of-distribution rows at or below it. Equal
    scores are kept together. pytorch-ood takes out-of-distribution rows as the positives, another number:
    `detection(-out_scores, -in_scores).fpr`.

    `aupr_in` and `aupr_out` are average precisions, the sum over thresholds of the gain in recall times the precision,
    without interpolation. Chance is the share of the positives in *these* rows, so compare only sets of the same
    proportions.

    The intervals of the areas are Wilson's, for as many rows as the variance says; where it is 0, as for a perfect
    order, for the rows of the fewer class (of the positives for an AUPR). The variance of the AUROC is DeLong's, that
    of an AUPR from the Poisson bootstrap; beyond 2048 distinct scores neighbours are grouped for it, not for the
    values. For the interval of `fpr` the rank of the threshold is drawn from its binomial distribution and the share
    from the beta distribution of the count that it gives (Jeffreys).

    In simulations (normal and exponential scores, 50 to 2000 rows a class) intervals of 95 % held an AUROC of up to
    0.92 in 94 to 96 % of the samples, and one of 0.97 to 0.99, which few rows decide, in 87 to 95 % (DeLong's plain
    interval in 77 to 95 %); with normal scores an AUPR of up to 0.98 in 93 to 99 %, above that in 87 to 96 %, and an
    FPR of 0.03 to 0.87 in 95 to 98 %.

    Parameters
    ----------
    in_scores, out_scores : arrays, shape (n_in,) and (n_out,)
        Floating or integer; infinities are scores like others.
    tpr : float
        Share of the in-distribution rows to keep, in [0, 1]; at least one row is kept.
    bootstrap, confidence, seed
        As for `evaluate`; 0 replicates leave the intervals of `fpr` and the AUPR NaN.

    Returns
    -------
    Detection
        `Score`s `auroc`, `fpr`, `aupr_in`, `aupr_out`; `threshold`, `tpr`, `n_in`, `n_out`; `to_dict()` for JSON.

    Raises
    ------
    TypeError, ValueError
        Scores that are not numbers, empty, not one a row, or NaN; options out of range.

    References
    ----------
    DeLong, DeLong & Clarke-Pearson (1988), Comparing the areas under two or more correlated receiver operating
    characteristic curves; Liu et al. (2020), section 4.1 (FPR95); Davis & Goadrich (2006), The relationship between
    precision-recall and ROC curves; Brown, Cai & DasGupta (2001), Interval estimation for a binomial proportion.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> found = detection(rng.normal(size=1000), 2 + rng.normal(size=500))
    >>> for score in (found.auroc, found.fpr):
    ...     print(f"{score.value:.3f} ({score.low:.3f} to {score.high:.3f})")
    0.931 (0.917 to 0.943)
    0.304 (0.256 to 0.382)
    """
    inside, outside = _as_scores(in_scores, "in_scores"), _as_scores(out_scores, "out_scores")
    share, replicates, level = as_share(tpr, "tpr"), as_replicates(bootstrap), as_level(confidence)
    rng = np.random.default_rng(seed)
    threshold, fpr = _false_positives(inside, outside, share, replicates, level, rng)
    areas = _average_precisions(inside, outside, replicates, level, rng)
    return Detection(
        _auroc(inside, outside, level), fpr, *areas, threshold, share, n_in=len(inside), n_out=len(outside)
    )


def _as_scores(scores: Any, name: str) -> np.ndarray:
    """Sorted float64 scores."""
    x = to_numpy(as_array(scores, name))
    if x.dtype.kind not in "iuf":
        raise TypeError(f"{name}: must be numbers; got {describe(x)}; give one score a row")
    if x.ndim != 1 or not len(x):
        raise ValueError(f"{name}: must be of shape (rows,) with at least one row; got {describe(x)}; flatten it")
    bad = np.isnan(x)
    if bad.any():
        raise ValueError(f"{name}: must not be NaN; row {int(np.argmax(bad))} of {len(x)} is; drop or mend it")
    return np.sort(x.astype(np.float64))


def _auroc(inside: np.ndarray, outside: np.ndarray, level: float) -> Score:
    above = (np.searchsorted(inside, outside, "left") + np.searchsorted(inside, outside, "right")) / 2 / len(inside)
    below = (np.searchsorted(outside, inside, "left") + np.searchsorted(outside, inside, "right")) / 2 / len(outside)
    area, fewer = float(above.mean()), min(len(inside), len(outside))
    if fewer < 2:
        return Score(area, math.nan, math.nan)
    return _wilson(area, float(above.var(ddof=1) / len(outside) + below.var(ddof=1) / len(inside)), fewer, level)


def _wilson(area: float, variance: float, fewer: int, level: float) -> Score:
    """Wilson's interval for as many rows as have this variance; for `fewer` where there is none."""
    from scipy.special import ndtri

    spread = area * (1 - area)
    rows = spread / variance if variance > 0 < spread else fewer
    z = float(ndtri((1 + level) / 2))
    centre = (area + z * z / (2 * rows)) / (1 + z * z / rows)
    half = z / (1 + z * z / rows) * math.sqrt(spread / rows + (z / (2 * rows)) ** 2)
    return Score(area, min(max(centre - half, 0.0), area), max(min(centre + half, 1.0), area))


def _false_positives(
    inside: np.ndarray, outside: np.ndarray, tpr: float, replicates: int, level: float, rng: np.random.Generator
) -> tuple[float, Score]:
    """The threshold that keeps `tpr` of the rows inside, and the share of those outside that it keeps."""
    n, m = len(inside), len(outside)
    kept = max(math.ceil(tpr * n - 1e-9 * n), 1)
    threshold = inside[kept - 1]
    fpr = float(np.searchsorted(outside, threshold, "right") / m)
    # of n rows a binomial number lies at or below the true threshold, which is between that row and the next
    place = rng.binomial(n, tpr, size=replicates) + rng.integers(0, 2, size=replicates)
    wrong = np.searchsorted(outside, inside[np.clip(place, 1, n) - 1], "right")
    shares = rng.beta(wrong + 0.5, m - wrong + 0.5)
    return float(threshold), Score(fpr, *interval(fpr, shares, level))


def _average_precisions(
    inside: np.ndarray, outside: np.ndarray, replicates: int, level: float, rng: np.random.Generator
) -> tuple[Score, Score]:
    values, group = np.unique(np.concatenate([inside, outside]), return_inverse=True)
    exact = _precisions(_counts(group, len(inside), len(values))[None])[:, 0]
    tied = len(values) <= GROUPS
    if not tied:  # runs of distinct scores
        group = group * GROUPS // len(values)
    counts = _counts(group, len(inside), int(group.max()) + 1)
    shift = exact - _precisions(counts[None], tied)[:, 0]
    filled = counts > 0
    step = max(1, HELD_VALUES // counts.size)
    parts = [np.empty((2, 0))]
    for start in range(0, replicates, step):
        drawn = np.zeros((min(step, replicates - start), *counts.shape))
        drawn[:, filled] = resampled_masses(counts[filled], counts[filled], len(drawn), rng)
        drawn = drawn[np.all(np.any(drawn, axis=2), axis=1)]  # rows of both classes
        parts.append(np.clip(_precisions(drawn, tied) + shift[:, None], 0.0, 1.0))
    areas = np.concatenate(parts, axis=1)
    if areas.shape[1] < 2:
        aupr_in, aupr_out = (Score(float(value), math.nan, math.nan) for value in exact)
    else:
        aupr_in, aupr_out = (
            _wilson(float(value), float(area.var(ddof=1)), rows, level)
            for value, area, rows in zip(exact, areas, (len(inside), len(outside)))
        )
    return aupr_in, aupr_out


def _counts(group: np.ndarray, inside: int, groups: int) -> np.ndarray:
    """Rows inside and outside in every group, (2, groups), groups in the order of their scores."""
    return np.stack([np.bincount(part, minlength=groups) for part in (group[:inside], group[inside:])]).astype(float)


def _precisions(counts: np.ndarray, tied: bool = True) -> np.ndarray:
    """Average precision of both classes, (2, replicates), from counts (replicates, 2, groups).

    Rows of a group are tied, or else the middle of the group stands for them.
    """
    found = []
    for positive, order in ((0, slice(None)), (1, slice(None, None, -1))):
        hits, rows = counts[:, positive, order], counts.sum(axis=1)[:, order]
        true, kept = np.cumsum(hits, axis=1), np.cumsum(rows, axis=1)
        total = true[:, -1].copy()
        if not tied:
            true, kept = true - hits / 2, kept - rows / 2
        precision = np.divide(true, kept, out=np.zeros_like(true), where=kept > 0)
        found.append(np.einsum("rg,rg->r", precision, hits) / total)
    return np.stack(found)
