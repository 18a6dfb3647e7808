"""Time of eight rules on a bandit: ours, and NumPy with all runs side by side; with the regret that both find.

    python benchmarks/bandits.py [--threads 2] [--rounds 3] [--runs 500] [--steps 10000] [--out results.json]

Ten arms with rewards 0 and 1, means 0.6 and nine times 0.5. NumPy takes one step of all runs at a time, as few calls as
it can; that is what one would write without a compiler. Rounds of entries take turns; times are medians. What compiles
and imports is not counted, and said apart.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from running import options, write

MEANS, GAP = (0.6, *[0.5] * 9), 0.1


def main() -> None:
    asked = options(
        __doc__,
        "bandits.json",
        math.inf,
        ("--rounds", {"type": int, "default": 3}),
        ("--runs", {"type": int, "default": 500}),
        ("--steps", {"type": int, "default": 10_000}),
    )
    start = time.perf_counter()
    ours("UCB1", 1, 100)
    results: dict[str, Any] = {name: getattr(asked, name) for name in ("threads", "rounds", "runs", "steps")}
    results["first_call_seconds"] = time.perf_counter() - start
    entries: dict[str, dict[str, list[Any]]] = {name: {"logitherm": [], "NumPy": []} for name in NUMPY}
    for _ in range(asked.rounds):
        for name, found in entries.items():
            for who, run in (("logitherm", ours), ("NumPy", by_numpy)):
                start = time.perf_counter()
                regret = run(name, asked.runs, asked.steps)
                found[who].append((time.perf_counter() - start, regret))
    results["rules"] = {
        name: {
            who: {"seconds": statistics.median(seconds for seconds, _ in rounds), "regret": rounds[0][1]}
            for who, rounds in found.items()
        }
        for name, found in entries.items()
    }
    for name, found in results["rules"].items():
        both = "   ".join(
            f"{who} {entry['seconds']:6.2f} s, regret {entry['regret'][0]:6.1f} ± {entry['regret'][1]:.1f}"
            for who, entry in found.items()
        )
        print(f"{name:24} {both}")
    for who in ("logitherm", "NumPy"):
        print(f"{who}: {sum(found[who]['seconds'] for found in results['rules'].values()):.1f} s in all")
    write(asked.out, results)


def ours(name: str, runs: int, steps: int) -> tuple[float, float]:
    """Regret after all steps, and half its 95 % interval."""
    from logitherm.exploration import UCB1, BernoulliBandit, Boltzmann, BoltzmannGumbel, Thompson, simulate
    from logitherm.thermostat import LogarithmicSchedule, PowerSchedule

    rules = {
        "Boltzmann, T = 0.1": Boltzmann(0.1),
        "Boltzmann, T = 0.02": Boltzmann(0.02),
        "Boltzmann, T = gap / ln t": Boltzmann(LogarithmicSchedule(GAP / math.log(2))),
        "Boltzmann, T = 1 / √t": Boltzmann(PowerSchedule(1.0, power=0.5)),
        "Boltzmann–Gumbel, C = 0.5": BoltzmannGumbel(0.5),
        "Boltzmann–Gumbel, C = 1": BoltzmannGumbel(1.0),
        "UCB1": UCB1(),
        "Thompson": Thompson(),
    }
    found = simulate(BernoulliBandit(MEANS), rules[name], runs=runs, steps=steps, at=(steps,), seed=0)
    return float(found.regret[0]), float(found.interval()[1, 0] - found.regret[0])


# -- NumPy: (generator, counts, sums, step) -> an arm for every run --------------------------------------


def softmax_draw(means: np.ndarray, temperature: float, generator: np.random.Generator) -> np.ndarray:
    """By the largest of logits with Gumbel noise."""
    return (means / temperature + generator.gumbel(size=means.shape)).argmax(1)


def boltzmann(temperature: Callable[[int], float]) -> Callable[..., np.ndarray]:
    return lambda generator, counts, sums, step: softmax_draw(sums / counts, temperature(step), generator)


def gumbel(c: float) -> Callable[..., np.ndarray]:
    return lambda generator, counts, sums, step: (
        sums / counts + c * generator.gumbel(size=counts.shape) / np.sqrt(counts)
    ).argmax(1)


def ucb(generator: np.random.Generator, counts: np.ndarray, sums: np.ndarray, step: int) -> np.ndarray:
    return (sums / counts + np.sqrt(2 * math.log(step) / counts)).argmax(1)


def thompson(generator: np.random.Generator, counts: np.ndarray, sums: np.ndarray, step: int) -> np.ndarray:
    return generator.beta(1 + sums, 1 + counts - sums).argmax(1)


NUMPY: dict[str, Callable[..., np.ndarray]] = {
    "Boltzmann, T = 0.1": boltzmann(lambda step: 0.1),
    "Boltzmann, T = 0.02": boltzmann(lambda step: 0.02),
    "Boltzmann, T = gap / ln t": boltzmann(lambda step: GAP / math.log(step)),
    "Boltzmann, T = 1 / √t": boltzmann(lambda step: step**-0.5),
    "Boltzmann–Gumbel, C = 0.5": gumbel(0.5),
    "Boltzmann–Gumbel, C = 1": gumbel(1.0),
    "UCB1": ucb,
    "Thompson": thompson,
}


def by_numpy(name: str, runs: int, steps: int) -> tuple[float, float]:
    generator, choose, means = np.random.default_rng(0), NUMPY[name], np.array(MEANS)
    arms, row = len(means), np.arange(runs)
    counts, sums = np.zeros((runs, arms)), np.zeros((runs, arms))
    for step in range(steps):
        if step < arms and choose is not thompson:
            arm = np.full(runs, step)
        else:
            arm = choose(generator, counts, sums, step)
        counts[row, arm] += 1
        sums[row, arm] += generator.random(runs) < means[arm]
    regrets = counts @ (means.max() - means)
    return float(regrets.mean()), float(1.96 * regrets.std(ddof=1) / math.sqrt(runs))


if __name__ == "__main__":
    main()
