"""Boltzmann exploration in real Stable-Baselines3 runs."""

from __future__ import annotations

import math
from copy import deepcopy
from functools import partial

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

import logitherm
from logitherm.exploration import BoltzmannPolicy, entropy_target, mellowmax, soft_value
from logitherm.thermostat import (
    EntropyFraction,
    ExponentialSchedule,
    KLBudget,
    LearnableTemperature,
    LinearSchedule,
    RelativeToGap,
    SetPoint,
)

gymnasium = pytest.importorskip("gymnasium", reason="the integration is for Stable-Baselines3")
sb3 = pytest.importorskip("stable_baselines3", reason="the integration is for Stable-Baselines3")
from stable_baselines3.common.env_util import make_vec_env  # noqa: E402
from stable_baselines3.common.logger import KVWriter, Logger  # noqa: E402

from logitherm.integrations.stable_baselines3 import BoltzmannDQN  # noqa: E402
from logitherm.integrations.stable_baselines3_callback import TemperatureCallback  # noqa: E402

CARTPOLE, ACROBOT = "CartPole-v1", "Acrobot-v1"
TINY = {"policy_kwargs": {"net_arch": [16]}, "device": "cpu", "buffer_size": 2000, "learning_starts": 20}
STATE = np.array([[0.9, 0.3, 0.8, -0.5, 1.0, -2.0]], dtype=np.float32)  # of the acrobot, which has three actions


class Records(KVWriter):
    """Every dump of the logger."""

    def __init__(self):
        self.dumps = []

    def write(self, key_values, key_excluded, step=0):
        self.dumps.append({**key_values, "step": step})

    def close(self):
        pass


def recorded(model):
    records = Records()
    model.set_logger(Logger(folder=None, output_formats=[records]))
    return records


def actions_of(model):
    return model.replay_buffer.actions[: model.replay_buffer.pos, :, 0]


@pytest.mark.parametrize(
    "temperature",
    [
        0.3,
        LinearSchedule(0.6, 0.2, steps=100),
        SetPoint(entropy=0.8),
        EntropyFraction(0.6),
        RelativeToGap(0.7),
        KLBudget(0.2),
        LearnableTemperature(0.3),
        "auto",
    ],
    ids=lambda t: type(t).__name__,
)
def test_actions_follow_the_boltzmann_law(temperature):
    model = BoltzmannDQN("MlpPolicy", ACROBOT, temperature=temperature, seed=3, **TINY)
    model.num_timesteps = 50
    with torch.no_grad():
        model.q_net.q_net[-1].weight.zero_()
        model.q_net.q_net[-1].bias.copy_(torch.tensor([1.0, 0.7, 0.2]))
    q = model.action_values(STATE)
    assert q.shape == (1, 3) and q.dtype == np.float32
    rule = temperature if temperature != "auto" else SetPoint(entropy=entropy_target(3, top_probability=0.9))
    p = BoltzmannPolicy(rule).probabilities(q, step=50)[0]
    assert p.min() > 0.002 and p.max() < 0.98
    actions, _ = model.predict(np.repeat(STATE, 5000, axis=0))
    assert chisquare(np.bincount(actions, minlength=3), 5000 * p.astype(float) / p.sum(dtype=float)).pvalue > 1e-3


def test_single_observations_and_greedy_actions():
    model = BoltzmannDQN("MlpPolicy", ACROBOT, temperature=math.inf, seed=0, **TINY)
    best = model.action_values(STATE).argmax()
    assert all(model.predict(STATE[0], deterministic=True)[0] == best for _ in range(5))
    drawn = [model.predict(STATE[0])[0] for _ in range(30)]
    assert all(np.shape(action) == () for action in drawn) and len({int(action) for action in drawn}) == 3
    model.temperature = 0.0
    assert all(model.predict(STATE)[0].tolist() == [best] for _ in range(5))


def test_runs_are_reproducible_by_seed_and_in_vectorised_environments():
    def run(seed):
        envs = make_vec_env(CARTPOLE, n_envs=2, seed=seed)
        return actions_of(BoltzmannDQN("MlpPolicy", envs, temperature=0.05, seed=seed, **TINY).learn(160))

    first, again, other = run(1), run(1), run(2)
    assert first.shape == (80, 2)
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_actions_do_not_follow_the_noise_of_the_environment():
    model = BoltzmannDQN("MlpPolicy", CARTPOLE, seed=5, **TINY)
    assert model.generator.random() != np.random.default_rng(5).random()


def test_actions_are_uniform_before_learning_starts_and_at_the_temperature_afterwards():
    options = {**TINY, "learning_starts": 100}
    model = BoltzmannDQN("MlpPolicy", CARTPOLE, 0.0, temperature=0.0, seed=0, **options).learn(200)
    taken = actions_of(model)[:, 0]
    greedy = model.action_values(model.replay_buffer.observations[:200, 0]).argmax(axis=-1)
    assert 0.3 < np.mean(taken[:100] == greedy[:100]) < 0.7
    assert np.array_equal(taken[100:], greedy[100:])


@pytest.mark.parametrize("target", ["max", "soft", "mellowmax"])
def test_at_temperature_zero_its_updates_are_those_of_dqn(target):
    options = {**TINY, "seed": 0, "learning_rate": 1e-3}
    ours = BoltzmannDQN("MlpPolicy", CARTPOLE, temperature=0.0, target=target, **options).learn(120)
    theirs = sb3.DQN("MlpPolicy", CARTPOLE, **options).learn(30)
    theirs.set_parameters(deepcopy(ours.get_parameters()))
    theirs.replay_buffer = ours.replay_buffer
    for model in (ours, theirs):
        np.random.seed(0)  # from which the buffer draws
        model.train(5, 32)
    for mine, other in zip(ours.q_net.parameters(), theirs.q_net.parameters()):
        torch.testing.assert_close(mine, other)


def test_soft_targets_are_soft_values_of_the_next_states():
    q = torch.tensor([[1.0, 0.2, -0.5], [3.0, 2.9, 1.0]])
    for target, value in (("soft", soft_value), ("mellowmax", mellowmax)):
        model = BoltzmannDQN("MlpPolicy", ACROBOT, temperature=0.4, target=target, **TINY)
        assert model._backed_up(q)[:, 0].tolist() == pytest.approx(value(q, 0.4).tolist(), rel=1e-6)
    model = BoltzmannDQN("MlpPolicy", ACROBOT, target="soft", top_probability=0.8, **TINY)
    model._hold(q.numpy())
    p = logitherm.softmax(q, model.held)
    entropies = logitherm.entropy(q, model.held)
    assert float(entropies.mean()) == pytest.approx(entropy_target(3, top_probability=0.8), abs=1e-6)
    wanted = (p * q).sum(dim=-1) + model.held * (entropies - model.target_entropy)
    assert model._backed_up(q)[:, 0].tolist() == pytest.approx(wanted.tolist(), rel=1e-5)


def test_auto_holds_the_mean_entropy_of_replayed_states_and_not_of_each():
    model = BoltzmannDQN("MlpPolicy", CARTPOLE, 1e-3, seed=0, target_entropy=0.5, **TINY).learn(300)
    states = model.replay_buffer.observations[:300, 0]
    entropies = model.boltzmann.entropy(model.action_values(states))
    assert entropies.mean() == pytest.approx(0.5, abs=0.05) and entropies.std() > 0.02


def test_it_comes_back_from_disk_with_its_temperature(tmp_path):
    schedule = ExponentialSchedule(1.0, 0.01, steps=400)
    model = BoltzmannDQN("MlpPolicy", CARTPOLE, temperature=schedule, seed=0, target="soft", **TINY).learn(100)
    model.save(tmp_path / "model")
    again = BoltzmannDQN.load(tmp_path / "model", env=model.get_env(), device="cpu")
    states = model.replay_buffer.observations[:50, 0]
    assert again.temperature == schedule and again.target == "soft" and again.num_timesteps == 100
    assert np.array_equal(again.action_values(states), model.action_values(states))
    more = again.learn(50, reset_num_timesteps=False)
    assert more.num_timesteps >= 150
    assert more.boltzmann.resolve(np.zeros(2), step=more.num_timesteps) == schedule.at(more.num_timesteps)

    model = BoltzmannDQN("MlpPolicy", CARTPOLE, seed=0, **TINY).learn(60)
    model.save(tmp_path / "auto")
    again = BoltzmannDQN.load(tmp_path / "auto", device="cpu")
    assert again.held == model.held > 0 and again.target_entropy == model.target_entropy


def test_the_logger_hears_of_temperature_entropy_and_gap():
    model = BoltzmannDQN("MlpPolicy", CARTPOLE, 0.0, temperature=0.1, seed=0, **TINY)
    records = recorded(model)
    model.learn(200, callback=TemperatureCallback(every=1), log_interval=2)
    assert len(records.dumps) > 2
    start, end = (int(dump["step"]) for dump in records.dumps[1:3])
    q = model.action_values(model.replay_buffer.observations[start:end, 0])
    found, entropies = records.dumps[2], logitherm.entropy(q, 0.1)
    assert found["policy/temperature"] == pytest.approx(0.1)
    assert found["policy/entropy"] == pytest.approx(entropies.mean(), rel=1e-4)
    assert found["policy/entropy_fraction"] == pytest.approx(entropies.mean() / math.log(2), rel=1e-4)
    assert found["policy/gap"] == pytest.approx(np.abs(q[:, 0] - q[:, 1]).mean(), rel=1e-4)
    assert found["rollout/exploration_rate"] == 0


def test_dqn_is_read_as_well():
    rate = {"exploration_initial_eps": 0.2, "exploration_final_eps": 0.2}
    model = sb3.DQN("MlpPolicy", CARTPOLE, seed=0, **rate, **TINY)
    records = recorded(model)
    model.learn(100, callback=TemperatureCallback(every=5), log_interval=1)
    found = records.dumps[-1]
    assert found["policy/entropy"] == pytest.approx(entropy_target(2, top_probability=0.9))
    assert found["policy/gap"] > 0 and "policy/temperature" not in found


def test_sac_is_read_without_a_change_to_its_run():
    def run(callback):
        model = sb3.SAC("MlpPolicy", "Pendulum-v1", seed=0, batch_size=16, **deepcopy(TINY))
        records = recorded(model)
        model.learn(40, callback=callback)
        model.logger.dump(40)
        return records.dumps[-1], actions_of(model), model

    callback = TemperatureCallback(every=2)
    found, actions, model = run(callback)
    assert found["policy/temperature"] == pytest.approx(model.log_ent_coef.exp().item(), rel=0.02)
    assert found["policy/target_entropy"] == -1 and callback.verdict.verdict == "binds"
    assert 0 < found["policy/entropy"] < math.log(2)  # at first nearly uniform in [-1, 1]
    assert np.array_equal(actions, run(None)[1])


def test_targets_that_do_not_bind_are_told_at_the_start():
    model = sb3.SAC("MlpPolicy", "Pendulum-v1", target_entropy=2.0, **deepcopy(TINY))
    with pytest.warns(UserWarning, match=r"target_entropy: out of reach: .* at most 0\.693 nats.*grow without end"):
        model.learn(5, callback=TemperatureCallback())


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"exploration_fraction": 0.1}, TypeError, "exploration_fraction: epsilon has no place beside a temperature"),
        ({"target": "mean"}, ValueError, "target: must be one of max, soft, mellowmax; got 'mean'"),
        ({"temperature": -1.0}, ValueError, r"temperature: must lie in \[0, inf\]; got -1"),
        (
            {"temperature": "warm"},
            TypeError,
            "temperature: must be a number, an array or a Temperature; got str 'warm'",
        ),
        (
            {"temperature": np.ones(2)},
            ValueError,
            r"temperature: must be one number .*; got shape \(2,\)",
        ),
        ({"target_entropy": -0.69}, ValueError, "target_entropy: never binds: .*give top_probability=0.9"),
        ({"target_entropy": 0.7}, ValueError, "target_entropy: out of reach: entropies of 2 actions are 0 to 0.693"),
        ({"target_entropy": 0.5, "top_probability": 0.9}, ValueError, "give one of them"),
        ({"ent_coef": "auto"}, TypeError, "ent_coef: is temperature= here"),
        ({"target_entropy": "auto"}, TypeError, "target_entropy: must be a number; got str 'auto'"),
        ({"temperature": EntropyFraction}, TypeError, "temperature: .*got class EntropyFraction; call it"),
        ({"top_probability": 0.4}, ValueError, r"top_probability: must lie in \[1 / actions, 1\]"),
    ],
)
def test_what_cannot_be_is_refused(options, error, message):
    with pytest.raises(error, match=message):
        BoltzmannDQN("MlpPolicy", CARTPOLE, **TINY, **options)


def test_the_callback_knows_whom_it_can_read():
    with pytest.raises(ValueError, match="every: must be an integer of at least 1; got 0"):
        TemperatureCallback(every=0)
    with pytest.raises(TypeError, match="model: must be a DQN, BoltzmannDQN, DiscreteSAC or SAC; got PPO"):
        sb3.PPO("MlpPolicy", CARTPOLE, n_steps=8, batch_size=8, device="cpu").learn(8, callback=TemperatureCallback())


def test_actions_that_do_not_count_from_0_are_refused():
    env = gymnasium.make(CARTPOLE)
    env.action_space = gymnasium.spaces.Discrete(2, start=1)
    with pytest.raises(ValueError, match=r"env: actions must count from 0; got Discrete\(2, start=1\)"):
        BoltzmannDQN("MlpPolicy", env, **TINY)


def test_loading_may_give_another_target(tmp_path):
    BoltzmannDQN("MlpPolicy", CARTPOLE, **TINY).save(tmp_path / "model")
    load = partial(BoltzmannDQN.load, tmp_path / "model")
    assert load().target_entropy == entropy_target(2, top_probability=0.9)
    assert load(top_probability=0.7).target_entropy == entropy_target(2, top_probability=0.7)
    assert load(target_entropy=0.5).target_entropy == 0.5


def test_an_infinite_temperature_has_no_soft_target():
    model = BoltzmannDQN("MlpPolicy", CARTPOLE, temperature=SetPoint(entropy=5.0), target="soft", **TINY)
    with pytest.raises(ValueError, match=r"temperature: must be finite for a soft target.*got inf at step"):
        model.learn(60)


@pytest.mark.parametrize("deterministic", [False, True])
def test_values_that_are_not_finite_are_named(deterministic):
    model = BoltzmannDQN("MlpPolicy", ACROBOT, **TINY)
    bad = np.concatenate([STATE, np.full_like(STATE, np.nan)])
    with pytest.raises(ValueError, match="Q: must be finite; state 1 of 2 has NaN or inf"):
        model.predict(bad, deterministic=deterministic)
    with pytest.raises(TypeError, match="observation: must be an array or a dict; got a tuple"):
        model.predict((STATE, {}), deterministic=deterministic)
