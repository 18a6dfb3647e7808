"""Many runs of a rule: what is counted, the regret that an independent script found, and errors."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from logitherm.exploration import (
    UCB1,
    BanditAgent,
    BernoulliBandit,
    Boltzmann,
    BoltzmannGumbel,
    EpsilonGreedy,
    GaussianBandit,
    Thompson,
    simulate,
)
from logitherm.thermostat import LogarithmicSchedule, PowerSchedule, SetPoint

BANDIT = BernoulliBandit((0.6,) + (0.5,) * 9)
REPORTED = {  # regret after 1000 and 10 000 steps of 500 runs, by a script that shares no code with this library
    Boltzmann(0.1): (76.8, 756),
    Boltzmann(0.02): (66.5, 562),
    Boltzmann(LogarithmicSchedule(0.1 / math.log(2))): (64.4, 569),
    Boltzmann(PowerSchedule(1.0)): (63.9, 406),
    BoltzmannGumbel(0.5): (77.0, 346),
    BoltzmannGumbel(1.0): (84.8, 623),
    UCB1(): (83.3, 591),
    Thompson(): (64.3, 165),
}


@pytest.mark.parametrize("rule", REPORTED, ids=str)
def test_regret_is_that_of_an_independent_script(rule):
    found = simulate(BANDIT, rule, runs=150, steps=10_000, at=(1000, 10_000), seed=0)
    half = (found.interval(0.999)[1] - found.regret) * math.sqrt(1.3)  # theirs are 500 runs
    assert np.all(np.abs(found.regret - REPORTED[rule]) < half + 0.5)


@given(runs=st.integers(1, 4), steps=st.integers(1, 40), arms=st.integers(1, 5), seed=st.integers(0, 99))
def test_every_step_is_one_pull(runs, steps, arms, seed):
    bandit = BernoulliBandit(np.linspace(0.2, 0.8, arms))
    for rule in (Boltzmann(0.1), Thompson()):
        for method in ("compiled", "numpy"):
            found = simulate(bandit, rule, runs=runs, steps=steps, seed=seed, method=method)
            assert found.pulls.shape == (runs, len(found.at), arms)
            assert np.all(found.pulls.sum(-1) == found.at)
            assert np.all(np.diff(found.pulls, axis=1) >= 0)
            assert found.at[0] == 1 and found.at[-1] == steps


def test_regret_counts_gaps():
    found = simulate(BANDIT, UCB1(), runs=20, steps=100, at=(10, 100), seed=0)
    assert np.allclose(found.regrets, 0.1 * (found.at - found.pulls[..., 0]))
    assert np.allclose(found.regret[0], 0.9)  # each arm was pulled once
    low, high = found.interval()
    assert np.allclose((low + high) / 2, found.regret) and high[1] > low[1]
    half = 1.959964 * found.regrets[:, 1].std(ddof=1) / math.sqrt(20)
    assert (high - low)[1] == pytest.approx(2 * half, rel=1e-6)
    assert np.isnan(simulate(BANDIT, UCB1(), runs=1, steps=10).interval()).all()


def test_a_hot_policy_is_a_blind_one():
    found = simulate(BANDIT, Boltzmann(math.inf), runs=200, steps=1000, at=(1000,), seed=0)
    low, high = found.interval(0.999)
    assert low[0] < 90 < high[0]


def test_temperatures_that_the_kernel_does_not_know(ran):
    """A set point is solved at every step: rewards apart by more than chance change nothing about the entropy."""
    held = Boltzmann(SetPoint(entropy=0.5 * math.log(2)))
    found = simulate(GaussianBandit((1.0, 0.0), 0.1), held, runs=50, steps=200, at=(200,), seed=0)
    assert ran("bandit") == 0
    p = 0.110028  # -p log p - (1-p) log(1-p) = log(2) / 2
    assert found.pulls[:, 0, 1].mean() / 200 == pytest.approx(p, abs=0.01)


def test_a_rule_of_ones_own(ran):
    class First:
        tries_each = False

        def choose(self, seen, generator):
            return np.zeros(seen.counts.shape[:-1], int)

    assert simulate(BANDIT, First(), runs=3, steps=10, at=(10,)).pulls[:, 0, 0].tolist() == [10] * 3
    assert ran("bandit") == 0
    with pytest.raises(ValueError, match="method: must be 'auto', 'numpy' or, for rules it knows, 'compiled'"):
        simulate(BANDIT, First(), method="compiled")


def test_both_routes_have_one_law():
    for rule in (Boltzmann(0.1), BoltzmannGumbel(0.5), Thompson(), EpsilonGreedy(0.1)):
        one, other = (
            simulate(BANDIT, rule, runs=500, steps=300, at=(300,), seed=3, method=method)
            for method in ("compiled", "numpy")
        )
        errors = [s.regrets.std(ddof=1) / math.sqrt(500) for s in (one, other)]
        assert abs(one.regret[0] - other.regret[0]) < 4 * math.hypot(*errors)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: BernoulliBandit((0.5, 1.5)), r"means: must be probabilities in \[0, 1\]; got 0.5 to 1.5"),
        (lambda: BernoulliBandit(()), "means: must be finite numbers, one an arm"),
        (lambda: GaussianBandit((0.5, math.nan)), "means: must be finite numbers"),
        (lambda: GaussianBandit((0.5,), -1.0), "deviation: must be finite and at least 0; got -1.0"),
        (lambda: simulate(BANDIT, UCB1(), runs=0), "runs, steps: must be whole numbers of at least 1; got 0, 1000"),
        (lambda: simulate(BANDIT, UCB1(), at=(10, 5)), "at: must increase within 1 to 1000"),
        (lambda: simulate(BANDIT, UCB1(), at=(2000,)), "at: must increase within 1 to 1000"),
        (lambda: simulate(BANDIT, UCB1(), at=(0.5,)), "at: must be whole numbers"),
        (lambda: simulate(BANDIT, UCB1(), method="fast"), "method: must be"),
        (lambda: simulate(GaussianBandit((0.0,)), Thompson()), r"algorithm: Thompson\(\) is for rewards 0 and 1"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_what_is_no_rule_no_bandit_no_generator():
    bandit = BernoulliBandit((0.6, 0.5))
    for rule in (UCB1, "UCB1"):
        with pytest.raises(TypeError, match=r"algorithm: must be a rule such as UCB1\(\)"):
            simulate(bandit, rule)
    with pytest.raises(TypeError, match="bandit: must be a BernoulliBandit or GaussianBandit; got tuple"):
        simulate((0.6, 0.5), UCB1())
    with pytest.raises(ValueError, match=r"runs, steps: must be whole numbers of at least 1; got 1\.5, 1000"):
        simulate(bandit, UCB1(), runs=1.5)
    agent = BanditAgent(Thompson(), 2)
    with pytest.raises(TypeError, match=r"generator: must be a numpy.random.Generator; got int 0"):
        agent.choose(0)
    with pytest.raises(ValueError, match="reward: must be 0 or 1 for Thompson"):
        agent.update(0, 5.0)
