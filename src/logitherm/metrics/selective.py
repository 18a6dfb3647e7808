"""Selective prediction: answer where the model is confident, defer where it is not.

Rows of equal confidence are accepted together or not at all, so no order among them can matter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from logitherm._array import Array
from logitherm.metrics.bootstrap import interval, resampled_masses
from logitherm.metrics.options import as_level, as_replicates, as_share, finite_or_none, to_lists
from logitherm.metrics.rows import Inputs, Rows, as_inputs, row_statistics, scaled_weights
from logitherm.metrics.score import Score

GROUPS = 2048  # of neighbouring confidences, in the bootstrap of an area
LEVELS = 32  # coverages that are tested for a guarantee
POINTS = 60  # of a thinned curve
HALF = 0.5  # of the rows: a coverage to quote


@dataclass(frozen=True, eq=False)
class RiskCoverage:
    """The risk-coverage curve, from the most confident rows to all of them, and its area."""

    threshold: np.ndarray  # (m,), the distinct confidences from high to low; rows at or above are accepted
    coverage: np.ndarray  # (m,), share of the rows accepted
    risk: np.ndarray  # (m,), error rate of the rows accepted
    aurc: Score
    excess_aurc: Score

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and numbers for JSON."""
        return {
            name: value.to_dict() if isinstance(value, Score) else to_lists(value) for name, value in vars(self).items()
        }

    def thinned(self, points: int = POINTS) -> RiskCoverage:
        """The same with at most so many points, at about equal steps of coverage; the last one is kept."""
        steps = np.arange(1, points + 1) / points
        at = np.unique(np.minimum(np.searchsorted(self.coverage, steps), len(self.coverage) - 1))
        return replace(self, threshold=self.threshold[at], coverage=self.coverage[at], risk=self.risk[at])


@dataclass(frozen=True, eq=False)
class RankingChange:
    """What another set of logits does to the order in which rows are trusted."""

    before: RiskCoverage
    after: RiskCoverage
    discordant: float  # share of the pairs of rows that stand in opposite order after

    def to_dict(self, points: int = POINTS) -> dict[str, Any]:
        """For JSON and for drawing: curves of so many points in six decimals, and the risk of the surest half."""
        return {
            "before": _drawn(self.before, points),
            "after": _drawn(self.after, points),
            "discordant": finite_or_none(self.discordant),
        }


def _drawn(curve: RiskCoverage, points: int) -> dict[str, Any]:
    half = int(np.searchsorted(curve.coverage, HALF))
    plain = curve.thinned(points).to_dict()
    for name in ("threshold", "coverage", "risk"):
        plain[name] = [round(value, 6) for value in plain[name]]
    return plain | {"half": {"coverage": float(curve.coverage[half]), "risk": float(curve.risk[half])}}


@dataclass(frozen=True)
class Deferral:
    """Where to defer: rows with a confidence below `threshold`."""

    threshold: float  # inf where no threshold will do, 0 where no row need be deferred
    coverage: Score  # share of rows accepted, with its Clopper-Pearson interval
    precision: Score  # accuracy of the rows accepted; NaN without any
    accepted: int  # rows
    guaranteed: bool  # whether `precision.low` holds for the threshold as it was chosen
    discordant: float  # share of the pairs of rows that the temperature has put into another order than T = 1

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers for JSON; None for NaN and infinity."""
        plain = {name: value.to_dict() if isinstance(value, Score) else value for name, value in vars(self).items()}
        return plain | {"threshold": finite_or_none(self.threshold), "discordant": finite_or_none(self.discordant)}


def risk_coverage(
    logits: Array,
    labels: Array,
    temperature: Any = 1.0,
    *,
    bootstrap: int = 1000,
    confidence: float = 0.95,
    seed: int | np.random.Generator = 0,
    weights: Array | None = None,
) -> RiskCoverage:
    """Error rate of the rows at or above each confidence, the area under that curve (AURC) and its excess (E-AURC).

    The AURC is the mean over rows of the error rate of the rows at least as confident: the usual mean over coverages
    1/n, 2/n, ..., 1 where no confidences tie. The excess is over an oracle that accepts every error last,
    r + (1 - r) log(1 - r) for the error rate r (its limit of many rows, so that the excess is never negative). A
    temperature changes both only as far as it changes the order of rows, which it can with three or more classes.

    The intervals are percentile intervals of the Poisson bootstrap. Beyond 2048 distinct confidences, neighbours are
    grouped for it (not for the values), and unequal weights in a group count as equal ones of the same variance.

    Limits: T = 0 and T = inf tie all confidences where no logits tie and all are allowed: one point, AURC the error
    rate.

    Parameters
    ----------
    logits, labels, temperature, bootstrap, confidence, seed, weights
        As for `evaluate`.

    Returns
    -------
    RiskCoverage
        Arrays `threshold` (decreasing), `coverage`, `risk`; `Score`s `aurc` and `excess_aurc`; `to_dict()` for JSON.

    Raises
    ------
    TypeError, ValueError
        As for `evaluate`.

    References
    ----------
    El-Yaniv & Wiener (2010), On the foundations of noise-free selective classification; Geifman, Uziel & El-Yaniv
    (2019), Bias-reduced uncertainty estimation for deep neural classifiers (AURC, E-AURC).

    Examples
    --------
    >>> import numpy as np
    >>> z = np.log([[0.9, 0.1], [0.8, 0.2], [0.8, 0.2], [0.6, 0.4]])
    >>> curve = risk_coverage(z, [0, 1, 0, 0], bootstrap=0)
    >>> curve.coverage.tolist(), curve.risk.round(4).tolist(), round(curve.aurc.value, 4)
    ([0.25, 0.75, 1.0], [0.0, 0.3333, 0.25], 0.2292)
    """
    inputs = scaled_weights(as_inputs(logits, labels, temperature, weights))
    return _curve(inputs, row_statistics(inputs), bootstrap, confidence, seed)


def _curve(
    inputs: Inputs, rows: Rows, bootstrap: int, confidence: float, seed: int | np.random.Generator
) -> RiskCoverage:
    replicates, level = as_replicates(bootstrap), as_level(confidence)
    rng = np.random.default_rng(seed)
    threshold, right, wrong = _by_confidence(rows.confidence, rows.correct, inputs.weights)
    kept = np.cumsum(right + wrong)
    risk = np.cumsum(wrong) / kept
    value = float(risk @ (right + wrong) / kept[-1])
    excess = max(value - float(_oracle(risk[-1])), 0.0)
    areas, rates = _area_replicates(rows.confidence, rows.correct, inputs.weights, value, replicates, rng)
    return RiskCoverage(
        threshold,
        kept / kept[-1],
        risk,
        Score(value, *interval(value, areas, level)),
        Score(excess, *interval(excess, np.maximum(areas - _oracle(rates), 0.0), level)),
    )


def compare_ranking(
    before: Array,
    after: Array,
    labels: Array,
    *,
    temperature_before: Any = 1.0,
    temperature_after: Any = 1.0,
    bootstrap: int = 1000,
    confidence: float = 0.95,
    seed: int | np.random.Generator = 0,
    weights: Array | None = None,
) -> RankingChange:
    """Risk-coverage curves of two sets of logits of the same rows, and the share of pairs that they order differently.

    Parameters
    ----------
    before, after : floating arrays, shape (..., classes)
        Logits of the same rows; -inf forbids a class.
    labels, temperature_before, temperature_after, bootstrap, confidence, seed, weights
        As for `logitherm.metrics.compare`.

    Returns
    -------
    RankingChange
        `before` and `after`, as of `risk_coverage`, and `discordant`, NaN of a single row.

    Raises
    ------
    TypeError, ValueError
        As for `evaluate`.

    Examples
    --------
    >>> import numpy as np
    >>> z = np.log([[0.5, 0.3, 0.2], [0.49, 0.49, 0.02]])
    >>> compare_ranking(z, z, [0, 1], temperature_after=2.0, bootstrap=0).discordant  # the first was surer before
    1.0
    """
    inputs = [
        scaled_weights(as_inputs(z, labels, temperature, weights))
        for z, temperature in ((before, temperature_before), (after, temperature_after))
    ]
    rows = [row_statistics(side) for side in inputs]
    before_curve, after_curve = (
        _curve(side, found, bootstrap, confidence, seed) for side, found in zip(inputs, rows, strict=True)
    )
    counted = inputs[0].weights > 0
    first, second = (found.confidence[counted] for found in rows)
    return RankingChange(before_curve, after_curve, _discordant(first, second))


def defer_below(
    logits: Array,
    labels: Array,
    temperature: Any = 1.0,
    *,
    precision: float = 0.99,
    confidence: float = 0.95,
    guaranteed: bool = True,
    weights: Array | None = None,
) -> Deferral:
    """The lowest threshold of confidence above which the accuracy is at least `precision`.

    Guaranteed: with probability `confidence` over samples of independent rows like these, the true accuracy of new
    rows at or above the threshold is at least `precision`. The accuracies at up to 32 coverages, fixed by ranks
    without a look at the labels, each have an exact one-sided bound (Clopper-Pearson) at the level
    1 - (1 - confidence) / (their number); of those whose bound reaches `precision` the largest coverage is taken, and
    `precision.low`, `precision.high` are its bounds. Of n rows without an error the bound cannot reach 0.99 for n < 643
    at 95 % and 32 coverages: small samples give no threshold (`inf`), honestly.

    Not guaranteed: the largest coverage at which the accuracy *of this sample* reaches `precision`. Its interval is
    Clopper and Pearson's for a threshold given beforehand; the threshold was chosen on these rows, so new ones will
    rather lie below.

    Rows of equal confidence (exactly 1, too) are accepted together. The threshold is halfway between the two
    confidences that it parts, so that other rounding moves no row across. Unequal weights
    count as (sum w)^2 / (sum w^2) equal rows, which is an approximation.

    Limits: T = 0 and T = inf tie all confidences where no logits tie and all are allowed: all rows or none.

    Parameters
    ----------
    logits, labels, temperature, weights
        As for `accuracy`.
    precision : float
        Accuracy wanted among the rows accepted, in [0, 1].
    confidence : float
        Probability that the guarantee, or the interval, holds.
    guaranteed : bool
        Which of the two rules.

    Returns
    -------
    Deferral
        `threshold`, `coverage`, `precision`, `accepted`, `guaranteed`, `discordant`; `to_dict()` for JSON.

    Raises
    ------
    TypeError, ValueError
        As for `accuracy`; `precision` outside [0, 1], `confidence` outside (0, 1).

    References
    ----------
    Clopper & Pearson (1934), The use of confidence or fiducial limits; Geifman & El-Yaniv (2017), Selective
    classification for deep neural networks (bounds at several thresholds); Angelopoulos et al. (2021), Learn then
    test, section 2 (Bonferroni).

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> z = 4 * rng.normal(size=(4000, 3))
    >>> rule = defer_below(z, (z + rng.gumbel(size=z.shape)).argmax(axis=1), precision=0.95)
    >>> round(rule.threshold, 3), rule.coverage.value, round(rule.precision.value, 3), round(rule.precision.low, 3)
    (0.869, 0.625, 0.966, 0.953)
    """
    wanted, level = as_share(precision, "precision"), as_level(confidence)
    inputs = scaled_weights(as_inputs(logits, labels, temperature, weights))
    rows = row_statistics(inputs)
    plain = row_statistics(inputs._replace(temperature=np.ones_like(inputs.temperature))).confidence
    counted = inputs.weights > 0
    found, correct, plain, weight = (
        column[counted] for column in (rows.confidence, rows.correct, plain, inputs.weights)
    )
    return _deferral(found, correct, plain, weight, wanted, level, bool(guaranteed))


def _deferral(
    found: np.ndarray,
    correct: np.ndarray,
    plain: np.ndarray,
    weights: np.ndarray,
    wanted: float,
    level: float,
    guaranteed: bool,
) -> Deferral:
    threshold, right, wrong = _by_confidence(found, correct, weights)
    rows = np.cumsum(_by_confidence(found, correct, np.ones(len(found)))[1:], axis=1).sum(axis=0)
    squares = np.cumsum(_by_confidence(found, correct, weights**2)[1:], axis=1).sum(axis=0)
    mass, hits = np.cumsum(right + wrong), np.cumsum(right)
    tried = _coverages(rows) if guaranteed else np.arange(len(rows))
    tail = (1 - level) / (len(tried) if guaranteed else 2)
    share = np.minimum(hits / mass, 1.0)
    low, high = clopper_pearson(share * mass**2 / squares, mass**2 / squares, tail)
    enough = tried[(low if guaranteed else share)[tried] >= wanted]
    discordant = _discordant(found, plain)
    if not len(enough):
        nothing = clopper_pearson(np.zeros(1), np.array([mass[-1] ** 2 / squares[-1]]), (1 - level) / 2)
        none = Score(0.0, 0.0, float(nothing[1][0]))
        return Deferral(math.inf, none, Score(math.nan, math.nan, math.nan), 0, guaranteed, discordant)
    last = int(enough[-1])
    everything = last + 1 == len(rows)
    effective = mass[-1] ** 2 / squares[-1]
    covered = 1.0 if everything else float(mass[last] / mass[-1])
    bounds = clopper_pearson(np.array([covered * effective]), np.array([effective]), (1 - level) / 2)
    return Deferral(
        0.0 if everything else _between(float(threshold[last + 1]), float(threshold[last])),
        Score(covered, float(bounds[0][0]), float(bounds[1][0])),
        Score(float(share[last]), float(low[last]), float(high[last])),
        int(rows[last]),
        guaranteed,
        discordant,
    )


def _between(below: float, above: float) -> float:
    middle = below + 0.5 * (above - below)
    return middle if middle > below else above


def clopper_pearson(hits: np.ndarray, trials: np.ndarray, tail: float) -> tuple[np.ndarray, np.ndarray]:
    """Bounds of a share that each fail with probability `tail` at most; the counts need not be whole."""
    from scipy.special import betaincinv

    misses = np.maximum(trials - hits, 0.0)
    sure, never = misses <= 1e-9 * trials, hits <= 1e-9 * trials
    low = np.where(never, 0.0, betaincinv(np.where(never, 1.0, hits), misses + 1, tail))
    high = np.where(sure, 1.0, betaincinv(hits + 1, np.where(sure, 1.0, misses), 1 - tail))
    return low, high


def _by_confidence(
    confidence: np.ndarray, correct: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The distinct confidences from high to low, and the weight that is right and wrong at each."""
    counted = weights > 0
    values, group = np.unique(-confidence[counted], return_inverse=True)
    right = np.bincount(group, (weights * correct)[counted])
    wrong = np.bincount(group, (weights * (1 - correct))[counted])
    return -values, right, wrong


def _coverages(rows: np.ndarray) -> np.ndarray:
    """Places in the curve nearest above each of `LEVELS` equal steps of coverage; ties may leave fewer."""
    steps = rows[-1] * np.arange(1, LEVELS + 1) / LEVELS
    return np.unique(np.minimum(np.searchsorted(rows, steps), len(rows) - 1))


def _discordant(first: np.ndarray, second: np.ndarray) -> float:
    """Share of all pairs that the two order in opposite ways; a tie in either is no disagreement."""
    pairs = len(first) * (len(first) - 1) / 2
    _, a = np.unique(first, return_inverse=True)
    _, b = np.unique(second, return_inverse=True)
    if pairs == 0:
        return math.nan
    tied_a, tied_b, tied = _tied(a), _tied(b), _tied(a * (int(b.max()) + 1) + b)
    if pairs in (tied_a, tied_b):
        return 0.0
    from scipy.stats import kendalltau

    tau = float(kendalltau(a, b).statistic)
    # tau-b = (concordant - discordant) / sqrt((pairs - tied_a) * (pairs - tied_b))
    difference = tau * math.sqrt(pairs - tied_a) * math.sqrt(pairs - tied_b)
    return float(round((pairs - tied_a - tied_b + tied - difference) / 2) / pairs)


def _tied(index: np.ndarray) -> float:
    _, count = np.unique(index, return_counts=True)
    return float((count * (count - 1.0)).sum() / 2)


def _oracle(rate: Any) -> Any:
    from scipy.special import xlog1py

    return rate + xlog1py(1 - rate, -rate)


def _area_replicates(
    confidence: np.ndarray,
    correct: np.ndarray,
    weights: np.ndarray,
    value: float,
    replicates: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """AURC and error rate under resampled weights of the rows."""
    counted = weights > 0
    weights, right, descending = weights[counted], correct[counted] > 0, -confidence[counted]
    values, group = np.unique(descending, return_inverse=True)
    tied = len(values) <= GROUPS
    if not tied:  # runs of distinct confidences
        group = group * GROUPS // len(values)
    groups = int(group.max()) + 1
    cells = 2 * group + right
    mass = np.bincount(cells, weights, minlength=2 * groups)
    squares = np.bincount(cells, weights * weights, minlength=2 * groups)

    def areas(mass: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        wrong, both = mass[:, ::2], mass[:, ::2] + mass[:, 1::2]
        kept, lost = np.cumsum(both, axis=1), np.cumsum(wrong, axis=1)
        rate = lost[:, -1] / kept[:, -1]
        if not tied:  # the middle of a run stands for its rows
            kept, lost = kept - both / 2, lost - wrong / 2
        risk = np.divide(lost, kept, out=np.zeros_like(lost), where=kept > 0)
        return np.einsum("rg,rg->r", risk, both) / both.sum(axis=1), rate

    shift = value - float(areas(mass[None])[0][0])
    filled = mass > 0
    step = max(1, (1 << 20) // len(mass))
    parts = [(np.empty(0), np.empty(0))]
    for start in range(0, replicates, step):
        drawn = np.zeros((min(step, replicates - start), len(mass)))
        drawn[:, filled] = resampled_masses(mass[filled], squares[filled], len(drawn), rng)
        area, rate = areas(drawn[drawn.sum(axis=1) > 0])
        parts.append((np.clip(area + shift, 0.0, 1.0), rate))
    area, rate = (np.concatenate(column) for column in zip(*parts))
    return area, rate
