"""Discrete soft actor-critic: the entropy is held, and the temperature cannot run away."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
import torch

import logitherm
from logitherm.exploration import BoltzmannPolicy, entropy_target, sac_temperature, soft_value
from logitherm.thermostat import ConstantSchedule, EntropyFraction, LearnableTemperature

pytest.importorskip("stable_baselines3", reason="the integration is for Stable-Baselines3")
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.envs import FakeImageEnv, SimpleMultiObsEnv

from logitherm.integrations.stable_baselines3_callback import TemperatureCallback
from logitherm.integrations.stable_baselines3_discrete_sac import DiscreteSAC

CARTPOLE = "CartPole-v1"
TINY = {
    "policy_kwargs": {"net_arch": [16]}, "device": "cpu", "buffer_size": 2000, "learning_starts": 30, "train_freq": 4,
    "batch_size": 32, "seed": 0, "learning_rate": 1e-3,
}  # fmt: skip


@pytest.fixture
def logged(monkeypatch):
    """Everything a model records, by name."""
    from stable_baselines3.common.logger import Logger

    seen = {}
    record = Logger.record

    def keep(self, key, value, exclude=None):
        seen.setdefault(key, []).append(value)
        record(self, key, value, exclude)

    monkeypatch.setattr(Logger, "record", keep)
    return seen


@pytest.mark.parametrize("options", [{}, {"top_probability": 0.7}, {"target_entropy": 0.98 * math.log(2)}])
def test_auto_holds_the_target_exactly_in_every_batch(options, logged):
    model = DiscreteSAC("MlpPolicy", CARTPOLE, **TINY, **options).learn(200)
    target = options.get("target_entropy", entropy_target(2, top_probability=options.get("top_probability", 0.9)))
    assert model.target_entropy == target and len(logged["train/entropy"]) > 30
    assert np.abs(np.array(logged["train/entropy"]) - target).max() < 2e-6
    assert len(set(logged["train/temperature"])) > 30 and logged["train/temperature"][-1] == model.held


def test_the_gradient_finds_the_same_temperature_on_frozen_values():
    model = DiscreteSAC("MlpPolicy", CARTPOLE, temperature=LearnableTemperature(1.0), **TINY)
    values = torch.randn(256, 2, generator=torch.Generator().manual_seed(0))
    model.temperature_optimizer.param_groups[0]["lr"] = 0.05
    for _ in range(150):
        model._learn_temperature(values)
    assert model.held == pytest.approx(float(sac_temperature(values, entropy=model.target_entropy)), rel=1e-3)


@pytest.mark.parametrize(("start", "moves"), [(1.0, -1), (0.001, 1)])
def test_learned_temperatures_move_towards_the_target_in_training(start, moves, logged):
    model = DiscreteSAC("MlpPolicy", CARTPOLE, temperature=LearnableTemperature(start), **TINY).learn(120)
    temperatures = np.array(logged["train/temperature"])
    assert temperatures[0] == pytest.approx(start * math.exp(moves * 1e-3))  # Adam's first step is the learning rate
    assert np.all(moves * np.diff(temperatures) > 0)
    assert np.all(moves * (model.target_entropy - np.array(logged["train/entropy"])) > 0)
    assert model.boltzmann.temperature == model.held == pytest.approx(model.temperature.resolve().item())


def test_updates_are_those_of_the_formulas():
    model = DiscreteSAC("MlpPolicy", CARTPOLE, temperature=0.3, gamma=0.9, **TINY).learn(60)
    buffer = model.replay_buffer
    np.random.seed(1)
    data = buffer.sample(32)
    with torch.no_grad():
        v = soft_value(model.q_net_target(data.next_observations), 0.3)[:, None]
    wanted = data.rewards + 0.9 * (1 - data.dones) * v
    chosen = model.q_net.both(data.observations).gather(2, data.actions.expand(2, -1, -1))
    loss = 0.5 * ((chosen[0] - wanted) ** 2).mean() + 0.5 * ((chosen[1] - wanted) ** 2).mean()
    model.policy.optimizer.zero_grad()
    loss.backward()
    expected = [p.grad.clone() for p in model.q_net.parameters()]
    np.random.seed(1)
    model.max_grad_norm = math.inf
    model.train(1, 32)
    for parameter, gradient in zip(model.q_net.parameters(), expected):
        torch.testing.assert_close(parameter.grad, gradient)


def test_the_two_networks_differ_and_the_smaller_value_counts():
    model = DiscreteSAC("MlpPolicy", CARTPOLE, **TINY)
    states = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    both = model.q_net.both(states)
    assert both.shape == (2, 50, 2) and not torch.allclose(both[0], both[1])
    assert np.array_equal(model.action_values(states.numpy()), both.amin(dim=0).detach().numpy())
    assert len(model.policy.optimizer.param_groups[0]["params"]) == 8
    twins = model.q_net_target.both(states)
    assert torch.equal(twins, both)


@pytest.mark.parametrize("temperature", [0.05, EntropyFraction(0.5), ConstantSchedule(0.1)], ids=repr)
def test_other_temperatures_have_no_target_and_count_all_entropy(temperature, logged):
    model = DiscreteSAC("MlpPolicy", CARTPOLE, temperature=temperature, **TINY).learn(80)
    q = torch.tensor([[1.0, 0.8], [0.0, 0.3]])
    expected = soft_value(q, BoltzmannPolicy(temperature).resolve(q, step=80))
    assert model._backed_up(q)[:, 0].tolist() == pytest.approx(expected.tolist(), rel=1e-6)
    assert "train/temperature" not in logged and "train/entropy" in logged and model.held is None


@pytest.mark.parametrize("temperature", ["auto", LearnableTemperature(1.0)], ids=["auto", "learned"])
def test_a_full_entropy_reward_is_kept_within_a_multiple_of_the_reward(temperature):
    options = {**TINY, "target_entropy": 0.98 * math.log(2), "entropy_reward": "full", "bonus_limit": 0.1}
    model = DiscreteSAC("MlpPolicy", CARTPOLE, temperature=temperature, **options)
    with pytest.warns(UserWarning, match=r"target_entropy: 0\.679 nats .* beyond 0\.147, .*entropy_reward='centred'"):
        model.learn(120)
    assert model.held * model.target_entropy == pytest.approx(0.1, rel=1e-6)
    if temperature != "auto":
        assert temperature.resolve().item() == pytest.approx(model.held)


def test_it_comes_back_from_disk_and_goes_on_learning(tmp_path):
    temperature = LearnableTemperature(1.0, low=0.001)
    model = DiscreteSAC("MlpPolicy", CARTPOLE, temperature=temperature, top_probability=0.8, **TINY).learn(100)
    model.save(tmp_path / "model")
    again = DiscreteSAC.load(tmp_path / "model", env=model.get_env(), device="cpu")
    assert again.temperature.resolve().item() == temperature.resolve().item() < 1
    assert again.held == model.held and again.target_entropy == model.target_entropy
    moments = [m.temperature_optimizer.state_dict()["state"][0]["exp_avg"].item() for m in (model, again)]
    assert moments[0] == moments[1] != 0
    states = model.replay_buffer.observations[:20, 0]
    assert np.array_equal(again.action_values(states), model.action_values(states))
    again.learn(100, reset_num_timesteps=False)
    assert again.temperature.resolve().item() != temperature.resolve().item()


def test_the_callback_reads_it(logged):
    callback = TemperatureCallback(every=4)
    model = DiscreteSAC("MlpPolicy", CARTPOLE, **TINY).learn(100, callback=callback)
    assert callback.verdict.top_probability == pytest.approx(0.9, abs=1e-6)
    means = model.logger.name_to_value
    assert {"policy/temperature", "policy/entropy", "policy/entropy_fraction", "policy/gap"} <= set(means)


def test_many_environments():
    envs = make_vec_env(CARTPOLE, n_envs=3, seed=0)
    runs = [DiscreteSAC("MlpPolicy", envs, **TINY).learn(90).replay_buffer.actions[:30, :, 0] for _ in range(2)]
    assert runs[0].shape == (30, 3) and np.array_equal(*runs)


@pytest.mark.parametrize("policy", ["CnnPolicy", "MultiInputPolicy"])
def test_images_and_dictionaries(policy, tmp_path):
    env = (
        FakeImageEnv(action_dim=3, screen_height=36, screen_width=36) if policy == "CnnPolicy" else SimpleMultiObsEnv()
    )
    options = {**TINY, "buffer_size": 50, "learning_starts": 4, "batch_size": 4}
    model = DiscreteSAC(policy, env, **options).learn(12, callback=TemperatureCallback(every=1))
    networks = (model.q_net.features_extractor, model.q_net.second.features_extractor)
    assert networks[0] is not networks[1] and "policy/gap" in model.logger.name_to_value
    model.save(tmp_path / "model")
    again = DiscreteSAC.load(tmp_path / "model", device="cpu")
    observation = model.get_env().reset()
    assert np.array_equal(again.action_values(observation), model.action_values(observation))


def test_what_cannot_be_is_refused():
    for options, message in (
        ({"entropy_reward": "half"}, "entropy_reward: must be one of centred, full; got 'half'"),
        ({"bonus_limit": 0}, "bonus_limit: must be above 0; got 0"),
        ({"target_entropy": -math.log(2)}, "target_entropy: never binds: .*alpha will fall to 0"),
    ):
        with pytest.raises(ValueError, match=message):
            DiscreteSAC("MlpPolicy", CARTPOLE, **TINY, **options)
    with pytest.raises(TypeError, match="target: of soft actor-critic is soft"):
        DiscreteSAC("MlpPolicy", CARTPOLE, target="max", **TINY)


@pytest.mark.parametrize("name", ["stable_baselines3", "stable_baselines3_discrete_sac"])
def test_without_the_package_there_is_the_pip_line(name):
    code = f"import sys; sys.modules['stable_baselines3'] = None; import logitherm.integrations.{name}"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert f"logitherm.integrations.{name} needs stable-baselines3: pip install stable-baselines3" in ran.stderr
    assert "(the extra `rl`)" in ran.stderr


def entropy_of_best_policy(alpha, origin):
    """Mean entropy, over discounted visits, of the policy that is best under r + alpha (S - origin).

    Seven places in a row; a step goes astray, outwards, with probability 0.3; beyond the last place the episode ends.
    """
    places, slip, gamma = 7, 0.3, 0.95
    move = np.zeros((places, 2, places + 1))
    for place in range(places):
        outward = int(np.sign(place - places // 2))
        for action, step in enumerate((-1, 1)):
            for probability, to in ((1 - slip, place + step), (slip, place + (outward or step))):
                move[place, action, to if 0 <= to < places else places] += probability
    q = np.zeros((places, 2))
    for _ in range(400):
        q = 1 + gamma * move @ np.append(soft_value(q, alpha) - alpha * origin, 0.0)
    p = BoltzmannPolicy(alpha).probabilities(q)
    follow = np.einsum("sa,sat->st", p, move)[:, :places]
    visits = np.linalg.solve(np.eye(places) - gamma * follow.T, np.eye(places)[places // 2])
    return float(visits @ logitherm.entropy(q, alpha) / visits.sum()) / math.log(2)


def test_a_full_reward_has_a_ceiling_of_entropy_and_a_centred_one_reaches_every_target():
    full = [entropy_of_best_policy(alpha, 0.0) for alpha in (1.0, 10.0, 100.0, 1000.0)]
    assert full == sorted(full) and full[-1] - full[-2] < 0.01 and full[-1] < 0.9
    for fraction in (0.7, 0.9, 0.98):
        assert entropy_of_best_policy(1000.0, fraction * math.log(2)) > fraction
