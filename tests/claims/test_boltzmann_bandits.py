"""Said by Cesa-Bianchi et al. (2017): one temperature for all arms, however it cools, explores too much or gives up on
the best arm; one for every arm, as large as the doubt about it, does neither."""

import math

import numpy as np
import pytest

from logitherm.exploration import BernoulliBandit, Boltzmann, BoltzmannGumbel, simulate
from logitherm.thermostat import LogarithmicSchedule

BANDIT = BernoulliBandit((0.6,) + (0.5,) * 9)
GAP = 0.1


@pytest.fixture(scope="module", name="found")
def found_():
    rules = {
        "hot": Boltzmann(0.1),
        "cold": Boltzmann(0.02),
        "cooling": Boltzmann(LogarithmicSchedule(GAP / math.log(2))),
        "every arm its own": BoltzmannGumbel(0.5),
    }
    return {
        name: simulate(BANDIT, rule, runs=150, steps=10_000, at=(1000, 10_000), seed=1) for name, rule in rules.items()
    }


def test_a_hot_policy_never_stops_to_explore(found):
    """Regret grows as fast as the steps: once means are known its rate is that of softmax(means / T)."""
    rate = np.diff(found["hot"].regret)[0] / 9000
    share = math.e / (math.e + 9)
    assert rate == pytest.approx(GAP * (1 - share), rel=0.03)


def test_cold_and_cooling_policies_give_up_on_the_best_arm_in_many_runs(found):
    for name in ("cold", "cooling"):
        late = np.diff(found[name].pulls[:, :, 0], axis=1)[:, 0] / 9000
        assert 0.1 < (late < 0.1).mean() < 0.9, name
    late = np.diff(found["every arm its own"].pulls[:, :, 0], axis=1)[:, 0] / 9000
    assert (late < 0.1).sum() == 0


def test_a_temperature_for_every_arm_gains_in_the_long_run(found):
    low, high = (found[name].interval(0.99)[:, 1] for name in ("every arm its own", "cooling"))
    assert low[1] < high[0]
    growth = {name: s.regret[1] / s.regret[0] for name, s in found.items()}
    assert growth["every arm its own"] < 6 < min(growth["hot"], growth["cold"], growth["cooling"])
