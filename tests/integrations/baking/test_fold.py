"""The algebra: a folded layer followed by nothing is the layer followed by the map."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.exceptions import NotFittedError

from logitherm import TemperatureScaling
from logitherm.calibration import (
    GroupTemperatureScaling,
    TopAnswers,
    TruncatedTemperatureScaling,
    VectorScaling,
    adapt_to_label_shift,
    binary_logits,
)
from logitherm.integrations.baking.fold import affine_map, fitted_to, fold, is_temperature
from logitherm.kernels.affine import Affine

EVERY = {"largest": 1e308, "where": "the layer"}
NUMBERS = st.floats(-10, 10, width=32)


def layer(rows=4, bias=True, seed=1):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(rows, 6)), rng.normal(size=rows) if bias else None, rng.normal(size=(50, 6))


def test_the_map_is_what_transform_does(calibrator):
    z = 3 * np.random.default_rng(2).normal(size=(50, 4))
    np.testing.assert_allclose(affine_map(calibrator)(z), calibrator.transform(z), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("bias", [True, False])
def test_a_folded_layer_makes_the_calibrated_logits(calibrator, bias):
    weight, constant, x = layer(bias=bias)
    w, b = fold(affine_map(calibrator), weight, constant, **EVERY)
    plain = x @ weight.T + (0 if constant is None else constant)
    np.testing.assert_allclose(x @ w.T + (0 if b is None else b), calibrator.transform(plain), rtol=1e-11, atol=1e-11)
    assert (b is None) == (constant is None and isinstance(calibrator, TemperatureScaling))


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 5), st.data())
def test_folding_twice_is_folding_the_composition(k, data):
    def drawn(*shape):
        values = data.draw(st.lists(NUMBERS, min_size=int(np.prod(shape)), max_size=int(np.prod(shape))))
        return np.array(values).reshape(shape)

    first, second = (Affine(drawn(k), drawn(k), drawn(k, k)) for _ in range(2))
    x, weight, bias = drawn(3, 2), drawn(k, 2), drawn(k)
    w, b = fold(second, *fold(first, weight, bias, **EVERY), **EVERY)
    np.testing.assert_allclose(x @ w.T + b, second(first(x @ weight.T + bias)), rtol=1e-9, atol=1e-7)


def test_one_score_stands_for_zero_and_it(fitted, calibrator):
    two = fitted(type(calibrator), 2)
    x = np.linspace(-5, 5, 11)
    u = two.transform(binary_logits(x))
    mapped = fitted_to(affine_map(two), 1, "the layer")
    np.testing.assert_allclose(mapped(x[:, None])[:, 0], u[:, 1] - u[:, 0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("labels", [1, 3])
def test_scores_of_labels(platt, labels):
    scaling, x = platt(labels), np.random.default_rng(1).normal(size=(20, labels))
    np.testing.assert_allclose(affine_map(scaling)(x), scaling.transform(x), rtol=1e-12)


@pytest.mark.parametrize("temperature", [2, 2.0, np.float32(2), np.float64(2)])
def test_a_number_fits_any_layer(temperature):
    w, b = fold(affine_map(temperature), np.eye(3), None, **EVERY)
    np.testing.assert_array_equal(w, np.eye(3) / 2)
    assert b is None


def test_other_class_frequencies_are_a_bias():
    z = np.random.default_rng(0).normal(size=(200, 3))
    shift = adapt_to_label_shift(z, [1, 2, 3])
    np.testing.assert_allclose(affine_map(shift)(z), shift.transform(z), rtol=1e-12)


def test_a_class_that_is_forbidden_stays_so(fitted):
    mapped = affine_map(fitted(VectorScaling))
    _, b = fold(mapped, np.ones((4, 1)), np.array([0, -np.inf, 0, 0]), **EVERY)
    assert np.isinf(b).tolist() == [False, True, False, False]


# -- what cannot be folded -------------------------------------------------------------------------------


def test_what_is_not_affine_is_refused_with_a_way_out(curved):
    with pytest.raises(ValueError, match=rf"^calibrator: .*{type(curved).__name__}: .*; fit \w+$"):
        affine_map(curved)


def test_groups_are_refused_but_not_the_number_of_one(fitted):
    rng = np.random.default_rng(0)
    z = rng.normal(size=(200, 3))
    scaling = GroupTemperatureScaling().fit(z, (z + rng.gumbel(size=z.shape)).argmax(axis=1), rng.integers(0, 2, 200))
    with pytest.raises(ValueError, match=r"give that of one group, temperatures_\[i\]"):
        affine_map(scaling)
    assert affine_map(scaling.temperatures_[0]).scale == 1 / scaling.temperatures_[0]


def test_lists_of_answers_are_refused_but_not_their_number():
    rng = np.random.default_rng(0)
    z = 2 * rng.normal(size=(200, 3))
    answers = TopAnswers.of_tokens(z - np.log(np.exp(z).sum(axis=1, keepdims=True)), states=3)
    scaling = TruncatedTemperatureScaling().fit(answers, (z / 2 + rng.gumbel(size=z.shape)).argmax(axis=1))
    with pytest.raises(ValueError, match=r"TruncatedTemperatureScaling: .*; give temperature_ alone$"):
        affine_map(scaling)
    assert affine_map(scaling.temperature_).scale == 1 / scaling.temperature_


def test_which_maps_are_one_temperature(calibrator):
    assert is_temperature(affine_map(calibrator)) == isinstance(calibrator, TemperatureScaling)
    assert is_temperature(affine_map(2.0))
    flat = np.full(3, 0.5)
    assert is_temperature(Affine(flat, np.zeros(3)))
    assert not is_temperature(Affine(flat, np.ones(3)))
    assert not is_temperature(Affine(np.array([0.5, 0.5, 0.6]), np.zeros(3)))


@pytest.mark.parametrize("temperature", [0, 0.0, -1.0, float("inf"), float("nan")])
def test_no_weights_are_those_of_the_limits(temperature):
    with pytest.raises(ValueError, match=rf"^calibrator: T must be positive and finite.*got {temperature:g}"):
        affine_map(temperature)


def test_calibrators_at_a_bound(platt):
    z = np.array([[3.0, 0.0], [0.0, 3.0]] * 4)
    for labels in ([0, 1] * 4, [1, 0] * 4):
        scaling = TemperatureScaling().fit(z, labels)
        assert scaling.at_bound_
        with pytest.raises(ValueError, match="T must be positive and finite"):
            affine_map(scaling)
    scaling = platt(2)
    scaling.temperatures_[1] = np.inf
    with pytest.raises(ValueError, match="got inf"):
        affine_map(scaling)


@pytest.mark.parametrize("other", [True, None, "2.0", np.ones(3), object()])
def test_what_is_no_calibrator(other):
    with pytest.raises(TypeError, match=r"^calibrator: must be a temperature, TemperatureScaling"):
        affine_map(other)


def test_a_calibrator_that_is_not_fitted():
    with pytest.raises(NotFittedError):
        affine_map(TemperatureScaling())


def test_another_number_of_classes(calibrator):
    with pytest.raises(ValueError, match="got 4 for the layer with 5 outputs; use the calibrator of this model"):
        fold(affine_map(calibrator), np.ones((5, 2)), None, **EVERY)


def test_an_overflow_is_an_error_and_not_infinity():
    small = {"largest": 65504.0, "where": "the layer"}
    fold(affine_map(1e-4), np.array([[6.5]]), None, **small)
    for bad in ([[6.6]], [[np.inf]], [[np.nan]]):
        with pytest.raises(ValueError, match=r"weights of the layer must stay finite \(at most 6.55e\+04\)"):
            fold(affine_map(1e-4), np.array(bad), None, **small)
    with pytest.raises(ValueError, match="bias of the layer must stay finite"):
        fold(affine_map(1e-4), np.ones((1, 1)), np.array([7.0]), **small)
