"""The maximum of a likelihood from its sums on a grid, against functions whose maximum is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from logitherm.calibration.stream.grid import grid, optimum


def sums_of(inverse, best):
    """NLL, score, curvature and squared score of two states a distance of 1 apart, the lower one seen with the share
    that softmax gives it at inverse temperature `best`, in 50 rows."""
    share = 1 / (1 + np.exp(best))
    p = 1 / (1 + np.exp(np.minimum(inverse, 700.0)))
    with np.errstate(over="ignore", invalid="ignore"):
        nll = np.log1p(np.exp(-inverse)) + share * inverse
    squares = share * (1 - p) ** 2 + (1 - share) * p**2
    return 50 * np.array([nll, share - p, p * (1 - p), squares])


@pytest.mark.parametrize("best", [0.06, 0.5, 1.0, 1.234, 4.0, 7.0])
@pytest.mark.parametrize("reference", [0.3, 1.0, 4.0])
def test_a_known_maximum(best, reference):
    inverse = grid(reference)
    temperature, error, nll, bound = optimum(inverse, sums_of(inverse, best))
    known = sums_of(np.array([best]), best)[:, 0]
    assert bound is None
    relative = math.sqrt(known[3]) / known[2] / best
    assert abs(math.log(temperature * best)) < 0.002 * relative
    assert error == pytest.approx(relative, rel=0.01 if best < 5 else 0.03)  # there hardly a row in 1000 tells T
    assert nll == pytest.approx(known[0], abs=50 * 1e-5)


def test_exact_at_a_node():
    inverse = grid(2.0)
    assert inverse[len(inverse) // 2] == 0.5
    assert optimum(inverse, sums_of(inverse, 0.5))[0] == pytest.approx(2.0, rel=1e-12)


def test_bounds():
    for reference, best, expected in (
        (1.0, 1e-3, "above grid"),
        (1.0, -1.0, "infinite"),
        (1.0, 0.0, "infinite"),
        (100.0, 5.0, "below grid"),
    ):
        inverse = grid(reference)
        temperature, error, nll, bound = optimum(inverse, sums_of(inverse, best))
        assert bound == expected and error is None and math.isnan(nll)
        assert temperature == math.inf if expected == "infinite" else math.isnan(temperature)
    inverse = grid(1.0)
    separable = sums_of(inverse, 1.0)
    separable[1] = -1 / (1 + np.exp(np.minimum(inverse, 700.0)))
    separable[1, -1] = 0.0
    assert optimum(inverse, separable)[0] == 0.0
