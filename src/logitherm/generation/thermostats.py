"""Temperatures that look at the law of every token. Each is a `logitherm.Temperature`: it goes into the step
`Temperature`, or wherever else a temperature does.

Set points of an entropy or a top probability are `logitherm.thermostat.SetPoint`:

>>> import numpy as np
>>> from logitherm.generation import Pipeline, Temperature
>>> from logitherm.thermostat import SetPoint
>>> z = np.array([[5.0, 1.0, 0.0], [0.3, 0.2, 0.1]])
>>> law = Pipeline([Temperature(SetPoint(top_probability=0.5))]).probabilities(z)
>>> law.round(3).tolist()
[[0.5, 0.269, 0.231], [0.5, 0.309, 0.191]]
>>> entropy = Pipeline([Temperature(SetPoint(entropy=0.5))])
>>> entropy.sample(z, seed=0, position=0).token.tolist()
[0, 0]
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from logitherm._array import Array, as_logits, like, namespace, to_numpy
from logitherm._solve import find_root
from logitherm.generation.pipeline import Pipeline
from logitherm.generation.steps import Temperature
from logitherm.generation.steps.laws import entropy
from logitherm.gibbs import log_partition
from logitherm.thermostat import solve_temperature

WIDEST = 12.0  # |log T| within which a temperature for equal entropies is searched for
CLOSE = 1e-9  # the width in log T at which the search ends


@dataclass(frozen=True)
class EDT:
    """T = temperature * base^(theta / S), S the entropy of the law at T = 1: colder where the model is sure.

    Limits: S = 0 gives T = 0; a large S gives `temperature`, which is never exceeded. theta = 0 is a constant one.

    Attributes
    ----------
    temperature : float
        T0, the temperature where the model knows nothing; >= 0.
    theta : float
        How much is taken off where it is sure, in nats; >= 0. T0 and theta are tuned together.
    base : float
        0 < base < 1; 0.8 in the paper. Another base is another theta.

    References
    ----------
    Zhang, Bao and Huang (2024), EDT: improving large language models' generation by entropy-based dynamic temperature
    sampling, arXiv 2403.14541.

    Examples
    --------
    >>> import numpy as np
    >>> EDT(1.0, theta=1.0).resolve(np.array([[9.0, 0.0], [0.1, 0.0]])).round(3).tolist()
    [0.0, 0.724]
    """

    temperature: float
    theta: float
    base: float = 0.8

    def __post_init__(self) -> None:
        _require("temperature", self.temperature, 0 <= self.temperature < math.inf, "finite and at least 0")
        _require("theta", self.theta, 0 <= self.theta < math.inf, "finite and at least 0")
        _require("base", self.base, 0 < self.base < 1, "in (0, 1); the paper's is 0.8")

    def resolve(self, logits: Array, step: Any = None) -> Array:
        """T of every row, shape of the batch."""
        z = as_logits(logits)
        xp, s = namespace(z), entropy(z)
        certain = s <= 0
        power = self.base ** (self.theta / xp.where(certain, xp.ones_like(s), s))
        if self.theta == 0:
            return self.temperature * xp.ones_like(s)
        return self.temperature * xp.where(certain, xp.zeros_like(s), power)


@dataclass(frozen=True)
class DynamicTemperature:
    """T = low + (high - low) (S / log n)^exponent, with S the entropy at T = 1 of n allowed states ("dynatemp").

    Limits: a sure law, or one allowed state, gives `low`; a uniform one gives `high`. In a pipeline after a truncation
    n is what that left, as in llama.cpp.

    Attributes
    ----------
    low, high : float
        0 <= low <= high < inf.
    exponent : float
        > 0.

    References
    ----------
    llama.cpp, pull request 4972 (2024); there low = max(0, T - range) and high = T + range.

    Examples
    --------
    >>> import numpy as np
    >>> DynamicTemperature(0.5, 1.5).resolve(np.array([[99.0, 0.0, 0.0], [1.0, 1.0, 1.0]])).round(3).tolist()
    [0.5, 1.5]
    """

    low: float
    high: float
    exponent: float = 1.0

    def __post_init__(self) -> None:
        _require("low", self.low, 0 <= self.low <= self.high, "at least 0 and at most high")
        _require("high", self.high, self.high < math.inf, "finite")
        _require("exponent", self.exponent, 0 < self.exponent < math.inf, "finite and positive")

    def resolve(self, logits: Array, step: Any = None) -> Array:
        """T of every row, shape of the batch."""
        z = as_logits(logits)
        xp = namespace(z)
        s = entropy(z)
        most = xp.log(xp.astype(xp.sum(xp.astype(z > -math.inf, xp.int64), axis=-1), z.dtype))
        share = xp.where(most > 0, s / xp.where(most > 0, most, xp.ones_like(most)), xp.zeros_like(s))
        share = xp.minimum(xp.maximum(share, xp.zeros_like(share)), xp.ones_like(share))
        return self.low + (self.high - self.low) * share**self.exponent


@dataclass(frozen=True)
class SurpriseRate:
    """The T at which the mean surprise of what is drawn, by the model's own law at T = 1, is a set number of nats.

    E_{p_T}[-log p_1] = log Z_1 - <z>_T is a mean energy up to a constant, so it rises with T and there is one such T.
    At T = 1 it is the entropy: a rate of text as surprising as the model's own takes the entropy as it comes.

    Limits: below -log of the top probability T = 0, above the mean surprise of a uniform choice T = inf.

    Attributes
    ----------
    nats : float or array of the batch shape
        The rate a token, >= 0.

    References
    ----------
    Basu et al. (2021), Mirostat, section 2, for surprise as the set point; the root is that of `solve_temperature`.

    Examples
    --------
    >>> import numpy as np
    >>> import logitherm
    >>> z = np.array([[3.0, 1.0, 0.0]])
    >>> p = logitherm.softmax(z, SurpriseRate(0.8))
    >>> round(float(-(p * logitherm.log_softmax(z)).sum()), 6)
    0.8
    """

    nats: Any

    def __post_init__(self) -> None:
        good = np.asarray(to_numpy(self.nats)) >= 0
        _require("nats", self.nats, bool(np.all(good)), "at least 0")

    def resolve(self, logits: Array, step: Any = None) -> Array:
        """T of every row, shape of the batch."""
        z = as_logits(logits)
        xp = namespace(z)
        z = z - xp.max(z, axis=-1, keepdims=True)  # so that nothing large cancels
        rate = self.nats if np.ndim(self.nats) == 0 else like(np.asarray(to_numpy(self.nats), dtype=np.float64), z)
        return solve_temperature(z, mean_energy=rate - log_partition(z), out_of_range="limit")


def equal_entropy_temperature(logits: Array, a: Pipeline, b: Pipeline, **request: Any) -> float:
    """The one T to put in front of pipeline b at which its law has, in the mean over the rows, the entropy of a's.

    Rules of truncation keep more or less at the same setting, so that a comparison of two at one temperature compares
    a colder law with a hotter one. Compare b with this T in front of it instead: then both are as random, and what
    differs is where the randomness goes. T comes after the penalties of b, if it has some, and before all else.

    The entropy of most laws rises with T (for top-k, top-p, min-p and their like it does), in jumps where a state
    comes in: the mean over many rows is smooth, that over few may have no T at which both are equal, and the T of the
    jump is the answer. For rules that may keep less of a hotter law, such as `Typical`, one of several roots.

    Parameters
    ----------
    logits : floating array, shape (rows, states)
        Such as the pipelines will meet; computed in float64.
    a, b : Pipeline
    **request
        As in `Pipeline.process`, for steps that need it.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        b does not reach that entropy at any T from e^-12 to e^12.

    References
    ----------
    Schaeffer, Kazdan and Denisov-Blanch (2025), Turning down the heat, arXiv 2506.13681, on what comparisons of
    samplers at settings chosen for one of them are worth.

    Examples
    --------
    >>> import numpy as np
    >>> import logitherm
    >>> from logitherm.generation import MinP, Pipeline, Temperature, TopP
    >>> z = 3 * np.random.default_rng(0).normal(size=(100, 500))
    >>> a, b = Pipeline([Temperature(1.0), TopP(0.9)]), Pipeline([MinP(0.1)])
    >>> t = equal_entropy_temperature(z, a, b)
    >>> round(t, 3)
    1.514
    >>> warm = Pipeline([Temperature(t), *b.steps])
    >>> laws = [np.where(p > 0, p, 1) for p in (a.probabilities(z), warm.probabilities(z))]
    >>> [round(float(-(p * np.log(p)).sum(-1).mean()), 3) for p in laws]
    [2.326, 2.326]
    """
    xp = namespace(logits)
    z = xp.astype(as_logits(logits), xp.float64)
    first = next((i for i, step in enumerate(b.steps) if not step.needs_history), len(b.steps))

    def mean_entropy(pipeline: Pipeline) -> float:
        return float(xp.mean(entropy(pipeline.process(z, **request))))

    def at(log_t: float) -> float:
        return mean_entropy(Pipeline([*b.steps[:first], Temperature(2**log_t), *b.steps[first:]]))

    target = mean_entropy(a)
    ends = WIDEST / math.log(2)
    low, high = at(-ends), at(ends)
    if not low <= target <= high:
        raise ValueError(
            f"b: must reach the mean entropy of a, {target:.4g} nats; it goes from {low:.4g} to {high:.4g}; "
            "loosen its truncation, or tighten that of a"
        )

    def residual(log_t: Any) -> tuple[Any, Any]:
        return np.float64(at(float(log_t)) - target), np.float64(0.0)  # no slope: it jumps; the bracket is halved

    zero = np.float64(0.0)
    found = find_root(residual, zero, zero - ends, zero + ends, value_tolerance=CLOSE, step_tolerance=CLOSE)
    return float(2**found.x)


def _require(name: str, value: Any, good: bool, rule: str) -> None:
    if not good:
        raise ValueError(f"{name}: must be {rule}; got {value!r:.60}; mend it")
