"""An alarm with a stated rate of false ones: have the labels ceased to be draws from softmax(z / T), T in a band?

Let b be the inverse temperature at an edge of the band, b' one beyond it, and A(x) = log sum exp(x z) of a row. The
ratio L = p_b'(label) / p_b(label) has, if the label is drawn at inverse temperature x, the expectation
exp([A(x + b' - b) - A(x)] - [A(b') - A(b)]). A is convex, so its increments over a fixed distance grow with x: L has
an expectation of at most 1 for every x on the band's side of b, whatever the logits and whatever came before.

So with R <- (1 + R) L, R minus the number of rows is a supermartingale, and so is that of any average of such R. Hence
the alarm, raised when the average over several b' reaches `run_length`, comes after `run_length` rows or more on
average while T stays in the band, and within the first n rows with a probability of at most n / `run_length`. There is
no approximation in either.

Labels of a model that is wrong in more than its temperature are no such draws, whatever T. There the ratio is taken to
the power 1 / dispersion, as in a quasi-likelihood: with E[score] = 0, variance J of the score and curvature I, L^p of
a near alternative has an expectation of at most 1, to second order, for p <= I / J. The guarantee then is approximate.

Shin, Ramdas and Rinaldo (2024), E-detectors: a nonparametric framework for sequential change detection, section 2;
the recursion is that of Shiryaev and Roberts.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from logitherm import kernels
from logitherm.calibration.rows import Labelled, observed
from logitherm.kernels.reference import heat_capacity, over
from logitherm.kernels.threads import blocks

BEYOND = (1.1, 1.5)  # where the alternatives lie, in units of the edge of the band: one for drift, one for breaks
BLOCK_VALUES = 1 << 18  # of the logits at all temperatures together


class LikelihoodTable(NamedTuple):
    """Of every row at every temperature, (rows, temperatures): NLL, and its derivatives in the inverse temperature."""

    nll: np.ndarray
    score: np.ndarray
    curvature: np.ndarray


def likelihood_table(data: Labelled, temperatures: np.ndarray) -> LikelihoodTable:
    """For few rows: each is copied for every temperature. Float64."""
    shape = len(data.labels), len(temperatures)
    seen = np.repeat(observed(data), shape[1])
    t = np.tile(temperatures, shape[0])
    m = kernels.moments(np.repeat(data.logits.astype(np.float64), shape[1], axis=0), t, None, False)
    below = m.top - seen
    each = np.log1p(m.rest) + over(below, t), below - m.gap, heat_capacity(m, t) * t**2
    return LikelihoodTable(*(values.reshape(shape) for values in each))


class Alarm:
    """The state of the alarm: a number for every alternative, whatever the length of the stream.

    Parameters
    ----------
    band : (float, float)
        Lowest and highest temperature that are no cause for alarm, 0 < low <= high < inf.
    run_length : float
        Rows to a false alarm, on average at least.
    dispersion : float
        J / I, the ratio of the sandwich to the model-based variance of T; 1 for a model that errs in T alone.

    Attributes
    ----------
    rows_to_alarm : int or None
        Rows seen when it was raised.
    needs : "heating", "cooling" or None
        Whether the labels then asked for a temperature above or below the band: that of an overconfident model, which
        is too cold, or of an underconfident one.
    """

    def __init__(self, band: tuple[float, float], run_length: float, dispersion: float = 1.0) -> None:
        low, high = band
        self.run_length, self.dispersion = run_length, dispersion
        self.temperatures = np.array([low, *(low / f for f in BEYOND), high, *(high * f for f in BEYOND)])
        self.clear()

    def clear(self) -> None:
        """Begin again, as if no row had come."""
        self.evidence = np.zeros(2 * len(BEYOND))  # log(1 + R)
        self.rows = 0
        self.rows_to_alarm: int | None = None
        self.needs: str | None = None

    @property
    def level(self) -> float:
        """Evidence as a share of what raises the alarm."""
        return float(np.expm1(self.evidence).mean()) / self.run_length if self.evidence.max() < 700 else math.inf

    def update(self, nll: np.ndarray, weights: np.ndarray) -> None:
        """Take the NLL of further rows at `temperatures`, (rows, temperatures).

        A row of weight w < 1 counts as L^w, whose expectation is at most 1 as well; one of more weight as one row.
        """
        if not len(nll):
            return
        cold, hot = np.split(nll, 2, axis=1)
        gains = np.concatenate([cold[:, :1] - cold[:, 1:], hot[:, :1] - hot[:, 1:]], axis=1)
        sums = np.cumsum(gains * (np.minimum(weights, 1.0) / self.dispersion)[:, None], axis=0)
        # R_n = sum over k of L_k ... L_n: the sums of log L up to n, less those before k
        starts = np.concatenate([self.evidence[None], -sums[:-1]])
        log_r = sums + np.logaddexp.accumulate(starts, axis=0)
        if self.rows_to_alarm is None:
            self._look(log_r)
        self.evidence = np.logaddexp(0.0, log_r[-1])
        self.rows += len(nll)

    def _look(self, log_r: np.ndarray) -> None:
        """Raise the alarm if the average of R reaches the run length at any of these rows."""
        mean = np.logaddexp.reduce(log_r, axis=1) - math.log(log_r.shape[1])
        raised = mean >= math.log(self.run_length)
        if raised.any():
            row = int(raised.argmax())
            cold, hot = np.split(log_r[row], 2)
            self.rows_to_alarm = self.rows + row + 1
            self.needs = "cooling" if cold.max() > hot.max() else "heating"


def watch(alarm: Alarm, data: Labelled) -> None:
    """Show the alarm any number of possible rows, in their order."""
    for block in blocks(len(data.labels), data.logits.shape[1], BLOCK_VALUES // len(alarm.temperatures)):
        part = Labelled(*(field[block] for field in data))
        alarm.update(likelihood_table(part, alarm.temperatures).nll, part.weights)
