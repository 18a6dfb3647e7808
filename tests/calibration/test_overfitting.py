"""Overconfidence is a slope of the likelihood; the gauge tells rows learnt by heart from rows never seen."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from logitherm import fit_temperature, softmax
from logitherm.calibration.overfitting import mean_overconfidence, overconfidence, overfitting_gauge
from logitherm.metrics import nll


def world(rng, n, temperature=1.0, classes=5):
    z = 1.5 * rng.normal(size=(n, classes))
    return temperature * z, (z + rng.gumbel(size=z.shape)).argmax(axis=1)


# -- overconfidence --------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_it_is_the_slope_of_the_likelihood(rng, temperature):
    """Central differences of each row's NLL in 1/T; at T = 1 also in log(1/T)."""
    logits, labels = world(rng, 40)
    step, inverse = 1e-5, 1 / temperature
    for row in range(40):
        part = logits[row : row + 1], labels[row : row + 1]
        slope = (nll(*part, 1 / (inverse + step)) - nll(*part, 1 / (inverse - step))) / (2 * step)
        assert overconfidence(*part, temperature)[0] == pytest.approx(slope, abs=1e-7)
        if temperature == 1:
            slope = (nll(*part, math.exp(-step)) - nll(*part, math.exp(step))) / (2 * step)
            assert overconfidence(*part)[0] == pytest.approx(slope, abs=1e-7)


def test_it_vanishes_on_average_at_the_fitted_temperature(rng):
    logits, labels = world(rng, 3000, 2.5)
    fit = fit_temperature(logits, labels)
    assert overconfidence(logits, labels).mean() > 0.5
    assert overconfidence(logits, labels, fit.temperature).mean() == pytest.approx(0, abs=1e-6)
    assert overconfidence(logits, labels, 2 * fit.temperature).mean() < 0


def test_it_is_the_expected_logit_less_the_observed_one(rng):
    logits, labels = world(rng, 100)
    p = softmax(logits, 0.7)
    expected = (p * logits).sum(axis=1) - logits[np.arange(100), labels]
    assert overconfidence(logits, labels, 0.7) == pytest.approx(expected, abs=1e-12)
    weights = p.sum(axis=0)
    assert weights.sum() == pytest.approx(100)
    mean = sum(p[:, k] * overconfidence(logits, np.full(100, k), 0.7) for k in range(5))
    assert mean == pytest.approx(0, abs=1e-12)  # over labels of the model itself


def test_limits_of_the_temperature():
    logits = np.array([[3.0, 1.0, -np.inf], [3.0, 3.0, 0.0]])
    assert overconfidence(logits, [0, 2], 0).tolist() == [0.0, 3.0]
    assert overconfidence(logits, [1, 2], math.inf).tolist() == [1.0, 2.0]
    assert overconfidence(logits, [2, 0]).tolist()[0] == math.inf


def test_large_logits_lose_nothing(rng):
    logits, labels = world(rng, 50)
    moved = np.round(logits, 3)
    assert overconfidence(moved + 2.0**30, labels) == pytest.approx(overconfidence(moved, labels), abs=1e-5)


def test_shapes_kinds_and_temperatures_a_row(rng):
    torch = pytest.importorskip("torch")
    logits, labels = world(rng, 12)
    plain = overconfidence(logits, labels)
    assert overconfidence(logits.reshape(3, 4, 5), labels.reshape(3, 4)).shape == (3, 4)
    tensor = torch.tensor(logits, requires_grad=True)
    assert overconfidence(tensor, torch.tensor(labels)) == pytest.approx(plain, abs=1e-12)
    each = np.linspace(0.5, 2, 12)
    assert overconfidence(logits, labels, each)[7] == overconfidence(logits[7:8], labels[7:8], each[7])[0]
    half = overconfidence(torch.tensor(logits).bfloat16(), torch.tensor(labels))
    assert half.dtype == np.float64 and half == pytest.approx(plain, abs=0.1)


def test_errors_of_overconfidence():
    with pytest.raises(ValueError, match="row 1 of 2 has NaN"):
        overconfidence(np.array([[0.0, 1.0], [np.nan, 0.0]]), [0, 0])
    with pytest.raises(TypeError, match="labels: must be integers"):
        overconfidence(np.zeros((1, 2)), [0.5])


# -- its mean --------------------------------------------------------------------------------------------


@given(data=st.data(), classes=st.integers(2, 5), n=st.integers(2, 20))
def test_its_mean_has_the_sign_of_the_fitted_temperature(data, classes, n):
    """The likelihood is convex in 1/T: its slope at T = 1 is positive just where the fitted T is above 1."""
    logits = data.draw(arrays(np.float64, (n, classes), elements=st.integers(-4, 4).map(float)))
    labels = data.draw(arrays(np.int64, n, elements=st.integers(0, classes - 1)))
    found = mean_overconfidence(logits, labels)
    assert found.value == pytest.approx(overconfidence(logits, labels).mean(), abs=1e-12)
    assert found.low <= found.value <= found.high
    if abs(found.value) > 1e-6:
        assert (found.value > 0) == (fit_temperature(logits, labels).temperature > 1)


def test_its_interval_holds_the_expectation(rng):
    """Of a model twice too cold, over 400 draws: 95 % of them, within four standard errors."""
    truth = mean_overconfidence(*world(rng, 400_000, 2.0)).value
    inside = [(s := mean_overconfidence(*world(rng, 200, 2.0))).low <= truth <= s.high for _ in range(400)]
    assert np.mean(inside) == pytest.approx(0.95, abs=4 * np.sqrt(0.95 * 0.05 / 400))


def test_bounds_and_errors_of_its_mean():
    alone = mean_overconfidence(np.array([[2.0, 0.0]]), [1])
    assert alone.value == pytest.approx(1.762, abs=1e-3) and math.isnan(alone.low) and math.isnan(alone.high)
    z, labels = np.array([[2.0, 0.0], [1.0, -np.inf]]), [0, 1]
    with pytest.raises(ValueError, match="labels: must be possible; 1 of 2 rows have a label of logit -inf"):
        mean_overconfidence(z, labels)
    left = mean_overconfidence(z, labels, zero_labels="exclude")
    assert left.value == overconfidence(z[:1], [0])[0] and math.isnan(left.low)
    with pytest.raises(ValueError, match="1 of 1 rows have a label of logit -inf"):
        mean_overconfidence(z[1:], [1], zero_labels="exclude")
    with pytest.raises(ValueError, match="zero_labels: must be one of"):
        mean_overconfidence(z, labels, zero_labels="drop")


# -- the gauge -------------------------------------------------------------------------------------------


def test_rows_of_one_kind_do_not_differ(rng):
    """The p-value of rows that are alike is uniform: below 0.05 in 5 % of 200 repetitions, 3 % either way."""
    low = 0
    for _ in range(200):
        logits, labels = world(rng, 400, 1.7)
        gauge = overfitting_gauge(logits[:200], labels[:200], logits[200:], labels[200:])
        low += gauge.p_value < 0.05
    assert 2 <= low <= 19


def test_rows_known_better_ask_for_less_heat(rng):
    """Training rows sharpened towards their labels; the ratio and its error are those of the two fits."""
    seen, labels = world(rng, 1000)
    seen[np.arange(1000), labels] += 0.7
    unseen, others = world(rng, 1500, 2.0)
    gauge = overfitting_gauge(seen, labels, unseen, others)
    train, held_out = fit_temperature(seen, labels), fit_temperature(unseen, others)
    assert (gauge.train, gauge.held_out) == (train, held_out)
    assert gauge.log_ratio == pytest.approx(math.log(held_out.temperature / train.temperature))
    shares = train.sandwich_error / train.temperature, held_out.sandwich_error / held_out.temperature
    assert gauge.standard_error == pytest.approx(math.hypot(*shares))
    assert gauge.p_value < 1e-6
    assert gauge.verdict.startswith(
        f"Overfitted by a factor of {held_out.temperature / train.temperature:.3g} in temperature: training rows ask"
    )
    turned = overfitting_gauge(unseen, others, seen, labels)
    assert turned.log_ratio == pytest.approx(-gauge.log_ratio)
    assert turned.verdict.startswith("The held-out rows are fitted better, by a factor of ")


def test_the_error_of_the_ratio_is_its_spread(rng):
    ratios, errors = [], []
    for _ in range(200):
        logits, labels = world(rng, 900, 1.5)
        gauge = overfitting_gauge(logits[:300], labels[:300], logits[300:], labels[300:])
        ratios.append(gauge.log_ratio)
        errors.append(gauge.standard_error)
    assert np.mean(errors) == pytest.approx(np.std(ratios), rel=0.15)


def test_rows_known_by_heart_have_no_temperature(rng):
    logits, labels = world(rng, 300, 3.0)
    gauge = overfitting_gauge(logits, logits.argmax(axis=1), logits, labels)
    assert (gauge.train.temperature, gauge.train.at_bound) == (0.0, "zero")
    assert gauge.log_ratio == math.inf
    assert gauge.standard_error is None and gauge.p_value is None
    assert "Every training label is the largest logit (T = 0)" in gauge.verdict
    assert "held-out rows ask for T = " in gauge.verdict
    known = gauge.to_dict()
    assert known["log_ratio"] is None and known["train"]["at_bound"] == "zero"


def test_other_bounds(rng):
    logits, labels = world(rng, 300)
    best, worst = logits.argmax(axis=1), logits.argmin(axis=1)
    both = overfitting_gauge(logits, best, logits, best)
    assert math.isnan(both.log_ratio) and "neither can tell" in both.verdict
    hot = overfitting_gauge(logits, labels, logits, worst)
    assert hot.log_ratio == math.inf and "nothing about the held-out labels" in hot.verdict
    assert "nothing about the training labels" in overfitting_gauge(logits, worst, logits, labels).verdict
    cold = overfitting_gauge(logits, labels, logits, best)
    assert cold.log_ratio == -math.inf and "Every held-out label is the largest logit" in cold.verdict
    for gauge in (both, hot, cold):
        json.dumps(gauge.to_dict(), allow_nan=False)


def test_batches_give_what_arrays_give(rng):
    logits, labels = world(rng, 600, 1.5)
    whole = overfitting_gauge(logits[:300], labels[:300], logits[300:], labels[300:])
    parts = [
        [(logits[i : i + 70], labels[i : i + 70]) for i in range(start, start + 280, 70)]
        + [(logits[start + 280 : start + 300], labels[start + 280 : start + 300])]
        for start in (0, 300)
    ]
    streamed = overfitting_gauge(parts[0], None, parts[1], None)
    assert streamed.log_ratio == pytest.approx(whole.log_ratio, abs=1e-6)


def test_to_dict_is_json(rng):
    logits, labels = world(rng, 300)
    found = overfitting_gauge(logits, labels, logits, labels).to_dict()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["verdict"].startswith("No difference can be told")


def test_errors_name_the_rows(rng):
    logits, labels = world(rng, 30)
    with pytest.raises(ValueError, match="held-out rows: labels: must lie in"):
        overfitting_gauge(logits, labels, logits, labels + 9)
    with pytest.raises(TypeError, match="training rows: logits: must be floating"):
        overfitting_gauge(labels[:, None], labels, logits, labels)
    with pytest.raises(ValueError, match="held_out_logits: must have the 5 classes of train_logits; got 4"):
        overfitting_gauge(logits, labels, logits[:, :4], labels % 4)
