"""Temperatures of groups: apart where they differ, together where they do not, shrunk in between."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from logitherm import TemperatureScaling, fit_temperature, softmax
from logitherm.calibration.group import GroupTemperatureScaling


def simulated(sizes, temperatures, seed=0):
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(len(sizes)), sizes)
    z = 2 * rng.normal(size=(len(groups), 4))
    labels = (z + rng.gumbel(size=z.shape)).argmax(axis=1)
    order = rng.permutation(len(groups))
    return (z * np.asarray(temperatures)[groups][:, None])[order], labels[order], groups[order]


def test_large_groups_have_their_own_temperature():
    z, y, groups = simulated([4000, 4000, 4000], [1.0, 2.0, 4.0])
    found = GroupTemperatureScaling().fit(z, y, groups=groups)
    assert found.p_value_ < 1e-50 and found.deviation_ > 0.3
    for g in range(3):
        own = fit_temperature(z[groups == g], y[groups == g])
        assert found.temperatures_[g] == pytest.approx(own.temperature, rel=0.3 * own.standard_error / own.temperature)
        assert found.errors_[g] == pytest.approx(own.standard_error / own.temperature, rel=0.05)
    np.testing.assert_allclose(
        found.predict_proba(z, groups), softmax(z, found.temperatures_[groups]), rtol=1e-12, atol=1e-300
    )


def test_groups_that_do_not_differ_share_one():
    z, y, groups = simulated([300] * 10, [1.7] * 10, seed=3)
    found = GroupTemperatureScaling().fit(z, y, groups=groups)
    assert found.p_value_ > 0.05 and found.deviation_ < 0.1
    assert np.ptp(found.temperatures_) < 0.2


def test_p_values_are_uniform_where_groups_do_not_differ():
    p = [
        GroupTemperatureScaling().fit(z, y, groups=groups).p_value_
        for z, y, groups in (simulated([150] * 4, [1.5] * 4, seed=seed) for seed in range(100))
    ]
    assert abs(np.mean(np.array(p) < 0.2) - 0.2) < 4 * math.sqrt(0.2 * 0.8 / 100)


def test_shrinking_brings_small_groups_nearer_the_truth():
    rng = np.random.default_rng(0)
    shrunk, alone, together = [], [], []
    for seed in range(15):
        truth = 1.5 * np.exp(rng.normal(0, 0.3, 12))
        z, y, groups = simulated([40] * 12, truth, seed=seed)
        found = GroupTemperatureScaling().fit(z, y, groups=groups)
        own = [fit_temperature(z[groups == g], y[groups == g]).temperature for g in range(12)]
        for errors, t in (
            (shrunk, found.temperatures_),
            (alone, np.clip(own, 1e-2, 1e2)),
            (together, found.temperature_),
        ):
            errors.append(np.mean(np.log(t / truth) ** 2))
    assert np.mean(shrunk) < min(np.mean(alone), np.mean(together))


def test_a_group_of_nothing_but_right_answers_is_colder_not_frozen():
    z, y, groups = simulated([2000, 2000, 30], [1.0, 2.5, 1.5])
    y = np.where(groups == 2, z.argmax(axis=1), y)
    found = GroupTemperatureScaling().fit(z, y, groups=groups)
    assert 0 < found.temperatures_[2] < found.temperature_


def test_unknown_groups_and_none_have_the_common_temperature():
    z, y, groups = simulated([500, 500], [1.0, 3.0])
    names = np.array(["b", "a"])[groups]
    found = GroupTemperatureScaling().fit(z, y, groups=names)
    assert found.groups_.tolist() == ["a", "b"]
    np.testing.assert_array_equal(found.predict_proba(z), found.predict_proba(z, np.full(1000, "new")))
    np.testing.assert_array_equal(found.predict(z), z.argmax(axis=1))
    assert isinstance(found.predict_proba(torch.from_numpy(z), names), torch.Tensor)


def test_without_groups_it_is_temperature_scaling():
    z, y, _ = simulated([500], [1.8])
    found = GroupTemperatureScaling().fit(z, y)
    assert found.temperature_ == TemperatureScaling().fit(z, y).temperature_ and found.p_value_ is None


@pytest.mark.parametrize("names", [["x", "y"], [3, 7]])
def test_files(tmp_path, names):
    z, y, groups = simulated([400, 400], [1.0, 3.0])
    named = np.array(names)[groups]
    found = GroupTemperatureScaling().fit(z, y, groups=named)
    found.save(tmp_path / "c.json")
    back = GroupTemperatureScaling.load(tmp_path / "c.json")
    np.testing.assert_array_equal(back.predict_proba(z, named), found.predict_proba(z, named))
    assert (back.p_value_, back.deviation_) == (found.p_value_, found.deviation_)


def test_errors():
    z, y, groups = simulated([50, 50], [1.0, 2.0])
    with pytest.raises(ValueError, match=r"groups: must have one entry a row, shape \(100,\)"):
        GroupTemperatureScaling().fit(z, y, groups=groups[:-1])
    with pytest.raises(TypeError, match=r"groups: must be integers or strings; got shape \(100,\), float64"):
        GroupTemperatureScaling().fit(z, y, groups=groups.astype(float))


def test_errors_of_groups_that_do_not_differ_are_those_of_the_common_temperature():
    rng = np.random.default_rng(0)
    z = 2 * rng.normal(size=(3000, 4))
    labels = (z + rng.gumbel(size=z.shape)).argmax(axis=1)
    pooled = fit_temperature(2 * z, labels)
    due = pooled.sandwich_error / pooled.temperature
    for groups in (None, np.arange(3000) % 2):
        fitted = GroupTemperatureScaling().fit(2 * z, labels, groups=groups)
        if fitted.deviation_ == 0:
            np.testing.assert_allclose(fitted.errors_, due, rtol=1e-9)
        assert fitted.errors_.min() > 0.5 * due


def test_rows_that_are_left_out_keep_their_groups_from_the_others():
    rng = np.random.default_rng(0)
    z = 2 * rng.normal(size=(900, 4))
    labels = (z + rng.gumbel(size=z.shape)).argmax(axis=1)
    groups = np.arange(900) % 3
    mask = rng.random(900) < 0.7
    masked = GroupTemperatureScaling().fit(z, labels, groups=groups, mask=mask)
    kept = GroupTemperatureScaling().fit(z[mask], labels[mask], groups=groups[mask])
    np.testing.assert_array_equal(masked.temperatures_, kept.temperatures_)
