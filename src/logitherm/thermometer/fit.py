"""Maximum-likelihood temperature: where the mean energy of the model equals the observed one."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from logitherm._array import Array
from logitherm._json import plain
from logitherm.kernels import exponential
from logitherm.thermometer.intervals import around
from logitherm.thermometer.search import REACH, Search
from logitherm.thermometer.sources import Source, make_source


@dataclass(frozen=True)
class TemperatureFit:
    """What a fit of one temperature found.

    Attributes
    ----------
    temperature : float
        The maximum-likelihood T, in logit units; 0 or inf where the likelihood has no maximum in between.
    standard_error : float or None
        Of T, from the information (Var_p z summed over rows). None for soft labels, which are not draws, and at a
        bound.
    sandwich_error : float or None
        Of T, robust against a model that is wrong in more than its temperature. Much larger than `standard_error`:
        it is.
    interval : (float, float) or None
        Profile-likelihood interval of T; for soft labels, `sandwich_interval`.
    sandwich_interval : (float, float) or None
        Interval of log T by the sandwich error, to be trusted where the two errors differ much.
    confidence : float
        The level of both.
    nll_before, nll_after : float
        Mean negative log-likelihood at T = 1 and at T, in nats (cross-entropy for soft labels).
    likelihood_ratio, p_value : float or None
        Twice the gain in log-likelihood over T = 1, and its chi-squared (1) tail. None for soft labels.
    n, classes : int
        Rows used and states.
    iterations : int
        Passes over all rows.
    converged : bool
        Whether the residual of the score is within rounding of the estimate; True at a bound.
    at_bound : "zero", "infinite" or None
        "zero": every observed state is the largest logit, the rows are separable; "infinite": the logits carry no
        signal, or point away from what was observed.
    excluded : int
        Rows left out because what was observed there has probability 0 at every T.
    """

    temperature: float
    standard_error: float | None
    sandwich_error: float | None
    interval: tuple[float, float] | None
    sandwich_interval: tuple[float, float] | None
    confidence: float
    nll_before: float
    nll_after: float
    likelihood_ratio: float | None
    p_value: float | None
    n: int
    classes: int
    iterations: int
    converged: bool
    at_bound: str | None
    excluded: int

    def resolve(self, logits: Array, step: Any = None) -> float:
        """The temperature itself: a fit goes wherever a temperature does."""
        return self.temperature

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: None for an infinite temperature or end of the interval."""
        return dict(plain(asdict(self)))


def fit_temperature(
    logits: Any,
    labels: Any = None,
    *,
    soft_labels: Any = None,
    samples: Any = None,
    weights: Any = None,
    mask: Any = None,
    ignore_index: int | None = None,
    zero_labels: str = "raise",
    model: Any = None,
    confidence: float = 0.95,
    axis: int = -1,
) -> TemperatureFit:
    """The temperature T at which softmax(logits / T) makes what was observed most likely.

    The negative log-likelihood is convex in 1/T; its derivative there is the sum over rows of <z>_T - z_observed. It
    is solved by safeguarded Newton in log T from a start on a sample of the rows, usually in two passes over all of
    them. Rows are read in blocks, so the extra memory does not grow with the input.

    Limits: rows whose labels all are the largest logit give T = 0 (`at_bound="zero"`), logits without signal
    T = inf (`"infinite"`).

    Parameters
    ----------
    logits : array, shape (..., states), or iterable of batches
        Floating scores; -inf forbids a state; of probabilities, their logarithm. Or batches that can be read more than
        once (a list, a DataLoader): tuples (logits, labels) or (logits, labels, weights), with `model` (inputs,
        labels[, weights]).
    labels : integer array, batch shape
        The state that occurred.
    soft_labels : floating array, shape of the logits
        Probabilities instead of labels.
    samples : integer array, shape (..., draws)
        Several draws for every row, of the model itself for instance.
    weights : array, batch shape
        Nonnegative; a weight of 2 counts a row twice.
    mask : bool array, batch shape
        Rows to use.
    ignore_index : int
        A label that marks rows to leave out (-100 in PyTorch).
    zero_labels : "raise" or "exclude"
        What to do with rows whose label has logit -inf, which are impossible at every T.
    model : callable
        Maps the inputs of a batch to logits; called without gradients.
    confidence : float
        Level of the interval.
    axis : int
        The axis of the states.

    Returns
    -------
    TemperatureFit

    Raises
    ------
    TypeError
        Integer logits, floating labels.
    ValueError
        Bad rows, labels out of range, shapes that do not fit, no rows, impossible labels, one-shot batches.

    References
    ----------
    Guo et al. (2017), On calibration of modern neural networks, section 4.2; Huber (1967) and White (1982) for the
    sandwich error; Jaynes (1957) for the mean-energy condition.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> z = rng.normal(size=(2000, 5))
    >>> labels = (z + rng.gumbel(size=z.shape)).argmax(axis=1)
    >>> fit = fit_temperature(3.0 * z, labels)
    >>> fit.interval[0] < 3.0 < fit.interval[1]
    True
    """
    if zero_labels not in ("raise", "exclude"):
        raise ValueError(f"zero_labels: must be 'raise' or 'exclude'; got {zero_labels!r}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence: must lie in (0, 1); got {confidence}; give 0.95, say")
    source = make_source(
        logits,
        labels,
        soft_labels=soft_labels,
        samples=samples,
        weights=weights,
        mask=mask,
        ignore_index=ignore_index,
        model=model,
        axis=axis,
    )
    return fit_source(source, drawn=soft_labels is None, zero_labels=zero_labels, confidence=confidence)


def fit_source(source: Source, *, drawn: bool, zero_labels: str, confidence: float) -> TemperatureFit:
    """The fit itself; `drawn` says that what was observed are draws, so that the likelihood has a law."""
    quantile = NormalDist().inv_cdf(0.5 + confidence / 2)
    search = Search(source, quantile if drawn else None)
    found = search.root()
    first = next(iter(search.seen.values()))
    if first.impossible and zero_labels == "raise":
        raise ValueError(
            f"labels: must be possible; {first.impossible} of {first.impossible + first.rows} rows have a label of "
            "logit -inf (probability 0 at every T); mend them or pass zero_labels='exclude'"
        )
    if first.rows == 0 or first.weight <= 0:
        left = f" after {first.impossible} impossible ones" if first.impossible else ""
        raise ValueError(f"logits: must hold at least one row of positive weight to fit; got none{left}; add rows")
    base: dict[str, Any] = {
        "confidence": confidence,
        "nll_before": search.nll_one / first.weight,
        "n": first.rows,
        "classes": source.classes,
        "excluded": first.impossible,
        "converged": search.converged,
    }
    if found is None:
        return _at_bound(source, search, base, drawn)
    x, total = found
    temperature = 1 / float(exponential(x))
    information = float(total.curvature[0])
    sandwich = temperature**2 * math.sqrt(float(total.squares[0])) / information
    gain = max(0.0, 2 * (search.nll_one - float(total.nll[0])))
    robust = around(temperature, sandwich / temperature, confidence)
    return TemperatureFit(
        temperature=temperature,
        standard_error=temperature**2 / math.sqrt(information) if drawn else None,
        sandwich_error=sandwich,
        interval=search.profile(x, total) if drawn else robust,
        sandwich_interval=robust,
        nll_after=float(total.nll[0]) / first.weight,
        likelihood_ratio=gain if drawn else None,
        p_value=math.erfc(math.sqrt(gain / 2)) if drawn else None,
        iterations=search.passes,
        at_bound=None,
        **base,
    )


def _at_bound(source: Source, search: Search, base: dict[str, Any], drawn: bool) -> TemperatureFit:
    """The likelihood rises all the way to T = 0 or T = inf; or its maximum lies out of reach, which is an error."""
    if search.bound is None:
        raise ValueError(
            f"logits: the temperature must lie within exp(+-{REACH:g}); rescale the logits, whose spread is far from 1"
        )
    weight = next(iter(search.seen.values())).weight
    ordinary = 1e-12 < sum(map(abs, search.extremes)) / weight < 1e12  # then the fast kernels reach the limit
    if search.bound == "infinite":
        temperature, inverse = math.inf, 1e-29 if ordinary else 0.0
    else:
        temperature, inverse = 0.0, 1e29 if ordinary else math.inf
    nll = source.totals(np.array([inverse])).nll[0]
    return TemperatureFit(
        temperature=temperature,
        standard_error=None,
        sandwich_error=None,
        interval=None,
        sandwich_interval=None,
        nll_after=float(nll) / weight,
        likelihood_ratio=max(0.0, 2 * (search.nll_one - float(nll))) if drawn else None,
        p_value=None,
        iterations=search.passes + 1,
        at_bound=search.bound,
        **base,
    )
