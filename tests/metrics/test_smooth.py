"""Smooth calibration error against its definition, summed and integrated directly."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from scipy.special import ndtr, softmax

from logitherm.metrics import Score, accuracy, one_vs_rest, smooth_calibration_error

MNIST = Path(__file__).parents[3] / "shared" / "data" / "mnist_crossval.test.npz"


def direct(confidence, correct, weights, sigma):
    """The integral of |smoothed residual|: its zeros by bisection, its antiderivative between them."""
    f = np.asarray(confidence, dtype=float)
    r = weights / weights.sum() * (f - correct)
    images = [(sign, shift) for shift in (range(-14, 16, 2) if sigma > 0.2 else (0, 2)) for sign in (1, -1)]

    def density(t):
        z = sum(np.exp(-0.5 * ((t[:, None] - shift - sign * f) / sigma) ** 2) for sign, shift in images)
        return z @ r / (sigma * math.sqrt(2 * math.pi))

    def below(t):
        return sum(ndtr((t[:, None] - shift - sign * f) / sigma) for sign, shift in images) @ r

    grid = np.linspace(0, 1, max(201, math.ceil(20 / sigma)))
    s = np.concatenate([density(part) for part in np.array_split(grid, 10)])
    low, high = (grid[i : len(grid) - 1 + i][s[:-1] * s[1:] < 0] for i in (0, 1))
    sign = np.sign(density(low)) if len(low) else None
    for _ in range(40 if len(low) else 0):
        middle = (low + high) / 2
        same = np.sign(density(middle)) == sign
        low, high = np.where(same, middle, low), np.where(same, high, middle)
    return float(np.abs(np.diff(below(np.concatenate([[0.0], low, [1.0]])))).sum())


def logits_of(confidence, correct):
    """Two classes; the first is predicted."""
    confidence = np.asarray(confidence, dtype=float)
    return np.log(np.stack([confidence, 1 - confidence], axis=1)), 1 - np.asarray(correct, dtype=int)


def value(*args, **options):
    return smooth_calibration_error(*args, bootstrap=0, **options).value


@pytest.mark.parametrize("sigma", [1.0, 0.3, 0.05, 0.01, 0.002])
def test_the_definition_at_a_bandwidth(case, naive, sigma):
    confidence, hit = naive.top_label(case, 1.3)
    expected = direct(confidence, hit, case.weights, sigma)
    assert value(case.logits, case.labels, 1.3, bandwidth=sigma, weights=case.weights) == pytest.approx(
        expected, abs=1e-6
    )


@pytest.mark.parametrize("t", [0.7, 1.0, 1.5])
def test_the_fixed_point(case, naive, t):
    confidence, hit = naive.top_label(case, t)
    found = value(case.logits, case.labels, t, weights=case.weights)
    # the definition never increases in the bandwidth: its fixed point is no further off than this
    assert direct(confidence, hit, case.weights, found) == pytest.approx(found, abs=1e-6)


def test_relplot():
    """relplot 1.0.3, smECE_sigma of these numbers with config.smECE_mesh_pts = 20001.

    Confidences stay below 1 - 1/1000: relplot reflects the last point of its grid onto itself, which halves the weight
    of rows there (on MNIST, with 89 % of its confidences above 0.999, it gives 0.0072 where the definition has 0.0050).
    """
    confidence = 0.5 + 0.4 * ((np.arange(400) * 0.6180339887) % 1)
    correct = ((np.arange(400) * 0.7548776662) % 1) < 1.4 - confidence
    z, y = logits_of(confidence, correct)
    for sigma, theirs in RELPLOT.items():
        assert value(z, y, bandwidth=sigma) == pytest.approx(theirs, abs=2e-6)


RELPLOT = {0.05: 0.18250932642463122, 0.02: 0.1880829840761159}


@pytest.mark.skipif(not MNIST.exists(), reason="the real predictions do not lie beside this repository")
def test_confidences_at_the_wall(naive):
    data = np.load(MNIST)
    z, y = data["logits"].astype(float), data["labels"]
    p = np.exp(z - z.max(axis=1, keepdims=True))
    confidence, hit = (p / p.sum(axis=1, keepdims=True)).max(axis=1), z.argmax(axis=1) == y
    found = value(z, y)
    assert found == pytest.approx(0.0049615, abs=1e-6)
    assert direct(confidence, hit, np.ones(len(y)), found) == pytest.approx(found, abs=1e-6)


# -- every class -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bandwidth", [None, 0.03])
@pytest.mark.parametrize("held", [1 << 22, 1300])
def test_class_wise_is_the_mean_of_the_definitions(case, monkeypatch, bandwidth, held):
    monkeypatch.setattr(one_vs_rest, "HELD_PROBABILITIES", held)
    monkeypatch.setattr(one_vs_rest, "HELD_VALUES", held)  # 1300: two classes, two replicates at a time
    p = softmax(case.logits, axis=1)
    found = smooth_calibration_error(
        case.logits, case.labels, kind="class_wise", bandwidth=bandwidth, bootstrap=30, weights=case.weights
    )
    if bandwidth:
        each = [direct(p[:, k], case.labels == k, case.weights, bandwidth) for k in range(5)]
    else:
        each = [fixed_point_of(p[:, k], case.labels == k, case.weights) for k in range(5)]
    assert found.value == pytest.approx(np.mean(each), abs=1e-6)
    assert found.low < found.value < found.high
    options = {"bandwidth": bandwidth, "bootstrap": 30, "weights": case.weights}
    assert smooth_calibration_error(case.logits, case.labels, kind="marginal", **options) == found


def fixed_point_of(p, hit, weights):
    low, high = 1e-3, 1.0
    while high - low > 1e-7:
        middle = (low + high) / 2
        low, high = (middle, high) if direct(p, hit, weights, middle) > middle else (low, middle)
    return low


def test_class_wise_interval_of_rows_resampled_directly(case):
    z, y, _ = case
    found = smooth_calibration_error(z, y, kind="class_wise", bootstrap=1000)
    rng = np.random.default_rng(1)
    again = np.array([value(z, y, kind="class_wise", weights=rng.poisson(1.0, len(y))) for _ in range(100)])
    width = np.subtract(*np.quantile(again, [0.975, 0.025]))
    assert found.high - found.low == pytest.approx(width, rel=0.25)


def test_class_wise_limits(case):
    z, y, _ = case
    frequency = np.bincount(y, minlength=5) / len(y)
    assert 0 < value(z, y, 0, kind="class_wise") <= 2 / 5 * (1 - accuracy(z, y))
    assert value(z, y, 0, kind="class_wise", bandwidth=0.01) == pytest.approx(2 / 5 * (1 - accuracy(z, y)), abs=1e-9)
    assert value(z, y, math.inf, kind="class_wise") == pytest.approx(np.abs(frequency - 0.2).mean(), abs=1e-9)
    assert smooth_calibration_error(np.zeros((4, 1)), [0] * 4, kind="class_wise", bootstrap=9) == Score(0.0, 0.0, 0.0)
    w = np.random.default_rng(0).integers(0, 4, len(y))
    copied = value(np.repeat(z, w, axis=0), np.repeat(y, w), kind="class_wise")
    assert value(z, y, kind="class_wise", weights=w) == pytest.approx(copied, abs=1e-9)
    with pytest.raises(ValueError, match="kind: must be one of"):
        value(z, y, kind="classwise")


# -- limits ------------------------------------------------------------------------------------------------


def test_limits(case):
    z, y, _ = case
    assert value(z, y, 0) == pytest.approx(1 - accuracy(z, y), abs=1e-9)
    assert value(z, y, math.inf) == pytest.approx(abs(accuracy(z, y) - 0.2), abs=1e-9)


def test_one_row_one_class_all_right_all_wrong():
    assert value([[math.log(3), 0.0]], [0]) == pytest.approx(0.25, abs=1e-9)
    assert smooth_calibration_error(np.zeros((4, 1)), [0, 0, 0, 0]) == Score(0.0, 0.0, 0.0)
    z = np.array([[50.0, 0.0], [60.0, 0.0]])
    assert value(z, [0, 0]) == pytest.approx(0.0, abs=1e-15)
    assert value(z, [1, 1]) == pytest.approx(1.0, abs=1e-9)
    assert value([[0.0, -np.inf]], [0]) == 0.0


def test_confidences_close_to_one_are_resolved():
    z, y = logits_of([1 - 1e-9] * 3, [1, 1, 1])
    assert value(z, y) == pytest.approx(1e-9, rel=1e-3)


def test_equal_confidences_cancel_at_any_bandwidth():
    assert value(np.zeros((4, 2)), [0, 1, 0, 1]) == 0.0


def test_integer_weights_are_copies_and_zeros_are_nothing(case):
    z, y, _ = case
    w = np.random.default_rng(0).integers(0, 4, len(y))
    copied = value(np.repeat(z, w, axis=0), np.repeat(y, w))
    assert value(z, y, weights=w) == pytest.approx(copied, abs=1e-9)


def test_at_least_the_gap_and_never_increasing_in_the_bandwidth(case, naive):
    confidence, hit = naive.top_label(case, 1.0)
    values = [value(case.logits, case.labels, bandwidth=s) for s in np.geomspace(1e-3, 1, 15)]
    assert np.all(np.diff(values) <= 1e-7)
    assert values[-1] >= abs(confidence.mean() - hit.mean()) - 1e-12


# -- interval ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bandwidth", [None, 0.05])
def test_interval_of_rows_resampled_directly(case, bandwidth):
    z, y, _ = case
    found = smooth_calibration_error(z, y, bandwidth=bandwidth, bootstrap=2000)
    rng = np.random.default_rng(1)
    again = np.array([value(z, y, bandwidth=bandwidth, weights=rng.poisson(1.0, len(y))) for _ in range(300)])
    width = np.subtract(*np.quantile(again, [0.975, 0.025]))
    assert found.low < found.value < found.high
    assert found.high - found.low == pytest.approx(width, rel=0.2)


def test_interval_holds_the_expected_value_and_the_seed_decides_it(make_case):
    samples = [make_case(400, 5, seed=s) for s in range(60)]
    scores = [smooth_calibration_error(c.logits, c.labels, bootstrap=300) for c in samples]
    mean = np.mean([s.value for s in scores])
    assert np.mean([s.low <= mean <= s.high for s in scores]) >= 0.85
    again = smooth_calibration_error(samples[0].logits, samples[0].labels, bootstrap=300)
    assert again == scores[0]
    assert math.isnan(smooth_calibration_error(samples[0].logits, samples[0].labels, bootstrap=0).low)


@pytest.mark.parametrize(
    ("bandwidth", "kind"), [(0, ValueError), (1.5, ValueError), (math.nan, ValueError), ("a", TypeError)]
)
def test_bandwidth_errors(bandwidth, kind):
    with pytest.raises(kind, match="bandwidth: must"):
        smooth_calibration_error(np.zeros((1, 2)), [0], bandwidth=bandwidth)


@pytest.mark.parametrize("kind", ["top_label", "class_wise"])
def test_equal_confidences_at_a_bandwidth_of_nothing(kind):
    z = np.tile([1.0, 0.0], (4, 1))
    score = smooth_calibration_error(z, [0, 0, 1, 0], kind=kind, bandwidth=1e-20, bootstrap=10)
    assert score.value == pytest.approx(abs(softmax(z[0])[0] - 0.75), abs=1e-9)
