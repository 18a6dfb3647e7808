"""The debiased L2 error against its definition in plain loops and uncertainty-calibration's values."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import softmax

from logitherm.metrics import accuracy, debiased, debiased_calibration_error, one_vs_rest


def square(p, hit, weights, index, noise):
    total = 0.0
    for b in np.unique(index):
        inside = index == b
        w = weights[inside] / weights[inside].sum()
        rate, said = w @ hit[inside], w @ p[inside]
        effective = 1 / (w @ w)
        variance = rate * (1 - rate) if noise == "labels" else w @ (p[inside] - hit[inside] - said + rate) ** 2
        if inside.sum() > 1:
            total += weights[inside].sum() / weights.sum() * ((said - rate) ** 2 - variance / (effective - 1))
    return total


def ranks(p, bins):
    """Bins of equally many rows, where the number of rows is a multiple."""
    return np.argsort(np.argsort(p)) * bins // len(p)


def root(x):
    return math.sqrt(max(x, 0.0))


def value(*args, **options):
    return debiased_calibration_error(*args, bootstrap=0, **options).value


@pytest.mark.parametrize("t", [0.5, 1.0, 1.5, 4.0])
@pytest.mark.parametrize("bins", [1, 15, 100])
@pytest.mark.parametrize("noise", ["residuals", "labels"])
def test_the_definition(case, naive, t, bins, noise):
    confidence, hit = naive.top_label(case, t)
    one = np.ones(600)
    assert value(case.logits, case.labels, t, bins=bins, noise=noise) == pytest.approx(
        root(square(confidence, hit, one, ranks(confidence, bins), noise)), abs=1e-9
    )
    wide = np.minimum((confidence * bins).astype(int), bins - 1)
    assert value(
        case.logits, case.labels, t, bins=bins, binning="equal_width", noise=noise, weights=case.weights
    ) == pytest.approx(root(square(confidence, hit, case.weights, wide, noise)), abs=1e-9)


@pytest.mark.parametrize("held", [1 << 22, 1300])
def test_the_marginal_form(case, monkeypatch, held):
    monkeypatch.setattr(one_vs_rest, "HELD_PROBABILITIES", held)
    monkeypatch.setattr(one_vs_rest, "HELD_VALUES", held)  # 1300: two classes at a time
    p = softmax(case.logits, axis=1)
    squares = [square(p[:, k], case.labels == k, np.ones(600), ranks(p[:, k], 15), "residuals") for k in range(5)]
    found = debiased_calibration_error(case.logits, case.labels, kind="marginal", bootstrap=20)
    assert found.value == pytest.approx(root(np.mean(squares)), abs=1e-9)
    assert found.low <= found.value <= found.high
    found = debiased_calibration_error(case.logits, case.labels, kind="class_wise", bootstrap=20)
    assert found.value == pytest.approx(np.mean([root(s) for s in squares]), abs=1e-9)
    assert found.low < found.value < found.high


def test_uncertainty_calibration():
    """Version 0.1.4: lower_bound_scaling_ce(probs, labels, num_bins=10, mode=...), equal-mass bins, debiased."""
    p = 0.02 + 0.96 * ((np.arange(300) * 0.6180339887) % 1)
    y = (((np.arange(300) * 0.7548776662) % 1) < 1 / (1 + np.sqrt(1 / p - 1))).astype(int)
    z = np.log(np.stack([1 - p, p], axis=1))
    assert value(z, y, bins=10, noise="labels") == pytest.approx(TOP_LABEL, abs=1e-6)
    assert value(z, y, bins=10, kind="marginal", noise="labels") == pytest.approx(MARGINAL, abs=1e-6)


TOP_LABEL, MARGINAL = 0.0677703420691663, 0.07009867321536307


def test_the_mean_square_is_unbiased():
    """One wide bin, in which the variance of the labels alone takes off too much."""
    rng = np.random.default_rng(0)
    found = {"residuals": [], "labels": []}
    for _ in range(4000):
        p = rng.uniform(0.0, 1.0, 50)
        hit = (rng.random(50) < p).astype(float)
        for noise, squares in found.items():
            sums = debiased._bins(np.zeros(50, dtype=int), 1, np.ones(50), hit, p - hit, noise)
            squares.append(debiased.debiased_square(*sums))
    error = np.std(found["residuals"]) / math.sqrt(4000)
    assert abs(np.mean(found["residuals"])) < 3 * error
    assert np.mean(found["labels"]) < -10 * error


def test_limits(case):
    z, y, _ = case
    a = accuracy(z, y)
    assert value(z, y, 0) == pytest.approx(root((1 - a) ** 2 - a * (1 - a) / 599))
    assert value(z, y, math.inf) == pytest.approx(root((a - 0.2) ** 2 - a * (1 - a) / 599))
    assert value(z, z.argmax(1), 0, kind="marginal") == pytest.approx(0.0)
    assert value([[1.0, 0.0]], [1]) == 0.0  # one row says nothing
    for kind in ("top_label", "marginal"):
        assert debiased_calibration_error(np.zeros((3, 1)), [0, 0, 0], kind=kind, bootstrap=9).high == 0.0
    assert value([[50.0, -np.inf], [60.0, -np.inf]], [1, 1]) == pytest.approx(1.0)


def test_ties_in_any_order():
    z = np.zeros((6, 2))
    assert value(z, [0, 0, 0, 0, 1, 1], bins=3) == value(z, [1, 0, 0, 1, 0, 0], bins=3)


@pytest.mark.parametrize("kind", ["top_label", "marginal"])
def test_weights(case, kind):
    z, y, w = case
    zero = np.where(np.arange(600) % 3 > 0, w, 0.0)
    kept = zero > 0
    assert value(z, y, kind=kind, weights=zero) == pytest.approx(value(z[kept], y[kept], kind=kind, weights=w[kept]))
    assert value(z, y, kind=kind, weights=1e-200 * w) == pytest.approx(value(z, y, kind=kind, weights=w))


@pytest.mark.parametrize("kind", ["top_label", "marginal"])
def test_intervals_cover(make_case, kind):
    samples = [make_case(500, 4, seed=s, overconfidence=2.0) for s in range(80)]
    truth = value(*make_case(200_000, 4, seed=99, overconfidence=2.0)[:2], kind=kind)
    found = [debiased_calibration_error(c.logits, c.labels, kind=kind, bootstrap=200) for c in samples]
    assert 0.85 <= np.mean([s.low <= truth <= s.high for s in found]) <= 1.0
    assert math.isnan(debiased_calibration_error(*samples[0][:2], kind=kind, bootstrap=0).low)


@pytest.mark.parametrize("kind", ["top_label", "marginal"])
def test_analytic_intervals_are_those_of_the_bootstrap(make_case, kind):
    z, y, w = make_case(3000, 4, overconfidence=2.0)
    for weights in (None, w):
        drawn, plain = (
            debiased_calibration_error(z, y, kind=kind, interval=i, bootstrap=2000, weights=weights)
            for i in ("bootstrap", "analytic")
        )
        assert plain.value == drawn.value
        assert (plain.low, plain.high) == pytest.approx((drawn.low, drawn.high), abs=0.1 * (drawn.high - drawn.low))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["top_label", "marginal"])
@pytest.mark.parametrize("overconfidence", [1.0, 1.2, 2.0])
def test_analytic_intervals_cover(make_case, kind, overconfidence):
    truth = value(*make_case(400_000, 4, seed=99, overconfidence=overconfidence)[:2], kind=kind)
    samples = (make_case(500, 4, seed=s, overconfidence=overconfidence) for s in range(300))
    found = [debiased_calibration_error(c.logits, c.labels, kind=kind, interval="analytic") for c in samples]
    # a calibrated model: one-sided, and `truth` is what is left of the noise
    truth = 0.0 if overconfidence == 1.0 else truth
    assert 0.9 <= np.mean([s.low <= truth <= s.high for s in found]) <= 1.0


def test_errors():
    with pytest.raises(ValueError, match=r"interval: must be .bootstrap. for kind=.class_wise."):
        debiased_calibration_error(np.zeros((1, 2)), [0], kind="class_wise", interval="analytic")
    with pytest.raises(ValueError, match="kind: must be one of"):
        debiased_calibration_error(np.zeros((1, 2)), [0], kind="classwise")
    with pytest.raises(ValueError, match="noise: must be one of"):
        debiased_calibration_error(np.zeros((1, 2)), [0], noise="none")
