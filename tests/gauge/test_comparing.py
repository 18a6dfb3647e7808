"""Two heads once their gauge is fixed."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from logitherm.gauge import Head, head_difference, same_head
from logitherm.gauge.comparing import angle

RNG = np.random.default_rng(0)
W, B = RNG.normal(size=(4, 6)), RNG.normal(size=4)


@given(st.floats(-3, 3), st.floats(-3, 3))
def test_a_temperature_is_found_in_any_gauge(log_t, log_c):
    t, c = 10.0**log_t, 10.0**log_c
    found = head_difference(Head(W, B), Head(c * W + 7, c * B - 3, c * t))
    assert found.temperature == pytest.approx(t, rel=1e-9)
    assert found.weight_angle <= 1e-6 and found.bias_angle <= 1e-6
    assert found.largest_at_norm <= 1e-9
    assert found.largest == pytest.approx(max(1 - t, 1 - 1 / t), abs=1e-9)


def test_exchange():
    other = Head(2 * W + RNG.normal(size=W.shape), B, 3.0)
    there, back = head_difference(Head(W, B), other), head_difference(other, Head(W, B))
    assert there.temperature * back.temperature == pytest.approx(1, rel=1e-12)
    assert there.weight_angle == pytest.approx(back.weight_angle) and 5 < there.weight_angle < 90
    assert there.largest == back.largest


def test_the_weights_may_turn_while_the_bias_does_not():
    found = head_difference(Head(W, B), Head(-W, B))
    assert found.weight_angle == pytest.approx(180) and found.bias_angle == 0
    assert not same_head(Head(W, B), Head(-W, B), up_to_temperature=True)


def test_a_bias_that_does_not_scale_is_no_temperature():
    assert same_head(Head(W, B), Head(3 * W, 3 * B), up_to_temperature=True)
    assert not same_head(Head(W, B), Head(3 * W, B), up_to_temperature=True)


def test_heads_without_direction():
    flat = head_difference(Head(0 * W), Head(0 * W, B))
    assert math.isnan(flat.temperature) and math.isnan(flat.weight_angle) and math.isnan(flat.largest_at_norm)
    assert head_difference(Head(W), Head(0 * W)).temperature == math.inf
    assert same_head(Head(0 * W), Head(0 * W + 0.1)) and not same_head(Head(0 * W), Head(0 * W, B))
    assert json.loads(json.dumps(flat.to_dict()))["temperature"] is None


def test_rounding_of_float32_is_no_difference():
    layer = torch.nn.Linear(6, 4)
    again = Head((layer.weight * 3).detach(), (layer.bias * 3).detach(), 3.0)
    assert same_head(layer, again) and not same_head(layer, again, tolerance=0)


def test_angles_near_their_ends():
    u = np.array([1.0, 0.0])
    assert angle(u, np.array([1.0, 1e-9])) == pytest.approx(math.degrees(1e-9), rel=1e-6)
    assert angle(u, np.array([0.0, 5e300])) == pytest.approx(90)
    assert angle(u, -1e-300 * u) == 180
    assert math.isnan(angle(u, 0 * u))


def test_what_is_refused():
    with pytest.raises(ValueError, match=r"second: must have the classes and features of first \(4, 6\); got \(4, 5\)"):
        head_difference(Head(W), Head(W[:, :5]))
    with pytest.raises(ValueError, match="tolerance: must be at least 0; got nan"):
        same_head(Head(W), Head(W), tolerance=math.nan)
