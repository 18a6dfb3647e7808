"""Too cold never finds, too hot never uses: temperatures of bandits, and of agents in two small worlds.

What: eight rules on a bandit with ten arms, the regret of each with its 95 % interval. Then Q-learning in CliffWalking
(rewards of -1 a step, -100 at the cliff) and FrozenLake (a single 1 at the end of a slippery way), with one temperature
after the other: numbers, schedules, and two that have no unit: T as a share of the gap of values, and the T that holds
a share of the largest entropy in every state. Epsilon-greedy stands beside them.

Why: a temperature is as hot as the values are close. One that is right in one world is blind or frozen in the other,
where rewards have another size; a share of the entropy means the same in both. (CliffWalking has no "too cold": values
begin at 0, above all there are, so that even T = 0 looks everywhere.) The last lines are computed from the tables.

    python examples/exploration.py
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import gymnasium
import numpy as np

from logitherm.exploration import (
    UCB1,
    BernoulliBandit,
    Boltzmann,
    BoltzmannGumbel,
    SoftQLearning,
    Thompson,
    simulate,
)
from logitherm.integrations.gymnasium import evaluate, train
from logitherm.thermostat import ExponentialSchedule, LogarithmicSchedule, PowerSchedule, RelativeToGap, SetPoint

RUNS, GAP = 150, 0.1
RULES = {
    "Boltzmann, T = 0.1": Boltzmann(0.1),
    "Boltzmann, T = 0.02": Boltzmann(0.02),
    "Boltzmann, T = gap / ln t": Boltzmann(LogarithmicSchedule(GAP / math.log(2))),
    "Boltzmann, T = 1 / sqrt t": Boltzmann(PowerSchedule(1.0, power=0.5)),
    "Boltzmann-Gumbel, C = 0.5": BoltzmannGumbel(0.5),
    "Boltzmann-Gumbel, C = 1": BoltzmannGumbel(1.0),
    "UCB1": UCB1(),
    "Thompson": Thompson(),
}


class World(NamedTuple):
    name: str
    episodes: int
    options: dict[str, Any]


WORLDS = (
    World("CliffWalking-v1", 300, {"learning_rate": 0.5, "discount": 1.0}),
    World("FrozenLake-v1", 2000, {"learning_rate": 0.1, "discount": 0.99}),
)
COOLING = ((1.0, 0.1), (0.1, 0.01))
NUMBERS = (0.0, 0.01, 0.1, 1.0)
SHARES = (0.1, 0.3)
SEEDS = 2
FULL = math.log(4)  # the largest entropy of four actions


def bandits() -> None:
    print(f"Regret on ten arms, means 0.6 and 0.5, {RUNS} runs (95 % interval)\n")
    print(f"{'':28}{'after 1000 steps':>20}{'after 10 000':>20}")
    for name, rule in RULES.items():
        found = simulate(BernoulliBandit((0.6, *[0.5] * 9)), rule, runs=RUNS, steps=10_000, at=(1000, 10_000), seed=0)
        half = found.regret - found.interval()[0]
        print(f"{name:28}" + "".join(f"{f'{r:.0f} ± {h:.0f}':>20}" for r, h in zip(found.regret, half)))


def policies(world: World) -> dict[str, dict[str, Any]]:
    """Options of the agent that say how it explores."""
    schedules = {
        f"T from {a:g} to {b:g}": {"temperature": ExponentialSchedule(a, b, steps=world.episodes), "clock": "episodes"}
        for a, b in COOLING
    }
    return {
        **{f"T = {t:g}": {"temperature": t} for t in NUMBERS},
        **schedules,
        "epsilon = 0.1": {"temperature": 0.0, "epsilon": 0.1},
        "T = half the gap": {"temperature": RelativeToGap(0.5)},
        **{f"entropy {100 * share:.0f} %": {"temperature": SetPoint(entropy=share * FULL)} for share in SHARES},
    }


def learned(world: World, policy: dict[str, Any]) -> np.ndarray:
    """Mean return of the whole training and of its last tenth, entropy there (share), and greedy return; over seeds."""
    env = gymnasium.make(world.name, disable_env_checker=True)
    states, actions = env.observation_space.n, env.action_space.n
    rows = []
    for seed in range(SEEDS):
        agent = SoftQLearning(states, actions, target="max", seed=seed, **world.options, **policy)
        training = train(agent, env, world.episodes, seed=seed)
        late = slice(-world.episodes // 10, None)
        greedy = evaluate(agent, env, 100, seed=100 + seed, max_steps=100).returns.mean()
        rows.append([training.returns.mean(), training.returns[late].mean(), training.entropies[late].mean(), greedy])
    mean = np.mean(rows, axis=0)
    mean[2] /= FULL
    return mean


def explore(world: World) -> dict[str, np.ndarray]:
    print(f"\n{world.name}, {world.episodes} episodes, mean of {SEEDS} seeds\n")
    print(f"{'':22}{'return':>10}{'last tenth':>12}{'entropy':>10}{'greedy':>10}")
    found = {}
    for name, policy in policies(world).items():
        found[name] = learned(world, policy)
        whole, late, entropy, greedy = found[name]
        print(f"{name:22}{whole:>10.2f}{late:>12.2f}{100 * entropy:>8.0f} %{greedy:>10.2f}")
    return found


def main() -> None:
    bandits()
    tables = {world.name: explore(world) for world in WORLDS}

    print("\nWhat is seen: return of the last tenth, of the best beside it in brackets")
    for name in ("T = 0", "T = 1", "T from 1 to 0.1", "T from 0.1 to 0.01", "epsilon = 0.1", "entropy 10 %"):
        cells = (
            f"{world} {table[name][1]:.2f} ({max(row[1] for row in table.values()):.2f})"
            for world, table in tables.items()
        )
        print(f"  {name:18} {', '.join(cells)}")


if __name__ == "__main__":
    main()
