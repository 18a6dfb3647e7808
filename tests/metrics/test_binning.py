from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from logitherm.metrics import expected_calibration_error
from logitherm.metrics.binning import bin_edges, bin_index, largest_error, per_mass


def test_equal_width_bins_are_right_closed():
    edges = bin_edges(np.array([0.5]), np.ones(1), 10, "equal_width")
    assert edges.tolist() == np.linspace(0, 1, 11).tolist()
    assert bin_index(np.array([0.0, 0.05, 0.1, 0.5, np.nextafter(0.5, 1), 0.95, 1.0]), edges).tolist() == [
        *(0, 0, 0, 4, 5, 9, 9)
    ]


def test_equal_mass_is_an_even_split_where_nothing_ties():
    confidence = np.random.default_rng(0).uniform(0.1, 1.0, 103)
    edges = bin_edges(confidence, np.ones(103), 10, "equal_mass")
    counts = np.bincount(bin_index(confidence, edges))
    assert len(counts) == 10
    assert set(counts.tolist()) == {10, 11}
    assert edges[0] == 0 < edges[1]
    assert edges[-1] == 1


def test_equal_mass_agrees_with_a_sorted_split():
    rng = np.random.default_rng(1)
    z = rng.normal(size=(150, 2))
    y = rng.integers(0, 2, 150)
    p = 1 / (1 + np.exp(-np.abs(z[:, 0] - z[:, 1])))
    order = np.argsort(p)
    gaps = (p - (z.argmax(axis=1) == y))[order]
    expected = sum(abs(part.mean()) * len(part) / 150 for part in np.array_split(gaps, 15))
    assert expected_calibration_error(z, y, binning="equal_mass") == pytest.approx(expected)


def test_ties_stay_together_in_any_order():
    z = np.repeat([[0.0, 0.0], [3.0, 0.0]], [70, 30], axis=0)
    y = np.random.default_rng(0).integers(0, 2, 100)
    value = expected_calibration_error(z, y, bins=10, binning="equal_mass")
    p = np.repeat([0.5, 1 / (1 + np.exp(-3))], [70, 30])
    hit = y == 0
    assert value == pytest.approx(sum(abs((p - hit)[part].sum()) for part in (slice(0, 70), slice(70, 100))) / 100)
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(100)
        shuffled = expected_calibration_error(z[order], y[order], bins=10, binning="equal_mass")
        assert shuffled == pytest.approx(value, abs=1e-14)


@given(st.lists(st.sampled_from([0.25, 0.3, 0.5, 0.9, 1.0]), min_size=1, max_size=40), st.integers(1, 12))
def test_equal_mass_bins_are_sound(values, bins):
    confidence = np.array(values)
    edges = bin_edges(confidence, np.ones(len(values)), bins, "equal_mass")
    counts = np.bincount(bin_index(confidence, edges), minlength=len(edges) - 1)
    assert np.all(np.diff(edges) > 0)
    assert len(counts) <= min(bins, len(set(values)))
    assert np.all(counts > 0)


def test_rows_without_weight_do_not_shape_the_bins():
    confidence, weights = np.array([0.3, 0.4, 0.5, 0.6, 0.7]), np.array([1.0, 0, 1, 0, 1])
    kept = bin_edges(confidence[::2], weights[::2], 3, "equal_mass")
    assert bin_edges(confidence, weights, 3, "equal_mass").tolist() == kept.tolist() == [0, 0.3, 0.5, 1]


def test_empty_bins():
    assert np.isnan(per_mass(np.array([0.0]), np.array([0.0]))).all()
    assert largest_error(np.array([2.0, 0.0]), np.array([-1.0, 0.0])) == 0.5
