"""A mixture of the model heated, the model as it is, and indifference."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import nnls

from logitherm._array import Array, namespace
from logitherm._solve import find_root
from logitherm.calibration.base import Calibrator, bound_of, numbers, temperature_and_bound, whole_number
from logitherm.calibration.rows import Labelled, labelled, likelihoods, limits
from logitherm.gibbs import log_softmax
from logitherm.kernels import exponential
from logitherm.thermometer import fit_temperature

GRID = tuple(math.log(2.0) * step for step in range(-5, 6))  # around the best single log T: there may be several maxima
NEGLIGIBLE = 1e-6  # a share below this is none
EQUAL = 1e-12  # nats a row that are rounding
RANGE = 30.0  # of log T around the best single temperature
FLAT, CLOSE = 1e-9, 1e-6  # nats a row per log T, and log T: the NLL is then its optimum to 1e-12
RIDGE = 1e-12  # of the trace of second derivatives: at T = 1 two of the three parts are one
MOST_STEPS, LEAST_STEP = 100, 1e-6


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
        profile = _Profile(data if data.weights.all() else data.take(np.flatnonzero(data.weights)))
        best = _search(profile, math.log(single.temperature))
        if best.shares[0] >= NEGLIGIBLE:
            limit = min((profile.mixed(t, p) for t, p in profile.limits), key=lambda mixture: mixture.nll)
            best = limit if limit.nll <= best.nll + EQUAL else best
            self.temperature_, self.at_bound_ = best.temperature, bound_of(best.temperature)
        self.shares_ = np.where(best.shares < NEGLIGIBLE, 0.0, best.shares)
        self.shares_ /= self.shares_.sum()

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


class _Mixture(NamedTuple):
    """The best shares at one temperature."""

    temperature: float
    shares: np.ndarray
    nll: float  # mean of the rows
    slope: float  # of the NLL in log T, the shares going along
    bend: float  # and the slope of that


class _Profile:
    """The likelihood as a function of log T alone: the best shares at a T need no further look at the logits."""

    def __init__(self, data: Labelled) -> None:
        self.data, self.weights = data, data.weights / data.weights.sum()
        self.plain = exponential(-likelihoods(data, 1.0).nll)
        cold, self.flat = limits(data)
        self.limits = ((0.0, cold), (math.inf, self.flat))
        self.shares = np.full(3, 1 / 3)  # where the next search for them begins

    def __call__(self, log_temperature: float) -> _Mixture:
        temperature = float(exponential(log_temperature))
        rows = likelihoods(self.data, temperature)
        pull = rows.score / temperature  # slope of log p in log T
        return self.mixed(temperature, exponential(-rows.nll), pull, -pull - rows.capacity)

    def mixed(self, temperature: float, heated: Array, pull: Array = 0.0, bend: Array = 0.0) -> _Mixture:
        """Of the labels' probabilities at a temperature, with the slope and the bend of their logarithms in log T."""
        parts = np.stack([heated, self.plain, self.flat])
        self.shares = best_shares(parts, self.weights, self.shares)
        relative = parts / (self.shares @ parts)
        w, own = self.weights, self.shares[0] * relative[0] * pull
        # the shares answer a change of log T as the second derivatives tell, those that are 0 stay so
        some = self.shares > 0
        cross = (relative @ (w * own) - [(w * relative[0] * pull).sum(), 0, 0])[some]
        among = (relative[some] * w) @ relative[some].T
        answer = np.linalg.lstsq(among, cross, rcond=1e-10)[0]
        return _Mixture(
            temperature,
            self.shares,
            -float((w * np.log(self.shares @ parts)).sum()),
            -float((w * own).sum()),
            float((w * (own**2 - self.shares[0] * relative[0] * (pull**2 + bend))).sum() - cross @ answer),
        )


def best_shares(parts: np.ndarray, weights: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Shares that maximise weights @ log(shares @ parts), to within `EQUAL` of the largest value.

    Newton's method on shares >= 0, each step a least-squares problem (Kim, Carbonetto, Stephens and Anitescu 2020, A
    fast algorithm for maximum likelihood estimation of mixture proportions): weights @ log(...) - sum(shares) is
    largest where the shares sum to 1. No other shares gain more than the largest slope exceeds 1.
    """
    count = len(parts)
    shares = 0.99 * start + 0.01 / count  # none is 0, so that no row is impossible

    def loss(shares: np.ndarray) -> float:
        with np.errstate(divide="ignore"):
            return float(shares.sum() - (weights * np.log(shares @ parts)).sum())

    now = loss(shares)
    for _ in range(MOST_STEPS):
        relative = parts / (shares @ parts)
        slopes = relative @ weights
        if slopes.max() <= 1 + EQUAL:
            break
        second = (relative * weights) @ relative.T
        root = np.linalg.cholesky(second + RIDGE * np.trace(second) * np.eye(count))
        step = nnls(root.T, np.linalg.solve(root, 2 * slopes - 1))[0] - shares
        size, then = 1.0, loss(shares + step)
        while then > now and size > LEAST_STEP:
            size /= 2
            then = loss(shares + size * step)
        if then > now:
            break
        done = (slopes - 1) @ step < EQUAL
        shares, now = shares + size * step, then
        if done:
            break
    return shares / shares.sum()


def _search(profile: _Profile, centre: float) -> _Mixture:
    """The best mixture over a grid of temperatures, then the root of the slope beside it."""
    at = [centre - RANGE, *(centre + step for step in GRID), centre + RANGE]
    found = [profile(log_temperature) for log_temperature in at[1:-1]]
    near = min(range(len(GRID)), key=lambda i: (found[i].nll, abs(GRID[i])))
    # as no neighbour is better, the slope has a root downhill
    start, low, high = at[near + 1], at[near], at[near + 2]
    low, high = (low, start) if found[near].slope > 0 else (start, high)

    def slope(log_temperature: Any) -> tuple[Any, Any]:
        found.append(profile(float(log_temperature)))
        return np.float64(found[-1].slope), np.float64(found[-1].bend)

    root = find_root(slope, np.float64(start), low, high, value_tolerance=FLAT, step_tolerance=CLOSE)
    return min([*found, profile(float(root.x))], key=lambda mixture: mixture.nll)
