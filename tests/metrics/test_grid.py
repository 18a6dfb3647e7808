from __future__ import annotations

import json
import math

import pytest

from logitherm.metrics import brier, expected_calibration_error, nll, reliability, reliability_grid
from logitherm.metrics import grid as module
from logitherm.metrics.rows import row_blocks

GRID = [0.0, 0.3, 1.0, 4.0, math.inf]


def test_each_temperature_is_the_single_call(case, monkeypatch):
    monkeypatch.setattr(module, "row_blocks", lambda inputs: row_blocks(inputs, values=500))  # several blocks
    z, y, w = case
    grid = reliability_grid(z, y, GRID, bins=10, weights=w)
    assert grid.count.shape == grid.confidence.shape == grid.accuracy.shape == (5, 10)
    for i, t in enumerate(GRID):
        r = reliability(z, y, t, bins=10, bootstrap=0, weights=w)
        assert grid.edges.tolist() == r.edges.tolist()
        assert grid.count[i] == pytest.approx(r.count)
        assert grid.confidence[i] == pytest.approx(r.confidence, nan_ok=True)
        assert grid.accuracy[i] == pytest.approx(r.accuracy, nan_ok=True)
        assert grid.nll[i] == pytest.approx(nll(z, y, t, weights=w))
        assert grid.brier[i] == pytest.approx(brier(z, y, t, weights=w))
        assert grid.ece[i] == pytest.approx(expected_calibration_error(z, y, t, bins=10, weights=w))


def test_json(case):
    read = json.loads(json.dumps(reliability_grid(*case[:2], GRID).to_dict(), allow_nan=False))
    assert read["nll"][0] is None
    assert read["temperatures"] == [0.0, 0.3, 1.0, 4.0, None]
    assert len(read["accuracy"][2]) == 15


@pytest.mark.parametrize(
    ("temperatures", "kind", "message"),
    [
        (1.0, ValueError, "temperatures: must be a list of at least one; got shape"),
        ([], ValueError, "temperatures: must be a list of at least one"),
        ([[1.0]], ValueError, "temperatures: must be a list of at least one"),
        ([1.0, -2.0], ValueError, r"temperature: must lie in \[0, inf\]; got -2.0 at index 1"),
        (["hot"], TypeError, "temperatures: must be an array of numbers"),
    ],
)
def test_temperature_errors(case, temperatures, kind, message):
    with pytest.raises(kind, match=message):
        reliability_grid(*case[:2], temperatures)


def test_bins_are_guarded(case):
    with pytest.raises(ValueError, match="bins: must be at least 1"):
        reliability_grid(*case[:2], [1.0], bins=0)
