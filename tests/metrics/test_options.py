"""The guard of shared options: what passes, and that every error says the rule, what it got and what to do."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from logitherm.metrics import options


@pytest.mark.parametrize(
    ("guard", "given", "expected"),
    [
        (options.as_bins, np.int64(15), 15),
        (options.as_bins, options.MOST_BINS, 1000),
        (options.as_replicates, 0, 0),
        (options.as_level, np.float32(0.5), 0.5),
        (options.as_bandwidth, None, None),
        (options.as_bandwidth, 1e-300, 1e-300),
        (options.as_binning, "equal_mass", "equal_mass"),
        (options.as_kind, "marginal", "marginal"),
        (lambda value: options.as_share(value, "tpr"), 1, 1.0),
        (lambda value: options.as_count(value, "states", 1), 10**9, 10**9),
    ],
)
def test_what_passes(guard, given, expected):
    found = guard(given)
    assert found == expected and type(found) is type(expected)


@pytest.mark.parametrize(
    ("guard", "given", "error", "match"),
    [
        (options.as_bins, 0, ValueError, "bins: must be at least 1; got 0; give 1 or more"),
        (options.as_bins, 1001, ValueError, "bins: must be at most 1000; got 1001; give 1000 or fewer"),
        (options.as_bins, True, TypeError, "bins: must be an integer; got bool True; give 1 or more"),
        (options.as_bins, np.False_, TypeError, "bins: must be an integer; got bool"),
        (options.as_replicates, 10.0, TypeError, "bootstrap: must be an integer; got float 10.0; give 0 or more"),
        (options.as_replicates, -1, ValueError, "bootstrap: must be at least 0; got -1; give 0 or more"),
        (options.as_level, 95, ValueError, "confidence: must lie between 0 and 1; got 95.0; give 0.95, say"),
        (options.as_level, math.nan, ValueError, "confidence: must lie between 0 and 1; got nan; give 0.95, say"),
        (options.as_level, "high", TypeError, "confidence: must be a number; got str 'high'; give 0.95, say"),
        (options.as_bandwidth, 0, ValueError, "bandwidth: must be positive and finite; got 0.0; give 0.1, say"),
        (options.as_bandwidth, math.inf, ValueError, "bandwidth: must be positive and finite; got inf; give 0.1, say"),
        (options.as_bandwidth, [], TypeError, r"bandwidth: must be a number; got list \[\]; give 0.1, say"),
        (lambda v: options.as_bandwidth(v, 1.0), 2, ValueError, r"bandwidth: must lie in \(0, 1\]; got 2.0; give 0.1"),
        (options.as_binning, "even", ValueError, r"binning: must be one of \(.*\); got 'even'; give one of them"),
        (options.as_kind, None, ValueError, r"kind: must be one of \(.*\); got None; give one of them"),
        (lambda v: options.as_share(v, "tpr"), 95, ValueError, r"tpr: must lie in \[0, 1\]; got 95.0; give 0.99, say"),
        (lambda v: options.as_share(v, "tpr"), None, TypeError, "tpr: must be a number; got NoneType None; give 0.99"),
    ],
)
def test_what_is_refused(guard, given, error, match):
    with pytest.raises(error, match=match):
        guard(given)


def test_numbers_for_json():
    assert [options.finite_or_none(x) for x in (0.5, math.nan, -math.inf)] == [0.5, None, None]
    lists = options.to_lists(np.array([[1.0, math.nan], [math.inf, 2.0]]))
    assert json.dumps(lists, allow_nan=False) == "[[1.0, null], [null, 2.0]]"
