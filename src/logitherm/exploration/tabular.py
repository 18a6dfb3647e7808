"""Agents with a table: Q-learning and its soft relatives, at any temperature of the library."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from logitherm._array import as_array, describe, require_temperature, to_numpy
from logitherm.kernels.one_row import OneRow, mellow_maximum, one_row, soft_maximum
from logitherm.kernels.roots import temperature_of_entropy
from logitherm.thermostat.protocol import SetPoint
from logitherm.thermostat.schedules import Schedule

TARGETS = ("max", "soft", "mellowmax", "expected")
CLOCKS = ("steps", "episodes")


class SoftQLearning:
    """Learns the value of every action in every state, and acts by softmax(values / T).

    After each step Q(s, a) moves by the learning rate towards reward + discount V(s'), with V by `target`:

    - "max": the largest value (Q-learning).
    - "expected": the mean under the agent's own policy (expected SARSA).
    - "soft": T log sum exp(Q/T), the value where entropy is rewarded. It grows by up to T log A every step, so that an
      agent may prefer to go on for ever where the discount is 1.
    - "mellowmax": T log mean exp(Q/T), which does not; entropy is counted relative to the uniform policy.

    Limits: T = 0 acts greedily with ties shared and makes all targets the same; T = inf acts blindly and takes the mean
    for "mellowmax" and "expected"; "soft" has no limit there and is refused.

    Parameters
    ----------
    states, actions : int
    temperature : float, array of shape (states,), or Temperature
        In units of value. A schedule counts by `clock`; SetPoint(entropy=...) holds an entropy in every state.
    epsilon : float or Schedule
        Share of blind actions on top: with temperature=0 this is epsilon-greedy.
    target : "max", "soft", "mellowmax" or "expected"
    learning_rate, discount : float
        In (0, 1] and [0, 1].
    clock : "steps" or "episodes"
        What schedules count, from 0: actions, or episodes that ended.
    initial : float
        Value of every action before anything was learned.
    seed : int or numpy.random.Generator

    Attributes
    ----------
    q_ : float64 array, shape (states, actions)
    step_ : int
        What the clock shows.
    temperature_, entropy_ : float
        Of the policy that chose the last action; the entropy in nats.

    References
    ----------
    Watkins and Dayan (1992), Q-learning; van Seijen et al. (2009), A theoretical and empirical analysis of expected
    SARSA; Haarnoja et al. (2017), Reinforcement learning with deep energy-based policies; Asadi and Littman (2017), An
    alternative softmax operator for reinforcement learning.

    Examples
    --------
    >>> agent = SoftQLearning(2, 2, temperature=0.1, target="max", learning_rate=0.5, seed=0)
    >>> agent.update(state=0, action=1, reward=1.0, next_state=1, terminated=True)
    1.0
    >>> agent.q_.tolist()
    [[0.0, 0.5], [0.0, 0.0]]
    >>> agent.act(0), round(agent.entropy_, 4)
    (1, 0.0402)
    """

    def __init__(
        self,
        states: int,
        actions: int,
        *,
        temperature: Any = 1.0,
        epsilon: Any = 0.0,
        target: str = "soft",
        learning_rate: float = 0.1,
        discount: float = 0.99,
        clock: str = "steps",
        initial: float = 0.0,
        seed: int | np.random.Generator = 0,
    ) -> None:
        if states < 1 or actions < 1:
            raise ValueError(f"states, actions: must be at least 1; got {states}, {actions}")
        if target not in TARGETS:
            raise ValueError(f"target: must be one of {', '.join(TARGETS)}; got {target!r}")
        if clock not in CLOCKS:
            raise ValueError(f"clock: must be 'steps' or 'episodes'; got {clock!r}")
        if not 0 < learning_rate <= 1 or not 0 <= discount <= 1:
            raise ValueError(f"learning_rate, discount: must lie in (0, 1], [0, 1]; got {learning_rate}, {discount}")
        if not isinstance(epsilon, Schedule) and not 0 <= epsilon <= 1:
            raise ValueError(f"epsilon: must lie in [0, 1]; got {epsilon}; it is a share")
        if not math.isfinite(initial):
            raise ValueError(f"initial: must be finite; got {initial}; 0 is usual")
        self.temperature, self.epsilon, self.target = _as_temperature(temperature, states), epsilon, target
        self.learning_rate, self.discount, self.clock = learning_rate, discount, clock
        self.q_ = np.full((states, actions), float(initial))
        self.step_, self.temperature_, self.entropy_ = 0, math.nan, math.nan
        self.generator = np.random.default_rng(seed)
        self._held: dict[int, tuple[list[float], float]] = {}  # rows whose temperature was solved for

    # -- acting ------------------------------------------------------------------------------------------

    def policy(self, state: int, mask: Sequence[int] | None = None) -> np.ndarray:
        """Probabilities of the actions, (actions,); those that a mask has 0 for are 0."""
        row = self._row(state, mask)
        return np.array(self._mixed(one_row(row, self._temperature_of(state, row)).p, row))

    def act(self, state: int, mask: Sequence[int] | None = None) -> int:
        """Draw an action, of those that the mask does not have 0 for."""
        row = self._row(state, mask)
        self.temperature_ = self._temperature_of(state, row)
        law = one_row(row, self.temperature_)
        p = self._mixed(law.p, row)
        self.entropy_ = law.entropy if p is law.p else -sum(share * math.log(share) for share in p if share > 0)
        if self.clock == "steps":
            self.step_ += 1
        return _drawn(p, self.generator.random())

    def greedy(self, state: int, mask: Sequence[int] | None = None) -> int:
        """The first action of the largest value."""
        row = self._row(state, mask)
        return row.index(max(row))

    # -- learning ----------------------------------------------------------------------------------------

    def value(self, state: int, mask: Sequence[int] | None = None) -> float:
        """V of a state by the target."""
        row = self._row(state, mask)
        if self.target == "max":
            return max(row)
        t = self._temperature_of(state, row)
        if self.target == "mellowmax":
            return mellow_maximum(row, t)
        if self.target == "soft":
            if t == math.inf:
                raise ValueError("temperature: must be finite for target 'soft'; got inf; 'mellowmax' has that limit")
            return soft_maximum(row, t)
        law: OneRow = one_row(row, t)
        p = self._mixed(law.p, row)
        return sum(share * value for share, value in zip(p, row) if share)

    def update(
        self,
        state: int,
        action: int,
        reward: float,
        next_state: int,
        terminated: bool = False,
        truncated: bool = False,
        mask: Sequence[int] | None = None,
    ) -> float:
        """Learn from a step, and return the error of what was expected.

        After a terminal state nothing follows; an episode that was cut short (`truncated`) would have gone on, so the
        value of the next state counts. `mask` is that of the next state.
        """
        if not 0 <= action < self.q_.shape[1]:
            raise ValueError(f"action: must lie in [0, {self.q_.shape[1]}); got {action}; actions count from 0")
        if not math.isfinite(reward):
            raise ValueError(f"reward: must be finite; got {reward}; leave this step out")
        known = self._row(state, None)[action]
        follows = 0.0 if terminated else self.discount * self.value(next_state, mask)
        error = float(reward) + follows - known
        self.q_[state, action] = known + self.learning_rate * error
        if self.clock == "episodes" and (terminated or truncated):
            self.step_ += 1
        return error

    # -- one row -----------------------------------------------------------------------------------------

    def _row(self, state: int, mask: Sequence[int] | None) -> list[float]:
        if not 0 <= state < len(self.q_):
            raise ValueError(f"state: must lie in [0, {len(self.q_)}); got {state}; states count from 0")
        row = self.q_[state].tolist()
        if mask is None:
            return row
        if len(mask) != len(row) or not any(mask):
            raise ValueError(f"mask: must have one entry an action, not all 0; got {describe(mask)}")
        return [value if allowed else -math.inf for value, allowed in zip(row, mask)]

    def _temperature_of(self, state: int, row: list[float]) -> float:
        t = self.temperature
        if isinstance(t, float):
            return t
        if isinstance(t, Schedule):
            return t.at(self.step_)
        if isinstance(t, np.ndarray):
            return float(t[state])
        if t.__class__ is SetPoint and isinstance(t.entropy, (int, float)) and not t.pooled:
            before, held = self._held.get(state, (None, None))
            if before != row:
                raised = t.out_of_range == "raise"  # solved as any, which names what is wrong
                held = float(t.resolve(np.array(row))) if raised else temperature_of_entropy(row, t.entropy)
                self._held[state] = (row, held)
            return held  # type: ignore[return-value]
        found = float(to_numpy(t.resolve(np.array(row), self.step_)))
        if not found >= 0:
            raise ValueError(f"temperature: must lie in [0, inf]; {t!r} gave {found} for state {state}")
        return found

    def _mixed(self, p: list[float], row: list[float]) -> list[float]:
        epsilon = self.epsilon.at(self.step_) if isinstance(self.epsilon, Schedule) else self.epsilon
        if not epsilon:
            return p
        blind = epsilon / sum(value > -math.inf for value in row)
        return [(1 - epsilon) * share + (blind if value > -math.inf else 0.0) for share, value in zip(p, row)]


def _as_temperature(temperature: Any, states: int) -> Any:
    """A float, an array with one entry a state, or what resolves itself."""
    if hasattr(temperature, "resolve"):
        return temperature
    require_temperature(temperature)
    values = np.asarray(as_array(temperature, "temperature"), float)
    if values.ndim == 0:
        return float(values)
    if values.shape != (states,):
        raise ValueError(
            f"temperature: must be a number or one a state, ({states},); got {describe(temperature)}; reshape it"
        )
    return values.copy()


def _drawn(p: list[float], uniform: float) -> int:
    """The first action at which the cumulative law passes the uniform number."""
    reached, last = 0.0, 0
    for action, share in enumerate(p):
        if share > 0:
            reached, last = reached + share, action
            if reached > uniform:
                return action
    return last
