"""The temperature of one model against another."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import logitherm
from logitherm import effective_temperature

Z = 2 * np.random.default_rng(0).normal(size=(400, 7))


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5, 20.0])
def test_a_model_that_differs_by_a_temperature_alone(temperature):
    found = effective_temperature(Z * temperature, Z)
    assert found.temperature == pytest.approx(temperature, rel=1e-6)
    assert found.divergence_after == pytest.approx(0, abs=1e-12)
    assert np.isnan(found.share) if temperature == 1 else found.share == pytest.approx(1, abs=1e-9)
    json.dumps(found.to_dict(), allow_nan=False)


def test_it_minimises_the_divergence_and_is_directional():
    other = Z + np.random.default_rng(1).normal(size=Z.shape)
    found = effective_temperature(other, Z)

    def divergence(t):
        p, log_p = logitherm.softmax(Z), logitherm.log_softmax(Z)
        return float((p * (log_p - logitherm.log_softmax(other, t))).sum(axis=1).mean())

    assert found.divergence_before == pytest.approx(divergence(1.0))
    assert found.divergence_after == pytest.approx(divergence(found.temperature))
    assert divergence(found.temperature) < min(divergence(found.temperature * f) for f in (0.98, 1.02))
    assert 0 < found.share < 1
    assert effective_temperature(Z, other).temperature != pytest.approx(1 / found.temperature, rel=0.05)


def test_weights_torch_and_bounds():
    other = Z + np.random.default_rng(1).normal(size=Z.shape)
    weights = np.random.default_rng(2).integers(0, 3, len(Z))
    weighted = effective_temperature(other, Z, weights=weights)
    repeated = effective_temperature(np.repeat(other, weights, axis=0), np.repeat(Z, weights, axis=0))
    assert weighted.temperature == pytest.approx(repeated.temperature, rel=1e-6)
    tensors = effective_temperature(torch.from_numpy(other), torch.from_numpy(Z))
    assert tensors == effective_temperature(other, Z)
    assert effective_temperature(Z, np.zeros_like(Z)).at_bound == "infinite"
    assert effective_temperature(Z, 1e9 * Z).at_bound == "zero"


def test_errors():
    with pytest.raises(ValueError, match="target: must have the shape of source"):
        effective_temperature(Z, Z[:5])
    forbidden = Z.copy()
    forbidden[3, 2] = -np.inf
    with pytest.raises(ValueError, match="1 of 400 rows"):
        effective_temperature(forbidden, Z)
    assert effective_temperature(Z, forbidden).temperature > 0
