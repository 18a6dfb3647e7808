"""Soft actor-critic for discrete actions on Stable-Baselines3, with a temperature that cannot run away."""

from __future__ import annotations

import math
import warnings
from typing import Any, ClassVar

try:
    from stable_baselines3.common.policies import BasePolicy
    from stable_baselines3.dqn import policies as dqn
except ImportError as error:
    from logitherm.io import MissingExtra

    raise MissingExtra("logitherm.integrations.stable_baselines3_discrete_sac", "stable-baselines3", "rl") from error

import numpy as np
import torch

from logitherm.exploration import sac_temperature_loss
from logitherm.gibbs import entropy
from logitherm.integrations.stable_baselines3 import BoltzmannDQN
from logitherm.thermostat import LearnableTemperature

REWARDS = ("centred", "full")


class TwinQNetwork(dqn.QNetwork):
    """Two Q networks that share nothing; the value of an action is the smaller of theirs."""

    def __init__(self, second: dqn.QNetwork, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.second = second

    def both(self, observations: Any) -> torch.Tensor:
        """Values of either, of shape (2, states, actions)."""
        return torch.stack([super().forward(observations), self.second(observations)])

    def forward(self, observations: Any) -> torch.Tensor:
        return self.both(observations).amin(dim=0)


class MlpPolicy(dqn.MlpPolicy):
    """The policy of DQN with two Q networks in place of one."""

    def make_q_net(self) -> TwinQNetwork:
        second = super().make_q_net()
        arguments = self._update_features_extractor(self.net_args, features_extractor=None)
        return TwinQNetwork(second, **arguments).to(self.device)


class CnnPolicy(MlpPolicy, dqn.CnnPolicy):
    """The same for images."""


class MultiInputPolicy(MlpPolicy, dqn.MultiInputPolicy):
    """The same for observations that are dictionaries."""


class DiscreteSAC(BoltzmannDQN):
    """Soft actor-critic for discrete actions: two Q networks, and the policy softmax(min Q / alpha).

    The actor's loss has its minimum there for every state, so the actor is no network, expectations over actions are
    exact, and the entropy of the policy is that of the values: alpha is solved for, where others follow its gradient.

    Why alpha runs away elsewhere. Soft actor-critic rewards every step with alpha times the entropy. Where episodes can
    end, that is a reward for staying alive, and actions that differ in how long one stays alive differ by a multiple of
    alpha. Then Q / alpha has a limit as alpha grows, and so has the entropy of softmax(Q / alpha): a target above it is
    held by no alpha. The target 0.98 log |A| of the paper lets the better of two actions have a probability of 0.583; a
    policy that must not fall over needs more, so alpha doubles and doubles (an exact solver only gets there sooner).

    Two cures. A lower target: `top_probability` says how sure the policy may become. And an entropy counted from its
    target, alpha (S - target), which is what the constraint on the entropy puts into the Lagrangian: the paper leaves
    the constant out, as one may where episodes never end. Then every target below log |A| is within reach, because a
    uniform policy gains at every step, so the best one gains on average, which is to say that its entropy is above the
    target. Both are the default. `examples/exploration_deep.py` shows them in numbers.

    Other arguments, and what `save`, `load`, `predict` and `deterministic` do, are those of `BoltzmannDQN`.

    Parameters
    ----------
    policy, env, learning_rate, **kwargs
        As of `stable_baselines3.DQN`, with the defaults of its SAC for those named below. `target_update_interval`
        counts steps of the environment, and gradients of both networks are clipped together at `max_grad_norm`.
    temperature : "auto", float, LearnableTemperature or Temperature
        alpha, in units of rewards. "auto" solves for the one at which the mean entropy of a replayed batch is the
        target, once a call of `train`; a `LearnableTemperature` takes a gradient step (Adam, `learning_rate`) towards
        it at every update. Anything else is resolved on the values, without a target.
    target_entropy, top_probability : float, optional
        The target, as of `BoltzmannDQN`: 0.9 as the probability of the best action if neither is given.
    entropy_reward : "centred" or "full"
        Whether entropy counts from the target or, as in the paper, from 0. Without a target it is the latter.
    bonus_limit : float
        With the full reward, alpha is kept so low that the target entropy of one step is worth no more than this many
        times the largest reward seen; where that takes hold there is one warning. inf is no limit.

    Raises
    ------
    TypeError, ValueError
        As of `BoltzmannDQN`.

    References
    ----------
    Christodoulou (2019), Soft actor-critic for discrete action settings; Haarnoja et al. (2018), Soft actor-critic
    algorithms and applications, section 5, for the constraint.

    Examples
    --------
    >>> from logitherm.exploration import entropy_target
    >>> model = DiscreteSAC("MlpPolicy", "CartPole-v1", learning_starts=50, train_freq=10, seed=0, device="cpu")
    >>> model = model.learn(100)
    >>> q = model.action_values(model.replay_buffer.observations[:100, 0])
    >>> round(float(model.boltzmann.entropy(q).mean()), 1), round(entropy_target(2, top_probability=0.9), 1)
    (0.3, 0.3)
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpPolicy": MlpPolicy,
        "CnnPolicy": CnnPolicy,
        "MultiInputPolicy": MultiInputPolicy,
    }
    q_net: TwinQNetwork
    q_net_target: TwinQNetwork

    def __init__(
        self,
        policy: Any,
        env: Any,
        learning_rate: Any = 3e-4,
        *,
        temperature: Any = "auto",
        target_entropy: float | None = None,
        top_probability: float | None = None,
        entropy_reward: str = "centred",
        bonus_limit: float = 10.0,
        batch_size: int = 256,
        tau: float = 0.005,
        train_freq: Any = 1,
        target_update_interval: int = 1,
        **kwargs: Any,
    ) -> None:
        if entropy_reward not in REWARDS:
            raise ValueError(f"entropy_reward: must be one of {', '.join(REWARDS)}; got {entropy_reward!r}")
        if "target" in kwargs:
            raise TypeError("target: of soft actor-critic is soft; leave it out, or take BoltzmannDQN")
        if not bonus_limit > 0:
            raise ValueError(f"bonus_limit: must be above 0; got {bonus_limit}; inf is no limit")
        self.entropy_reward = entropy_reward
        self.bonus_limit = bonus_limit
        self.largest_reward = 0.0
        self.limited = False
        self.temperature_optimizer: torch.optim.Optimizer | None = None
        super().__init__(
            policy,
            env,
            learning_rate,
            temperature=temperature,
            target_entropy=target_entropy,
            top_probability=top_probability,
            target="soft",
            batch_size=batch_size,
            tau=tau,
            train_freq=train_freq,
            target_update_interval=target_update_interval,
            **kwargs,
        )

    def _setup_model(self) -> None:
        with warnings.catch_warnings():  # targets are to follow at every step of many environments
            warnings.filterwarnings("ignore", message="The number of environments used is greater than the target")
            super()._setup_model()
        if isinstance(self.temperature, LearnableTemperature):
            self.temperature.to(self.device)
            self.temperature_optimizer = torch.optim.Adam(self.temperature.parameters(), lr=self.lr_schedule(1))

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "temperature_optimizer"]

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        modules, variables = super()._get_torch_save_params()
        return [*modules, "temperature_optimizer"] if self.temperature_optimizer is not None else modules, variables

    @property
    def _has_target(self) -> bool:
        return super()._has_target or isinstance(self.temperature, LearnableTemperature)

    @property
    def _entropy_origin(self) -> float:
        return super()._entropy_origin if self.entropy_reward == "centred" else 0.0

    def train(self, gradient_steps: int, batch_size: int = 256) -> None:
        self.policy.set_training_mode(True)
        optimizers = [self.policy.optimizer]
        if self.temperature_optimizer is not None:
            optimizers.append(self.temperature_optimizer)
        self._update_learning_rate(optimizers)
        assert self.replay_buffer is not None
        losses, held_entropy = [], 0.0
        for step in range(gradient_steps):
            data = self.replay_buffer.sample(batch_size, env=self._vec_normalize_env)
            self.largest_reward = max(self.largest_reward, float(data.rewards.abs().max()))
            both = self.q_net.both(data.observations)
            values = both.detach().amin(dim=0).cpu().numpy()
            if self.temperature_optimizer is not None:
                self._learn_temperature(torch.as_tensor(values))
            elif step == 0:
                self._hold(values)
            if step == 0:
                held_entropy = float(self.boltzmann.entropy(values, step=self.num_timesteps).mean())
            with torch.no_grad():
                discounts = getattr(data, "discounts", None)
                discounts = self.gamma if discounts is None else discounts
                ahead = self._backed_up(self.q_net_target(data.next_observations))
                wanted = data.rewards + (1 - data.dones) * discounts * ahead
            chosen = both.gather(2, data.actions.long().expand(2, -1, -1))
            loss = 0.5 * (chosen - wanted).square().mean(dim=1).sum()
            self.policy.optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.policy.parameters(), self.max_grad_norm)
            self.policy.optimizer.step()
            losses.append(loss.item())
        self._n_updates += gradient_steps
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self.logger.record("train/loss", float(np.mean(losses)))
        self.logger.record("train/entropy", held_entropy)
        if self._has_target:
            self.logger.record("train/temperature", self.held)
            self.logger.record("train/target_entropy", self.target_entropy)

    def _hold(self, values: np.ndarray) -> None:
        super()._hold(values)
        if self.held is not None:
            self.held = self._within_limit(self.held)

    def _learn_temperature(self, values: torch.Tensor) -> None:
        """One gradient step of alpha, towards where the entropy of these values is the target."""
        optimizer, temperature = self.temperature_optimizer, self.temperature
        assert optimizer is not None and self.target_entropy is not None
        spread = entropy(values, temperature.resolve().detach().cpu())
        optimizer.zero_grad()
        sac_temperature_loss(temperature, spread.to(self.device), self.target_entropy).backward()
        optimizer.step()
        alpha = temperature.resolve().item()
        self.held = self._within_limit(alpha)
        if self.held < alpha:
            with torch.no_grad():
                temperature.log_temperature.fill_(math.log(self.held))

    def _within_limit(self, alpha: float) -> float:
        """alpha, or the largest that is left to it where the entropy of a step outweighs its reward."""
        if self.entropy_reward != "full" or not self._has_target or self.largest_reward == 0:
            return alpha
        assert self.target_entropy is not None
        limit = self.bonus_limit * self.largest_reward / self.target_entropy
        if alpha > limit and not self.limited:
            self.limited = True
            warnings.warn(
                f"target_entropy: {self.target_entropy:.3g} nats make the temperature grow beyond {limit:.3g}, where "
                f"the entropy of a step is worth {self.bonus_limit:g} times the largest reward; it is held there; give "
                "top_probability=0.9 or the like, or entropy_reward='centred'",
                stacklevel=2,
            )
        return min(alpha, limit)
