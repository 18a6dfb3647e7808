"""Time and residual of a temperature for every row: ours, SciPy's vectorised root finder, and one root a row.

    python benchmarks/thermostat.py [--threads 2] [--rounds 5] [--out results.json]

A million rows of 18 values, float64: the temperature that holds an entropy, the one that spends a divergence from
T = 1, and that of the policy whose value is mellowmax. SciPy gets the same bracket of log T and the formulas with the
maximum subtracted; one root a row (`brentq`) is run on a thousand rows, its vectorised search on a hundred thousand,
and both are scaled up. Rounds of entries take turns, times are medians. The limit is one np.exp of all values, on one
thread.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from running import options, write
from scipy.optimize import brentq, elementwise

from logitherm import solve_temperature
from logitherm.exploration import mellowmax_temperature

ROWS, STATES = 1_000_000, 18
TOGETHER, ONE_BY_ONE = 100_000, 1000  # rows that the peers get
ENTROPY, KL, MELLOWMAX = 1.0, 0.3, 0.5  # targets; the last is the temperature of mellowmax


def main() -> None:
    given = options(__doc__ or "", "thermostat.json", math.inf, ("--rounds", {"type": int, "default": 5}))
    z = 3 * np.random.default_rng(0).normal(size=(ROWS, STATES))
    seconds: dict[str, dict[str, list[float]]] = {name: {} for name in ("np.exp", *TARGETS)}
    residuals: dict[str, float] = {}
    for name in TARGETS:
        OURS[name](z)
    for _ in range(given.rounds):
        seconds["np.exp"].setdefault("limit", []).append(clock(np.exp, z)[0])
        for name in TARGETS:
            took, t = clock(OURS[name], z)
            seconds[name].setdefault("logitherm", []).append(took)
            residuals[name] = float(np.abs(gap(name, z, np.log(t)))[np.isfinite(t)].max())
            took = clock(together, name, z[:TOGETHER])[0] * ROWS / TOGETHER
            seconds[name].setdefault("scipy, all rows at once", []).append(took)
            took = clock(one_by_one, name, z[:ONE_BY_ONE])[0] * ROWS / ONE_BY_ONE
            seconds[name].setdefault("scipy, row by row", []).append(took)
    medians = {name: {who: statistics.median(t) for who, t in found.items()} for name, found in seconds.items()}
    results = {"rows": ROWS, "states": STATES, "threads": given.threads, "rounds": given.rounds}
    write(given.out, {**results, "seconds": medians, "residuals": residuals})
    for name in TARGETS:
        print(name, {who: round(t, 3) for who, t in medians[name].items()}, f"residual {residuals[name]:.1e}")
    print("np.exp", round(medians["np.exp"]["limit"], 3))


def clock(work: Callable[..., Any], *arguments: Any) -> tuple[float, Any]:
    start = time.perf_counter()
    found = work(*arguments)
    return time.perf_counter() - start, found


def gap(name: str, z: np.ndarray, log_t: Any) -> np.ndarray:
    """What is left between the quantity and its target, of every row: the textbook's formulas, in NumPy."""
    x = (z - z.max(-1, keepdims=True)) * np.exp(-np.asarray(log_t))[..., None]
    p = np.exp(x)
    total = p.sum(-1, keepdims=True)
    p, log_p = p / total, x - np.log(total)
    if name == "entropy":
        return -(p * log_p).sum(-1) - ENTROPY
    if name == "mellowmax":
        return MELLOWMAX * np.log(np.exp((z - z.max(-1, keepdims=True)) / MELLOWMAX).mean(-1)) - (
            p * (z - z.max(-1, keepdims=True))
        ).sum(-1)
    near = z - z.max(-1, keepdims=True)
    near = near - np.log(np.exp(near).sum(-1, keepdims=True))
    return (p * (log_p - near)).sum(-1) - KL


def together(name: str, z: np.ndarray) -> np.ndarray:
    def function(log_t: np.ndarray, row: np.ndarray) -> np.ndarray:
        return gap(name, z[row], log_t)

    ends = (np.full(len(z), BRACKET[name][0]), np.full(len(z), BRACKET[name][1]))
    found = elementwise.find_root(function, ends, args=(np.arange(len(z)),), tolerances={"fatol": 1e-10})
    return np.exp(found.x)


def one_by_one(name: str, z: np.ndarray) -> np.ndarray:
    low, high = BRACKET[name]
    found = []
    for row in z:
        ends = gap(name, row, low), gap(name, row, high)
        found.append(brentq(lambda y, row=row: gap(name, row, y), low, high) if ends[0] * ends[1] < 0 else high)
    return np.exp(found)


TARGETS = ("entropy", "divergence", "mellowmax")
BRACKET = {"entropy": (-5.0, 10.0), "divergence": (0.0, 10.0), "mellowmax": (-5.0, 10.0)}
OURS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "entropy": lambda z: solve_temperature(z, entropy=ENTROPY),
    "divergence": lambda z: solve_temperature(z, kl=KL, side="hot"),
    "mellowmax": lambda z: mellowmax_temperature(z, MELLOWMAX),
}

if __name__ == "__main__":
    main()
