"""The likelihood of affine maps: values by hand, slopes and curvatures by finite differences."""

from __future__ import annotations

import numpy as np
import pytest

from logitherm.kernels.affine import Affine, cross_entropy, curvatures

RNG = np.random.default_rng(0)
N, K = 300, 5
Z, LABELS, WEIGHTS = 2 * RNG.normal(size=(N, K)), RNG.integers(0, K, N), 2 * RNG.random(N)
MAPS = {
    "vector": Affine(1 + 0.2 * RNG.normal(size=K), RNG.normal(size=K)),
    "matrix": Affine(1 + 0.2 * RNG.normal(size=K), RNG.normal(size=K), 0.3 * RNG.normal(size=(K, K))),
}
each_map = pytest.mark.parametrize("mapped", MAPS.values(), ids=MAPS)


def by_hand(mapped, z=Z):
    total = 0.0
    for row, label, weight in zip(z, LABELS, WEIGHTS):
        u = row * mapped.scale + mapped.bias + (0 if mapped.matrix is None else mapped.matrix @ row)
        u = u[np.isfinite(u)] if label == -1 else u
        total += weight * (np.logaddexp.reduce(u) - u[label])
    return total


@each_map
def test_the_value(mapped, ran):
    assert cross_entropy(Z, LABELS, WEIGHTS, mapped)[0] == pytest.approx(by_hand(mapped), rel=1e-12)
    assert ran("residuals") >= 1


@each_map
def test_slopes_and_curvatures(mapped):
    slopes = cross_entropy(Z, LABELS, WEIGHTS, mapped)[1]
    model, _ = curvatures(Z, LABELS, WEIGHTS, mapped)
    pivot = np.zeros_like(model.first)
    pairs = model.about(pivot)
    bends = Affine(pairs if mapped.matrix is None else np.diagonal(pairs), model.zeroth, pairs)
    step = 1e-4
    for name in ("scale", "bias", *(["matrix"] if mapped.matrix is not None else [])):
        for index in np.ndindex(getattr(mapped, name).shape):

            def at(change, name=name, index=index):
                moved = getattr(mapped, name).copy()
                moved[index] += change
                return by_hand(mapped._replace(**{name: moved}))

            slope = (at(step) - at(-step)) / (2 * step)
            bend = (at(step) - 2 * at(0) + at(-step)) / step**2
            assert getattr(slopes, name)[index] == pytest.approx(slope, rel=1e-6, abs=1e-6)
            assert getattr(bends, name)[index] == pytest.approx(bend, rel=1e-3, abs=1e-3)


@each_map
def test_curvatures_about_a_pivot_are_those_of_moved_logits(mapped):
    pivot = RNG.normal(size=K)
    bias = mapped.bias + mapped.scale * pivot + (0 if mapped.matrix is None else mapped.matrix @ pivot)
    moved = curvatures(Z - pivot, LABELS, WEIGHTS, mapped._replace(bias=bias))
    for here, there in zip(curvatures(Z, LABELS, WEIGHTS, mapped), moved):
        wide = pivot if mapped.matrix is None else np.tile(pivot, (K, 1))
        np.testing.assert_allclose(here.about(wide), there.second, rtol=1e-9)


@each_map
def test_squared_slopes_of_the_rows(mapped):
    _, squares = curvatures(Z, LABELS, WEIGHTS, mapped)
    expected = np.zeros(K)
    for i in range(N):
        one = slice(i, i + 1)
        expected += WEIGHTS[i] * cross_entropy(Z[one], LABELS[one], np.ones(1), mapped)[1].bias ** 2
    np.testing.assert_allclose(squares.zeroth, expected, rtol=1e-10)


def test_forbidden_states_stay_so():
    z = Z.copy()
    masked = RNG.random(z.shape) < 0.2
    masked[np.arange(N), LABELS] = False
    z[masked] = -np.inf
    mapped = Affine(np.array([1.0, -0.5, 0.0, 1.0, 2.0]), MAPS["vector"].bias)
    value, slopes = cross_entropy(z, LABELS, WEIGHTS, mapped)
    expected = 0.0
    for row, mask, label, weight in zip(Z, masked, LABELS, WEIGHTS):
        u = (row * mapped.scale + mapped.bias)[~mask]
        expected += weight * (np.logaddexp.reduce(u) - (row * mapped.scale + mapped.bias)[label])
    assert value == pytest.approx(expected, rel=1e-12)
    assert np.all(np.isfinite(slopes.scale)) and np.all(np.isfinite(slopes.bias))


def test_float32_is_computed_in_float64():
    z = Z.astype(np.float32)
    assert cross_entropy(z, LABELS, WEIGHTS, MAPS["vector"])[0] == pytest.approx(
        cross_entropy(z.astype(np.float64), LABELS, WEIGHTS, MAPS["vector"])[0], rel=1e-14
    )


def test_a_bad_row_is_named():
    z = Z.copy()
    z[7, 2] = np.nan
    with pytest.raises(ValueError, match=r"logits: .*row 7 has NaN"):
        cross_entropy(z, LABELS, WEIGHTS, MAPS["vector"])
