"""Which arm of a bandit to pull: the rules in NumPy, for one run or for many side by side, and an agent that uses one.

A rule looks at a `Record`, whose arrays end in the axis of arms, and chooses an arm for everything before that axis.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np

from logitherm._array import as_temperature, describe, require_temperature
from logitherm.gibbs import sample
from logitherm.thermostat.schedules import Schedule


class Record:
    """What has been seen of the arms: float64 arrays of shape (..., arms), and the number of pulls in each run."""

    def __init__(self, arms: int, runs: tuple[int, ...] = ()) -> None:
        self.counts, self.sums, self.step = np.zeros((*runs, arms)), np.zeros((*runs, arms)), 0

    @property
    def means(self) -> np.ndarray:
        """Mean reward of every arm, 0 where it has not been pulled."""
        return self.sums / np.maximum(self.counts, 1)

    def add(self, arm: Any, reward: Any) -> None:
        """One pull in every run."""
        pulled = np.arange(self.counts.shape[-1]) == np.asarray(arm)[..., None]
        self.counts += pulled
        self.sums += np.where(pulled, np.asarray(reward, float)[..., None], 0.0)
        self.step += 1


class Algorithm(Protocol):
    """A rule: `tries_each` says whether every arm is pulled once before it is asked."""

    tries_each: ClassVar[bool]

    def choose(self, seen: Record, generator: np.random.Generator) -> Any:
        """An arm for every run."""
        ...


@dataclass(frozen=True)
class Boltzmann:
    """An arm drawn from softmax(mean rewards / T), after each was tried once.

    Limits: T = 0 pulls the best so far, ties shared; T = inf any. Cold schedules stick to the wrong arm for good in
    some runs, and no monotone schedule does well on all bandits (Cesa-Bianchi et al. 2017, section 3).

    Parameters
    ----------
    temperature : float, array or Temperature
        In units of the reward; a schedule counts the pulls before this one.

    References
    ----------
    Sutton and Barto (2018), section 2.8; Cesa-Bianchi, Gentile, Lugosi and Neu (2017), Boltzmann exploration done
    right, eq. 1.

    Examples
    --------
    >>> seen = Record(2)
    >>> seen.add(0, 1.0), seen.add(1, 0.0)
    (None, None)
    >>> int(Boltzmann(0).choose(seen, np.random.default_rng(0)))
    0
    """

    temperature: Any
    tries_each: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not hasattr(self.temperature, "resolve"):
            require_temperature(self.temperature)

    def choose(self, seen: Record, generator: np.random.Generator) -> Any:
        means = seen.means
        return sample(means, as_temperature(self.temperature, means, step=seen.step), generator=generator)


@dataclass(frozen=True)
class EpsilonGreedy:
    """Any arm with probability epsilon, else the best so far, ties shared; each is tried first.

    Parameters
    ----------
    epsilon : float or Schedule
        0 <= epsilon <= 1.

    References
    ----------
    Sutton and Barto (2018), section 2.2.

    Examples
    --------
    >>> EpsilonGreedy(0.1)
    EpsilonGreedy(epsilon=0.1)
    """

    epsilon: Any
    tries_each: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not isinstance(self.epsilon, Schedule):
            _require("epsilon", self.epsilon, 1.0)

    def choose(self, seen: Record, generator: np.random.Generator) -> Any:
        epsilon = self.epsilon.at(seen.step) if isinstance(self.epsilon, Schedule) else self.epsilon
        explores = generator.random(seen.counts.shape[:-1]) < epsilon
        return sample(np.where(explores[..., None], 0.0, seen.means), 0, generator=generator)


@dataclass(frozen=True)
class BoltzmannGumbel:
    """The arm of the largest mean + C g / sqrt(N), g Gumbel noise, after each was tried once.

    Adding C g alone would be a draw from softmax(mean / C): this is a temperature C / sqrt(N) for every arm, as large
    as the doubt about it. Regret is at most of order K log^2 T / gap, without knowledge of the gap.

    Parameters
    ----------
    c : float
        C >= 0, in units of the reward: the deviation of rewards is its scale, 1/2 at most for rewards in [0, 1].

    References
    ----------
    Cesa-Bianchi et al. (2017), section 4.

    Examples
    --------
    >>> agent, rng = BanditAgent(BoltzmannGumbel(0.5), arms=3), np.random.default_rng(0)
    >>> for _ in range(100):
    ...     arm = agent.choose(rng)
    ...     agent.update(arm, reward=float(arm == 2))
    >>> agent.counts.argmax()
    np.int64(2)
    """

    c: float
    tries_each: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _require("c", self.c)

    def choose(self, seen: Record, generator: np.random.Generator) -> Any:
        gumbel = -np.log(generator.standard_exponential(seen.counts.shape))
        return (seen.means + self.c * gumbel / np.sqrt(seen.counts)).argmax(axis=-1)


@dataclass(frozen=True)
class UCB1:
    """The arm of the largest mean + width sqrt(2 log t / N), ties shared, after each was tried once. It has no
    temperature.

    Parameters
    ----------
    width : float
        Of the interval that rewards lie in; 1 for rewards in [0, 1].

    References
    ----------
    Auer, Cesa-Bianchi and Fischer (2002), Finite-time analysis of the multiarmed bandit problem, fig. 1.

    Examples
    --------
    >>> UCB1()
    UCB1(width=1.0)
    """

    width: float = 1.0
    tries_each: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _require("width", self.width)

    def choose(self, seen: Record, generator: np.random.Generator) -> Any:
        reach = 2 * np.log(seen.step)
        return sample(seen.means + self.width * np.sqrt(reach / seen.counts), 0, generator=generator)


@dataclass(frozen=True)
class Thompson:
    """The arm that is best in a draw from what is believed of every arm.

    Parameters
    ----------
    deviation : float, optional
        Without it rewards are 0 or 1, and an arm is believed Beta(1 + successes, 1 + failures). With it they are normal
        with this standard deviation, and an arm is believed normal about its mean, deviation / sqrt(N) wide, after each
        was tried once.

    References
    ----------
    Thompson (1933); Agrawal and Goyal (2012), Analysis of Thompson sampling for the multi-armed bandit problem, alg. 1.

    Examples
    --------
    >>> Thompson().tries_each, Thompson(deviation=1.0).tries_each
    (False, True)
    """

    deviation: float | None = None

    def __post_init__(self) -> None:
        if self.deviation is not None:
            _require("deviation", self.deviation)

    @property
    def tries_each(self) -> bool:  # type: ignore[override]
        return self.deviation is not None

    def choose(self, seen: Record, generator: np.random.Generator) -> Any:
        if self.deviation is None:
            return generator.beta(1 + seen.sums, 1 + seen.counts - seen.sums).argmax(axis=-1)
        noise = generator.standard_normal(seen.counts.shape)
        return (seen.means + self.deviation * noise / np.sqrt(seen.counts)).argmax(axis=-1)


class BanditAgent:
    """A rule in use: choose an arm, say what came of it, and so on.

    Parameters
    ----------
    algorithm : Algorithm
        Boltzmann, EpsilonGreedy, BoltzmannGumbel, UCB1, Thompson, or one of your own.
    arms : int

    Attributes
    ----------
    counts, sums, means : float64 array, shape (arms,)
        Pulls of every arm, its summed and its mean reward.

    Examples
    --------
    >>> agent, rng = BanditAgent(Thompson(), arms=2), np.random.default_rng(0)
    >>> for _ in range(200):
    ...     arm = agent.choose(rng)
    ...     agent.update(arm, reward=rng.random() < (0.3, 0.7)[arm])
    >>> bool(agent.counts[1] > 150)
    True
    """

    def __init__(self, algorithm: Algorithm, arms: int) -> None:
        if not arms >= 1:
            raise ValueError(f"arms: must be at least 1; got {arms}; give the number of choices")
        require_algorithm(algorithm)
        self.algorithm, self.seen = algorithm, Record(arms)

    @property
    def counts(self) -> np.ndarray:
        return self.seen.counts

    @property
    def sums(self) -> np.ndarray:
        return self.seen.sums

    @property
    def means(self) -> np.ndarray:
        return self.seen.means

    def choose(self, generator: np.random.Generator) -> int:
        """The arm to pull; `generator` is NumPy's, and the same at every call: a seed would draw the same each time."""
        if not isinstance(generator, np.random.Generator):
            raise TypeError(
                f"generator: must be a numpy.random.Generator; got {describe(generator)}; numpy.random.default_rng(0) "
                "makes one"
            )
        return int(choose(self.algorithm, self.seen, generator))

    def update(self, arm: int, reward: float) -> None:
        """What came of pulling an arm, whoever chose it."""
        arms = len(self.counts)
        if not 0 <= arm < arms:
            raise ValueError(f"arm: must lie in [0, {arms}); got {arm}; arms count from 0")
        if not math.isfinite(reward):
            raise ValueError(f"reward: must be finite; got {reward}; leave this pull out")
        if isinstance(self.algorithm, Thompson) and self.algorithm.deviation is None and reward not in (0, 1):
            raise ValueError(f"reward: must be 0 or 1 for Thompson(); got {reward}; give Thompson(deviation=...)")
        self.seen.add(arm, reward)


def choose(algorithm: Algorithm, seen: Record, generator: np.random.Generator) -> Any:
    """An arm for every run: one not tried yet, the first, if the rule wants each tried; else what it says."""
    untried = seen.counts == 0
    if algorithm.tries_each and untried.any():
        return untried.argmax(axis=-1)
    return algorithm.choose(seen, generator)


def require_algorithm(algorithm: Any) -> None:
    """Refuse what is no rule, or the class of one."""
    if isinstance(algorithm, type) or not (hasattr(algorithm, "choose") and hasattr(algorithm, "tries_each")):
        raise TypeError(f"algorithm: must be a rule such as UCB1() or Boltzmann(0.1); got {describe(algorithm)}")


def _require(name: str, value: Any, most: float = math.inf) -> None:
    """Refuse what is no finite number from 0 to `most`."""
    if isinstance(value, (int, float, np.number)) and math.isfinite(value) and 0 <= value <= most:
        return
    bounds = f"in [0, {most:g}]" if most < math.inf else "finite and at least 0"
    raise ValueError(f"{name}: must be a number {bounds}; got {describe(value)}")
