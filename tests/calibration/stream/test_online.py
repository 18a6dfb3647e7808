"""The online thermometer: T of the fit with the same weights, whatever the batches; bounds, files, errors."""

from __future__ import annotations

import json
import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from logitherm import TemperatureScaling, fit_temperature, softmax
from logitherm.calibration.stream.online import OnlineThermometer


def draw(rng, n, temperature=1.0, classes=5, scale=2.0):
    z = scale * rng.normal(size=(n, classes))
    t = np.broadcast_to(np.asarray(temperature, dtype=float), (n,))[:, None]
    return z, (z / t + rng.gumbel(size=z.shape)).argmax(axis=1)


def forgetting(n, half_life):
    return 0.5 ** (np.arange(n - 1, -1, -1) / half_life)


def numbers_of(thermometer):
    """Every number of the state."""
    return np.concatenate([thermometer._sums.ravel(), thermometer._weights, thermometer._alarm.evidence])


@pytest.mark.parametrize("classes", [2, 10, 200])
@pytest.mark.parametrize("temperature", [0.2, 1.0, 1.7, 12.0])
@pytest.mark.parametrize("half_life", [200, 5000, None])
def test_equal_to_the_fit_with_the_same_weights(classes, temperature, half_life):
    rng = np.random.default_rng(classes)
    z, y = draw(rng, 1500, temperature, classes, scale=2.0 * temperature)
    weights = np.ones(1500) if half_life is None else forgetting(1500, half_life)
    fit = fit_temperature(z, y, weights=weights)
    found = OnlineThermometer(half_life=half_life).update(z, y).reading()
    assert abs(found.temperature - fit.temperature) < 0.002 * fit.sandwich_error
    assert found.sandwich_error == pytest.approx(fit.sandwich_error, rel=0.012)
    assert found.interval == pytest.approx(fit.sandwich_interval, rel=0.01)
    assert found.nll_before == pytest.approx(fit.nll_before, rel=1e-6)
    assert found.nll_after == pytest.approx(fit.nll_after, abs=1e-5)
    assert found.effective_n == pytest.approx(weights.sum() ** 2 / (weights**2).sum())
    assert found.n == 1500 and found.at_bound is None


def test_weights_of_rows_and_of_age_multiply():
    rng = np.random.default_rng(0)
    z, y = draw(rng, 2000, 1.5)
    w = rng.uniform(0, 4, 2000)
    fit = fit_temperature(z, y, weights=w * forgetting(2000, 500))
    found = OnlineThermometer(half_life=500).update(z, y, w).reading()
    assert found.temperature == pytest.approx(fit.temperature, rel=1e-4)
    assert found.sandwich_error == pytest.approx(fit.sandwich_error, rel=0.01)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(0, 300), max_size=8), st.sampled_from([30.0, 3000.0, None]))
def test_the_same_for_every_division_into_batches(cuts, half_life):
    z, y = draw(np.random.default_rng(1), 300, np.repeat([1.0, 2.0], 150))
    whole = OnlineThermometer(half_life=half_life, run_length=100).update(z, y)
    parts = OnlineThermometer(half_life=half_life, run_length=100)
    for start, stop in pairwise([0, *sorted(cuts), 300]):
        parts.update(z[start:stop], y[start:stop])
    np.testing.assert_allclose(numbers_of(parts), numbers_of(whole), rtol=1e-9, atol=1e-9)
    assert parts.reading().rows_to_alarm == whole.reading().rows_to_alarm


def test_single_rows_and_the_compiled_kernel_agree():
    z, y = draw(np.random.default_rng(2), 2000, np.repeat([1.0, 1.6], 1000), classes=8)
    z = z.astype(np.float32)
    whole = OnlineThermometer(half_life=300).update(z, y).reading()
    single = OnlineThermometer(half_life=300)
    for row, label in zip(z, y, strict=True):
        single.update(row[None], label[None])
    alone = single.reading()
    assert alone.temperature == pytest.approx(whole.temperature, rel=1e-5)
    assert alone.sandwich_error == pytest.approx(whole.sandwich_error, rel=1e-4)
    assert alone.rows_to_alarm == whole.rows_to_alarm and alone.rows_to_alarm > 1000
    assert alone.needs == whole.needs == "heating"


def test_it_follows_a_slow_drift():
    rng = np.random.default_rng(3)
    path = np.exp(0.5 * np.sin(np.linspace(0, 6, 40_000)))
    z, y = draw(rng, len(path), path)
    thermometer = OnlineThermometer(half_life=1000)
    for start in range(0, len(path), 1000):
        thermometer.update(z[start : start + 1000], y[start : start + 1000])
        if start >= 5000:
            ages = forgetting(start + 1000, 1000)
            lagged = np.exp(np.average(np.log(path[: start + 1000]), weights=ages))
            found = thermometer.reading()
            assert abs(math.log(found.temperature / lagged)) < 4 * found.sandwich_error / found.temperature + 0.02
            assert found.effective_n == pytest.approx(2 * 1000 / math.log(2), rel=0.05)


def test_intervals_cover_under_forgetting():
    covered = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        low, high = OnlineThermometer(half_life=300).update(*draw(rng, 1500, 1.3)).reading().interval
        covered += low < 1.3 < high
    assert 182 <= covered <= 199  # 95 % of 200, give or take three deviations


def test_the_state_does_not_grow():
    rng = np.random.default_rng(4)
    thermometer = OnlineThermometer().update(*draw(rng, 10))
    sizes = {numbers_of(thermometer.update(*draw(rng, n))).size for n in (1, 100, 20_000)}
    assert len(sizes) == 1 and sizes.pop() < 250
    assert len(thermometer.to_json()) < 8000


def test_bounds_are_said_not_clamped():
    z, y = draw(np.random.default_rng(5), 500)
    separable = OnlineThermometer().update(z, z.argmax(axis=1)).reading()
    assert (separable.temperature, separable.at_bound) == (0.0, "zero")
    against = OnlineThermometer().update(z, z.argmin(axis=1)).reading()
    assert (against.temperature, against.at_bound) == (math.inf, "infinite")
    assert against.interval is None and against.to_dict()["temperature"] is None
    for factor, bound in ((1e3, "above grid"), (1e-3, "below grid")):
        outside = OnlineThermometer().update(factor * z, y).reading()
        assert outside.at_bound == bound and math.isnan(outside.temperature) and outside.sandwich_error is None
        again = OnlineThermometer(factor, half_life=None).update(factor * z, y).reading()
        assert again.temperature == pytest.approx(fit_temperature(factor * z, y).temperature, rel=1e-4)
    constant = OnlineThermometer().update(np.zeros((9, 3)), np.zeros(9, dtype=int)).reading()
    assert constant.at_bound == "infinite"


def test_a_wrong_answer_long_ago_leaves_t_low_but_not_zero():
    z, y = draw(np.random.default_rng(6), 3000)
    thermometer = OnlineThermometer(half_life=300).update(z[:300], y[:300])
    found = thermometer.update(z[300:], z[300:].argmax(axis=1)).reading()
    assert found.at_bound is None and 0 < found.temperature < 0.3


def test_the_reference_and_its_band():
    z, y = draw(np.random.default_rng(7), 1000, 2.0)
    fit, scaling = fit_temperature(z, y), TemperatureScaling().fit(z, y)
    for given_reference in (fit, scaling):
        thermometer = OnlineThermometer(given_reference, tolerance=0.1)
        assert thermometer.reference_temperature == fit.temperature
        assert thermometer.dispersion == max(1.0, (fit.sandwich_error / fit.standard_error) ** 2)
        low, high = fit.sandwich_interval
        assert thermometer.band == pytest.approx((low / 1.1, high * 1.1))
    assert OnlineThermometer(2.0, tolerance=0).band == (2.0, 2.0)
    low, high = OnlineThermometer(2.0, reference_error=0.1, tolerance=0).band
    assert math.log(high / low) == pytest.approx(2 * 1.959964 * 0.1)


def test_the_alarm_is_set_again_and_t_is_kept():
    rng = np.random.default_rng(8)
    thermometer = OnlineThermometer().update(*draw(rng, 2000, 2.0))
    before = thermometer.reading()
    assert before.needs == "heating" and before.alarm_level > 1
    after = thermometer.reset().reading()
    assert after.rows_to_alarm is None and after.alarm_level == 0
    assert after.temperature == before.temperature
    assert thermometer.update(*draw(rng, 1000, 2.0)).reading().rows_to_alarm < 500


def test_a_file_carries_on_where_the_stream_was(tmp_path):
    rng = np.random.default_rng(9)
    z, y = draw(rng, 600, np.repeat([1.0, 3.0], 300))
    thermometer = OnlineThermometer(
        1.1, reference_error=0.01, dispersion=1.2, half_life=None, zero_labels="exclude", run_length=500
    )
    thermometer.save(tmp_path / "new.json")
    for path in ("new.json", "old.json"):
        loaded = OnlineThermometer.load(tmp_path / "new.json")
        assert loaded.update(z[:300], y[:300]).to_json() == thermometer.update(z[:300], y[:300]).to_json()
        thermometer.save(tmp_path / path, force=True)
        loaded = OnlineThermometer.load(tmp_path / path).update(z[300:], y[300:])
        thermometer.update(z[300:], y[300:])
        assert loaded.reading() == thermometer.reading() and loaded.band == thermometer.band
        assert loaded.reading().rows_to_alarm is not None
        thermometer.save(tmp_path / "new.json", force=True)
    with pytest.raises(ValueError, match="exists"):
        thermometer.save(tmp_path / "new.json")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("format", "x"),
        ("reference_temperature", 0),
        ("dispersion", 0.5),
        ("half_life", -1),
        ("sums", [[1.0]]),
        ("sums", 3),
        ("weights", [None, 1]),
        ("classes", 0),
        ("n", False),
        ("n", 1.0),
        ("excluded", -1),
        ("alarm", {"evidence": [0, 0, 0, 0], "rows": False, "rows_to_alarm": None, "needs": None}),
        ("alarm", {"evidence": [0, 0, 0, -1], "rows": 0, "rows_to_alarm": None, "needs": None}),
        ("alarm", {"evidence": [0, 0, 0, 0], "rows": 0, "rows_to_alarm": None, "needs": "up"}),
    ],
)
def test_a_broken_file_is_refused(tmp_path, key, value):
    OnlineThermometer().update(*draw(np.random.default_rng(0), 10)).save(tmp_path / "t.json")
    values = json.loads((tmp_path / "t.json").read_text())
    for broken in ({**values, key: value}, {name: v for name, v in values.items() if name != key}):
        (tmp_path / "t.json").write_text(json.dumps(broken))
        with pytest.raises(ValueError, match=r"t\.json: must be a thermometer saved by OnlineThermometer"):
            OnlineThermometer.load(tmp_path / "t.json")


def test_impossible_labels_leave_the_state_as_it_was_or_are_left_out():
    rng = np.random.default_rng(10)
    z, y = draw(rng, 400)
    impossible = z.copy()
    impossible[[5, 7], y[[5, 7]]] = -math.inf
    thermometer = OnlineThermometer().update(z, y)
    state = thermometer.to_json()
    with pytest.raises(ValueError, match="2 of 400 rows have a label of logit -inf"):
        thermometer.update(impossible, y)
    assert thermometer.to_json() == state
    lenient = OnlineThermometer(zero_labels="exclude").update(impossible, y)
    clean = OnlineThermometer(zero_labels="exclude").update(np.delete(z, [5, 7], 0), np.delete(y, [5, 7]))
    np.testing.assert_allclose(numbers_of(lenient), numbers_of(clean), rtol=1e-9)
    assert (lenient.reading().n, lenient.reading().excluded) == (398, 2)


def test_a_batch_without_weight_changes_nothing_but_the_count():
    z, y = draw(np.random.default_rng(11), 100)
    thermometer = OnlineThermometer(half_life=None).update(z, y)
    before = thermometer.reading()
    after = thermometer.update(z, y, np.zeros(100)).reading()
    assert after.temperature == before.temperature and after.n == 200
    with pytest.raises(ValueError, match="positive weight"):
        OnlineThermometer().update(z, y, np.zeros(100)).reading()


def test_kinds_of_input():
    z, y = draw(np.random.default_rng(12), 300)
    expected = OnlineThermometer().update(z, y).reading().temperature
    for logits, labels, near in (
        (z.tolist(), y.tolist(), 1e-9),
        (torch.tensor(z), torch.tensor(y), 1e-9),
        (torch.tensor(z, dtype=torch.bfloat16), torch.tensor(y), 0.05),
        (z.astype(np.float16), y.astype(np.uint8), 0.01),
    ):
        assert OnlineThermometer().update(logits, labels).reading().temperature == pytest.approx(expected, rel=near)
    p = softmax(z)
    assert OnlineThermometer().update(np.log(p), y).reading().temperature == pytest.approx(expected, rel=1e-9)


def test_bad_input():
    z, y = draw(np.random.default_rng(13), 10)
    thermometer = OnlineThermometer().update(z, y)
    state = thermometer.to_json()
    bad = z.copy()
    bad[4] = math.nan
    for logits, labels, weights, error, words in (
        (bad, y, None, ValueError, "row 4 has NaN"),
        (z[:, :4], y % 4, None, ValueError, "must have the 5 classes of the rows before"),
        (z[0], y[0], None, ValueError, r"shape \(rows, classes\)"),
        (y[:, None], y, None, TypeError, "must be floating point"),
        (z, y + 5, None, ValueError, r"labels: must lie in \[0, 5\)"),
        (z, y.astype(float), None, TypeError, "labels: must be integers"),
        (z, y[:3], None, ValueError, "labels: must have the batch shape"),
        (z, y, -np.ones(10), ValueError, "weights: must be finite and not negative"),
        (z, y, np.zeros(3), ValueError, "weights: must have the batch shape"),
    ):
        with pytest.raises(error, match=words):
            thermometer.update(logits, labels, weights)
        assert thermometer.to_json() == state
    with pytest.raises(ValueError, match="call update first"):
        OnlineThermometer().reading()
    frozen = TemperatureScaling().fit(z, z.argmax(axis=1))
    for settings_, words in (
        ({"reference_temperature": 0.0}, "reference_temperature: must be positive and finite"),
        ({"reference_temperature": frozen}, "reference_temperature: must be positive and finite"),
        ({"reference_error": -1.0}, "reference_error: "),
        ({"reference_error": 1e3}, "reference_error: must leave a band"),
        ({"dispersion": 0.5}, "dispersion: "),
        ({"half_life": 0}, "half_life: "),
        ({"tolerance": -0.1}, "tolerance: "),
        ({"run_length": 0.5}, "run_length: "),
        ({"confidence": 1.0}, "confidence: "),
        ({"zero_labels": "keep"}, "zero_labels: "),
    ):
        with pytest.raises(ValueError, match=words):
            OnlineThermometer(**settings_)
    with pytest.raises(TypeError, match=r"transform\(logits\)"):
        OnlineThermometer("1")


@pytest.mark.parametrize("n", [300, 3000])  # row by row, and by the compiled kernel
def test_weights_whose_squares_underflow_leave_t_without_an_error(n):
    z, y = draw(np.random.default_rng(12), n)
    plain = OnlineThermometer(half_life=None).update(z, y).reading()
    assert type(plain.sandwich_error) is float and type(plain.temperature) is float
    found = OnlineThermometer(half_life=None).update(z, y, np.full(n, 1e-200)).reading()
    assert found.temperature == pytest.approx(plain.temperature, rel=1e-9)
    assert found.nll_after == pytest.approx(plain.nll_after, rel=1e-9)
    assert (found.sandwich_error, found.interval) == (None, None) and math.isnan(found.effective_n)
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["effective_n"] is None
