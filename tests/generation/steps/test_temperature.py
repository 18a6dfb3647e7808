"""The temperature as a step: shifted first, both limits exact, any kind of Temperature."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import logitherm
from logitherm.calibration import TemperatureScaling
from logitherm.generation import Pipeline, Temperature, TopP
from logitherm.thermostat import LinearSchedule, PerGroup, SetPoint

INF = math.inf


@given(
    z=st.lists(st.floats(-1e4, 1e4), min_size=2, max_size=8),
    t=st.one_of(st.floats(1e-3, 1e3), st.sampled_from([0.0, 1e-300, 1e300, INF])),
)
def test_it_is_the_softmax_of_the_library(z, t):
    ours = Pipeline([Temperature(t)]).probabilities(np.array([z]))
    assert np.allclose(ours, logitherm.softmax(np.array([z]), t), rtol=1e-12, atol=1e-300)


@pytest.mark.parametrize("route", ["kernels", "reference"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("t", [1e-45, 1e-40, 1e-30, 1e-4])
def test_any_temperature_above_zero_is_finite(dtype, t, route):
    """x / T - max would overflow to NaN; no engine's smallest temperature is needed."""
    z = np.array([[10.0, -10.0, 9.0, -INF]], dtype)
    drawn = Pipeline([Temperature(t)]).sample(z, seed=0, position=0, route=route)
    assert drawn.token.tolist() == [0]
    assert drawn.log_probability.tolist() == [0.0]


@pytest.mark.parametrize("route", ["kernels", "reference"])
def test_zero_is_greedy_with_ties_alike_and_not_uniform(route):
    """A scale of 1 / T = 0 would make T = 0 uniform, and NaN of forbidden states."""
    z = np.array([[1.0, 3.0, 3.0, -INF, 2.0]] * 400, np.float32)
    drawn = Pipeline([Temperature(0)]).sample(z, seed=0, position=0, route=route)
    assert set(drawn.token.tolist()) == {1, 2}
    assert abs((drawn.token == 1).mean() - 0.5) < 0.15
    assert np.allclose(drawn.log_probability, -math.log(2))
    assert drawn.kept.tolist() == [2] * 400


@pytest.mark.parametrize("route", ["kernels", "reference"])
def test_infinite_is_uniform_on_what_is_allowed(route):
    z = np.array([[1.0, 300.0, -300.0, -INF]] * 300)
    drawn = Pipeline([Temperature(INF)]).sample(z, seed=0, position=0, route=route)
    assert set(drawn.token.tolist()) == {0, 1, 2}
    assert np.allclose(drawn.log_probability, -math.log(3))
    beyond = Pipeline([Temperature(1e300)]).sample(z.astype(np.float32), seed=0, position=0, route=route)
    assert beyond.token.tolist() == drawn.token.tolist()
    kept = Pipeline([Temperature(INF), TopP(0.5)]).sample(z, seed=0, position=0, route=route).kept
    assert kept.tolist() == [3] * 300  # all tie, so that no one can be left out


@pytest.mark.parametrize("route", ["kernels", "reference"])
@pytest.mark.parametrize("bad", [-1.0, math.nan])
def test_a_bad_temperature_names_its_request(bad, route):
    z = np.zeros((3, 5))
    with pytest.raises(ValueError, match=rf"^temperature: must be in \[0, inf\]; request 0 has {bad:g}; 0 is greedy$"):
        Pipeline([Temperature(bad)]).sample(z, seed=0, position=0, route=route)
    t = np.array([1.0, 0.5, bad])
    with pytest.raises(ValueError, match=rf"request 2 has {bad:g}; 0 is greedy$"):
        Pipeline([Temperature(t)]).sample(z, seed=0, position=0, route=route)
    drawn = Pipeline([Temperature(t)]).sample(z, seed=5, position=0, on_error="row", route=route)
    fine = Pipeline([Temperature(np.array([1.0, 0.5, 1.0]))]).sample(z, seed=5, position=0, route=route)
    assert drawn.errors == {2: f"temperature: must be in [0, inf]; request 2 has {bad:g}; 0 is greedy"}
    assert drawn.token.tolist() == [*fine.token.tolist()[:2], -1]


def test_whatever_is_a_temperature(rng):
    z = rng.normal(size=(3, 50)) * 3
    per_row = np.array([0.5, 1.0, 2.0])
    for given_, step, expected in [
        (2, None, 2.0),
        (np.float32(0.5), None, 0.5),
        (per_row, None, per_row),
        (per_row.tolist(), None, per_row),
        (LinearSchedule(2.0, 1.0, steps=10), 5, 1.5),
        (PerGroup(np.array([0.5, 2.0]), np.array([0, 1, 1])), None, np.array([0.5, 2.0, 2.0])),
        (SetPoint(entropy=1.0), None, logitherm.solve_temperature(z, entropy=1.0)),
        (SetPoint(top_probability=0.4), None, logitherm.solve_temperature(z, top_probability=0.4)),
    ]:
        ours = Pipeline([Temperature(given_)]).probabilities(z, step=step)
        assert np.allclose(ours, logitherm.softmax(z, expected), rtol=1e-9)
        drawn = Pipeline([Temperature(given_)]).sample(z, seed=0, position=0, step=step)
        at = np.log(logitherm.softmax(z, expected))[np.arange(3), drawn.token]
        assert np.allclose(drawn.log_probability, at, rtol=1e-9)


def test_a_fitted_calibrator_goes_wherever_a_temperature_does(rng):
    """A model that is twice too sure is sampled as honestly as it was fitted."""
    z = rng.normal(size=(4000, 6)) * 2
    labels = (z / 2 + rng.gumbel(size=z.shape)).argmax(-1)
    fitted = TemperatureScaling().fit(z, labels)
    pipeline = Pipeline([Temperature(fitted), TopP(0.9)])
    assert abs(fitted.temperature_ - 2) < 0.2
    assert np.array_equal(
        pipeline.probabilities(z), Pipeline([Temperature(fitted.temperature_), TopP(0.9)]).probabilities(z)
    )
    drawn = pipeline.sample(z[:64], seed=0, position=0)
    assert drawn.token.tolist() == pipeline.sample(z[:64], seed=0, position=0, route="kernels").token.tolist()


def test_a_row_of_a_set_point_is_held_after_an_error(rng):
    """Temperatures that know their batch have their own entry when others fail."""
    z = rng.normal(size=(3, 40)) * 3
    bad = z.copy()
    bad[1, 4] = math.nan
    for t in (SetPoint(entropy=np.array([0.5, 1.0, 2.0])), PerGroup(np.array([0.5, 2.0]), np.array([0, 1, 1]))):
        pipeline = Pipeline([Temperature(t)])
        whole = pipeline.sample(z, seed=0, position=0)
        drawn = pipeline.sample(bad, seed=0, position=0, on_error="row")
        assert list(drawn.errors) == [1]
        assert drawn.token[[0, 2]].tolist() == whole.token[[0, 2]].tolist()
        assert np.allclose(drawn.log_probability[[0, 2]], whole.log_probability[[0, 2]], rtol=1e-9)


def test_gradients_flow_through_a_learned_temperature(rng):
    torch = pytest.importorskip("torch")
    z = torch.as_tensor(rng.normal(size=(2, 5)))
    t = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    Pipeline([Temperature(t)]).probabilities(z)[:, 0].sum().backward()
    h = 1e-6
    up, down = (Pipeline([Temperature(0.7 + d)]).probabilities(z)[:, 0].sum() for d in (h, -h))
    assert float(t.grad) == pytest.approx(float(up - down) / (2 * h), rel=1e-6)
