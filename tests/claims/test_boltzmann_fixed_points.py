"""Said by Asadi and Littman (2017): the mean under softmax(q / T) is no non-expansion, so that planning with it may
have several answers; mellowmax has one."""

import numpy as np
import pytest

from logitherm import free_energy, mean_energy

REWARDS, STAYS, DISCOUNT = np.array([0.122, 0.033]), np.array([0.66, 0.99]), 0.98  # their figure 1


def boltzmann(q, inverse_temperature):
    return -mean_energy(q, 1 / inverse_temperature)


def mellowmax(q, inverse_temperature):
    t = 1 / inverse_temperature
    return -free_energy(q, t) - t * np.log(q.shape[-1])


def backup(value, operator, inverse_temperature):
    """One step of value iteration: of the first state's value; the other state is the end."""
    return operator(REWARDS + DISCOUNT * STAYS * np.asarray(value)[..., None], inverse_temperature)


def fixed_points(operator, inverse_temperature):
    grid = np.linspace(0, 1.2, 6001)
    rise = backup(grid, operator, inverse_temperature) - grid
    at = np.flatnonzero(np.sign(rise[1:]) != np.sign(rise[:-1]))
    return grid[at] - rise[at] * (grid[1] - grid[0]) / (rise[at + 1] - rise[at])


def test_boltzmann_has_three():
    assert fixed_points(boltzmann, 16.9) == pytest.approx([0.5852, 0.7585, 0.8376], abs=5e-5)


def test_where_planning_starts_decides_where_it_ends():
    values = np.array([0.0, 1.1])
    for _ in range(3000):
        values = backup(values, boltzmann, 16.9)
    assert values == pytest.approx([0.5852, 0.8376], abs=5e-4)


@pytest.mark.parametrize("inverse_temperature", [1, 10, 16, 16.55, 16.9, 17, 18, 30, 100])
def test_mellowmax_has_one(inverse_temperature):
    assert len(fixed_points(mellowmax, inverse_temperature)) == 1


def test_the_temperature_that_the_paper_names_has_one():
    """16.55 is said of SARSA; planning has three fixed points nearby, not there."""
    assert [len(fixed_points(boltzmann, b)) for b in (16.0, 16.55, 16.9, 17.0, 18.0)] == [1, 1, 3, 3, 1]
