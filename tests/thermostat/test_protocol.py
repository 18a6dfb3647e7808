"""Everything that can be a temperature is one, by one method."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import logitherm
from logitherm.thermostat import PerGroup, SetPoint, Temperature

Z = np.random.default_rng(0).normal(size=(6, 4)) * 3


class Own:
    def resolve(self, logits, step=None):
        return np.full(logits.shape[:-1], 2.0)


@pytest.mark.parametrize(
    "temperature", [Own(), SetPoint(entropy=0.5), PerGroup(np.ones(2), np.array([0, 1, 0, 1, 0, 1]))]
)
def test_the_protocol(temperature):
    assert isinstance(temperature, Temperature)
    resolved = temperature.resolve(Z)
    for function in (logitherm.softmax, logitherm.log_softmax, logitherm.entropy, logitherm.free_energy):
        np.testing.assert_array_equal(function(Z, temperature), function(Z, resolved))
    state = logitherm.GibbsState.from_logits(Z, temperature)
    np.testing.assert_allclose(state.entropy(), logitherm.entropy(Z, resolved))
    assert logitherm.sample(Z, temperature, generator=0).shape == (6,)


def test_a_number_is_no_temperature_object_but_is_taken():
    assert not isinstance(1.0, Temperature)
    np.testing.assert_array_equal(logitherm.softmax(Z, 2), logitherm.softmax(Z, np.full(6, 2.0)))


@pytest.mark.parametrize("target", [{"entropy": 0.5}, {"top_probability": 0.6}, {"mean_energy": -1.0}])
def test_a_set_point_holds(target):
    t = SetPoint(**target).resolve(Z)
    np.testing.assert_array_equal(t, logitherm.solve_temperature(Z, **target, out_of_range="limit"))
    pooled = SetPoint(**target, pooled=True).resolve(Z)
    assert pooled.shape == ()


def test_one_temperature_a_group():
    groups = np.array([0, 1, 1, 0, 2, 2])
    table = np.array([0.5, 1.0, 4.0])
    np.testing.assert_array_equal(PerGroup(table, groups).resolve(Z), table[groups])
    learned = torch.tensor(table, requires_grad=True)
    entropy = logitherm.entropy(torch.from_numpy(Z), PerGroup(learned, torch.from_numpy(groups)))
    entropy.sum().backward()
    slope = logitherm.heat_capacity(Z, table[groups]) / table[groups]
    np.testing.assert_allclose(learned.grad, [slope[groups == g].sum() for g in range(3)])


@pytest.mark.parametrize(
    ("table", "groups", "error", "message"),
    [
        (np.ones(2), np.array([0.0, 1.0]), TypeError, "groups: must be integers"),
        (np.ones(2), np.array([0, 2]), ValueError, r"groups: must lie in \[0, 2\)"),
        (-np.ones(2), np.array([0, 1]), ValueError, r"temperature: must lie in \[0, inf\]"),
    ],
)
def test_errors_of_groups(table, groups, error, message):
    with pytest.raises(error, match=message):
        PerGroup(table, groups).resolve(np.zeros((2, 3)))


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({}, "give exactly one; got none"),
        ({"entropy": 0.5, "kl": 0.1}, r"give exactly one; got \['entropy', 'kl'\]"),
        ({"kl": 0.1}, "side: must be 'hot' or 'cold' with kl"),
        ({"entropy": 0.5, "out_of_range": "clip"}, "out_of_range: must be 'raise' or 'limit'; got 'clip'"),
    ],
)
def test_a_set_point_is_refused_when_it_is_made(options, rule):
    with pytest.raises(ValueError, match=rule):
        SetPoint(**options)
