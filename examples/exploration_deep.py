"""Why discrete soft actor-critic blows up, and what exploration costs a DQN: CartPole at measured temperatures.

What: first a pole of nine places whose soft values are exact. For ever larger alpha: the entropy of the best policy,
with the entropy reward of the paper, alpha S, and with one that counts from the target, alpha (S - target). Then
CartPole-v1 with a small network, one seed a row: `DiscreteSAC` with targets of 0.98 log 2 and others, alpha solved or
learned; DQN with epsilon against `BoltzmannDQN`. Columns: the target as a share of log 2; the largest probability it
leaves to an action; alpha or T at the end of the run; the entropy of the policy on replayed states as a share of log 2;
the mean return of the episodes that ended in the last 30 % of training, and of 10 greedy ones afterwards.

Why: an alpha S for every step is a reward for staying alive. As alpha grows, Q / alpha does not become flat, since
actions differ in how long one stays alive to be rewarded; so the entropy has a ceiling (0.79 of log 2 on that pole),
and a target above it is held by no alpha. An exact solver only runs away faster than a gradient. Counted from its
target the reward is 0 on average, every target below log |A| has its alpha, and alpha stays of the size of the returns.

Measured with --long (15 000 steps, one seed, so differences of less than a hundred in returns mean little): with alpha
S and a target of 0.98 log 2, alpha ends at 6510 if solved and 469 if learned, with returns of 29 and 95 in training (64
and 486 greedily); counted from the target at 16.7 (41; 318 greedily), and kept by `bonus_limit=10` at 14.7 (283; 317).
At 0.7 log 2 alpha is 6.25 (232; 296) and, counted from the target, 1.13 (289; 381). At a top probability of 0.9 all
ways agree: 0.28 to 0.39 (182 to 219; 190 to 223). DQN: 148 (105) with epsilon, 144 (159) at the T that holds the
entropy, 178 (270) with T from 1 to 0.1.

    python examples/exploration_deep.py           # about a minute
    python examples/exploration_deep.py --long    # more rows, six times the steps, half an hour
"""

from __future__ import annotations

import argparse
import math
import warnings
from typing import Any

import numpy as np
import torch
from stable_baselines3 import DQN
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy

from logitherm import entropy
from logitherm.exploration import BoltzmannPolicy, check_entropy_target, entropy_target, soft_value
from logitherm.integrations.stable_baselines3 import BoltzmannDQN
from logitherm.integrations.stable_baselines3_discrete_sac import DiscreteSAC
from logitherm.thermostat import ExponentialSchedule, LearnableTemperature

LOG2 = math.log(2)
SEED, STEPS, LONG = 0, 2500, 15_000
SHARED = {"learning_rate": 1e-3, "batch_size": 64, "buffer_size": 50_000, "learning_starts": 500, "device": "cpu"}
OFTEN = {"train_freq": 4, "gradient_steps": 2}


# -- why: a pole of nine places, exactly ------------------------------------------------------------------


def falling_pole(places: int = 9, slip: float = 0.3) -> np.ndarray:
    """P(next | place, action), the last place being the ground; a step goes astray, outwards, with probability slip."""
    move = np.zeros((places, 2, places + 1))
    for place in range(places):
        outward = int(np.sign(place - places // 2))
        for action, step in enumerate((-1, 1)):
            for probability, to in ((1 - slip, place + step), (slip, place + (outward or step))):
                move[place, action, to if 0 <= to < places else places] += probability
    return move


def entropy_at(alpha: float, origin: float, move: np.ndarray, gamma: float = 0.95) -> float:
    """Mean entropy over discounted visits of the policy that is best under rewards 1 + alpha (S - origin)."""
    places = len(move)
    q = np.zeros((places, 2))
    for _ in range(300):
        q = 1 + gamma * move @ np.append(soft_value(q, alpha) - alpha * origin, 0.0)
    follow = np.einsum("sa,sat->st", BoltzmannPolicy(alpha).probabilities(q), move)[:, :places]
    visits = np.linalg.solve(np.eye(places) - gamma * follow.T, np.eye(places)[places // 2])
    return float(visits @ entropy(q, alpha) / visits.sum())


def show_why() -> None:
    move, grid, targets = falling_pole(), (1, 10, 100, 1000), (0.98, 0.7)
    print("A pole of nine places: entropy of the best policy, as a share of log 2, for ever larger alpha")
    print(f"{'alpha':>30}" + "".join(f"{alpha:>8}" for alpha in grid))
    for name, origin in (("alpha S", 0.0), *((f"alpha (S - {f} log 2)", f * LOG2) for f in targets)):
        shares = [entropy_at(alpha, origin, move) / LOG2 for alpha in grid]
        print(f"{name:>30}" + "".join(f"{share:8.3f}" for share in shares), flush=True)


# -- CartPole ---------------------------------------------------------------------------------------------


class Returns(BaseCallback):
    """The return of every episode, and when it ended."""

    def _on_training_start(self) -> None:
        self.ended: list[tuple[int, float]] = []

    def _on_step(self) -> bool:
        self.ended += [(self.num_timesteps, i["episode"]["r"]) for i in self.locals["infos"] if "episode" in i]
        return True


def run(name: str, kind: type[DQN], steps: int, **options: Any) -> None:
    """Train, and print a row of the table."""
    model = kind("MlpPolicy", "CartPole-v1", seed=SEED, **SHARED, **OFTEN, **options)
    returns = Returns()
    model.learn(steps, callback=returns)
    late = [r for step, r in returns.ended if step > 0.7 * steps]
    greedy, _ = evaluate_policy(model, model.get_env(), n_eval_episodes=10, warn=False)
    target = top = alpha = ""
    if isinstance(model, BoltzmannDQN):
        states = model.replay_buffer.observations[:steps:4, 0]
        q = model.action_values(states)
        share = float(model.boltzmann.entropy(q, step=steps).mean()) / LOG2
        alpha = f"{float(np.mean(model.boltzmann.resolve(q, step=steps))):.3g}"
        if model.held is not None:
            target = f"{model.target_entropy / LOG2:.2f}"
            top = f"{check_entropy_target(model.target_entropy, actions=2).top_probability:.3f}"
    else:
        share = entropy_target(2, top_probability=1 - model.exploration_rate / 2) / LOG2
    print(
        f"{name:34}{target:>7}{top:>7}{alpha:>9}{share:9.2f}{np.mean(late):8.0f}{greedy:8.0f}",
        flush=True,
    )


def show_cart_pole(steps: int, long: bool) -> None:
    print(f"\nCartPole-v1, {steps} steps, seed {SEED}")
    print(f"{'':34}{'target':>7}{'max p':>7}{'alpha, T':>9}{'entropy':>9}{'return':>8}{'greedy':>8}")
    high = {"target_entropy": 0.98 * LOG2}
    full = {"entropy_reward": "full", "bonus_limit": math.inf}

    def sac(name: str, **options: Any) -> None:
        run(name, DiscreteSAC, steps, tau=0.01, **options)

    sac("SAC, alpha S, solved", **high, **full)
    sac("SAC, alpha S, solved", **full)
    sac("SAC, alpha (S - target), solved", **high)
    sac("SAC, alpha (S - target), solved")
    sac("SAC, alpha (S - target), learned", temperature=LearnableTemperature(1.0))
    run("DQN, epsilon 1 to 0.05", DQN, steps, target_update_interval=200)
    run("Boltzmann DQN, solved", BoltzmannDQN, steps, target_update_interval=200)
    if long:
        cooling = ExponentialSchedule(1.0, 0.1, steps=steps)
        run("Boltzmann DQN, T from 1 to 0.1", BoltzmannDQN, steps, target_update_interval=200, temperature=cooling)
        sac("SAC, alpha S, learned", temperature=LearnableTemperature(1.0), **high, **full)
        sac("SAC, alpha S, solved, limit of 10", entropy_reward="full", **high)
        for share in (0.7, 0.3):
            sac("SAC, alpha S, solved", target_entropy=share * LOG2, **full)
            sac("SAC, alpha (S - target), solved", target_entropy=share * LOG2)
        sac("SAC, alpha fixed", temperature=0.05)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--long", action="store_true")
    long = parser.parse_args(arguments).long
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", message="target_entropy")  # the blow-up is what is shown
    show_why()
    show_cart_pole(LONG if long else STEPS, long)


if __name__ == "__main__":
    main()
