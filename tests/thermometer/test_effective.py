"""The temperature of one model against another."""

import json
import math
import tracemalloc

import numpy as np
import pytest

from logitherm import effective_temperature, log_softmax, softmax

Z = 2 * np.random.default_rng(0).normal(size=(400, 7))
OTHER = Z + np.random.default_rng(1).normal(size=Z.shape)


def divergence(target, source, temperature, weights=None):
    """Mean KL(softmax(target) || softmax(source / temperature)), term by term."""
    p = softmax(target)
    log_p, log_q = (np.where(p > 0, v, 0) for v in (log_softmax(target), log_softmax(source, temperature)))
    terms = p * (log_p - log_q)
    return float(np.average(terms.sum(axis=1), weights=weights))


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("temperature", [0.05, 0.3, 2.5, 50.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_source_that_differs_by_a_temperature_alone(temperature, scale, dtype):
    target = (Z / temperature).astype(dtype)
    found = effective_temperature((scale * Z).astype(dtype), target)
    assert found.temperature == pytest.approx(scale * temperature, rel=1e-6 if dtype == np.float32 else 1e-9)
    assert found.divergence_after == pytest.approx(0, abs=1e-12)
    assert found.share == pytest.approx(1, abs=1e-9)
    assert (found.n, found.classes, found.at_bound) == (400, 7, None)


def test_no_difference_has_no_share():
    for target in (Z, Z + np.arange(400.0)[:, None]):  # a common offset is no difference
        found = effective_temperature(Z, target)
        assert found.temperature == pytest.approx(1, abs=1e-9)
        assert math.isnan(found.share)
        assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["share"] is None


def test_it_minimises_the_divergence():
    found = effective_temperature(OTHER, Z)
    assert found.divergence_before == pytest.approx(divergence(Z, OTHER, 1.0), rel=1e-12)
    assert found.divergence_after == pytest.approx(divergence(Z, OTHER, found.temperature), rel=1e-12)
    for factor in (1 - 1e-3, 1 + 1e-3):
        assert divergence(Z, OTHER, found.temperature) < divergence(Z, OTHER, factor * found.temperature)
    assert found.share == pytest.approx(1 - found.divergence_after / found.divergence_before)
    assert 0 < found.share < 1


def test_it_is_directional():
    there, back = effective_temperature(OTHER, Z), effective_temperature(Z, OTHER)
    assert abs(math.log(there.temperature * back.temperature)) > 0.1
    assert back.divergence_after == pytest.approx(divergence(OTHER, Z, back.temperature))


def test_weights_are_repetitions():
    weights = np.random.default_rng(2).integers(0, 3, len(Z))
    weighted = effective_temperature(OTHER, Z, weights=weights)
    repeated = effective_temperature(np.repeat(OTHER, weights, axis=0), np.repeat(Z, weights, axis=0))
    assert weighted.temperature == pytest.approx(repeated.temperature, rel=1e-8)
    assert weighted.share == pytest.approx(repeated.share, rel=1e-9)


def test_other_libraries_axes_and_batches():
    torch = pytest.importorskip("torch")
    found = effective_temperature(OTHER, Z)
    assert effective_temperature(torch.from_numpy(OTHER).requires_grad_(), torch.from_numpy(Z)) == found
    batch = [np.moveaxis(v.reshape(20, 20, 7), -1, 0) for v in (OTHER, Z)]
    assert effective_temperature(*batch, axis=0).temperature == pytest.approx(found.temperature, rel=1e-12)


def test_bounds():
    uniform = effective_temperature(Z, np.zeros_like(Z))
    assert (uniform.temperature, uniform.at_bound) == (math.inf, "infinite")
    assert uniform.divergence_after == pytest.approx(0, abs=1e-12)
    opposed = effective_temperature(Z, -Z)
    assert opposed.at_bound == "infinite"
    assert opposed.divergence_after == pytest.approx(divergence(-Z, np.zeros_like(Z), 1.0))
    first_choice = np.eye(7, dtype=bool)[Z.argmax(axis=1)]
    sure = effective_temperature(Z, np.where(first_choice, 0, -math.inf))
    assert (sure.temperature, sure.at_bound, sure.divergence_after) == (0.0, "zero", 0.0)
    assert effective_temperature(Z, 1e9 * Z).at_bound == "zero"  # to rounding
    for found in (uniform, opposed, sure):
        json.dumps(found.to_dict(), allow_nan=False)


def test_forbidden_states():
    forbidden = np.random.default_rng(3).random(Z.shape) < 0.2
    forbidden[:, 0] = False
    target = np.where(forbidden, -math.inf, Z)
    both = effective_temperature(target, target / 2)
    assert both.temperature == pytest.approx(2, rel=1e-9)
    assert both.divergence_after == pytest.approx(0, abs=1e-12)
    wider = effective_temperature(OTHER, target)  # the source may allow more
    assert wider.divergence_after == pytest.approx(divergence(target, OTHER, wider.temperature), rel=1e-9)


def spoilt(row, value):
    z = Z.copy()
    z[row, 2] = value
    return z


@pytest.mark.parametrize(
    ("source", "target", "error", "message"),
    [
        (Z, Z[:5], ValueError, "target: must have the shape of source"),
        (spoilt(3, -np.inf), Z, ValueError, "source: must allow every state .*; 1 of 400 rows forbid one, first row 3"),
        (spoilt(5, np.nan), Z, ValueError, "source: .* row 5 has NaN"),
        (Z, spoilt(6, np.inf), ValueError, r"target: .* row 6 has \+inf"),
        (Z[:0], Z[:0], ValueError, "at least one row"),
        (Z.astype(int), Z, TypeError, "source: must be floating point"),
        (Z, Z.astype(int), TypeError, "target: must be floating point"),
    ],
)
def test_what_is_refused(source, target, error, message):
    with pytest.raises(error, match=message):
        effective_temperature(source, target)


def test_negative_weights_are_refused():
    with pytest.raises(ValueError, match="weights: must be finite and not negative"):
        effective_temperature(OTHER, Z, weights=-np.ones(400))


def test_nothing_of_the_size_of_the_logits_is_kept():
    z = np.random.default_rng(0).normal(size=(20_000, 500)).astype(np.float32)
    half = z / 2
    effective_temperature(z[:300], half[:300])  # compiled, imported
    tracemalloc.start()
    try:
        effective_temperature(z, half)
        assert tracemalloc.get_traced_memory()[1] < z.nbytes / 4
    finally:
        tracemalloc.stop()
