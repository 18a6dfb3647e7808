"""Boltzmann exploration for Stable-Baselines3: a DQN at a temperature."""

from __future__ import annotations

from numbers import Real
from typing import Any

try:
    from stable_baselines3 import DQN
except ImportError as error:
    from logitherm.io import MissingExtra

    raise MissingExtra("logitherm.integrations.stable_baselines3", "stable-baselines3", "rl") from error

import numpy as np
import torch

from logitherm._array import describe, require_temperature
from logitherm.exploration import (
    BoltzmannPolicy,
    check_entropy_target,
    entropy_target,
    mellowmax,
    soft_value,
)
from logitherm.thermostat import SetPoint

TARGETS = ("max", "soft", "mellowmax")
TOP_PROBABILITY = 0.9  # of the best action, where no target is given


class BoltzmannDQN(DQN):
    """DQN that explores by drawing actions with probability proportional to exp(Q / T), in place of epsilon-greedily.

    Everything else is DQN: its other arguments, vectorised environments, `deterministic=True` for the greedy action,
    uniformly random actions before `learning_starts`, `save` and `load`. Actions are reproducible by `seed`.

    Temperatures are resolved on the Q values of the states at hand, with the number of environment steps as the step of
    schedules. A set point that is pooled, `"auto"` among them, is one T for all states: it is solved on a replayed
    batch at every call of `train`, and held until the next (before the first, on the states at hand). Which to take:

    - `"auto"` holds the mean entropy. States where actions differ much are exploited, and others explored.
    - A number or a schedule does so as well, but in units of the returns, which have to be known.
    - `EntropyFraction`, `RelativeToGap` and a `SetPoint` that is not pooled explore every state alike. Of two actions
      the better one then has the same probability everywhere: that is epsilon-greedy by another name.

    Parameters
    ----------
    policy, env, learning_rate, **kwargs
        As of `stable_baselines3.DQN`, by name. Its `exploration_...` arguments are refused: they are what T replaces.
    temperature : "auto", float or Temperature
        In units of Q, 0 <= T <= inf. "auto" is the T at which the mean entropy of replayed states is the target.
    target_entropy : float, optional
        Target of "auto" in nats, between 0 and log |A|; or
    top_probability : float, optional
        the entropy of a policy that gives its best action this probability (`entropy_target`); 0.9 without either.
    target : "max", "soft" or "mellowmax"
        What Q of the next state counts as, at the T of exploration: its maximum as in DQN; T log sum exp(Q / T), which
        is E[Q] + T S, for "auto" less T times the target entropy (`DiscreteSAC` says why); or T log mean exp(Q / T).

    Raises
    ------
    TypeError, ValueError
        A temperature that is neither; a target that never binds, or is out of reach (`check_entropy_target`); actions
        that do not count from 0; in training, an infinite T with a soft target.

    References
    ----------
    Mnih et al. (2015), for DQN; Haarnoja et al. (2017), eq. 5, for the soft target; Asadi and Littman (2017), eq. 1,
    for mellowmax.

    Examples
    --------
    >>> from logitherm.thermostat import ExponentialSchedule
    >>> model = BoltzmannDQN("MlpPolicy", "CartPole-v1", temperature=ExponentialSchedule(1.0, 0.01, steps=500), seed=0,
    ...                      device="cpu", learning_starts=50)
    >>> model = model.learn(200)
    >>> state = np.zeros((1, 4), dtype=np.float32)
    >>> round(float(model.boltzmann.resolve(model.action_values(state), step=model.num_timesteps)[0]), 3)
    0.158
    >>> model.predict(state, deterministic=True)[0].shape
    (1,)
    """

    def __init__(
        self,
        policy: Any,
        env: Any,
        learning_rate: Any = 1e-4,
        *,
        temperature: Any = "auto",
        target_entropy: float | None = None,
        top_probability: float | None = None,
        target: str = "max",
        **kwargs: Any,
    ) -> None:
        refused = sorted(name for name in kwargs if name.startswith("exploration_"))
        if refused:
            raise TypeError(f"{', '.join(refused)}: epsilon has no place beside a temperature; pass temperature=...")
        if "ent_coef" in kwargs:
            raise TypeError("ent_coef: is temperature= here, 'auto' or a number; its target is target_entropy=")
        if target not in TARGETS:
            raise ValueError(f"target: must be one of {', '.join(TARGETS)}; got {target!r}")
        if target_entropy is not None and top_probability is not None:
            raise ValueError("target_entropy, top_probability: give one of them; each says what the other is")
        self.temperature = temperature
        self.target_entropy = target_entropy
        self.top_probability = top_probability
        self.target = target
        self.held: float | None = None
        self._sure: float | None = None  # the top probability that the target comes from
        super().__init__(policy, env, learning_rate, exploration_initial_eps=0.0, exploration_final_eps=0.0, **kwargs)

    def _setup_model(self) -> None:
        self.target_entropy = self._as_target()
        _require_temperature(self.temperature)
        super()._setup_model()

    def _as_target(self) -> float:
        """The target entropy in nats, held to what so many actions can have."""
        space: Any = self.action_space
        if space.start != 0:
            raise ValueError(f"env: actions must count from 0; got {space}; shift them in a wrapper")
        actions, target = int(space.n), self.target_entropy
        for name, value in (("target_entropy", target), ("top_probability", self.top_probability)):
            if value is not None and not isinstance(value, Real):
                raise TypeError(f"{name}: must be a number; got {describe(value)}; None is top_probability=0.9")
        if target is None or self.top_probability != self._sure:  # another one, given to `load`
            sure = TOP_PROBABILITY if self.top_probability is None else self.top_probability
            target = entropy_target(actions, top_probability=sure)
            self._sure = self.top_probability
        verdict = check_entropy_target(target, actions=actions)
        if verdict.verdict != "binds":
            raise ValueError(f"target_entropy: {verdict}; give top_probability={TOP_PROBABILITY} or the like")
        return target

    def set_random_seed(self, seed: int | None = None) -> None:
        super().set_random_seed(seed)
        # not the seed alone: environments make the same generator of it, and actions would follow their noise
        self.generator = np.random.default_rng(None if seed is None else [seed, 1])

    @property
    def boltzmann(self) -> BoltzmannPolicy:
        """The policy at the temperature that holds now; it takes Q, and the number of steps for a schedule."""
        rule = self._rule()
        pooled = self._has_target or getattr(rule, "pooled", False)
        return BoltzmannPolicy(self.held if pooled and self.held is not None else rule)

    @property
    def _has_target(self) -> bool:
        """Whether the temperature is one that holds the target entropy."""
        return isinstance(self.temperature, str)

    @property
    def _entropy_origin(self) -> float:
        """Where the entropy of a soft target counts from: from 0, it would be a reward for staying alive."""
        return self.target_entropy or 0.0 if self._has_target else 0.0

    def _rule(self) -> Any:
        auto = isinstance(self.temperature, str)
        return SetPoint(entropy=self.target_entropy, pooled=True) if auto else self.temperature

    def _hold(self, values: np.ndarray) -> None:
        """Solve a pooled set point on these values, and keep its temperature."""
        rule = self._rule()
        if getattr(rule, "pooled", False):
            self.held = float(rule.resolve(values, self.num_timesteps))

    def action_values(self, observation: Any) -> np.ndarray:
        """Q of all actions, float32 of shape (states, actions), of one observation or several."""
        self.policy.set_training_mode(False)
        tensor, _ = self.policy.obs_to_tensor(observation)
        return finite_values(self.q_net, tensor)

    def predict(
        self,
        observation: np.ndarray | dict[str, np.ndarray],
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """Draw actions at the temperature, or take the best ones if `deterministic`."""
        if isinstance(observation, tuple):
            raise TypeError("observation: must be an array or a dict; got a tuple; pass env.reset()[0]")
        q = self.action_values(observation)
        if deterministic:
            actions = q.argmax(axis=1)
        else:
            actions = self.boltzmann.sample(q, generator=self.generator, step=self.num_timesteps)
        several = self.policy.is_vectorized_observation(observation)
        return (actions if several else actions.squeeze(axis=0)), state

    def train(self, gradient_steps: int, batch_size: int = 100) -> None:
        network: Any = self.q_net_target
        seen = None

        def value(observations: Any) -> torch.Tensor:
            """What DQN takes the maximum of: all values, or one column that is their soft maximum."""
            nonlocal seen
            seen = observations
            q = network(observations)
            return q if self.target == "max" else self._backed_up(q)

        self.q_net_target = value  # type: ignore[assignment]
        try:
            super().train(gradient_steps, batch_size)
        finally:
            self.q_net_target = network
        if getattr(self._rule(), "pooled", False):
            self.policy.set_training_mode(False)
            self._hold(finite_values(self.q_net, seen))

    def _backed_up(self, q: torch.Tensor) -> torch.Tensor:
        values, policy = _finite(q.cpu().numpy()), self.boltzmann
        t = policy.resolve(values, step=self.num_timesteps)
        if self.target == "soft" and np.isinf(t).any():
            raise ValueError(
                "temperature: must be finite for a soft target, which is worth T times the entropy; got inf at step "
                f"{self.num_timesteps} from {self.temperature!r}; a set point out of reach gives it"
            )
        if self.target == "mellowmax":
            v = mellowmax(values, t)
        else:
            v = soft_value(values, t) - t * self._entropy_origin
        return torch.as_tensor(v, device=q.device)[:, None]


def finite_values(network: torch.nn.Module, observations: Any) -> np.ndarray:
    with torch.no_grad():
        return _finite(network(observations).cpu().numpy())


def _finite(q: np.ndarray) -> np.ndarray:
    bad = ~np.isfinite(q).all(axis=1)
    if bad.any():
        raise ValueError(
            f"Q: must be finite; state {int(bad.argmax())} of {len(q)} has NaN or inf; look for rewards or states "
            "that are not finite, or lower learning_rate"
        )
    return q


def _require_temperature(temperature: Any) -> None:
    if isinstance(temperature, type):
        raise TypeError(f"temperature: must be a number or a Temperature; got class {temperature.__name__}; call it")
    if (isinstance(temperature, str) and temperature == "auto") or hasattr(temperature, "resolve"):
        return
    require_temperature(temperature)
    if np.ndim(temperature):
        raise ValueError(f"temperature: must be one number or a Temperature; got {describe(temperature)}")
