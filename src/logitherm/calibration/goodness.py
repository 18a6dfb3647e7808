"""Is one temperature enough? The temperature of parts of the rows, and tests against everything richer.

The tests are Rao's score tests: under the null hypothesis labels are drawn from softmax(z / T), and a richer family
adds directions d_f to the exponent, whose score and information at the fitted T are

    U_f  = sum_i d_f(y_i) - <d_f>_i          I_fg = sum_i Cov_i(d_f, d_g)

with T itself (the direction z) projected out. U' I^-1 U is chi-squared with as many degrees of freedom as I has rank;
half of it is about what the family would gain in log-likelihood.

Labels with a few blunders are drawn from no softmax(z / T), and I is then not the variance of U: T may be right for all
rows alike and the test rejects. So each comes in a robust form too, with the empirical variance of the effective score
(that of the family less its projection on the score of T, whose information does not depend on the labels)

    s_i = d(y_i) - <d>_i - (I_dz / I_zz) (z(y_i) - <z>_i)          V = sum_i s_i s_i'

U' V^-1 U asks of a family only that its score has the mean 0. Where labels are rare (a class that never occurs), V is 0
for want of events, not for want of variance. So in units of I its eigenvalues count as the least that chance makes of
1, (1 - sqrt(r / n))^2 for r directions and n rows (Marchenko and Pastur), if they are smaller. In simulations these
p-values are near uniform for honest labels, with 5 % of blunders, and with classes that hardly occur.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import chi2

from logitherm import kernels
from logitherm._array import Array
from logitherm._json import plain
from logitherm.calibration.ensemble import EnsembleTemperatureScaling
from logitherm.calibration.rows import (
    BLOCK_VALUES,
    Labelled,
    as_groups,
    labelled,
    likelihoods,
    possible,
    relative_entropies,
    row_blocks,
)
from logitherm.kernels.threads import blocks
from logitherm.thermometer import TemperatureFit, fit_temperature

FEW = 30  # rows of a part below which its temperature is not fitted
MOST_PARTS = 50  # classes or groups shown, those with most rows
MOST_CLASSES = 256  # with more the tests of every class take too long
MOST_CLASSES_OF_A_MATRIX = 20
ROWS_A_PARAMETER = 5  # of a matrix, below which its chi-squared is not to be trusted
RANK = 1e-9  # an eigenvalue this small relative to the largest is 0


@dataclass(frozen=True)
class Part:
    """The temperature of some of the rows.

    Attributes
    ----------
    name : str
        Which rows.
    n : int
        How many.
    temperature, low, high : float or None
        Their best temperature and its interval (0 and inf where it is open); None where there are too few rows.
    """

    name: str
    n: int
    temperature: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class FitTest:
    """A test of one temperature against a richer family.

    Attributes
    ----------
    family : str
        What the temperature may depend on: "confidence", "entropy", "bias", "class", "group", "matrix" where every
        class may weigh every logit, or "ensemble" for a mixture.
    statistic : float
        Chi-squared under the null hypothesis (for "ensemble" at most: its parameters lie on a bound).
    freedom : int
        Its degrees of freedom.
    p_value : float
        Of the statistic, if labels are drawn from softmax(z / T): too small where the model errs in more than T.
    gain : float
        Half the statistic a row: about the fall in NLL that the family would bring on these rows, in nats.
    robust_statistic, robust_p_value : float or None
        With the empirical variance of the score in place of that of the model. None for "ensemble", which is itself
        the family of a model that errs in more than T.
    """

    family: str
    statistic: float
    freedom: int
    p_value: float
    gain: float
    robust_statistic: float | None = None
    robust_p_value: float | None = None

    @property
    def trusted_p_value(self) -> float:
        """The robust one where there is one: by it tests are ordered and verdicts given."""
        return self.p_value if self.robust_p_value is None else self.robust_p_value


@dataclass(frozen=True)
class GoodnessOfFit:
    """What `goodness_of_fit` found.

    Attributes
    ----------
    temperature : float
        The single temperature.
    by_confidence, by_class, by_group : tuple of Part
        Temperatures of rows of similar confidence at T, of the same predicted class, of the same group. All are chosen
        by the logits, never by the label, which would bias them.
    tests : tuple of FitTest
        Smallest trusted p-value first.
    n : int
    """

    temperature: float
    by_confidence: tuple[Part, ...]
    by_class: tuple[Part, ...]
    by_group: tuple[Part, ...]
    tests: tuple[FitTest, ...]
    n: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: None for an open end."""
        return dict(plain(asdict(self)))


def goodness_of_fit(
    logits: Array,
    labels: Array,
    *,
    groups: Any = None,
    weights: Any = None,
    parts: int = 8,
    confidence: float = 0.95,
    zero_labels: str = "raise",
) -> GoodnessOfFit:
    """Whether one temperature describes all rows, and what would describe them better.

    Limits: where the single temperature is 0 or infinite there is nothing to test.

    Parameters
    ----------
    logits : floating array, shape (n, classes)
    labels : integer array, shape (n,)
    groups : array, shape (n,), optional
        Integers or strings: domain, language, site, ...
    weights : array, shape (n,), optional
    parts : int
        Parts of similar confidence, cut so that each tells its temperature about equally well.
    confidence : float
        Level of the intervals.
    zero_labels : "raise" or "exclude"
        What to do with rows whose label has logit -inf.

    Returns
    -------
    GoodnessOfFit

    Raises
    ------
    TypeError, ValueError
        As `logitherm.fit_temperature`; groups of another length.

    References
    ----------
    Rao (1948), Large sample tests of statistical hypotheses; Cox and Hinkley (1974), section 9.3; for the robust form
    White (1982), Maximum likelihood estimation of misspecified models, and Boos (1992), On generalized score tests.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> z = 2 * rng.normal(size=(3000, 4))
    >>> labels = (z + [0.5, 0, 0, 0] + rng.gumbel(size=z.shape)).argmax(axis=1)
    >>> found = goodness_of_fit(z, labels)
    >>> found.tests[0].family, found.tests[0].p_value < 1e-6
    ('bias', True)
    """
    single = fit_temperature(logits, labels, weights=weights, zero_labels=zero_labels, confidence=confidence)
    data = labelled(logits, labels, weights)
    group = None if groups is None else as_groups(groups, logits.shape[0])
    if single.excluded:
        keep = possible(data.logits, data.labels)
        data, group = data.take(keep), None if group is None else group[keep]
    t = single.temperature
    if single.at_bound:
        return GoodnessOfFit(t, (), (), (), (), single.n)
    certainty = kernels.state_function("top_probability", data.logits, np.full(len(data.labels), t), None, False)
    bins = _equal_parts(np.asarray(certainty), data.weights * _variances(data, t), parts)
    predicted = data.logits.argmax(axis=1)
    tests = [_test_parts("confidence", data, t, bins), _test_entropy(data, t), _test_ensemble(data, single)]
    if 1 < data.logits.shape[1] <= MOST_CLASSES:
        tests += [*_test_classes(data, t), _test_matrix(data, t)]
    if group is not None:
        tests.append(_test_parts("group", data, t, np.unique(group, return_inverse=True)[1]))
    edges = [
        f"{100 * certainty[bins == b].min():.3g} to {100 * certainty[bins == b].max():.3g} %" for b in np.unique(bins)
    ]
    return GoodnessOfFit(
        temperature=t,
        by_confidence=_parts(data, bins, edges, confidence),
        by_class=_parts(data, predicted, [str(k) for k in np.unique(predicted)], confidence),
        by_group=() if group is None else _parts(data, group, [str(g) for g in np.unique(group)], confidence),
        tests=tuple(sorted((test for test in tests if test is not None), key=_order)),
        n=single.n,
    )


# -- parts -----------------------------------------------------------------------------------------------


def _equal_parts(values: np.ndarray, information: np.ndarray, parts: int) -> np.ndarray:
    """The part of every row, lowest values first, equal ones together: each part tells about as much of its T."""
    group = np.unique(values, return_inverse=True)[1]
    mass = np.bincount(group, information)
    middle = (np.cumsum(mass) - mass / 2) / mass.sum()
    return np.unique(np.minimum(np.floor(parts * middle), parts - 1)[group], return_inverse=True)[1]


def _parts(data: Labelled, part: np.ndarray, names: list[str], confidence: float) -> tuple[Part, ...]:
    """The temperature of every part, in the order of the parts; of very many only the largest."""
    keys, counts = np.unique(part, return_counts=True)
    shown = np.sort(np.argsort(-counts, kind="stable")[:MOST_PARTS])
    found = []
    for i in shown:
        rows = data.take(np.flatnonzero(part == keys[i]))
        if counts[i] < FEW or not rows.weights.any():
            found.append(Part(names[i], int(counts[i]), None, None, None))
            continue
        fit = fit_temperature(rows.logits, rows.labels, weights=rows.weights, confidence=confidence)
        bound = {"zero": (0.0, math.inf), "infinite": (0.0, math.inf)}.get(fit.at_bound or "")
        low, high = fit.interval or bound or (None, None)
        found.append(Part(names[i], int(counts[i]), fit.temperature, low, high))
    return tuple(found)


# -- tests -----------------------------------------------------------------------------------------------


def _order(test: FitTest) -> tuple[float, float]:
    return test.trusted_p_value, -test.gain


class Effective(NamedTuple):
    """The score of a family from which T is projected out: its sum, its information, its empirical variance."""

    score: np.ndarray
    information: np.ndarray
    variance: np.ndarray

    def first(self, count: int) -> Effective:
        return Effective(self.score[:count], self.information[:count, :count], self.variance[:count, :count])


class Squares:
    """Sums of products of the weighted scores of rows, in a family (u) and in T (t)."""

    def __init__(self, size: int) -> None:
        self.uu, self.ut, self.tt = np.zeros((size, size)), np.zeros(size), 0.0

    def add(self, u: np.ndarray, t: np.ndarray) -> None:
        self.uu += u.T @ u
        self.ut += u.T @ t
        self.tt += float(t @ t)

    def without(self, share: np.ndarray) -> np.ndarray:
        """Of u - share t."""
        mixed = np.outer(self.ut, share)
        return self.uu - mixed - mixed.T + self.tt * np.outer(share, share)


def _test(family: str, found: Effective, weights: np.ndarray) -> FitTest | None:
    """None where there is no direction left."""
    values, vectors = np.linalg.eigh(found.information)
    kept = values > RANK * max(values.max(), 0.0) if len(values) else np.zeros(0, dtype=bool)
    if not kept.any():
        return None
    units = vectors[:, kept] / np.sqrt(values[kept])
    score, freedom, total = units.T @ found.score, int(kept.sum()), float(weights.sum())
    statistic = float(score @ score)
    variances, axes = np.linalg.eigh(units.T @ found.variance @ units)
    robust = float(np.sum((axes.T @ score) ** 2 / np.maximum(variances, _least_variance(freedom, weights))))
    return _found(family, statistic, freedom, total, robust)


def _least_variance(freedom: int, weights: np.ndarray) -> float:
    """The least eigenvalue that chance makes of an empirical variance of 1 a row (of its weight, with weights)."""
    total, squares = float(weights.sum()), float(weights @ weights)
    rows = total**2 / squares
    return max(1 - math.sqrt(freedom / rows), math.sqrt(RANK)) ** 2 * squares / total


def _found(family: str, statistic: float, freedom: int, total: float, robust: float | None = None) -> FitTest:
    p_value = float(chi2.sf(statistic, freedom))
    robust_p_value = None if robust is None else float(chi2.sf(robust, freedom))
    return FitTest(family, statistic, freedom, p_value, statistic / 2 / total, robust, robust_p_value)


def _variances(data: Labelled, temperature: float) -> np.ndarray:
    """Var_p(z) of every row, in units of T squared."""
    found = np.empty(len(data.labels))
    for block in row_blocks(data.logits):
        z = data.logits[block].astype(np.float64)
        found[block] = kernels.state_function("heat_capacity", z, np.full(len(z), temperature), None, False)
    return found


def _test_parts(family: str, data: Labelled, temperature: float, part: np.ndarray) -> FitTest | None:
    """A temperature for every part: the information is diagonal before T is projected out."""
    count = int(part.max()) + 1
    if count < 2:
        return None
    t = -data.weights * likelihoods(data, temperature)[1] / temperature
    information = np.bincount(part, data.weights * _variances(data, temperature), count)
    share = information / information.sum()
    squares = Squares(count)
    squares.ut += np.bincount(part, t**2, count)  # a row has a score in its own part alone
    squares.uu += np.diag(squares.ut)
    squares.tt = float(t @ t)
    adjusted = np.diag(information) - np.outer(information, share)
    return _test(family, Effective(np.bincount(part, t, count), adjusted, squares.without(share)), data.weights)


def _test_entropy(data: Labelled, temperature: float) -> FitTest | None:
    """An inverse temperature that is linear in the relative entropy."""
    h = relative_entropies(data.logits, temperature)
    variance = data.weights * _variances(data, temperature)
    t = -data.weights * likelihoods(data, temperature)[1] / temperature
    effective = (h - variance @ h / variance.sum()) * t
    information = variance @ h**2 - (variance @ h) ** 2 / variance.sum()
    found = (np.array(value) for value in ([t @ h], [[information]], [[effective @ effective]]))
    return _test("entropy", Effective(*found), data.weights)


def _test_ensemble(data: Labelled, single: TemperatureFit) -> FitTest | None:
    """By likelihood ratio, as the null hypothesis lies on the bound of the family."""
    total = float(data.weights.sum())
    mixed = EnsembleTemperatureScaling().fit(data.logits, data.labels, data.weights)
    calibrated = Labelled(np.asarray(mixed.transform(data.logits)), data.labels, data.weights)
    gain = single.nll_after * total - float(data.weights @ likelihoods(calibrated, 1.0)[0])
    return _found("ensemble", max(0.0, 2 * gain), 3, total)


def _test_classes(data: Labelled, temperature: float) -> list[FitTest | None]:
    """A bias for every class; and a bias and a scale for every class, in units of z / T."""
    k = data.logits.shape[1]
    score, information, cross, own = np.zeros(2 * k), np.zeros((2 * k, 2 * k)), np.zeros(2 * k), 0.0
    squares = Squares(2 * k)
    for block in row_blocks(data.logits):
        x = data.logits[block].astype(np.float64) / temperature
        w = data.weights[block]
        p = kernels.softmax(x, np.ones(len(x)), None, check=False)
        x = np.where(x > -np.inf, x, 0.0)
        mean = (p * x).sum(axis=1, keepdims=True)
        seen = -p
        seen[np.arange(len(x)), data.labels[block]] += 1
        u = w[:, None] * np.concatenate([seen, seen * x], axis=1)
        score += u.sum(axis=0)
        squares.add(u, u[:, k:].sum(axis=1))
        both = np.concatenate([p, p * x], axis=1)
        information -= (both * w[:, None]).T @ both
        single, product, square = w @ p, w @ (p * x), w @ (p * x**2)
        for a, b, diagonal in ((0, 0, single), (0, k, product), (k, 0, product), (k, k, square)):
            information[np.arange(k) + a, np.arange(k) + b] += diagonal
        slope = p * (x - mean)
        cross += np.concatenate([w @ slope, w @ (slope * x)])
        own += float(w @ (p * (x - mean) ** 2).sum(axis=1))
    share = cross / own
    found = Effective(score, information - np.outer(cross, share), squares.without(share))
    return [_test("bias", found.first(k), data.weights), _test("class", found, data.weights)]


def _test_matrix(data: Labelled, temperature: float) -> FitTest | None:
    """A bias for every class and a weight of every logit in it: features f = (1, z / T) of rows, for every class.

    The score is sum (e_y - p) f' and the information sum (diag p - p p') x f f'.
    """
    n, k = data.logits.shape
    if k > MOST_CLASSES_OF_A_MATRIX or n < ROWS_A_PARAMETER * k * (k + 1) or not np.isfinite(data.logits).all():
        return None
    score, information = np.zeros(k * (k + 1)), np.zeros((k * k, (k + 1) ** 2))
    squares, heat = Squares(k * (k + 1)), np.eye(k, k + 1, 1).reshape(-1)  # the direction of T itself
    for block in blocks(n, (k + 1) ** 2, BLOCK_VALUES):
        x = data.logits[block].astype(np.float64) / temperature
        p = kernels.softmax(x, np.ones(len(x)), None, check=False)
        f = np.concatenate([np.ones((len(x), 1)), x - x.mean(axis=1, keepdims=True)], axis=1)
        w = data.weights[block][:, None]
        seen = -p
        seen[np.arange(len(x)), data.labels[block]] += 1
        u = ((w * seen)[:, :, None] * f[:, None, :]).reshape(len(x), -1)
        score += u.sum(axis=0)
        squares.add(u, u @ heat)
        covariance = -p[:, :, None] * p[:, None, :]
        covariance[:, np.arange(k), np.arange(k)] += p
        information += (w * covariance.reshape(len(x), -1)).T @ (f[:, :, None] * f[:, None, :]).reshape(len(x), -1)
    whole = information.reshape(k, k, k + 1, k + 1).transpose(0, 2, 1, 3).reshape(k * (k + 1), -1)
    cross = whole @ heat
    share = cross / (heat @ cross)
    return _test("matrix", Effective(score, whole - np.outer(cross, share), squares.without(share)), data.weights)
