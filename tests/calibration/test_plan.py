"""Planned errors are those that real fits have."""

import math

import numpy as np
import pytest

from logitherm import fit_temperature
from logitherm.calibration.plan import SIZES, plan_sample_size
from logitherm.metrics import expected_calibration_error


def world(rng, n, temperature, broken=0.0):
    """Rows of 10 classes whose honest temperature is `temperature`, some with a label drawn at random."""
    z = 2 * rng.normal(size=(n, 10))
    labels = (z + rng.gumbel(size=z.shape)).argmax(axis=1)
    labels = np.where(rng.random(n) < broken, rng.integers(0, 10, n), labels)
    return temperature * z, labels


def spread(logits, labels, n, rng, times=300):
    """What fits and calibration errors of n rows do: standard deviation of T, and ECE mean and deviation."""
    temperatures, errors = [], []
    for _ in range(times):
        rows = rng.integers(0, len(logits), n)
        temperatures.append(fit_temperature(logits[rows], labels[rows]).temperature)
        errors.append(expected_calibration_error(logits[rows], labels[rows]))
    return np.std(temperatures), np.mean(errors), np.std(errors)


@pytest.mark.parametrize(("temperature", "broken"), [(1.0, 0.0), (2.0, 0.0), (2.0, 0.05)])
def test_planned_errors_are_those_of_real_fits(rng, temperature, broken):
    """300 samples know a deviation to 4 %, a pilot of 2000 to about 5 %: 15 % is some two of both together."""
    logits, labels = world(rng, 100_000, temperature, broken)
    endless = expected_calibration_error(logits, labels)
    plan = plan_sample_size(logits[:2000], labels[:2000], sizes=[400, 1600])
    for size in plan.sizes:
        of_t, ece, of_ece = spread(logits, labels, size.n, rng)
        assert size.standard_error == pytest.approx(of_t, rel=0.15)
        assert size.ece_error == pytest.approx(of_ece, rel=0.2)
        assert size.ece_bias == pytest.approx(ece - endless, abs=0.3 * (ece - endless) + 0.25 * of_ece)


def test_without_labels_the_model_is_honest(rng):
    logits, labels = world(rng, 50_000, 2.0)
    plan = plan_sample_size(logits[:2000], None, 2.0, sizes=[500])
    of_t, ece, of_ece = spread(logits / 2.0, labels, 500, rng)
    (size,) = plan.sizes
    assert plan.fit is None and plan.ece == 0 and plan.temperature == 2.0
    assert size.standard_error == pytest.approx(2.0 * of_t, rel=0.15)
    assert size.ece_error == pytest.approx(of_ece, rel=0.2)
    assert size.ece_bias == pytest.approx(ece, rel=0.2)


def test_the_error_without_labels_is_the_information(rng):
    """An independent sum: T^2 over the root of n times the mean variance of the logits."""
    logits = rng.normal(size=(50, 4))
    p = np.exp(logits / 0.7)
    p /= p.sum(axis=1, keepdims=True)
    variance = (p * logits**2).sum(axis=1) - (p * logits).sum(axis=1) ** 2
    (size,) = plan_sample_size(logits, None, 0.7, sizes=[200]).sizes
    assert size.standard_error == pytest.approx(0.7**2 / math.sqrt(200 * variance.mean()), rel=1e-12)


def test_the_error_with_labels_is_the_sandwich_scaled(rng):
    logits, labels = world(rng, 300, 1.5, 0.1)
    plan = plan_sample_size(logits, labels, sizes=[300, 1200])
    fit = fit_temperature(logits, labels)
    assert plan.fit == fit and plan.temperature == fit.temperature
    assert [size.standard_error for size in plan.sizes] == pytest.approx([fit.sandwich_error, fit.sandwich_error / 2])


def test_the_target_is_reached_by_no_fewer_labels(rng):
    logits, labels = world(rng, 500, 2.0)
    plan = plan_sample_size(logits, labels, sizes=[100], target_error=0.05)
    assert [size.n for size in plan.sizes] == [100, plan.needed]
    assert plan.sizes[1].standard_error <= 0.05
    (fewer,) = plan_sample_size(logits, labels, sizes=[plan.needed - 1]).sizes
    assert fewer.standard_error > 0.05
    alone = plan_sample_size(logits, labels, sizes=[], target_error=0.05)
    assert [size.n for size in alone.sizes] == [plan.needed]
    assert plan_sample_size(logits, labels, target_error=1e3).needed == 1


def test_one_label_is_right_or_wrong(rng):
    """The ECE of one row is |confidence - correct|: its mean and deviation can be written down."""
    confidence = 0.8
    logits = np.tile([math.log(confidence / (1 - confidence)), 0.0], (400, 1))
    labels = (np.arange(400) % 10 >= 8).astype(int)  # 80 % right: honest
    (size,) = plan_sample_size(logits, None, sizes=[1], replicates=50_000).sizes
    assert size.ece_bias == pytest.approx(2 * 0.8 * 0.2, rel=0.02)
    assert size.ece_error == pytest.approx(0.6 * math.sqrt(0.16), rel=0.02)
    (same,) = plan_sample_size(logits, labels, sizes=[1], replicates=50_000).sizes
    assert same.ece_bias == pytest.approx(size.ece_bias, abs=0.01)


def test_limits_of_the_calibration_error(rng):
    """An honest model's bias falls as one over the root of n; where the gaps are wide it is gone much sooner."""
    logits, labels = world(rng, 2000, 1.0)
    honest = plan_sample_size(logits, None, sizes=[400, 40_000]).sizes
    assert honest[0].ece_bias / honest[1].ece_bias == pytest.approx(10, rel=0.1)
    far = plan_sample_size(4 * logits, labels, sizes=[10**6])
    assert far.ece == pytest.approx(expected_calibration_error(4 * logits, labels), rel=0.05)
    assert abs(far.sizes[0].ece_bias) < 1e-3


def test_the_same_seed_gives_the_same_plan(rng):
    logits, labels = world(rng, 300, 1.0)
    assert plan_sample_size(logits, labels, seed=3) == plan_sample_size(logits, labels, seed=3)
    assert plan_sample_size(logits, labels, seed=3) != plan_sample_size(logits, labels, seed=4)
    state = np.random.get_state()[1].copy()
    plan_sample_size(logits, labels)
    assert np.array_equal(np.random.get_state()[1], state)


def test_kinds_of_arrays(rng):
    torch = pytest.importorskip("torch")
    logits, labels = world(rng, 300, 1.0)
    small = logits.astype(np.float32)
    plan = plan_sample_size(small, labels)
    same = plan_sample_size(torch.tensor(small), torch.tensor(labels))
    assert same.temperature == pytest.approx(plan.temperature, rel=1e-6)
    assert [size.ece_bias for size in same.sizes] == [size.ece_bias for size in plan.sizes]
    batch = plan_sample_size(small.reshape(3, 100, 10), labels.reshape(3, 100))
    assert batch.n == 300 and batch.sizes == plan.sizes
    half = plan_sample_size(small.astype(np.float16), None)
    assert half.sizes[0].standard_error == pytest.approx(
        plan_sample_size(small, None).sizes[0].standard_error, rel=1e-3
    )
    assert [size.n for size in plan.sizes] == list(SIZES)


def test_to_dict_is_json(rng):
    import json

    logits, labels = world(rng, 300, 1.0)
    for given in (labels, None):
        found = plan_sample_size(logits, given, sizes=[50]).to_dict()
        assert json.loads(json.dumps(found, allow_nan=False)) == found
        assert found["labelled"] is (given is not None)
        assert found["sizes"][0]["n"] == 50


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"temperature": 0.0}, "temperature: must be positive and finite; got 0"),
        ({"temperature": math.inf}, "temperature: must be positive and finite; got inf"),
        ({"sizes": [0]}, "sizes: must be at least 1"),
        ({"sizes": []}, "sizes: must name at least one number of labels; got none"),
        ({"sizes": [10**16]}, r"sizes: must be at most 1e\+15"),
        ({"target_error": -1}, "target_error: must be positive and finite; got -1"),
        ({"target_error": 1e-12}, "target_error: must be reached by fewer than"),
        ({"replicates": 1}, "replicates: must be at least 2"),
        ({"labels": np.zeros(3, dtype=int)}, "labels: must have the batch shape"),
    ],
)
def test_errors(rng, change, message):
    logits, labels = world(rng, 60, 1.0)
    with pytest.raises(ValueError, match=message):
        plan_sample_size(**{"logits": logits, "labels": labels, **change})


def test_errors_of_kind(rng):
    logits, labels = world(rng, 60, 1.0)
    with pytest.raises(TypeError, match="temperature: must be a number; got list"):
        plan_sample_size(logits, labels, [1.0])
    with pytest.raises(TypeError, match="sizes: must be an integer; got float"):
        plan_sample_size(logits, labels, sizes=[10.5])


def test_pilots_that_say_nothing(rng):
    logits, _ = world(rng, 60, 1.0)
    with pytest.raises(ValueError, match=r"labels: must give the pilot a temperature.*T = 0 from 60 rows; label more"):
        plan_sample_size(logits, logits.argmax(axis=1))
    with pytest.raises(ValueError, match="logits: must vary within rows"):
        plan_sample_size(np.zeros((5, 3)))
