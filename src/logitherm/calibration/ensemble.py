"""A mixture of the model heated, the model as it is, and indifference."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.optimize import minimize

from logitherm._array import Array, namespace
from logitherm.calibration.base import Calibrator, bound_of, numbers, temperature_and_bound, whole_number
from logitherm.calibration.rows import Labelled, labelled, likelihoods
from logitherm.gibbs import log_softmax, softmax
from logitherm.kernels import exponential
from logitherm.thermometer import fit_temperature

STARTS = (1.0, 0.25, 4.0)  # times the best single temperature: the likelihood may have several maxima
NEGLIGIBLE = 1e-6  # a share below this is none
EQUAL = 1e-12  # nats a row that are rounding
RANGE = 30.0  # of log T around the best single temperature, and of the logits of the shares


class EnsembleTemperatureScaling(Calibrator):
    """p = w_1 softmax(z / T) + w_2 softmax(z) + w_3 / K: keeps predictions, and admits blunders.

    A single temperature has no way to say "nearly always certain, but now and then plainly wrong": a few confident
    errors make it heat every row. The share w_3 is a floor under every probability that answers for those, so that T
    is free to serve the others. A forbidden class stays forbidden (K counts the allowed ones).

    Parameters
    ----------
    zero_labels : "raise" or "exclude"
        What to do with rows whose label has logit -inf.

    Attributes
    ----------
    temperature_ : float
        T, in the units of the logits; without meaning where its share is 0.
    shares_ : array, shape (3,)
        w_1, w_2, w_3: of the heated model, the model as it is, and indifference; they sum to 1.
    at_bound_ : "zero", "infinite" or None
        As in `TemperatureScaling`.
    n_ : int
        Rows of the fit.

    References
    ----------
    Zhang, Kailkhura and Han (2020), Mix-n-match: ensemble and compositional methods for uncertainty calibration,
    section 3.2, with T fitted together with the shares.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> z = 4 * rng.normal(size=(5000, 10))
    >>> labels = (z + rng.gumbel(size=z.shape)).argmax(axis=1)
    >>> blunders = rng.random(5000) < 0.1
    >>> labels[blunders] = rng.integers(0, 10, blunders.sum())
    >>> scaling = EnsembleTemperatureScaling().fit(z, labels)
    >>> float(scaling.shares_[2].round(1))
    0.1
    """

    keeps_predictions = True

    def __init__(self, *, zero_labels: str = "raise") -> None:
        self.zero_labels = zero_labels

    def _fit(self, z: Array, labels: np.ndarray, weights: Any) -> None:
        single = fit_temperature(z, labels, weights=weights, zero_labels=self.zero_labels)
        self.temperature_, self.shares_ = single.temperature, np.array([1.0, 0.0, 0.0])
        self.at_bound_, self.n_ = single.at_bound, single.n
        if single.at_bound:
            return
        data = labelled(z, labels, weights, exclude=single.excluded > 0)
        plain = exponential(-likelihoods(data, 1.0)[0])
        flat = 1.0 / (data.logits > -math.inf).sum(axis=1)
        found = min(
            (_search(data, plain, flat, math.log(single.temperature * factor)) for factor in STARTS),
            key=lambda found: found.fun,
        )
        self.temperature_ = float(exponential(float(found.x[0])))
        shares = softmax(found.x[1:])
        nll = {t: _nll(data, t, shares, plain, flat) for t in (0.0, math.inf, self.temperature_)}
        limit = min((0.0, math.inf), key=lambda t: nll[t])
        if shares[0] >= NEGLIGIBLE and nll[limit] <= nll[self.temperature_] + EQUAL:
            self.temperature_, self.at_bound_ = limit, bound_of(limit)
        shares[shares < NEGLIGIBLE] = 0.0
        self.shares_ = shares / shares.sum()

    def _calibrated(self, z: Array) -> Array:
        xp = namespace(z)
        mixed = None
        for share, temperature in zip(self.shares_.tolist(), (self.temperature_, 1.0, math.inf), strict=True):
            if share > 0:
                part = log_softmax(z, temperature) + math.log(share)
                mixed = part if mixed is None else xp.logaddexp(mixed, part)
        return mixed

    def _values(self) -> dict[str, Any]:
        names = ("temperature", "shares", "at_bound", "n")
        return {name: getattr(self, f"{name}_") for name in names}

    def _set(self, values: dict[str, Any]) -> None:
        self.temperature_, self.at_bound_ = temperature_and_bound(values)
        self.n_ = whole_number(values["n"])
        self.shares_ = numbers(values["shares"], 3)
        if self.shares_.min() < 0 or abs(self.shares_.sum() - 1) > 1e-9:
            raise ValueError(f"shares {self.shares_.tolist()}")


def _nll(data: Labelled, temperature: float, shares: np.ndarray, plain: np.ndarray, flat: np.ndarray) -> float:
    """Weighted mean of the mixture."""
    counted = data.weights > 0
    mixed = shares @ [exponential(-likelihoods(data, temperature)[0]), plain, flat]
    with np.errstate(divide="ignore"):
        return -float(data.weights[counted] @ np.log(mixed[counted])) / float(data.weights.sum())


def _search(data: Labelled, plain: np.ndarray, flat: np.ndarray, start: float) -> Any:
    """Minimise the NLL over log T and the logits of the shares."""
    total = data.weights.sum()

    def objective(x: np.ndarray) -> tuple[float, np.ndarray]:
        inverse, shares = float(exponential(float(-x[0]))), softmax(x[1:])
        nll, score = likelihoods(data, 1 / inverse)
        parts = shares[:, None] * [exponential(-nll), plain, flat]
        mixed = parts.sum(axis=0)
        share_of = data.weights * parts / mixed
        slope = -inverse * float(share_of[0] @ score)
        return -float(data.weights @ np.log(mixed)) / total, np.append(
            slope, shares * total - share_of.sum(axis=1)
        ) / total

    at = np.array([start, 2.0, 0.0, 0.0])
    bounds = [(start - RANGE, start + RANGE)] + [(-RANGE, RANGE)] * 3
    return minimize(objective, at, jac=True, method="L-BFGS-B", bounds=bounds, options={"ftol": 1e-12, "gtol": 1e-7})
