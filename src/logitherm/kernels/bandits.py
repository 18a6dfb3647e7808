"""Runs of bandits, one after the other on each of a few threads: the way to the compiled kernel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from logitherm.kernels import values
from logitherm.kernels.threads import map_blocks

# what chooses an arm; the numbers that go with it, one a step, are T, epsilon, C, the width and the deviation
BOLTZMANN, EPSILON_GREEDY, GUMBEL, UCB, THOMPSON_BETA, THOMPSON_NORMAL = range(6)
BERNOULLI = -1.0  # in place of the deviation of rewards


def runs(
    code: int, numbers: np.ndarray, means: np.ndarray, deviation: float, at: np.ndarray, seeds: Sequence
) -> np.ndarray:
    """Pulls of every arm after so many steps, int64 (runs, len(at), arms).

    `numbers` has one entry a step; `seeds` are sequences of seeds, one a run, so that a run depends on nothing but its
    own.
    """
    from logitherm.kernels import cpu_bandits

    values.cpu()  # says that kernels are compiled, if they are
    pulls = np.zeros((len(seeds), len(at), len(means)), np.int64)

    def work(block: slice) -> None:
        for run in range(block.start, block.stop):
            generator = np.random.default_rng(seeds[run])
            cpu_bandits.bandit(generator, code, numbers, means, deviation, at, pulls[run])

    map_blocks(work, len(seeds), len(numbers) * len(means))
    values.ran["bandit"] += 1
    return pulls
