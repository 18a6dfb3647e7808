"""Linear heads up to their gauge."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from logitherm import softmax
from logitherm.gauge import Head, canonical_head, same_head
from logitherm.thermostat import LinearSchedule

RNG = np.random.default_rng(0)
W, B, X = RNG.normal(size=(4, 6)), RNG.normal(size=4), RNG.normal(size=(50, 6))


def law(head, x=X):
    return softmax(x @ head.weight.T + head.bias, head.temperature)


@st.composite
def heads(draw):
    classes, features = draw(st.integers(2, 5)), draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    size, t = (10.0 ** draw(st.floats(-3, 3)) for _ in range(2))
    return Head(size * rng.normal(size=(classes, features)), size * rng.normal(size=classes), t), rng


@given(heads(), st.floats(-3, 3))
def test_every_gauge_has_one_canonical_form_and_one_law(drawn, log_c):
    head, rng = drawn
    c, features = 10.0**log_c, head.weight.shape[1]
    shift = np.abs(head.weight).max() * rng.normal(size=features)
    other = Head(c * (head.weight + shift), c * (head.bias + shift[0]), c * head.temperature)
    x = rng.normal(size=(5, features)) * head.temperature / np.abs(head.weight).max()
    assert np.allclose(law(head, x), law(other, x), rtol=0, atol=1e-12)
    for form in ("temperature", "norm"):
        one, two = canonical_head(head, form=form), canonical_head(other, form=form)
        size = np.abs(one.weight).max() + np.abs(one.bias).max()
        assert np.allclose(one.weight, two.weight, rtol=0, atol=1e-12 * size)
        assert np.allclose(one.bias, two.bias, rtol=0, atol=1e-12 * size)
        assert one.temperature == pytest.approx(two.temperature, rel=1e-12)
        assert np.allclose(law(head, x), law(one, x), rtol=0, atol=1e-12)
    assert same_head(head, other)


@given(heads(), st.floats(0.05, 3))
def test_the_canonical_form_is_one(drawn, log_c):
    """Centred, of T = 1 or norm 1, and its own canonical form; colder heads have another."""
    head, _ = drawn
    fixed = canonical_head(head)
    assert fixed.temperature == 1
    assert np.abs(fixed.weight.sum(axis=0)).max() <= 1e-13 * np.abs(fixed.weight).max()
    unit = canonical_head(head, form="norm")
    assert np.linalg.norm(unit.weight) == pytest.approx(1, rel=1e-14)
    assert np.allclose(canonical_head(unit).weight, fixed.weight, rtol=1e-12)
    assert not same_head(head, Head(head.weight, head.bias, head.temperature * 10**log_c))


def test_weights_and_temperature_alone_are_no_gauge_where_there_is_a_bias():
    doubled = Head(2 * W, B, 2.0)
    assert not same_head(Head(W, B), doubled)
    assert np.abs(law(Head(W, B)) - law(doubled)).max() > 0.05
    assert same_head(Head(W), Head(2 * W, temperature=2.0))


@given(heads(), st.floats(0.01, 0.99))
def test_l2_has_no_minimum_along_a_free_gauge(drawn, c):
    """The same law, and a smaller penalty: with T free, weight decay has nothing to hold."""
    head, _ = drawn
    smaller = Head(c * head.weight, c * head.bias, c * head.temperature)
    assert same_head(head, smaller)
    assert (smaller.weight**2).sum() < (head.weight**2).sum()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_torch_stays_torch(dtype):
    found = canonical_head(Head(torch.tensor(W, dtype=dtype), torch.tensor(B, dtype=dtype), 2.0), form="norm")
    expected = torch.float64 if dtype == torch.float64 else torch.float32
    assert found.weight.dtype == found.bias.dtype == expected
    budget = {torch.float16: 2e-3, torch.bfloat16: 2e-2, torch.float32: 1e-6, torch.float64: 1e-14}[dtype]
    assert np.allclose(found.weight, canonical_head(Head(W, B, 2.0), form="norm").weight, rtol=0, atol=budget)


def test_a_linear_layer():
    layer = torch.nn.Linear(6, 4).double()
    head = Head.of(layer, temperature=0.5)
    with torch.no_grad():
        expected = torch.softmax(layer(torch.tensor(X)) / 0.5, dim=1)
    assert np.allclose(law(Head(head.weight.numpy(), head.bias.numpy(), 0.5)), expected, atol=1e-14)
    assert not head.weight.requires_grad
    assert Head.of(torch.nn.Linear(6, 4, bias=False)).bias.tolist() == [0, 0, 0, 0]
    assert same_head(layer, head, up_to_temperature=True) and not same_head(layer, head)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("intercept", [True, False])
def test_a_fitted_classifier(classes, intercept):
    y = X[:, :classes].argmax(axis=1)
    model = LogisticRegression(fit_intercept=intercept).fit(X, y)
    head = Head.of(model)
    assert head.weight.shape == (classes, 6)
    assert np.allclose(law(head), model.predict_proba(X), atol=1e-12)


def test_extreme_weights():
    for size in (1e-200, 1e200):
        unit = canonical_head(Head(size * W), form="norm")
        assert np.linalg.norm(unit.weight) == pytest.approx(1, rel=1e-14)
        assert same_head(Head(size * W), Head(W, temperature=1 / size))


def test_classes_all_alike():
    head = Head(np.full((3, 2), 0.1), np.full(3, 0.7))
    assert not canonical_head(head).weight.any() and not canonical_head(head).bias.any()
    with pytest.raises(ValueError, match="weight: must differ between classes to have a norm"):
        canonical_head(head, form="norm")


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Head(W[0]), ValueError, r"weight: must be \(classes, features\).*shape \(6,\)"),
        (lambda: Head(W[:1]), ValueError, r"a single score x stands for the logits \(0, x\)"),
        (lambda: Head(W.astype(int)), TypeError, "weight: must be floating point"),
        (lambda: Head(W, B[:2]), ValueError, r"bias: must hold one number a class.*shape \(2,\)"),
        (lambda: Head(torch.tensor(W), B), ValueError, "bias: must hold one number a class"),
        (lambda: Head(np.where(W > 2, math.nan, W) * math.inf), ValueError, "weight: must be finite; 24 of"),
        (lambda: Head(W, np.full(4, -math.inf)), ValueError, "bias: must be finite; 4 of"),
        (lambda: Head(W, B, 0.0), ValueError, "temperature: must be positive and finite for a head; got 0.0"),
        (lambda: Head(W, B, math.inf), ValueError, "temperature: must be positive and finite for a head; got inf"),
        (lambda: Head(W, B, -1.0), ValueError, "temperature: must lie in"),
        (lambda: Head(W, B, "hot"), TypeError, "temperature: must be a number"),
        (lambda: Head.of(torch.nn.ReLU()), TypeError, "model: must have weight and bias.*got ReLU"),
        (lambda: Head.of(LogisticRegression()), TypeError, "once fitted; got LogisticRegression"),
        (lambda: canonical_head(Head(W), form="bias"), ValueError, "form: must be one of"),
    ],
)
def test_what_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_a_schedule_is_no_temperature_of_a_head():
    with pytest.raises(TypeError, match="temperature: must be a number for a head; got LinearSchedule"):
        Head(np.eye(2), temperature=LinearSchedule(1.0, 0.1, 10))
