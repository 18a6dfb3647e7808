"""Overfitting seen as a temperature: what the training rows ask for against what held-out rows ask for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from logitherm._array import Array
from logitherm.gibbs import mean_energy
from logitherm.metrics.options import as_choice, as_level, finite_or_none
from logitherm.metrics.rows import as_inputs, row_blocks
from logitherm.metrics.score import Score
from logitherm.thermometer import TemperatureFit, fit_temperature

EVIDENCE = 0.05  # p-value below which the two temperatures are said to differ


def overconfidence(logits: Array, labels: Array, temperature: Any = 1.0) -> np.ndarray:
    """How much more logit the model expects than what occurred had: E_p[z] - z_label for each row.

    It is the derivative of the negative log-likelihood of the row in 1/T, and at T = 1 in log(1/T): where the sum over
    rows is positive, colder is worse and the model needs heating; a fitted temperature is where the sum is 0. One row
    alone is positive for a label below the mean logit, negative for a label above it, and zero on average over labels
    drawn from the model.

    Limits: T = 0 gives max z - z_label, never negative; T = inf the mean logit of the allowed classes less z_label. A
    label of logit -inf gives inf.

    Parameters
    ----------
    logits : array, shape (..., classes)
        Floating scores, NumPy or torch; -inf forbids a class.
    labels : array of integers, shape (...)
        Each in [0, classes).
    temperature : float, array of the batch shape, or Temperature
        In the units of the logits, 0 <= T <= inf.

    Returns
    -------
    float64 array, shape (...)
        In the units of the logits.

    Raises
    ------
    TypeError, ValueError
        As for `logitherm.metrics.accuracy`.

    References
    ----------
    Guo et al. (2017), On calibration of modern neural networks, section 4.2, whose loss this is the slope of; Jaynes
    (1957), Information theory and statistical mechanics, for the condition that the two means agree.

    Examples
    --------
    >>> import numpy as np
    >>> overconfidence(np.array([[2.0, 0.0], [2.0, 0.0]]), [0, 1]).round(3)
    array([-0.238,  1.762])
    """
    inputs = as_inputs(logits, labels, temperature)
    found = np.empty(len(inputs.labels))
    for block in row_blocks(inputs):
        rows = np.arange(len(block.labels))
        depth = block.logits - block.logits[rows, block.predicted][:, None]  # first, so that large logits lose nothing
        found[block.rows] = -mean_energy(depth, block.temperature, check=False) - depth[rows, block.labels]
    return found.reshape(inputs.batch_shape)


def mean_overconfidence(
    logits: Array, labels: Array, temperature: Any = 1.0, *, zero_labels: str = "raise", confidence: float = 0.95
) -> Score:
    """The mean of `overconfidence` over rows with its interval, for independent rows: above 0 they ask for heating.

    Unlike a fitted temperature it exists for every set of rows, and its interval is honest for any model.

    Limits: of a single row the interval is NaN; rows that all have the same score have one of width 0.

    Parameters
    ----------
    logits, labels, temperature
        As for `overconfidence`.
    zero_labels : "raise" or "exclude"
        What to do with rows whose label has logit -inf, and whose score is infinite.
    confidence : float
        Level of the interval, from the spread of the rows (normal approximation).

    Returns
    -------
    Score
        In the units of the logits.

    Raises
    ------
    TypeError, ValueError
        As for `overconfidence`; labels of logit -inf, with their number; no row left.

    References
    ----------
    Guo et al. (2017), On calibration of modern neural networks, section 4.2, whose loss this is the slope of.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> z = rng.normal(size=(2000, 5))
    >>> labels = (z + rng.gumbel(size=z.shape)).argmax(axis=1)
    >>> honest, cold = mean_overconfidence(z, labels), mean_overconfidence(3 * z, labels)
    >>> honest.low < 0 < honest.high, cold.low > 0
    (True, True)
    """
    level = as_level(confidence)
    exclude = as_choice(zero_labels, "zero_labels", ("raise", "exclude")) == "exclude"
    found = overconfidence(logits, labels, temperature).reshape(-1)
    possible = found < math.inf
    if not possible.all() and not (exclude and possible.any()):
        raise ValueError(
            f"labels: must be possible; {(~possible).sum()} of {len(found)} rows have a label of logit -inf "
            "(probability 0 at every T); mend them" + ("" if exclude else " or pass zero_labels='exclude'")
        )
    found = found[possible]
    mean = float(found.mean())
    if len(found) < 2:
        return Score(mean, math.nan, math.nan)
    width = NormalDist().inv_cdf(0.5 + level / 2) * float(found.std(ddof=1)) / math.sqrt(len(found))
    return Score(mean, mean - width, mean + width)


@dataclass(frozen=True)
class OverfittingGauge:
    """The temperatures of `overfitting_gauge`.

    Attributes
    ----------
    train, held_out : TemperatureFit
        Each with its interval and standard errors.
    log_ratio : float
        log(T held out / T train): 0 where both rows ask for the same, inf where the training rows are separable. NaN
        where both temperatures are 0 or both infinite.
    standard_error : float or None
        Of `log_ratio`, from the sandwich errors. None where either temperature is at a bound.
    p_value : float or None
        Two-sided normal tail of log_ratio / standard_error.
    """

    train: TemperatureFit
    held_out: TemperatureFit
    log_ratio: float
    standard_error: float | None
    p_value: float | None

    @property
    def verdict(self) -> str:
        """The finding in one sentence that claims no more than the errors allow."""
        cold, hot = self.train, self.held_out
        there = f"held-out rows ask for {_said(hot)}"
        for fit, rows in ((hot, "held-out"), (cold, "training")):
            if fit.at_bound == "infinite":
                return f"The logits say nothing about the {rows} labels: check that the two belong together."
        if cold.at_bound == "zero":
            if hot.at_bound == "zero":
                return "Every label is the largest logit, on both kinds of rows: neither can tell how sure to be."
            return f"Every training label is the largest logit (T = 0): they cannot tell how sure to be; {there}."
        if hot.at_bound == "zero":
            return "Every held-out label is the largest logit (T = 0): they cannot tell how sure to be; add more."
        both = f"training rows ask for {_said(cold)}, {there}"
        if self.p_value is None or self.p_value >= EVIDENCE:
            return f"No difference can be told: {both}."
        ratio = hot.temperature / cold.temperature
        if ratio < 1:
            return f"The held-out rows are fitted better, by a factor of {1 / ratio:.3g} in temperature: {both}."
        return f"Overfitted by a factor of {ratio:.3g} in temperature: {both}."

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: None where a number is not finite; `at_bound` of the fits says why."""
        return {
            "train": self.train.to_dict(),
            "held_out": self.held_out.to_dict(),
            "log_ratio": finite_or_none(self.log_ratio),
            "standard_error": self.standard_error,
            "p_value": self.p_value,
            "verdict": self.verdict,
        }


def overfitting_gauge(
    train_logits: Any,
    train_labels: Any,
    held_out_logits: Any,
    held_out_labels: Any,
    *,
    zero_labels: str = "raise",
    confidence: float = 0.95,
) -> OverfittingGauge:
    """The temperature a model's training rows ask for, that its held-out rows ask for, and how far they are apart.

    Training sets the temperature of its own rows: where the last layer has stopped learning without weight decay, its
    scale can do no better and T = 1 on them, whatever the held-out rows say. Below 1 the training rows ask for larger
    logits still: training goes on, or weight decay holds them back. A model that knows its rows by heart has T far
    below 1 there, and 0 once every label is the largest logit (`train.at_bound == "zero"`), while held-out rows ask for
    heating. So their ratio grows with overfitting of the confidence; of the accuracy it says nothing.

    Limits: rows of one distribution, seen or unseen alike, give log_ratio 0 within its error. Separable training rows
    give inf, without standard error and p-value, of which there are none at a bound.

    Parameters
    ----------
    train_logits, held_out_logits : array, shape (..., classes), or iterable of batches
        Of the same model in evaluation mode; -inf forbids a class. Batches as for `fit_temperature`, with labels None.
    train_labels, held_out_labels : integer array, batch shape, or None for batches
        The two kinds of rows are taken as independent.
    zero_labels : "raise" or "exclude"
        As for `fit_temperature`.
    confidence : float
        Level of the intervals.

    Returns
    -------
    OverfittingGauge

    Raises
    ------
    TypeError, ValueError
        As for `fit_temperature`, after the name of the rows; logits of different numbers of classes.

    References
    ----------
    Guo et al. (2017), On calibration of modern neural networks, section 3, for the growth of confidence after the
    training rows are fitted; White (1982) for the standard errors.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> z = rng.normal(size=(4000, 5))
    >>> labels = (z + rng.gumbel(size=z.shape)).argmax(axis=1)
    >>> gauge = overfitting_gauge(z[:2000], labels[:2000], 3 * z[2000:], labels[2000:])
    >>> round(float(np.exp(gauge.log_ratio)), 2), gauge.p_value < 0.001
    (3.01, True)
    """
    train = _fit("training rows", train_logits, train_labels, zero_labels, confidence)
    held_out = _fit("held-out rows", held_out_logits, held_out_labels, zero_labels, confidence)
    if train.classes != held_out.classes:
        raise ValueError(
            f"held_out_logits: must have the {train.classes} classes of train_logits; got {held_out.classes}; "
            "pass logits of one model"
        )
    log_ratio = _log(held_out.temperature) - _log(train.temperature)
    errors = [
        fit.sandwich_error / fit.temperature
        for fit in (train, held_out)
        if fit.at_bound is None and fit.sandwich_error is not None
    ]
    error = math.hypot(*errors) if len(errors) == 2 else None
    return OverfittingGauge(
        train=train,
        held_out=held_out,
        log_ratio=log_ratio,
        standard_error=error,
        p_value=math.erfc(abs(log_ratio) / error / math.sqrt(2)) if error else None,
    )


def _fit(rows: str, logits: Any, labels: Any, zero_labels: str, confidence: float) -> TemperatureFit:
    try:
        return fit_temperature(logits, labels, zero_labels=zero_labels, confidence=confidence)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{rows}: {error}") from error


def _log(temperature: float) -> float:
    return math.log(temperature) if temperature > 0 else -math.inf


def _said(fit: TemperatureFit) -> str:
    if fit.interval is None:
        return f"T = {fit.temperature:.3g}"
    low, high = fit.interval
    return f"T = {fit.temperature:.3g} ({low:.3g} to {high:.3g})"
