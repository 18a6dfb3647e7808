"""The CPU kernel of bandits: one run, its noise in the order in which the definition in NumPy asks for it.

Numba's generators give NumPy's numbers, so that a run is that of the definition with the same generator.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from logitherm.kernels.bandits import BOLTZMANN, EPSILON_GREEDY, GUMBEL, THOMPSON_BETA, THOMPSON_NORMAL, UCB
from logitherm.kernels.cpu import _FLAGS
from logitherm.kernels.cpu_sampling import _block_weights, _scale


@njit(**_FLAGS)
def _draw(z, temperature, uniform, weights):
    """A state of softmax(z / temperature) by inverting its cumulative law; T = 0 shares among the largest."""
    top, total = z[0], 0.0
    for i in range(1, z.shape[0]):
        top = max(top, z[i])
    if temperature > 0:
        total = _block_weights(z, top, _scale(temperature, z.dtype), weights)
    else:
        for i in range(z.shape[0]):
            weights[i] = 1.0 if z[i] == top else 0.0
            total += weights[i]
    height, reached, last = uniform * total, 0.0, 0
    for i in range(z.shape[0]):
        if weights[i] > 0:
            last = i
        reached += weights[i]
        if reached > height:
            return i
    return last


@njit(**_FLAGS)
def _largest(index):
    """`argmax`, which need not look for NaN here."""
    best = 0
    for i in range(1, index.shape[0]):
        if index[i] > index[best]:
            best = i
    return best


@njit(**_FLAGS)
def bandit(generator, code, numbers, means, deviation, at, pulls):
    """Fill pulls (points, arms): how often every arm was pulled by each of the steps `at`, which increase."""
    arms = means.shape[0]
    count, total, mean = np.zeros(arms), np.zeros(arms), np.zeros(arms)
    doubt = np.full(arms, np.inf)  # 1 / sqrt(count)
    index, weights, flat = np.empty(arms), np.empty(arms), np.zeros(arms)
    point = 0
    for step in range(numbers.shape[0]):
        number = numbers[step]
        if step < arms and code != THOMPSON_BETA:
            arm = step
        elif code == BOLTZMANN:
            arm = _draw(mean, number, generator.random(), weights)
        elif code == EPSILON_GREEDY:
            explores = generator.random() < number
            arm = _draw(flat if explores else mean, 0.0, generator.random(), weights)
        elif code == UCB:
            reach = number * np.sqrt(2 * np.log(step))
            for i in range(arms):
                index[i] = mean[i] + reach * doubt[i]
            arm = _draw(index, 0.0, generator.random(), weights)
        else:
            for i in range(arms):
                if code == GUMBEL:
                    index[i] = mean[i] - number * np.log(generator.standard_exponential()) * doubt[i]
                elif code == THOMPSON_BETA:
                    index[i] = generator.beta(1 + total[i], 1 + count[i] - total[i])
                elif code == THOMPSON_NORMAL:
                    index[i] = mean[i] + number * generator.standard_normal() * doubt[i]
            arm = _largest(index)
        if deviation < 0:
            reward = 1.0 if generator.random() < means[arm] else 0.0
        else:
            reward = means[arm] + deviation * generator.standard_normal()
        count[arm] += 1
        total[arm] += reward
        mean[arm] = total[arm] / count[arm]
        doubt[arm] = 1 / np.sqrt(count[arm])
        while point < at.shape[0] and at[point] == step + 1:
            for i in range(arms):
                pulls[point, i] = np.int64(count[i])
            point += 1
