"""The compiled bandits are the definition in NumPy, pull by pull, for the same random numbers."""

import math

import numpy as np
import pytest

from logitherm.exploration import (
    UCB1,
    BernoulliBandit,
    Boltzmann,
    BoltzmannGumbel,
    EpsilonGreedy,
    GaussianBandit,
    Thompson,
    simulate,
)
from logitherm.exploration.bandits import by_definition
from logitherm.thermostat import LinearSchedule, PowerSchedule

BERNOULLI = BernoulliBandit((0.6, 0.5, 0.5, 0.1))
GAUSSIAN = GaussianBandit((0.2, 0.0, 0.1), deviation=0.7)
RULES = [
    Boltzmann(0.1),
    Boltzmann(1e-3),
    Boltzmann(0),
    Boltzmann(math.inf),
    Boltzmann(PowerSchedule(1.0)),
    EpsilonGreedy(0.2),
    EpsilonGreedy(LinearSchedule(1.0, 0.0, steps=100)),
    BoltzmannGumbel(0.5),
    BoltzmannGumbel(0.0),
    UCB1(),
    UCB1(width=0.1),
]


class OneEach(np.random.Generator):
    """A generator for every run, each asked for its own part of an array whose first axis is that of runs."""

    def __init__(self, seed, runs):
        self.each = [np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(runs)]
        super().__init__(self.each[0].bit_generator)

    def random(self, shape):
        return np.stack([g.random(shape[1:]) for g in self.each])

    def standard_normal(self, shape):
        return np.stack([g.standard_normal(shape[1:]) for g in self.each])

    def standard_exponential(self, shape):
        return np.stack([g.standard_exponential(shape[1:]) for g in self.each])

    def beta(self, a, b):
        return np.stack([g.beta(x, y) for g, x, y in zip(self.each, a, b)])


@pytest.mark.parametrize("rule", RULES + [Thompson()], ids=str)
def test_the_same_pulls_of_arms_with_rewards_0_and_1(rule, ran):
    check(BERNOULLI, rule, ran)


@pytest.mark.parametrize("rule", RULES + [Thompson(deviation=0.7)], ids=str)
def test_the_same_pulls_of_arms_with_normal_rewards(rule, ran):
    check(GAUSSIAN, rule, ran)


def check(bandit, rule, ran, runs=10, steps=200):
    at = np.array([1, 2, 3, 7, 50, 199, 200])
    found = simulate(bandit, rule, runs=runs, steps=steps, at=at, seed=5)
    assert ran("bandit") == 1
    assert np.array_equal(found.pulls, by_definition(bandit, rule, runs, steps, at, OneEach(5, runs)))


def test_results_do_not_depend_on_the_number_of_threads(monkeypatch):
    found = []
    for count in ("1", "2", "3"):
        monkeypatch.setenv("LOGITHERM_NUM_THREADS", count)
        found.append(simulate(BERNOULLI, Thompson(), runs=100, steps=2000, seed=1).pulls)
    assert np.array_equal(found[0], found[1]) and np.array_equal(found[0], found[2])


def test_a_run_depends_on_its_own_seed_alone():
    few, more = (simulate(BERNOULLI, BoltzmannGumbel(0.5), runs=runs, steps=300, seed=2).pulls for runs in (3, 9))
    assert np.array_equal(few, more[:3])
    assert len(np.unique(more[:, -1], axis=0)) > 3


def test_extreme_rewards_leave_no_nan():
    bandit = GaussianBandit((1e300, -1e300, 0.0), deviation=1e290)
    for rule in (Boltzmann(1e-300), Boltzmann(1.0), BoltzmannGumbel(1.0), UCB1()):
        pulls = simulate(bandit, rule, runs=2, steps=50, at=(50,)).pulls
        assert pulls[:, 0].tolist() == [[48, 1, 1]] * 2
