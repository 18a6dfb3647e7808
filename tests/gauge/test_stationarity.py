"""Is what was trained with L2 at its optimum? The identity between what rows ask for and what weights hold."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV

from logitherm import fit_temperature, softmax
from logitherm.gauge import regression_stationarity, stationarity

RNG = np.random.default_rng(0)
X = RNG.normal(size=(200, 4))
Y = (X @ RNG.normal(size=(4, 3)) + RNG.gumbel(size=(200, 3))).argmax(axis=1)
FITTED = LogisticRegression(C=0.5, tol=1e-10).fit(X, Y)
Z = FITTED.decision_function(X)


def by_hand(z, y, weights=None):
    p = softmax(z)
    return float(np.average(z[np.arange(len(y)), y] - (p * z).sum(axis=1), weights=weights))


# -- logistic regression ---------------------------------------------------------------------------------


@settings(max_examples=15)
@given(st.floats(-3, 3), st.integers(2, 4), st.booleans(), st.booleans(), st.integers(0, 2**32 - 1))
def test_both_sides_agree_wherever_the_solver_came_to_its_end(log_c, classes, intercept, weighted, seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(60, 3))
    y = (x @ rng.normal(size=(3, classes)) + rng.gumbel(size=(60, classes))).argmax(axis=1)
    y[:classes] = np.arange(classes)
    weights = rng.uniform(0.1, 3, size=60) if weighted else None
    model = LogisticRegression(C=10.0**log_c, fit_intercept=intercept, solver="newton-cholesky", tol=1e-10)
    model.fit(x, y, sample_weight=weights)
    found = regression_stationarity(model, x, y, sample_weight=weights)
    z = model.decision_function(x)
    z = np.stack([0 * z, z], axis=1) if classes == 2 else z
    assert found.score == pytest.approx(by_hand(z, y, weights), rel=1e-9, abs=1e-14)
    total = 60 if weights is None else weights.sum()
    assert found.expected == pytest.approx((model.coef_**2).sum() / model.C / total, rel=1e-12)
    assert abs(found.residual) < 1e-5
    assert found.verdict.startswith("At its scale") and found.n == 60


def test_it_sees_a_solver_that_stopped_early():
    found = regression_stationarity(LogisticRegression(C=100, tol=0.03).fit(X, Y), X, Y)
    assert abs(found.residual) > 0.01 and found.verdict.startswith("Not stationary: coef_ still ")


def test_a_penalty_leaves_training_rows_underconfident_and_none_asks_for_one():
    held = fit_temperature(Z, Y).temperature
    assert regression_stationarity(FITTED, X, Y).score > 0 and held < 1
    free = LogisticRegression(C=math.inf, tol=1e-10).fit(X, Y)
    found = regression_stationarity(free, X, Y)
    assert found.penalty == 0 and found.score == pytest.approx(0, abs=1e-7)
    assert fit_temperature(free.decision_function(X), Y).temperature == pytest.approx(1, abs=1e-6)


def test_labels_are_those_of_the_classes():
    names = np.array(["c", "a", "b"])[Y]
    model = LogisticRegression(C=0.5, tol=1e-10).fit(X, names)
    assert regression_stationarity(model, X, names).score == pytest.approx(by_hand(Z, Y), rel=1e-6)
    with pytest.raises(ValueError, match=r"labels: must be among the classes of the model \['a', 'b', 'c'\]"):
        regression_stationarity(model, X, np.where(names == "a", "d", names))


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        (LogisticRegression(l1_ratio=0.5, solver="saga", tol=0.1), ValueError, "model: must have an L2 penalty alone"),
        (LogisticRegression(class_weight="balanced"), ValueError, "model: must have no class_weight"),
        (LogisticRegression(solver="liblinear"), ValueError, "model: must have no penalty on the intercept"),
    ],
)
def test_other_objectives_are_refused(model, error, message):
    y = Y > 0
    with pytest.raises(error, match=message):
        regression_stationarity(model.fit(X, y), X, y)


@pytest.mark.parametrize("model", [torch.nn.Linear(4, 3), LogisticRegressionCV()])
def test_other_models_are_refused(model):
    with pytest.raises(TypeError, match=f"model: must be a LogisticRegression; got {type(model).__name__}"):
        regression_stationarity(model, X, Y)


# -- any last layer --------------------------------------------------------------------------------------


def test_conventions_of_the_penalty_say_one_thing():
    """Mean CE + penalty ||W||^2; weight decay is twice that; of a sum it counts a row's share."""
    one = stationarity(Z, Y, {"head": FITTED.coef_}, penalty=0.005)
    for same in (
        stationarity(Z, Y, {"head": FITTED.coef_}, weight_decay=0.01),
        stationarity(Z, Y, {"head": FITTED.coef_}, penalty=1.0, reduction="sum"),
        stationarity(Z, Y, {"head": FITTED.coef_}, weight_decay=2.0, reduction="sum"),
        regression_stationarity(FITTED, X, Y),
    ):
        assert same.expected == pytest.approx(one.expected, rel=1e-12)
        assert same.score == pytest.approx(one.score, rel=1e-12)
    assert one.expected == pytest.approx(2 * 0.005 * (FITTED.coef_**2).sum(), rel=1e-12)


@pytest.mark.parametrize("decayed_bias", [False, True])
def test_the_last_layer_of_any_network(decayed_bias):
    """With biases and smooth activations below; a bias counts with the weights if it is penalised, else not at all."""
    torch.manual_seed(0)
    x, y = torch.tensor(X), torch.tensor(Y)
    body, head = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.Tanh()).double(), torch.nn.Linear(6, 3).double()
    parameters = [*body.parameters(), *head.parameters()]
    held = (head.weight, head.bias) if decayed_bias else (head.weight,)
    optimizer = torch.optim.LBFGS(parameters, max_iter=300, tolerance_grad=1e-9, line_search_fn="strong_wolfe")

    def loss():
        optimizer.zero_grad()
        total = torch.nn.functional.cross_entropy(head(body(x)), y) + 0.01 * sum((w**2).sum() for w in held)
        total.backward()
        return total

    optimizer.step(loss)
    logits = head(body(x)).detach()
    found = stationarity(logits, y, {"head": held}, penalty=0.01)
    assert abs(found.residual) < 1e-4
    assert found.layers[0].squared_norm == pytest.approx(sum((w.detach() ** 2).sum().item() for w in held))


def test_signs_and_words():
    grown = stationarity(3 * Z, Y, {"head": 3 * FITTED.coef_}, penalty=0.005)
    assert grown.residual < 0 and grown.verdict.startswith("Not stationary: head still shrinks, by ")
    small = stationarity(Z / 3, Y, {"head": FITTED.coef_ / 3}, penalty=0.005)
    assert small.residual > 0 and "head still grows" in small.verdict
    free = stationarity(Z, Y, {"head": FITTED.coef_}, penalty=0)
    assert free.verdict.startswith("Not penalised: training rows ask for larger logits still")
    assert "smaller logits" in stationarity(9 * Z, Y, {"head": FITTED.coef_}, penalty=0).verdict
    nothing = stationarity(0 * Z, Y, {"head": 0 * FITTED.coef_}, penalty=0.1)
    assert nothing.verdict == "Nothing can be told: the weights are 0." and math.isnan(nothing.residual)
    assert json.loads(json.dumps(nothing.to_dict()))["residual"] is None


def test_layers_are_listed_and_balanced():
    found = stationarity(Z, Y, {"a": FITTED.coef_, "b": 2 * FITTED.coef_}, penalty=0.005)
    assert [layer.name for layer in found.layers] == ["a", "b"]
    assert found.imbalance == pytest.approx(3) and found.worst.name == "b"
    assert found.expected == pytest.approx(np.mean([layer.expected for layer in found.layers]))
    assert found.gradient is None
    assert stationarity(Z, Y, {"a": FITTED.coef_, "b": 0 * FITTED.coef_}, penalty=0.005).imbalance == math.inf


def test_the_score_survives_large_offsets_and_weights_are_copies():
    weights = RNG.integers(0, 4, size=200)
    found = stationarity(Z + 1e6, Y, {"head": FITTED.coef_}, penalty=0.1, weights=weights)
    rows = np.repeat(np.arange(200), weights)
    assert found.score == pytest.approx(by_hand(Z[rows], Y[rows]), abs=1e-8)
    scores = Z[np.arange(200), Y] - (softmax(Z) * Z).sum(axis=1)
    plain = stationarity(Z, Y, {"head": FITTED.coef_}, penalty=0.1)
    assert plain.standard_error == pytest.approx(scores.std(ddof=1) / math.sqrt(200))
    assert math.isnan(stationarity(Z[:1], Y[:1], {"head": FITTED.coef_}, penalty=0.1).standard_error)


W = FITTED.coef_


@pytest.mark.parametrize(
    ("layers", "kwargs", "error", "message"),
    [
        ({"head": W}, {}, ValueError, "penalty, weight_decay: must be one of the two; got both or neither"),
        ({"head": W}, {"penalty": 1, "weight_decay": 2}, ValueError, "must be one of the two"),
        ({"head": W}, {"penalty": -1}, ValueError, "penalty: must be finite and at least 0; got -1"),
        ({"head": W}, {"weight_decay": math.nan}, ValueError, "weight_decay: must be finite and at least 0; got nan"),
        ({"head": W}, {"penalty": "l2"}, TypeError, "penalty: must be a number; got str 'l2'"),
        ({"head": W}, {"penalty": 1, "reduction": "none"}, ValueError, "reduction: must be one of"),
        ({}, {"penalty": 1}, ValueError, "layers: must name at least one array of weights"),
        (W, {"penalty": 1}, ValueError, r"layers: must name at least one array of weights; got shape \(3, 4\)"),
        ({"head": W * math.inf}, {"penalty": 1}, ValueError, r"layers\['head'\]: must be finite"),
        ({"head": W.astype(int)}, {"penalty": 1}, TypeError, r"layers\['head'\]: must be floating point"),
    ],
)
def test_what_is_refused(layers, kwargs, error, message):
    with pytest.raises(error, match=message):
        stationarity(Z, Y, layers, **kwargs)


def test_impossible_labels_are_refused():
    z = Z.copy()
    z[np.arange(5), Y[:5]] = -math.inf
    with pytest.raises(ValueError, match="labels: must be possible; 5 of 200 rows have a label of logit -inf"):
        stationarity(z, Y, {"head": W}, penalty=1)
