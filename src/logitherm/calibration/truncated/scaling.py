"""The temperature of answers of which only the largest log-probabilities are known, and the bounds that leaves."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from logitherm._array import as_array, describe, dtype_name, to_numpy
from logitherm._labels import as_weights, rows_kept
from logitherm._solve import find_root
from logitherm.calibration.base import Calibrator, bound_of, number, or_infinite, temperature_and_bound, whole_number
from logitherm.calibration.truncated.answers import TopAnswers
from logitherm.calibration.truncated.fillings import (
    Filling,
    Truncated,
    completed,
    corners,
    extreme_mean,
    log_probabilities,
    log_weight,
    mean_and_variance,
    nothing,
    single,
)
from logitherm.kernels import exponential
from logitherm.metrics.options import as_level

REACH = math.log(1e4)  # of |log T|; an optimum beyond it is at a bound
CLOSE = 1e-9  # in log T

Scores = Callable[[float], tuple[np.ndarray, np.ndarray]]


class TruncatedTemperatureScaling(Calibrator):
    """One temperature for answers of which only the top k log-probabilities are known; keeps their order.

    The log-likelihood of a listed label is z_y / T - log Z(T), where Z has the unknown states too. At T = 1 they add
    up to the missing mass; at any other T what they add depends on how the mass is spread, within what the list
    allows: it is spent exactly (`TopAnswers.of_tokens`) or at most (`of_choices`), and no state has more than the
    least one listed. Every spread, a filling, has its own best T; the extremes over all of them are
    `temperature_bounds_`, whatever the truth is. Where the label is not listed, the observation is that one of the
    unlisted states occurred.

    Limits: the bounds narrow to T as the missing mass vanishes. They may be one state wider than need be, and wider
    where labels are not listed. A label that may have any probability down to 0 (an unlisted choice; a token where no
    more is left of 1 than rounding) leaves T open to infinity: give its log-probability, or leave the row out.

    Parameters
    ----------
    confidence : float
        Level of `interval_`.

    Attributes
    ----------
    temperature_ : float
        The best T if the missing mass falls off with the rank by a power law (tokens), or if unlisted choices have half
        of what they may have.
    temperature_bounds_ : (float, float)
        The best T of the extreme fillings.
    interval_ : (float, float)
        The bounds, each moved outwards by its sampling error (sandwich, log T): holds T whatever is missing.
    standard_error_ : float or None
        Of T from sampling alone, sandwich. None at a bound.
    at_bound_ : "zero", "infinite" or None
    n_, unlisted_ : int
        Rows of the fit, and those whose label is not listed.

    References
    ----------
    Manski (2003), Partial identification of probability distributions, for bounds in place of assumptions; Imbens and
    Manski (2004), Confidence intervals for partially identified parameters, for the interval; Dinkelbach (1967), On
    nonlinear fractional programming, for the extremes.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> z = 2 * rng.normal(size=(2000, 1000))
    >>> labels = (z / 1.5 + rng.gumbel(size=z.shape)).argmax(axis=1)
    >>> log_p = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    >>> top = np.argsort(-z, axis=1)[:, :20]                        # what an interface lists
    >>> place = np.where((top == labels[:, None]).any(axis=1), (top == labels[:, None]).argmax(axis=1), -1)
    >>> answers = TopAnswers.of_tokens(np.take_along_axis(log_p, top, axis=1), states=1000)
    >>> scaling = TruncatedTemperatureScaling().fit(answers, place)
    >>> low, high = scaling.temperature_bounds_
    >>> low < 1.5 < high
    True
    """

    keeps_predictions = True
    temperature_: float
    temperature_bounds_: tuple[float, float]

    def __init__(self, *, confidence: float = 0.95) -> None:
        self.confidence = confidence

    def fit(
        self,
        logits: TopAnswers,
        labels: Any,
        sample_weight: Any = None,
        *,
        mask: Any = None,
        ignore_index: int | None = None,
    ) -> TruncatedTemperatureScaling:
        """Fit to answers and labels (n,): the column of what occurred, -1 where no column has it.

        Other arguments are those of every calibrator.

        Raises
        ------
        TypeError, ValueError
            Something else than `TopAnswers`; labels out of range; a label at an empty column of tokens.
        """
        rows, level = _as_answers(logits).rows, as_level(self.confidence)
        columns = rows.listed.shape[1]
        n = len(rows.listed)
        keep = rows_kept(labels, mask, ignore_index, (n,))
        keep = np.ones(n, dtype=bool) if keep is None or keep.shape != (n,) else keep
        given = to_numpy(as_array(labels, "labels"))
        place = _as_places(np.where(keep, given, -1) if given.shape == (n,) and not keep.all() else labels, rows)
        given_weights = as_weights(sample_weight, (n,))
        weights = keep * (1.0 if given_weights is None else given_weights)
        as_weights(weights, (n,))  # not all are left out
        unlisted = (place < 0) | (_seen(rows, place) == -math.inf)
        filling = logits.filling()

        likely = _likely_scores(rows, filling, place, unlisted)
        inverse = _root(likely, weights)
        self.temperature_ = _inverted(inverse)
        cold, hot = (_root(_extreme_scores(rows, place, unlisted, largest), weights) for largest in (False, True))
        self.temperature_bounds_ = (_inverted(cold), _inverted(hot))
        self.at_bound_ = bound_of(self.temperature_)
        self.standard_error_, factor = None, 1.0
        if self.at_bound_ is None:
            score, variance = likely(inverse)
            relative = math.sqrt(float((weights * score) @ (weights * score))) / float(weights @ variance) / inverse
            self.standard_error_ = self.temperature_ * relative
            factor = float(exponential(NormalDist().inv_cdf(0.5 + level / 2) * relative))
        self.interval_ = (self.temperature_bounds_[0] / factor, self.temperature_bounds_[1] * factor)
        self.n_, self.unlisted_ = int(keep.sum()), int((unlisted & keep).sum())
        self.classes_, self.n_features_in_ = np.arange(columns), columns
        self.provenance_ = None
        return self

    def transform(self, logits: TopAnswers) -> np.ndarray:
        """Calibrated log-probabilities of the columns, (n, columns), with the filling of `temperature_`."""
        check_is_fitted(self)
        rows, filling = _as_answers(logits).rows, logits.filling()
        listed, others = log_probabilities(rows, filling, self.temperature_)
        return np.where(rows.listed == -math.inf, others, listed) if rows.columns else listed

    def predict_proba(self, logits: TopAnswers) -> np.ndarray:
        """Calibrated probabilities of the columns; tokens that are not listed have what is left of 1."""
        return np.asarray(exponential(self.transform(logits)))

    def probability_bounds(self, logits: TopAnswers) -> tuple[np.ndarray, np.ndarray]:
        """The least and the largest probability of every column at `temperature_` over all fillings, (n, columns)."""
        check_is_fitted(self)
        rows = _as_answers(logits).rows
        listed = np.stack([log_probabilities(rows, filling, self.temperature_)[0] for filling in corners(rows)])
        low, high = exponential(listed.min(axis=0)), exponential(listed.max(axis=0))
        if rows.columns:
            alone = log_probabilities(rows, single(rows), self.temperature_)[1]
            high = np.where(rows.listed == -math.inf, exponential(alone), high)
        return low, high

    def nll(self, logits: TopAnswers, labels: Any, temperature: float | None = None) -> float:
        """Mean negative log-likelihood in nats at a temperature, the fitted one unless given.

        With the filling of `temperature_`; of a label of -1 the likelihood is that of all unlisted tokens together.

        Raises
        ------
        TypeError, ValueError
            As `fit`; a temperature outside 0 <= T <= inf.
        """
        check_is_fitted(self)
        rows = _as_answers(logits).rows
        place, t = _as_places(labels, rows), self.temperature_ if temperature is None else float(temperature)
        if not t >= 0:
            raise ValueError(f"temperature: must lie in [0, inf]; got {t}; give 1 for the answers as they are")
        filling = logits.filling()
        listed, others = log_probabilities(rows, filling, t)
        seen = np.take_along_axis(listed, np.maximum(place, 0)[:, None], axis=1)[:, 0]
        together = others[:, 0] if rows.columns else np.logaddexp.reduce(others + filling.log_copies, axis=1)
        unlisted = (place < 0) | (_seen(rows, place) == -math.inf)
        return float(-np.where(unlisted, together, seen).mean())

    def predict(self, logits: TopAnswers) -> np.ndarray:
        """Column of the largest probability."""
        check_is_fitted(self)
        return np.asarray(_as_answers(logits).rows.listed.argmax(axis=1))

    def _values(self) -> dict[str, Any]:
        names = ("temperature", "temperature_bounds", "interval", "standard_error", "at_bound", "n", "unlisted")
        return {name: getattr(self, f"{name}_") for name in names} | {"confidence": self.confidence}

    def _set(self, values: dict[str, Any]) -> None:
        self.temperature_, self.at_bound_ = temperature_and_bound(values)
        self.confidence = as_level(values["confidence"])
        for name in ("temperature_bounds", "interval"):
            low, high = (or_infinite(end) for end in values[name])
            if not low <= self.temperature_ <= high:
                raise ValueError(f"{name} {values[name]} around {values['temperature']}")
            setattr(self, f"{name}_", (low, high))
        error = values["standard_error"]
        self.standard_error_ = None if error is None else number(error, 0)
        self.n_, self.unlisted_ = whole_number(values["n"]), whole_number(values["unlisted"], 0)


def _inverted(value: float) -> float:
    return 1 / value if value > 0 else math.inf


def _as_answers(given: Any) -> TopAnswers:
    if not isinstance(given, TopAnswers):
        raise TypeError(
            f"answers: must be TopAnswers; got {describe(given)}; make them by TopAnswers.of_tokens or of_choices"
        )
    return given


def _as_places(labels: Any, rows: Truncated) -> np.ndarray:
    """The column of what occurred in every row, -1 for none."""
    given = as_array(labels, "labels")
    n, columns = rows.listed.shape
    if "int" not in dtype_name(given) or tuple(given.shape) != (n,):
        raise ValueError(f"labels: must be integers of shape ({n},); got {describe(given)}; give the column of each")
    place = to_numpy(given).astype(np.int64)
    least = 0 if rows.columns else -1
    wrong = (place < least) | (place >= columns)
    if not rows.columns:
        wrong |= (place >= 0) & (_seen(rows, np.minimum(place, columns - 1)) == -math.inf)
        wrong |= (place < 0) & (rows.log_most == -math.inf)
    bad = np.flatnonzero(wrong)
    if len(bad):
        raise ValueError(
            f"labels: must be {least} to {columns - 1}, columns that hold something; row {bad[0]} has {place[bad[0]]} "
            f"({len(bad)} such in all); -1 stands for a token that is not listed, where there are such"
        )
    return place


# -- the score: derivative of the NLL of every row in b = 1 / T, and its own derivative ------------------------


def _likely_scores(rows: Truncated, filling: Filling, place: np.ndarray, unlisted: np.ndarray) -> Scores:
    """With one filling."""
    seen = _seen(rows, place)

    def scores(b: float) -> tuple[np.ndarray, np.ndarray]:
        mean, variance = mean_and_variance(completed(rows, filling, b), b)
        if unlisted.any():
            other_mean, other_variance = mean_and_variance(completed(rows, filling, b, listed=False), b)
            return (
                mean - np.where(unlisted, other_mean, seen),
                variance - np.where(unlisted, other_variance, 0.0),
            )
        return mean - seen, variance

    return scores


def _extreme_scores(rows: Truncated, place: np.ndarray, unlisted: np.ndarray, largest: bool) -> Scores:
    """The largest or smallest over all fillings."""
    seen = _seen(rows, place)
    known, other = np.flatnonzero(~unlisted), np.flatnonzero(unlisted)

    def scores(b: float) -> tuple[np.ndarray, np.ndarray]:
        score, variance = np.zeros(len(place)), np.zeros(len(place))
        mean, variance[known] = extreme_mean(rows.take(known), b, largest=largest)
        score[known] = mean - seen[known]
        if len(other):
            score[other] = _unlisted(rows.take(other), b, largest)
        return score, variance

    return scores


def _unlisted(rows: Truncated, b: float, largest: bool) -> np.ndarray:
    """Bounds of the score where a state occurred that is not listed.

    It is (share of the listed states) * (their mean logit - that of the others), both factors at their extremes. What
    may have nothing at all may be as improbable as one likes.
    """
    if rows.columns and largest:
        return np.full(len(rows.listed), math.inf)
    if rows.columns:  # at best it has all that it may
        return extreme_mean(rows, b, largest=False)[0] - rows.log_cap
    listed = completed(rows, nothing(rows), b)
    weights = [log_weight(completed(rows, filling, b, listed=False), b) for filling in corners(rows)]
    share = 1 / (1 + exponential((np.min if largest else np.max)(weights, axis=0) - log_weight(listed, b)))
    others = extreme_mean(rows, b, largest=not largest, listed=False)[0]
    score = share * (listed.top - listed.gap - others)
    return np.asarray(np.where(rows.log_least == -math.inf, math.inf, score) if largest else score)


def _seen(rows: Truncated, place: np.ndarray) -> np.ndarray:
    return np.asarray(np.take_along_axis(rows.listed, np.maximum(place, 0)[:, None], axis=1)[:, 0])


def _root(scores: Scores, weights: np.ndarray) -> float:
    """The inverse temperature where the weighted scores add up to 0; 0 or inf where none does."""

    used = np.flatnonzero(weights > 0)

    def total(x: np.floating) -> tuple[np.floating, np.floating]:
        b = float(exponential(float(x)))
        score, variance = scores(b)
        return np.float64(weights[used] @ score[used]), np.float64(b * (weights[used] @ variance[used]))

    if total(np.float64(REACH))[0] <= 0:
        return math.inf
    if total(np.float64(-REACH))[0] >= 0:
        return 0.0
    return float(exponential(float(find_root(total, np.float64(0.0), -REACH, REACH, step_tolerance=CLOSE).x)))
