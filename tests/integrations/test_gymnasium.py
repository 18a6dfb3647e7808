"""Agents in Gymnasium's environments, and bandits as environments."""

import math
import subprocess
import sys
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete
from gymnasium.utils.env_checker import check_env

from logitherm.exploration import BernoulliBandit, GaussianBandit, SoftQLearning
from logitherm.integrations.gymnasium import BanditEnv, evaluate, train
from logitherm.thermostat import LearnableTemperature, LinearSchedule, SetPoint

BANDIT = BernoulliBandit((0.2, 0.8, 0.5))


class Corridor(gymnasium.Env):
    """Three places, numbered from 10, the last of them the end; action 5 goes on, 6 stays; cut short at a limit."""

    observation_space, action_space = Discrete(3, start=10), Discrete(2, start=5)

    def __init__(self, limit=100, mask=None):
        self.limit, self.mask = limit, mask
        self.calls = []

    def info(self):
        return {} if self.mask is None else {"action_mask": np.array(self.mask, np.int8)}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place, self.time = 0, 0
        self.calls.append(seed)
        return np.int64(10), self.info()

    def step(self, action):
        assert action in (5, 6)
        self.place += action == 5
        self.time += 1
        return np.int64(10 + self.place), 1.0, self.place == 2, self.time >= self.limit, self.info()


@pytest.mark.parametrize("bandit", [BANDIT, GaussianBandit((0.0, 1.0))])
def test_a_bandit_is_an_environment(bandit):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*not possible to test")  # it was not made by gymnasium.make
        check_env(BanditEnv(bandit), skip_render_check=True)


def test_pulls_of_a_bandit():
    env = BanditEnv(BANDIT, steps=2000)
    env.reset(seed=0)
    steps = [env.step(2) for _ in range(2000)]
    assert np.mean([reward for _, reward, *_ in steps]) == pytest.approx(0.5, abs=0.04)
    assert [s[3] for s in steps] == [False] * 1999 + [True] and not any(s[2] for s in steps)
    assert steps[0][4] == {"gap": pytest.approx(0.3)}
    with pytest.raises(ValueError, match=r"action: must lie in \[0, 3\); got 3"):
        env.step(3)
    with pytest.raises(ValueError, match="steps: must be at least 1; got 0"):
        BanditEnv(BANDIT, steps=0)


def test_an_agent_learns_a_bandit():
    agent = SoftQLearning(1, 3, temperature=LinearSchedule(1.0, 0.01, steps=1000), target="max", discount=0.0)
    training = train(agent, BanditEnv(BANDIT), 2, seed=0)
    assert training.lengths.tolist() == [1000, 1000]
    assert training.returns[1] == pytest.approx(800, abs=60)
    assert training.temperatures[0] == pytest.approx(0.5055, abs=0.001)
    assert training.temperatures[1] == pytest.approx(0.01)
    assert agent.greedy(0) == 1


def test_what_is_recorded():
    agent = SoftQLearning(3, 2, temperature=SetPoint(entropy=0.3), target="max", seed=1)
    training = train(agent, Corridor(), 40, seed=7)
    assert np.array_equal(training.returns, training.lengths)  # 1 a step
    assert training.lengths.dtype == np.int64 and len(training.entropies) == 40
    assert training.entropies[-1] == pytest.approx(0.3, abs=1e-12)
    env = Corridor()
    evaluation = evaluate(agent, env, 3, seed=5, max_steps=9)
    assert env.calls == [5, None, None]  # seeded once
    before = agent.q_.copy()
    assert np.array_equal(agent.q_, before) and set(evaluation.lengths.tolist()) <= {2, 9}
    assert [len(v) for v in train(agent, Corridor(), 0)] == [0, 0, 0, 0]


def test_the_end_of_time_is_not_the_end_of_the_world():
    """One that only stays, for 1 a step: cut short, it still learns that going on is worth 1 / (1 - discount)."""
    options = {"temperature": 0, "target": "max", "learning_rate": 0.5, "discount": 0.8}
    for limit, max_steps in ((3, 100), (100, 3)):
        agent = SoftQLearning(3, 2, **options)
        training = train(agent, Corridor(limit, mask=[0, 1]), 60, max_steps=max_steps)
        assert set(training.lengths.tolist()) == {3}
        assert agent.q_[0, 1] == pytest.approx(5.0, abs=1e-6)
    agent = SoftQLearning(3, 2, **options)
    train(agent, Corridor(mask=[1, 0]), 60)  # it goes on, and reaches its end in two steps
    assert agent.q_[0, 0] == pytest.approx(1.8, abs=1e-6) and agent.q_[1, 0] == pytest.approx(1.0, abs=1e-6)


def test_masks_of_taxi_are_kept():
    env = gymnasium.make("Taxi-v4")
    agent = SoftQLearning(500, 6, temperature=0.5, target="expected", learning_rate=0.5, seed=0)
    act, seen = agent.act, []

    def watched(state, mask=None):
        action = act(state, mask)
        seen.append(bool(mask[action]))
        return action

    agent.act = watched
    returns = train(agent, env, 200, seed=0).returns
    assert all(seen)
    assert returns[-50:].mean() > returns[:50].mean() + 50


def test_frozen_lake_is_learned_where_an_entropy_is_held():
    """Values lie below 1, which no one needs to know."""
    env = gymnasium.make("FrozenLake-v1", is_slippery=False)
    agent = SoftQLearning(16, 4, temperature=SetPoint(entropy=0.2 * math.log(4)), target="max", seed=0)
    training = train(agent, env, 400, seed=0)
    assert evaluate(agent, env, 1).returns[0] == 1
    assert training.returns[-50:].mean() > 0.7


@pytest.mark.parametrize("name", ["observation_space", "action_space"])
def test_other_spaces_are_refused(name):
    env = Corridor()
    setattr(env, name, Box(0, 1, (2,)))
    with pytest.raises(TypeError, match=rf"^env: {name} must be Discrete for an agent with a table; got Box.*$"):
        train(SoftQLearning(3, 2), env, 1)
    with pytest.raises(TypeError, match=f"env: {name}"):
        evaluate(SoftQLearning(3, 2), env, 1)
    with pytest.raises(ValueError, match="max_steps: must be at least 1; got 0"):
        evaluate(SoftQLearning(3, 2), Corridor(), 1, max_steps=0)


def test_a_missing_extra_names_its_pip_line():
    program = "import sys; sys.modules['gymnasium'] = None; import logitherm.integrations.gymnasium"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert "needs gymnasium: pip install gymnasium (the extra `rl`)" in done.stderr


@pytest.mark.parametrize("size", [(16, 2), (16, 9), (3, 4)])
def test_a_table_of_another_size(size):
    with pytest.raises(ValueError, match=r"agent: must have the states and actions of env, \(16, 4\)"):
        train(SoftQLearning(*size), gymnasium.make("FrozenLake-v1"), 1)


def test_a_learnable_temperature_gives_its_value():
    agent = SoftQLearning(16, 4, temperature=LearnableTemperature(0.5))
    assert agent.act(0) in range(4) and agent.temperature_ == pytest.approx(0.5)
