"""Bandits, and what many runs of a rule make of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from logitherm._array import describe
from logitherm.exploration.algorithms import (
    UCB1,
    Algorithm,
    Boltzmann,
    BoltzmannGumbel,
    EpsilonGreedy,
    Record,
    Thompson,
    choose,
    require_algorithm,
)
from logitherm.kernels import bandits as kernels
from logitherm.thermostat.schedules import Schedule

POINTS = 100  # steps that are recorded unless told


@dataclass(frozen=True)
class BernoulliBandit:
    """Arms with rewards 0 and 1.

    Parameters
    ----------
    means : sequence of float
        Probability of a 1 for every arm.

    Examples
    --------
    >>> BernoulliBandit((0.6, 0.5)).gaps.round(3).tolist()
    [0.0, 0.1]
    """

    means: Sequence[float]

    def __post_init__(self) -> None:
        means = _as_means(self.means)
        if means.min() < 0 or means.max() > 1:
            raise ValueError(f"means: must be probabilities in [0, 1]; got {means.min():g} to {means.max():g}")
        object.__setattr__(self, "means", tuple(means.tolist()))

    @property
    def gaps(self) -> np.ndarray:
        """How far the mean of every arm lies below the best."""
        return max(self.means) - np.array(self.means)

    def draw(self, arms: Any, generator: np.random.Generator) -> Any:
        """A reward for every arm that is pulled."""
        return (generator.random(np.shape(arms)) < np.array(self.means)[arms]).astype(float)


@dataclass(frozen=True)
class GaussianBandit:
    """Arms with normal rewards of one standard deviation.

    Parameters
    ----------
    means : sequence of float
    deviation : float

    Examples
    --------
    >>> GaussianBandit((0.0, 1.0), deviation=0.5).gaps.tolist()
    [1.0, 0.0]
    """

    means: Sequence[float]
    deviation: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "means", tuple(_as_means(self.means).tolist()))
        if not 0 <= self.deviation < math.inf:
            raise ValueError(f"deviation: must be finite and at least 0; got {self.deviation}")

    @property
    def gaps(self) -> np.ndarray:
        """How far the mean of every arm lies below the best."""
        return max(self.means) - np.array(self.means)

    def draw(self, arms: Any, generator: np.random.Generator) -> Any:
        """A reward for every arm that is pulled."""
        return np.array(self.means)[arms] + self.deviation * generator.standard_normal(np.shape(arms))


Bandit = BernoulliBandit | GaussianBandit


def _as_means(means: Any) -> np.ndarray:
    values = np.asarray(means, float)
    if values.ndim != 1 or values.size == 0 or not np.isfinite(values).all():
        raise ValueError(f"means: must be finite numbers, one an arm; got {describe(means)}; list the mean rewards")
    return values


@dataclass(frozen=True)
class Simulation:
    """What came of many runs.

    Attributes
    ----------
    at : int array, shape (points,)
        The steps at which pulls were counted.
    pulls : int array, shape (runs, points, arms)
        Pulls of every arm in the first so many steps.
    gaps : float64 array, shape (arms,)
        How far the mean of every arm lies below the best.
    """

    at: np.ndarray
    pulls: np.ndarray
    gaps: np.ndarray

    @property
    def regrets(self) -> np.ndarray:
        """Sum of the gaps of all pulls, float64 (runs, points): the mean reward that was missed, without its noise."""
        return self.pulls @ self.gaps

    @property
    def regret(self) -> np.ndarray:
        """Its mean over the runs, (points,)."""
        return self.regrets.mean(axis=0)

    def interval(self, confidence: float = 0.95) -> np.ndarray:
        """Interval of that mean, (2, points), by the normal approximation; NaN for one run."""
        runs = len(self.pulls)
        error = self.regrets.std(axis=0, ddof=1) / math.sqrt(runs) if runs > 1 else np.full(len(self.at), math.nan)
        half = NormalDist().inv_cdf(0.5 + confidence / 2) * error
        return np.stack([self.regret - half, self.regret + half])


def simulate(
    bandit: Bandit,
    algorithm: Algorithm,
    *,
    runs: int = 100,
    steps: int = 1000,
    seed: int = 0,
    at: Sequence[int] | None = None,
    method: str = "auto",
) -> Simulation:
    """Many runs of a rule on a bandit, and the regret they collect.

    Every run has a generator of its own, the child of `seed` with its number: it is the same among any number of runs
    and on any number of threads.

    Parameters
    ----------
    bandit : BernoulliBandit or GaussianBandit
    algorithm : Algorithm
        Boltzmann, EpsilonGreedy, BoltzmannGumbel, UCB1, Thompson, or one of your own.
    runs, steps : int
        At least 1.
    seed : int
    at : sequence of int, optional
        Steps at which pulls are counted, 1 to `steps`; about a hundred, denser at first, unless given.
    method : "auto", "compiled" or "numpy"
        The compiled kernel knows the rules of this library with numbers and schedules. The definition in NumPy knows
        every rule; runs go side by side and draw from one generator, so that its runs are others. "auto" takes the
        kernel where it can.

    Returns
    -------
    Simulation

    Raises
    ------
    ValueError
        Numbers out of range; Beta beliefs about rewards that are not 0 or 1; a rule that the kernel does not know.

    References
    ----------
    Lai and Robbins (1985), Asymptotically efficient adaptive allocation rules, for the regret.

    Examples
    --------
    >>> bandit = BernoulliBandit((0.6, 0.5, 0.5))
    >>> cold, right = (simulate(bandit, rule, runs=50, at=(1000,), seed=0) for rule in (Boltzmann(0.01), Thompson()))
    >>> bool(right.regret[0] < cold.regret[0])
    True
    """
    if not isinstance(bandit, Bandit):
        raise TypeError(
            f"bandit: must be a BernoulliBandit or GaussianBandit; got {describe(bandit)}; make one of means"
        )
    require_algorithm(algorithm)
    if not all(isinstance(n, (int, np.integer)) and n >= 1 for n in (runs, steps)):
        raise ValueError(f"runs, steps: must be whole numbers of at least 1; got {runs}, {steps}")
    if isinstance(algorithm, Thompson) and algorithm.deviation is None and not isinstance(bandit, BernoulliBandit):
        raise ValueError(
            "algorithm: Thompson() is for rewards 0 and 1; got a GaussianBandit; give Thompson(deviation=...)"
        )
    points = np.unique(np.geomspace(1, steps, POINTS).round()).astype(np.int64) if at is None else _as_points(at, steps)
    rule = _compiled(algorithm, steps) if method in ("auto", "compiled") else None
    if method not in ("auto", "compiled", "numpy") or (method == "compiled" and rule is None):
        raise ValueError(f"method: must be 'auto', 'numpy' or, for rules it knows, 'compiled'; got {method!r}")
    if rule is None:
        pulls = by_definition(bandit, algorithm, runs, steps, points, np.random.default_rng(seed))
    else:
        deviation = kernels.BERNOULLI if isinstance(bandit, BernoulliBandit) else float(bandit.deviation)
        seeds = np.random.SeedSequence(seed).spawn(runs)
        pulls = kernels.runs(*rule, np.array(bandit.means), deviation, points, seeds)
    return Simulation(points, pulls, bandit.gaps)


def by_definition(
    bandit: Bandit, algorithm: Algorithm, runs: int, steps: int, at: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """Pulls, (runs, points, arms): all runs side by side in NumPy."""
    seen, found = Record(len(bandit.means), (runs,)), []
    for step in range(1, steps + 1):
        arms = choose(algorithm, seen, generator)
        seen.add(arms, bandit.draw(arms, generator))
        found += [seen.counts.astype(np.int64)] * int((at == step).sum())
    return np.stack(found, axis=1)


def _as_points(at: Sequence[int], steps: int) -> np.ndarray:
    points = np.asarray(at)
    if points.ndim != 1 or not points.size or points.dtype.kind not in "iu":
        raise ValueError(f"at: must be whole numbers, one a step; got {describe(at)}; (1000, 10_000), say")
    if points[0] < 1 or points[-1] > steps or (np.diff(points) <= 0).any():
        raise ValueError(f"at: must increase within 1 to {steps}; got {points.tolist()[:8]}; change it or the steps")
    return points.astype(np.int64)


def _compiled(algorithm: Any, steps: int) -> tuple[int, np.ndarray] | None:
    """The kernel's code of a rule and its number at every step, if it has them."""
    kinds: dict[type, tuple[int, Any]] = {
        Boltzmann: (kernels.BOLTZMANN, "temperature"),
        EpsilonGreedy: (kernels.EPSILON_GREEDY, "epsilon"),
        BoltzmannGumbel: (kernels.GUMBEL, "c"),
        UCB1: (kernels.UCB, "width"),
        Thompson: (kernels.THOMPSON_NORMAL, "deviation"),
    }
    if type(algorithm) not in kinds:
        return None
    code, name = kinds[type(algorithm)]
    number = getattr(algorithm, name)
    if number is None:
        return kernels.THOMPSON_BETA, np.zeros(steps)
    if isinstance(number, Schedule):
        return code, np.array([number.at(step) for step in range(steps)])
    return (code, np.full(steps, float(number))) if isinstance(number, (int, float, np.number)) else None
