"""Gymnasium: agents with a table in its environments, and bandits as environments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

try:
    import gymnasium
    from gymnasium.spaces import Discrete
except ImportError as error:
    from logitherm.io import MissingExtra

    raise MissingExtra("logitherm.integrations.gymnasium", "gymnasium", "rl") from error

import numpy as np

from logitherm.exploration import BernoulliBandit, GaussianBandit

MAX_STEPS = 10_000


class Training(NamedTuple):
    """One entry an episode, float64 unless said."""

    returns: np.ndarray  # sum of rewards, not discounted
    lengths: np.ndarray  # steps, int64
    entropies: np.ndarray  # mean over the steps of the policy's entropy, in nats
    temperatures: np.ndarray  # mean over the steps


class Evaluation(NamedTuple):
    """One entry an episode."""

    returns: np.ndarray
    lengths: np.ndarray


class BanditEnv(gymnasium.Env):
    """A bandit as an environment with one state: an action pulls an arm, and `info["gap"]` says what was missed.

    Parameters
    ----------
    bandit : BernoulliBandit or GaussianBandit
    steps : int
        Pulls after which an episode is cut short.

    Examples
    --------
    >>> env = BanditEnv(BernoulliBandit((1.0, 0.0)), steps=100)
    >>> env.reset(seed=0)
    (0, {})
    >>> env.step(0)
    (0, 1.0, False, False, {'gap': 0.0})
    """

    metadata = {"render_modes": []}  # noqa: RUF012

    def __init__(self, bandit: BernoulliBandit | GaussianBandit, *, steps: int = 1000) -> None:
        if steps < 1:
            raise ValueError(f"steps: must be at least 1; got {steps}; it is the length of an episode")
        self.bandit, self.steps, self.pulled = bandit, steps, 0
        self.observation_space, self.action_space = Discrete(1), Discrete(len(bandit.means))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        super().reset(seed=seed)
        self.pulled = 0
        return 0, {}

    def step(self, action: Any) -> tuple[int, float, bool, bool, dict[str, Any]]:
        if not self.action_space.contains(action):
            raise ValueError(f"action: must lie in [0, {len(self.bandit.means)}); got {action}; it names an arm")
        self.pulled += 1
        reward = float(self.bandit.draw(int(action), self.np_random))
        return 0, reward, False, self.pulled >= self.steps, {"gap": float(self.bandit.gaps[int(action)])}


def train(agent: Any, env: Any, episodes: int, *, seed: int | None = None, max_steps: int = MAX_STEPS) -> Training:
    """Let an agent act and learn.

    States that end an episode are worth nothing more; where an episode is cut short, by a time limit or after
    `max_steps`, what would have followed counts. An `action_mask` in `info` is kept.

    Parameters
    ----------
    agent : SoftQLearning, or anything with its `act`, `update`, `entropy_` and `temperature_`
    env : gymnasium.Env
        With discrete observations and actions.
    episodes : int
    seed : int, optional
        Of the environment; the agent has its own.
    max_steps : int
        Of an episode. Some environments (CliffWalking) know no limit.

    Returns
    -------
    Training

    Raises
    ------
    TypeError, ValueError
        Spaces that are not discrete, or not of the size of the agent's table.

    Examples
    --------
    >>> from logitherm.exploration import SoftQLearning
    >>> env = gymnasium.make("CliffWalking-v1")
    >>> agent = SoftQLearning(48, 4, temperature=0.1, target="max", learning_rate=0.5, discount=1.0, seed=0)
    >>> training = train(agent, env, episodes=200, seed=0)
    >>> evaluate(agent, env, episodes=1).returns.tolist()
    [-13.0]
    """
    entropies: list[float] = []
    temperatures: list[float] = []

    def act(state: int, mask: Any) -> int:
        action = agent.act(state, mask)
        entropies.append(agent.entropy_)
        temperatures.append(agent.temperature_)
        return action

    returns, lengths = _run(agent, env, episodes, seed, max_steps, act, agent.update)
    starts = np.cumsum(lengths) - lengths
    means = (
        np.add.reduceat(np.array(v), starts) / lengths if episodes else np.empty(0) for v in (entropies, temperatures)
    )
    return Training(returns, lengths, *means)


def evaluate(agent: Any, env: Any, episodes: int, *, seed: int | None = None, max_steps: int = MAX_STEPS) -> Evaluation:
    """Let an agent act greedily, by its method `greedy`, and not learn; parameters and errors are those of `train`.

    Examples
    --------
    >>> from logitherm.exploration import SoftQLearning
    >>> evaluate(SoftQLearning(16, 4), gymnasium.make("FrozenLake-v1"), episodes=3, seed=0).returns.tolist()
    [0.0, 0.0, 0.0]
    """
    return Evaluation(*_run(agent, env, episodes, seed, max_steps, agent.greedy, None))


def _run(
    agent: Any,
    env: Any,
    episodes: int,
    seed: int | None,
    max_steps: int,
    act: Callable[[int, Any], int],
    learn: Callable[..., Any] | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns and lengths of episodes."""
    offsets = tuple(_start(env, name) for name in ("observation_space", "action_space"))
    table = getattr(getattr(agent, "q_", None), "shape", None)
    if table not in (None, sizes := tuple(int(space.n) for space in (env.observation_space, env.action_space))):
        raise ValueError(
            f"agent: must have the states and actions of env, {sizes}; got {table}; make SoftQLearning{sizes}"
        )
    if episodes < 0:
        raise ValueError(f"episodes: must be at least 0; got {episodes}")
    if max_steps < 1:
        raise ValueError(f"max_steps: must be at least 1; got {max_steps}; an episode has one step or more")
    returns, lengths = np.zeros(episodes), np.zeros(episodes, np.int64)
    for episode in range(episodes):
        observation, info = env.reset(seed=seed if episode == 0 else None)
        state, mask, over = int(observation) - offsets[0], info.get("action_mask"), False
        while not over:
            action = act(state, mask)
            observation, reward, terminated, truncated, info = env.step(action + offsets[1])
            following, mask = int(observation) - offsets[0], info.get("action_mask")
            returns[episode] += reward
            lengths[episode] += 1
            truncated = truncated or lengths[episode] >= max_steps
            if learn is not None:
                learn(state, action, reward, following, terminated, truncated, mask)
            state, over = following, terminated or truncated
    return returns, lengths


def _start(env: Any, name: str) -> int:
    space = getattr(env, name)
    if not isinstance(space, Discrete):
        raise TypeError(f"env: {name} must be Discrete for an agent with a table; got {space}; wrap env to make it so")
    return int(space.start)
