"""Scores against hand-computed cases, other libraries and their own laws."""

from __future__ import annotations

import math
import tracemalloc
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn.metrics import accuracy_score, brier_score_loss, log_loss

from logitherm.metrics import (
    accuracy,
    brier,
    classwise_ece,
    expected_calibration_error,
    maximum_calibration_error,
    nll,
)

ALL = [accuracy, nll, brier, expected_calibration_error, maximum_calibration_error, classwise_ece]
BINNED = [expected_calibration_error, maximum_calibration_error]
TEMPERATURES = [0.05, 0.7, 1.0, 2.5, 40.0]


@pytest.mark.parametrize("t", TEMPERATURES)
def test_scikit_learn_agrees(case, t):
    p = softmax(case.logits / t, axis=1)
    z, y, w = case
    assert accuracy(z, y, t, weights=w) == pytest.approx(accuracy_score(y, p.argmax(axis=1), sample_weight=w))
    assert brier(z, y, t, weights=w) == pytest.approx(
        brier_score_loss(y, p, sample_weight=w, labels=range(5), scale_by_half=False)
    )
    if t > 0.1:  # scikit-learn clips small probabilities
        assert nll(z, y, t, weights=w) == pytest.approx(log_loss(y, p, sample_weight=w, labels=range(5)), rel=1e-12)


@pytest.mark.parametrize("bins", [1, 10, 15, 40])
@pytest.mark.parametrize("t", TEMPERATURES)
def test_definitions(case, naive, t, bins):
    z, y, w = case
    assert expected_calibration_error(z, y, t, bins=bins, weights=w) == pytest.approx(naive.ece(case, t, bins))
    assert maximum_calibration_error(z, y, t, bins=bins, weights=w) == pytest.approx(naive.mce(case, t, bins))
    assert classwise_ece(z, y, t, bins=bins, weights=w) == pytest.approx(naive.classwise(case, t, bins))


def test_torchmetrics_agrees(case):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        functional = pytest.importorskip("torchmetrics.functional.classification")
        torch = pytest.importorskip("torch")
    z, y = torch.as_tensor(case.logits), torch.as_tensor(case.labels)
    p = z.softmax(dim=1)
    for norm, ours in (("l1", expected_calibration_error), ("max", maximum_calibration_error)):
        theirs = functional.multiclass_calibration_error(p, y, num_classes=5, n_bins=15, norm=norm)
        assert ours(z, y) == pytest.approx(float(theirs), abs=1e-6)


def test_netcal_agrees(case):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        netcal = pytest.importorskip("netcal.metrics")
        p = softmax(case.logits, axis=1)
        ece, mce = netcal.ECE(15).measure(p, case.labels), netcal.MCE(15).measure(p, case.labels)
    assert expected_calibration_error(case.logits, case.labels) == pytest.approx(ece)
    assert maximum_calibration_error(case.logits, case.labels) == pytest.approx(mce)


# -- by hand -----------------------------------------------------------------------------------------------


def test_two_rows_by_hand():
    z = np.log([[0.8, 0.2], [0.4, 0.6]])
    assert accuracy(z, [0, 0]) == 0.5
    assert nll(z, [0, 0]) == pytest.approx(-(math.log(0.8) + math.log(0.4)) / 2)
    assert brier(z, [0, 0]) == pytest.approx((2 * 0.2**2 + 2 * 0.6**2) / 2)
    assert expected_calibration_error(z, [0, 0]) == pytest.approx((0.2 + 0.6) / 2)
    assert maximum_calibration_error(z, [0, 0]) == pytest.approx(0.6)
    assert expected_calibration_error(z, [0, 0], bins=1) == pytest.approx(abs(0.7 - 0.5))
    assert classwise_ece(z, [0, 0]) == pytest.approx(((0.2 + 0.6) / 2 + (0.2 + 0.6) / 2) / 2)


def test_confidence_of_one_is_in_the_last_bin():
    z = np.array([[800.0, 0.0], [math.log(0.99 / 0.01), 0.0]])  # 1.0 and 0.99, both of (14/15, 1]
    assert softmax(z[0])[0] == 1.0
    assert expected_calibration_error(z, [0, 1]) == pytest.approx(abs((1 + 0.99) / 2 - 0.5))


def test_an_edge_belongs_to_the_bin_below():
    z = np.array([[0.0, 0.0], [math.log(0.6 / 0.4), 0.0]])  # 0.5 and 0.6: (0.4, 0.5] and (0.5, 0.6]
    assert expected_calibration_error(z, [0, 1], bins=10) == pytest.approx((0.5 + 0.6) / 2)


def test_the_first_maximum_is_the_prediction():
    z = np.array([[1.0, 1.0, 0.0], [0.0, 2.0, 2.0]])
    assert accuracy(z, [0, 1]) == 1.0
    assert accuracy(z, [1, 2]) == 0.0


@pytest.mark.parametrize("t", [0, 1e-30, 1e-3, 1.0, 1e3, math.inf])
def test_temperature_never_changes_accuracy(case, t):
    # at T = 1e-3 most confidences are 1 and at T = inf all are 1/5: rounded probabilities tie where logits do not
    close = np.array([[0.0, 1e-9], [1e-9, 0.0]])
    assert accuracy(close, [1, 0], t) == 1.0
    assert accuracy(case.logits, case.labels, t) == accuracy(case.logits, case.labels)


def test_limits(case):
    z, y, _ = case
    error = 1 - accuracy(z, y)
    assert nll(z, y, 0) == math.inf
    assert nll(z, z.argmax(axis=1), 0) == 0.0
    assert brier(z, y, 0) == pytest.approx(2 * error)
    assert expected_calibration_error(z, y, 0) == pytest.approx(error)
    assert classwise_ece(z, y, 0) == pytest.approx(2 * error / 5)
    assert nll(z, y, math.inf) == pytest.approx(math.log(5))
    assert brier(z, y, math.inf) == pytest.approx(0.8)
    assert expected_calibration_error(z, y, math.inf) == pytest.approx(abs(1 - error - 0.2))
    frequency = np.bincount(y, minlength=5) / len(y)
    assert classwise_ece(z, y, math.inf) == pytest.approx(np.abs(frequency - 0.2).mean())
    for metric in set(ALL) - {nll}:
        assert metric(z, y, 1e-280) == pytest.approx(metric(z, y, 0))


def test_small_nll_keeps_its_digits():
    z = np.array([[60.0, 0.0, 0.0]])
    assert nll(z, [0]) == pytest.approx(2 * math.exp(-60), rel=1e-12)


def test_a_forbidden_label_is_infinitely_unlikely_and_a_weight_of_zero_forgives():
    z = np.array([[0.0, -np.inf], [0.0, 0.0]])
    assert nll(z, [1, 0]) == math.inf
    assert nll(z, [1, 0], weights=[0, 1]) == pytest.approx(math.log(2))
    assert brier(z, [1, 0]) == pytest.approx((2 + 0.5) / 2)


# -- kinds of input ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", ALL)
def test_every_kind_of_array_gives_the_same(case, metric):
    torch = pytest.importorskip("torch")
    z, y, w = case.logits.astype(np.float16), case.labels, case.weights
    expected = metric(z.astype(np.float64), y, 1.3, weights=w)
    assert isinstance(expected, float)
    for logits in (
        z,
        z.astype(np.float32),
        torch.as_tensor(z),
        torch.as_tensor(z).double().requires_grad_(),
        z.tolist(),
    ):
        assert metric(logits, torch.as_tensor(y), 1.3, weights=torch.as_tensor(w)) == expected
    half = torch.as_tensor(z).bfloat16()
    assert metric(half, y.tolist(), weights=w.tolist()) == metric(half.double().numpy(), y.astype(np.uint8), weights=w)
    assert metric(z.reshape(20, 30, 5), y.reshape(20, 30), 1.3, weights=w.reshape(20, 30)) == expected
    assert metric(np.asfortranarray(z), y, np.full(600, 1.3), weights=w) == expected
    assert metric(z[0], y[0]) == metric(z[:1], y[:1])  # one row without a batch


def test_temperature_may_be_an_object(case):
    class PerRow:
        def resolve(self, logits, step=None):
            return np.linspace(0.5, 2.0, len(logits))

    z, y, _ = case
    rows = [nll(z[i], y[i], t) for i, t in enumerate(np.linspace(0.5, 2.0, len(z)))]
    assert nll(z, y, PerRow()) == pytest.approx(np.mean(rows))


@pytest.mark.parametrize("metric", ALL)
def test_one_class_is_no_forecast(metric):
    assert metric(np.zeros((3, 1)), [0, 0, 0]) == (1.0 if metric is accuracy else 0.0)


@pytest.mark.parametrize("metric", ALL)
def test_memory_does_not_grow_with_the_classes(metric):
    z = np.random.default_rng(0).normal(size=(400, 30_000)).astype(np.float32)  # 48 MB
    metric(z[:20], np.zeros(20, int))
    tracemalloc.start()
    metric(z, np.zeros(400, int))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 12e6


# -- laws --------------------------------------------------------------------------------------------------

rows_of_few_values = st.integers(1, 30).flatmap(
    lambda n: st.tuples(
        st.lists(st.lists(st.sampled_from([0.0, 0.5, 1.0, 3.0]), min_size=3, max_size=3), min_size=n, max_size=n),
        st.lists(st.integers(0, 2), min_size=n, max_size=n),
        st.lists(st.integers(0, 3), min_size=n, max_size=n).filter(any),
        st.permutations(range(n)),
    )
)


@settings(max_examples=60, deadline=None)
@given(rows_of_few_values, st.sampled_from(["equal_width", "equal_mass"]), st.integers(1, 8))
def test_order_and_copies_do_not_matter(data, binning, bins):
    z, y, w, order = (np.array(x) for x in data)
    for metric in ALL:
        options = {"bins": bins, "binning": binning} if metric in BINNED else {}
        value = metric(z, y, weights=w, **options)
        assert metric(z[order], y[order], weights=w[order], **options) == pytest.approx(value, abs=1e-12)
        assert metric(z.repeat(w, axis=0), y.repeat(w), **options) == pytest.approx(value, abs=1e-12)
        assert metric(z, y, weights=w / 8, **options) == pytest.approx(value, abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(rows_of_few_values, st.floats(0, 1e6))
def test_ranges(data, t):
    z, y, w, _ = (np.array(x) for x in data)
    ece, mce = (metric(z, y, t, weights=w) for metric in BINNED)
    assert 0 <= ece <= mce + 1e-12 <= 1 + 1e-12
    assert 0 <= brier(z, y, t, weights=w) <= 2 + 1e-12
    assert 0 <= classwise_ece(z, y, t, weights=w) <= 1
    assert nll(z, y, t, weights=w) >= 0


# -- errors ------------------------------------------------------------------------------------------------

Z = np.zeros((4, 3))
Y = np.zeros(4, int)
BAD_ROW = np.where(np.arange(4)[:, None] == 2, np.nan, Z)
ERRORS = [
    ((Z.astype(int), Y), {}, TypeError, "logits: must be floating point"),
    ((Z[:0], Y[:0]), {}, ValueError, r"logits: must have at least one row; got shape \(0, 3\), float64"),
    ((Z[:0].astype(np.float16), Y[:0]), {}, ValueError, "logits: must have at least one row"),
    ((Z[:, :0], Y), {}, ValueError, "logits: must have at least one state"),
    ((BAD_ROW, Y), {}, ValueError, "logits: rows must be finite.*row 2 of 4 has NaN"),
    ((BAD_ROW.reshape(2, 2, 3), Y.reshape(2, 2)), {}, ValueError, r"row \(1, 0\) of \(2, 2\) has NaN"),
    ((np.full((4, 3), -np.inf), Y), {}, ValueError, "row 0 of 4 has no allowed state"),
    ((Z, Y.astype(float)), {}, TypeError, r"labels: must be integers; got shape"),
    ((Z, [0, 1, 3, 0]), {}, ValueError, r"labels: must lie in \[0, 3\); row 2 has 3"),
    ((Z, Y[:3]), {}, ValueError, r"labels: must have the batch shape \(4,\); got shape \(3,\)"),
    ((Z, Y), {"weights": [1, 1, np.nan, 1]}, ValueError, "weights: must be finite and not negative; row 2 has nan"),
    ((Z, Y), {"temperature": -1.0}, ValueError, "temperature: must lie in"),
]


@pytest.mark.parametrize("metric", ALL)
@pytest.mark.parametrize(("arguments", "options", "kind", "message"), ERRORS)
def test_errors_say_what_came(metric, arguments, options, kind, message):
    with pytest.raises(kind, match=message) as caught:
        metric(*arguments, **options)
    assert "\n" not in str(caught.value)


def test_a_bad_row_is_counted_from_the_start_of_the_batch():
    z = np.zeros((200_000, 2))
    z[150_001, 1] = np.inf
    with pytest.raises(ValueError, match=r"row 150001 of 200000 has \+inf"):
        accuracy(z, np.zeros(200_000, int))


@pytest.mark.parametrize("metric", [*BINNED, classwise_ece])
def test_bins_are_guarded(metric):
    with pytest.raises(ValueError, match="bins: must be at least 1; got 0"):
        metric(Z, Y, bins=0)
    with pytest.raises(TypeError, match=r"bins: must be an integer; got float 1\.5"):
        metric(Z, Y, bins=1.5)
    if metric in BINNED:
        with pytest.raises(ValueError, match=r"binning: must be one of .*; got 'adaptive'"):
            metric(Z, Y, binning="adaptive")
