"""How much of what one model does to another is a temperature."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from logitherm import effective_temperature
from logitherm.gauge import thermal_share

RNG = np.random.default_rng(0)
Z = 2 * RNG.normal(size=(300, 6))
OTHER = Z + RNG.normal(size=Z.shape)


@settings(max_examples=20)
@given(st.floats(-2, 2), st.floats(-2, 2), st.integers(0, 2**32 - 1))
def test_the_angle_is_blind_to_temperature_and_offsets_and_the_rest_follows(log_a, log_b, seed):
    offset = 10 * np.random.default_rng(seed).normal(size=(300, 1))
    a, b = 10.0**log_a, 10.0**log_b
    plain, moved = thermal_share(Z, OTHER), thermal_share(a * Z + offset, b * OTHER - offset)
    assert moved.angle == pytest.approx(plain.angle, abs=1e-6)
    alone = thermal_share(a * Z, b * Z + offset)
    assert alone.temperature == pytest.approx(a / b, rel=1e-6)
    assert alone.angle == pytest.approx(0, abs=1e-5)


def test_it_agrees_with_the_thermometer():
    weights = RNG.uniform(size=300)
    found, known = (f(Z, OTHER, weights=weights) for f in (thermal_share, effective_temperature))
    assert found.temperature == known.temperature and found.share == known.share
    assert (found.divergence_before, found.divergence_after) == (known.divergence_before, known.divergence_after)
    assert 0 < found.share < 1 and (found.n, found.classes, found.at_bound) == (300, 6, None)


def test_the_angle_by_its_definition():
    weights = RNG.integers(0, 3, size=300)
    a, b = (np.repeat(z - z.mean(axis=1, keepdims=True), weights, axis=0).ravel() for z in (Z, OTHER))
    cosine = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    assert thermal_share(Z, OTHER, weights=weights).angle == pytest.approx(math.degrees(math.acos(cosine)), rel=1e-9)


def test_ends_of_the_angle():
    assert thermal_share(Z, -Z).angle == pytest.approx(180)
    assert thermal_share(Z, -Z).at_bound == "infinite"
    flat = thermal_share(Z, np.full(Z.shape, 0.1))
    assert math.isnan(flat.angle) and flat.temperature == math.inf and flat.share == pytest.approx(1)
    same = thermal_share(Z, Z)
    assert same.angle == 0 and math.isnan(same.share)
    assert json.loads(json.dumps(flat.to_dict()))["temperature"] is None


def test_forbidden_states_are_left_out_of_the_angle():
    masked = np.concatenate([Z, np.full((300, 1), -math.inf)], axis=1)
    target = np.concatenate([OTHER, np.full((300, 1), -math.inf)], axis=1)
    assert thermal_share(masked, target).angle == pytest.approx(thermal_share(Z, OTHER).angle, rel=1e-12)
    wider = np.concatenate([Z, np.zeros((300, 1))], axis=1)
    assert thermal_share(wider, target).angle == pytest.approx(thermal_share(Z, OTHER).angle, rel=1e-12)


def test_other_libraries_axes_and_batches():
    z, other = (x.T.reshape(6, 100, 3) for x in (Z, OTHER))
    found = thermal_share(torch.tensor(z, dtype=torch.float32), torch.tensor(other, dtype=torch.float32), axis=0)
    expected = thermal_share(Z, OTHER)
    assert found.angle == pytest.approx(expected.angle, rel=1e-5)
    assert found.temperature == pytest.approx(expected.temperature, rel=1e-5)


def test_what_is_refused():
    with pytest.raises(ValueError, match="target: must have the shape of source"):
        thermal_share(Z, OTHER[:10])
    with pytest.raises(TypeError, match="source: must be floating point"):
        thermal_share(Z.astype(int), OTHER)
