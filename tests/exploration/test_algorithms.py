"""Rules for one run: what they choose, and the agent that uses them."""

import math

import numpy as np
import pytest

from logitherm.exploration import UCB1, BanditAgent, Boltzmann, BoltzmannGumbel, EpsilonGreedy, Thompson
from logitherm.exploration.algorithms import Record
from logitherm.gibbs import softmax
from logitherm.thermostat import LinearSchedule

RULES = [Boltzmann(0.1), EpsilonGreedy(0.1), BoltzmannGumbel(0.5), UCB1(), Thompson(), Thompson(deviation=0.5)]


def seen(counts, means):
    record = Record(len(counts))
    record.counts, record.sums = np.array(counts, float), np.array(counts) * np.array(means, float)
    record.step = int(sum(counts))
    return record


def shares(rule, record, rng, n=20_000):
    """How often each arm is chosen."""
    many = Record(len(record.counts), (n,))
    many.counts, many.sums = (np.broadcast_to(v, (n, len(v))) for v in (record.counts, record.sums))
    many.step = record.step
    return np.bincount(rule.choose(many, rng), minlength=len(record.counts)) / n


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_an_agent_finds_the_better_arm(rule, rng):
    agent = BanditAgent(rule, arms=3)
    chosen = []
    for _ in range(300):
        arm = agent.choose(rng)
        assert isinstance(arm, int)
        agent.update(arm, float(rng.random() < (0.1, 0.9, 0.1)[arm]))
        chosen.append(arm)
    assert agent.counts.sum() == 300 and agent.counts.argmax() == 1
    assert np.allclose(agent.means, agent.sums / np.maximum(agent.counts, 1))
    if rule.tries_each:
        assert chosen[:3] == [0, 1, 2]


def test_boltzmann_is_softmax_of_the_means(rng):
    record = seen([5, 9, 2], [0.5, 0.6, 0.3])
    p = softmax(np.array([0.5, 0.6, 0.3]), 0.1)
    assert np.abs(shares(Boltzmann(0.1), record, rng) - p).max() < 0.015
    warm = Boltzmann(LinearSchedule(1.0, 0.1, steps=16))  # 16 pulls were made
    assert np.abs(shares(warm, record, rng) - p).max() < 0.015


def test_equal_counts_make_gumbel_noise_a_softmax(rng):
    """T = C / sqrt(N), as Gumbel noise on logits is a draw from their softmax."""
    p = softmax(np.array([0.5, 0.6, 0.3]), 0.5 / 4)
    assert np.abs(shares(BoltzmannGumbel(0.5), seen([16] * 3, [0.5, 0.6, 0.3]), rng) - p).max() < 0.015


def test_ties_are_shared(rng):
    for rule in (Boltzmann(0), EpsilonGreedy(0.0), UCB1()):
        found = shares(rule, seen([4] * 3, [0.5, 0.5, 0.25]), rng)
        assert np.abs(found - [0.5, 0.5, 0]).max() < 0.015


def test_epsilon_is_the_share_of_blind_pulls(rng):
    found = shares(EpsilonGreedy(0.3), seen([5, 5, 5], [0.5, 0.6, 0.3]), rng)
    assert np.abs(found - [0.1, 0.8, 0.1]).max() < 0.015


def test_ucb_is_its_formula(rng):
    counts, means = [50, 20, 30], [0.5, 0.4, 0.45]
    index = np.array(means) + np.sqrt(2 * math.log(100) / np.array(counts))
    assert UCB1().choose(seen(counts, means), rng) == index.argmax() == 1


def test_beliefs_narrow(rng):
    """The share of the worse arm is the probability that its belief exceeds the other's: normal, of the difference."""
    found = shares(Thompson(deviation=1.0), seen([50, 50], [0.1, 0.0]), rng)
    assert found[1] == pytest.approx(0.5 * math.erfc(0.1 / math.sqrt(2 / 50) / math.sqrt(2)), abs=0.015)
    n = 400
    found = shares(Thompson(), seen([n, n], [0.52, 0.5]), rng)
    error = math.sqrt(2 * 0.25 / n)
    assert found[1] == pytest.approx(0.5 * math.erfc(0.02 / error / math.sqrt(2)), abs=0.02)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Boltzmann(-1.0), r"temperature: must lie in \[0, inf\]; got -1.0"),
        (lambda: EpsilonGreedy(1.5), r"epsilon: must be a number in \[0, 1\]; got float 1.5"),
        (lambda: BoltzmannGumbel(-0.5), "c: must be a number finite and at least 0"),
        (lambda: UCB1(math.nan), "width: must be a number finite"),
        (lambda: Thompson(deviation=math.inf), "deviation: must be a number finite"),
        (lambda: BanditAgent(UCB1(), arms=0), "arms: must be at least 1; got 0"),
        (lambda: BanditAgent(UCB1(), arms=2).update(2, 1.0), r"arm: must lie in \[0, 2\); got 2"),
        (lambda: BanditAgent(UCB1(), arms=2).update(0, math.nan), "reward: must be finite; got nan"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
