"""The kinds of calibration errors: identities of every kind, and memory that does not grow with rows times classes."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from logitherm.metrics import (
    classwise_ece,
    debiased_calibration_error,
    one_vs_rest,
    smooth_calibration_error,
    sweep_calibration_error,
)
from logitherm.metrics.one_vs_rest import affordable
from logitherm.metrics.rows import as_inputs

ERRORS = (smooth_calibration_error, debiased_calibration_error, sweep_calibration_error)
KINDS = ("top_label", "class_wise", "marginal")


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 60), classes=st.integers(1, 6), t=st.sampled_from([0.3, 1.0, 3.0]))
def test_no_order_of_rows_or_classes_matters(seed, n, classes, t):
    rng = np.random.default_rng(seed)
    z, y, w = 3 * rng.normal(size=(n, classes)), rng.integers(0, classes, n), rng.uniform(0.1, 2.0, n)
    rows, names = rng.permutation(n), rng.permutation(classes)
    other = z[rows][:, np.argsort(names)], names[y[rows]]
    for error in ERRORS:
        for kind in KINDS:
            value = error(z, y, t, kind=kind, bootstrap=0, weights=w).value
            again = error(*other, t, kind=kind, bootstrap=0, weights=w[rows]).value
            assert 0 <= value <= 1 + 1e-12
            # a debiased square near 0 is rounding, whose root is not
            assert again == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize("error", ERRORS)
def test_two_classes_say_one_thing(make_case, error):
    """p and 1 - p have the same gaps, so the mean over two classes is the error of one."""
    z, y, _ = make_case(500, 2)
    found = error(z, y, kind="class_wise", bootstrap=0).value
    assert error(z, y, kind="marginal", bootstrap=0).value == pytest.approx(found)
    swapped = error(z[:, ::-1], 1 - y, kind="class_wise", bootstrap=0).value
    assert swapped == pytest.approx(found)


@pytest.mark.parametrize("error", ERRORS)
def test_kinds_order_as_means_do(make_case, error):
    """A root of a mean of squares is at least the mean; and all say about what bins of equal width say."""
    z, y, _ = make_case(2000, 5, overconfidence=2.5)
    wise, marginal = (error(z, y, kind=kind, bootstrap=0).value for kind in ("class_wise", "marginal"))
    assert wise <= marginal + 1e-12
    assert wise == pytest.approx(classwise_ece(z, y), rel=0.25)


@pytest.mark.parametrize("error", ERRORS)
def test_memory_does_not_grow_with_rows_times_classes(monkeypatch, error):
    monkeypatch.setattr(one_vs_rest, "HELD_PROBABILITIES", 1 << 16)
    n, classes = 4000, 600
    rng = np.random.default_rng(0)
    z = rng.normal(size=(n, classes)).astype(np.float32)
    y = rng.integers(0, classes, n)
    options = {"bandwidth": 0.1} if error is smooth_calibration_error else {}
    error(z[:50], y[:50], kind="class_wise", bootstrap=2, **options)  # imports
    tracemalloc.start()
    error(z, y, kind="class_wise", bootstrap=2, **options)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < n * classes * 8 / 2  # half the probabilities; blocks of a few megabytes


def test_fewer_replicates_where_they_cost_too_much(make_case):
    inputs = as_inputs(*make_case(100, 5)[:2])
    assert affordable(inputs, 1000) == 1000
    assert affordable(inputs, 1000, work=100_000) == 200
    assert affordable(inputs, 1000, work=300_000, draw=15) == 150
    assert affordable(inputs, 1000, work=1) == 100 and affordable(inputs, 50, work=1) == 50
