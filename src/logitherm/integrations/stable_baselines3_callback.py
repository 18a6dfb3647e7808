"""A callback for Stable-Baselines3 that logs the temperature and the entropy of a policy while it learns."""

from __future__ import annotations

import math
import warnings
from typing import Any

try:
    from stable_baselines3 import DQN, SAC
    from stable_baselines3.common.base_class import BaseAlgorithm
    from stable_baselines3.common.callbacks import BaseCallback
except ImportError as error:
    from logitherm.io import MissingExtra

    raise MissingExtra("logitherm.integrations.stable_baselines3_callback", "stable-baselines3", "rl") from error

import numpy as np
import torch

from logitherm.exploration import EntropyTarget, check_entropy_target, entropy_target
from logitherm.integrations.stable_baselines3 import BoltzmannDQN, finite_values
from logitherm.thermostat import RelativeToGap


class TemperatureCallback(BaseCallback):
    """Log what the policy is like while it learns, as means over the states that were visited since the last log.

    Of `BoltzmannDQN` and `DiscreteSAC`: `policy/temperature`, `policy/entropy` in nats, `policy/entropy_fraction` of
    log |A|, and `policy/gap` between the Q of the best and the second action. Of DQN the last three. Of SAC
    `policy/temperature`, its entropy coefficient, and `policy/entropy`, estimated by 32 actions a state with actions in
    [-1, 1]; and where the coefficient is learned, `policy/target_entropy`. Steps before `learning_starts` are left out.

    The target entropy is looked at once, at the start: see `verdict`. One that does not bind is a warning.

    Parameters
    ----------
    every : int
        Calls of `step` from one look at the states to the next; at least 1.

    Attributes
    ----------
    verdict : EntropyTarget or None
        What `check_entropy_target` says of the target.

    Examples
    --------
    >>> from stable_baselines3 import SAC
    >>> callback = TemperatureCallback()
    >>> model = SAC("MlpPolicy", "Pendulum-v1", device="cpu").learn(20, callback=callback)
    >>> print(callback.verdict)
    binds: -1 nats, those of a Gaussian of deviation 0.089 in 1 dimension
    """

    def __init__(self, *, every: int = 16, verbose: int = 0) -> None:
        super().__init__(verbose)
        if not isinstance(every, int | np.integer) or every < 1:
            raise ValueError(f"every: must be an integer of at least 1; got {every!r}; 16 is usual")
        self.every = every
        self.verdict: EntropyTarget | None = None

    def _on_training_start(self) -> None:
        model = self.model
        if isinstance(model, SAC):
            self.verdict = _verdict_of_sac(model)
        elif isinstance(model, BoltzmannDQN) and model._has_target:
            self.verdict = check_entropy_target(model.target_entropy or 0.0, actions=int(model.action_space.n))  # type: ignore[attr-defined]
        elif not isinstance(model, DQN):
            raise TypeError(f"model: must be a DQN, BoltzmannDQN, DiscreteSAC or SAC; got {type(model).__name__}")
        if self.verdict is not None and self.verdict.verdict != "binds":
            warnings.warn(f"target_entropy: {self.verdict}", stacklevel=2)

    def _on_step(self) -> bool:
        model: Any = self.model
        if self.n_calls % self.every == 0 and self.num_timesteps > model.learning_starts:
            for name, value in _readings(model, model._last_obs).items():
                self.logger.record_mean(f"policy/{name}", value)
        return True


def _readings(model: BaseAlgorithm, observation: Any) -> dict[str, float]:
    """What there is to log of a policy in these states."""
    if isinstance(model, SAC):
        return _readings_of_sac(model, observation)
    assert isinstance(model, DQN)
    actions = int(model.action_space.n)  # type: ignore[attr-defined]
    found = {}
    if isinstance(model, BoltzmannDQN):
        q, step = model.action_values(observation), model.num_timesteps
        found["temperature"] = float(np.mean(model.boltzmann.resolve(q, step=step)))
        entropy = float(np.mean(model.boltzmann.entropy(q, step=step)))
    else:
        q = finite_values(model.q_net, model.policy.obs_to_tensor(observation)[0])
        best = 1 - model.exploration_rate * (1 - 1 / actions)
        entropy = entropy_target(actions, top_probability=best)
    gap = float(np.mean(RelativeToGap(1.0, gap="second").resolve(q)))
    return {**found, "entropy": entropy, "entropy_fraction": entropy / math.log(actions), "gap": gap}


def _readings_of_sac(model: SAC, observation: Any) -> dict[str, float]:
    coefficient = model.ent_coef_tensor if model.log_ent_coef is None else model.log_ent_coef.detach().exp()
    tensor, _ = model.policy.obs_to_tensor(observation)
    devices = [] if model.device.type == "cpu" else [model.device]
    with torch.no_grad(), torch.random.fork_rng(devices):  # a look must not change the actions that follow
        entropy = -np.mean([model.actor.action_log_prob(tensor)[1].mean().item() for _ in range(32)])
    found = {"temperature": float(coefficient), "entropy": float(entropy)}
    return found if model.log_ent_coef is None else {**found, "target_entropy": float(model.target_entropy)}


def _verdict_of_sac(model: SAC) -> EntropyTarget | None:
    if model.log_ent_coef is None:
        return None
    ends = np.ones(int(np.prod(model.action_space.shape or (1,))))
    return check_entropy_target(float(model.target_entropy), low=-ends, high=ends)
