"""Thermostats of tokens: their formulas, their limits, and what they hold."""

import math

import array_api_strict
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import logitherm
from logitherm.generation import (
    EDT,
    DynamicTemperature,
    MinP,
    Pipeline,
    RepetitionPenalty,
    SurpriseRate,
    Temperature,
    TopK,
    TopP,
    equal_entropy_temperature,
)
from logitherm.thermostat import SetPoint

INF = math.inf
ALL = [EDT(1.2, 0.5), DynamicTemperature(0.3, 1.7, 2.0), SurpriseRate(0.9)]
LOGITS = st.lists(st.one_of(st.floats(-20, 20), st.just(-INF)), min_size=3, max_size=9).filter(
    lambda z: sum(v > -INF for v in z) > 1
)


@given(z=LOGITS, temperature=st.floats(0.1, 2), theta=st.floats(0, 3), base=st.floats(0.1, 0.95))
def test_edt(z, temperature, theta, base):
    s = float(logitherm.entropy(np.array(z)))
    t = EDT(temperature, theta, base).resolve(np.array([z]))[0]
    assert 0 <= t <= temperature
    if s > 1e-3:
        assert t == pytest.approx(temperature * base ** (theta / s), rel=1e-9, abs=1e-12)


def test_limits_of_edt():
    z = np.array([[0.0, -INF], [0.0, -1e5], [0.0, 0.0]])
    assert EDT(1.0, 1.0).resolve(z).tolist() == [0, 0, pytest.approx(0.8 ** (1 / math.log(2)))]
    assert EDT(0.7, 0.0).resolve(z).tolist() == [0.7] * 3


@given(z=LOGITS, low=st.floats(0, 1), more=st.floats(0, 1), exponent=st.floats(0.2, 3))
def test_dynamic(z, low, more, exponent):
    s, n = float(logitherm.entropy(np.array(z))), sum(v > -INF for v in z)
    t = DynamicTemperature(low, low + more, exponent).resolve(np.array([z]))[0]
    assert t == pytest.approx(low + more * (s / math.log(n)) ** exponent, rel=1e-6, abs=1e-6)


def test_limits_of_dynamic():
    """One state, or a range that starts at 0, has no 0/0."""
    z = np.array([[3.0, -INF, -INF], [1.0, 1.0, -INF], [0.0, -1e5, -1e5]])
    assert DynamicTemperature(0.0, 2.0).resolve(z).tolist() == [0.0, 2.0, 0.0]
    assert DynamicTemperature(0.5, 0.5).resolve(z).tolist() == [0.5] * 3


def test_dynamic_is_of_the_row_and_not_of_the_batch(rng):
    z = rng.normal(size=(20, 50)) * rng.uniform(0.1, 5, (20, 1))
    for thermostat in ALL:
        whole = thermostat.resolve(z)
        assert np.array_equal(whole, [thermostat.resolve(z[i : i + 1])[0] for i in range(20)])


@given(z=LOGITS, nats=st.floats(0, 8), shift=st.sampled_from([0.0, 1e4]))
def test_surprise_rate(z, nats, shift):
    z = np.array(z)
    log_p = logitherm.log_softmax(z)
    finite = log_p[log_p > -INF]
    t = SurpriseRate(nats).resolve((z + shift)[None])[0]
    if nats <= -log_p.max():
        assert t == 0
    elif nats >= -finite.mean():
        assert t == INF
    elif -log_p.max() + 1e-3 < nats < -finite.mean() - 1e-3:
        p = logitherm.softmax(z, t)
        held = -float(np.sum(p[p > 0] * log_p[p > 0]))
        assert held == pytest.approx(nats, abs=1e-6 if shift else 1e-9)


def test_the_rate_of_the_model_itself_is_temperature_one(rng):
    z = rng.normal(size=(5, 100)) * 2
    assert np.allclose(SurpriseRate(logitherm.entropy(z)).resolve(z), 1.0, rtol=1e-9)


@pytest.mark.parametrize("thermostat", ALL, ids=lambda t: type(t).__name__)
def test_in_a_pipeline_on_every_route_and_library(thermostat, rng):
    torch = pytest.importorskip("torch")
    z = rng.normal(size=(4, 5000)) * 3
    assert isinstance(thermostat, logitherm.Temperature)
    for steps in ([Temperature(thermostat)], [TopK(40), Temperature(thermostat), TopP(0.9)]):
        ours, defined = (Pipeline(steps).sample(z, seed=0, position=0, route=r) for r in ("kernels", "reference"))
        assert ours.token.tolist() == defined.token.tolist()
        assert np.allclose(ours.log_probability, defined.log_probability, rtol=1e-7)
    t = thermostat.resolve(z)
    assert np.allclose(thermostat.resolve(torch.as_tensor(z)).numpy(), t, rtol=1e-9)
    assert np.allclose(
        np.asarray(thermostat.resolve(array_api_strict.asarray(z[:, :50]))), thermostat.resolve(z[:, :50])
    )
    assert thermostat.resolve(z.astype(np.float32)).dtype == np.float32
    assert np.allclose(thermostat.resolve(z.astype(np.float32)), t, rtol=1e-4)


def mean_entropy(pipeline, z):
    p = pipeline.probabilities(z)
    return float(-np.sum(np.where(p > 0, p * np.log(np.where(p > 0, p, 1)), 0), -1).mean())


@pytest.mark.parametrize(
    "b", [Pipeline(), Pipeline([MinP(0.05)]), Pipeline([TopK(60)]), Pipeline([Temperature(0.5), TopP(0.95)])], ids=repr
)
def test_equal_entropies(b, rng):
    z = (rng.normal(size=(200, 300)) * 3).astype(np.float32)
    a = Pipeline([Temperature(0.8), TopP(0.9)])
    t = equal_entropy_temperature(z, a, b)
    warm = Pipeline([Temperature(t), *b.steps])
    assert mean_entropy(warm, z.astype(float)) == pytest.approx(mean_entropy(a, z.astype(float)), abs=2e-3)
    assert equal_entropy_temperature(z, b, b) == pytest.approx(1.0, abs=1e-6)


def test_without_truncation_it_is_the_pooled_set_point(rng):
    z = rng.normal(size=(50, 40)) * 2
    a = Pipeline([Temperature(1.3), TopK(7)])
    pooled = logitherm.solve_temperature(z, entropy=mean_entropy(a, z), pooled=True)
    assert equal_entropy_temperature(z, a, Pipeline()) == pytest.approx(float(pooled), rel=1e-7)


def test_equal_entropy_after_penalties(rng):
    z = rng.normal(size=(10, 40))
    b = Pipeline([RepetitionPenalty(1.5), TopK(20)])
    history = [[1, 2, 3]] * 10
    t = equal_entropy_temperature(z, Pipeline([TopK(10)]), b, history=history)
    warm = Pipeline([b.steps[0], Temperature(t), b.steps[1]])
    s = np.mean(logitherm.entropy(warm.process(z, history=history)))
    assert s == pytest.approx(mean_entropy(Pipeline([TopK(10)]), z), abs=1e-6)


def test_out_of_reach(rng):
    z = rng.normal(size=(5, 100))
    with pytest.raises(
        ValueError, match=r"^b: must reach the mean entropy of a, 4\.\S+ nats; it goes from 0 to 1\.\S+; loosen"
    ):
        equal_entropy_temperature(z, Pipeline(), Pipeline([TopK(3)]))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EDT(-1, 0.5), "temperature: must be finite and at least 0; got -1; mend it"),
        (lambda: EDT(1, math.nan), "theta: must be finite and at least 0; got nan"),
        (lambda: EDT(1, 1, base=1.0), r"base: must be in \(0, 1\); the paper's is 0.8; got 1.0"),
        (lambda: DynamicTemperature(2, 1), "low: must be at least 0 and at most high; got 2"),
        (lambda: DynamicTemperature(0, INF), "high: must be finite; got inf"),
        (lambda: DynamicTemperature(0, 1, 0), "exponent: must be finite and positive; got 0"),
        (lambda: SurpriseRate(-0.1), "nats: must be at least 0; got -0.1"),
    ],
)
def test_what_is_refused(make, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        make()


def test_a_set_point_of_the_library_serves_tokens(rng):
    z = rng.normal(size=(4, 300)) * 3
    held = Pipeline([Temperature(SetPoint(top_probability=0.5))]).probabilities(z)
    assert np.allclose(held.max(-1), 0.5, rtol=1e-12)
