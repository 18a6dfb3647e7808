"""A network for the temperature: the common promises of calibrators, and what it gains and costs."""

from __future__ import annotations

import importlib.util
import json
import math
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.utils.estimator_checks import check_estimator

import logitherm
from logitherm.calibration import TemperatureScaling, parametric
from logitherm.calibration.parametric import ParametricTemperatureScaling
from logitherm.metrics import nll


def beside(name):
    """A test module of this folder."""
    spec = importlib.util.spec_from_file_location(f"{name}_for_parametric", Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


FAMILIES = beside("test_families")
LOGITS, LABELS = FAMILIES.LOGITS, FAMILIES.LABELS


@pytest.mark.filterwarnings("ignore::Warning")  # the checks themselves warn
def test_scikit_learn_takes_it_for_an_estimator():
    expected = beside("test_temperature_scaling").EXPECTED_FAILURES
    results = check_estimator(
        ParametricTemperatureScaling(), expected_failed_checks=expected, on_skip=None, on_fail=None
    )
    assert not {r["check_name"]: r["exception"] for r in results if r["status"] == "failed"}


# -- what it finds ---------------------------------------------------------------------------------------


def drawn(n, classes, law, seed):
    """Rows of several spreads, and labels at a temperature that depends on the margin."""
    rng = np.random.default_rng(seed)
    z = rng.choice([1.0, 2, 4, 8], size=(n, 1)) * rng.normal(size=(n, classes))
    top = np.sort(z, axis=1)
    temperature = law(top[:, -1] - top[:, -2])
    return z, (z / temperature[:, None] + rng.gumbel(size=z.shape)).argmax(axis=1), temperature


@pytest.mark.parametrize("classes", [3, 30])
@pytest.mark.parametrize(
    "law", [lambda m: 1 + m / 2, lambda m: np.where(m > 2, 4.0, 1.0)], ids=["rising with the margin", "a step"]
)
def test_a_temperature_that_depends_on_the_margin_is_found(classes, law):
    scaling = ParametricTemperatureScaling().fit(*drawn(3000, classes, law, 0)[:2])
    z, labels, temperature = drawn(20000, classes, law, 1)
    truth = nll(z / temperature[:, None], labels)
    single = nll(TemperatureScaling().fit(z, labels).transform(z), labels) - truth
    assert nll(scaling.transform(z), labels) - truth < 0.25 * single
    assert np.corrcoef(np.log(scaling.resolve(z)), np.log(temperature))[0, 1] > 0.8


@pytest.mark.parametrize("n", [50, 200, 2000])
@pytest.mark.parametrize("classes", [3, 30])
def test_little_is_lost_where_one_temperature_is_enough(n, classes):
    lost = []
    for seed in range(5):
        z, labels, _ = drawn(n, classes, lambda m: np.full(len(m), 2.0), seed)
        fresh, truth, _ = drawn(4000, classes, lambda m: np.full(len(m), 2.0), 100 + seed)
        found = (family().fit(z, labels) for family in (ParametricTemperatureScaling, TemperatureScaling))
        network, single = (nll(each.transform(fresh), truth) for each in found)
        lost.append(network - single)
    assert np.mean(lost) < 1 / n


def test_a_stronger_prior_gives_one_temperature():
    z, labels, _ = drawn(2000, 5, lambda m: 1 + m / 2, 0)
    strong = ParametricTemperatureScaling(strength=1e4).fit(z, labels)
    assert strong.network_ is None
    np.testing.assert_array_equal(strong.transform(z), TemperatureScaling().fit(z, labels).transform(z))
    spread = [ParametricTemperatureScaling(strength=s).fit(z, labels).resolve(z).std() for s in (0.5, 5)]
    assert spread[0] > spread[1] > 0


def test_the_start_of_the_search_hardly_matters():
    z, labels, _ = drawn(2000, 5, lambda m: 1 + m / 2, 0)
    fitted = [ParametricTemperatureScaling(seed=seed).fit(z, labels) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(fitted[0].transform(z), fitted[1].transform(z))
    assert nll(fitted[0].transform(z), labels) == pytest.approx(nll(fitted[2].transform(z), labels), abs=1e-3)


def test_the_slopes_of_the_search_are_right(monkeypatch):
    """The gradient that L-BFGS is given against finite differences, at a random point."""
    from scipy.optimize import check_grad

    from logitherm.calibration import parametric

    seen = {}

    def minimize(objective, start, **options):
        at = np.random.default_rng(1).normal(size=len(start)) / 2
        seen["error"] = check_grad(lambda x: objective(x)[0], lambda x: objective(x)[1], at)
        seen["size"] = np.linalg.norm(objective(at)[1])
        return types.SimpleNamespace(fun=math.inf, x=start)

    monkeypatch.setattr(parametric, "minimize", minimize)
    weights = np.random.default_rng(2).random(len(LABELS))
    ParametricTemperatureScaling().fit(LOGITS, LABELS, sample_weight=weights)
    assert seen["error"] < 1e-5 * seen["size"]


# -- what it keeps ---------------------------------------------------------------------------------------

FITTED = ParametricTemperatureScaling().fit(*drawn(1500, 4, lambda m: 1 + m / 2, 0)[:2])
WIDE = ParametricTemperatureScaling().fit(*drawn(1500, 30, lambda m: 1 + m / 2, 0)[:2])


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.floats(-1e6, 1e6), min_size=4, max_size=4),
    st.sampled_from([0.0, 1.0, -256.0, 4096.0]),
    st.permutations(range(4)),
)
def test_shifts_and_the_order_of_classes_change_no_temperature(row, shift, order):
    z = np.array([row])
    t = FITTED.resolve(z)
    assert 0 < t[0] < math.inf
    np.testing.assert_allclose(FITTED.resolve(z + shift), t, rtol=1e-6)
    np.testing.assert_array_equal(FITTED.resolve(z[:, order]), t)
    assert FITTED.predict(z)[0] == z.argmax() == FITTED.transform(z).argmax()


def test_only_the_largest_logits_are_seen():
    z = np.sort(drawn(50, 30, lambda m: 1 + m, 3)[0], axis=1)
    other = z.copy()
    other[:, :20] -= 5
    np.testing.assert_array_equal(WIDE.resolve(z), WIDE.resolve(other))
    other[:, :20] = -math.inf
    np.testing.assert_array_equal(WIDE.resolve(z), WIDE.resolve(other))
    assert not np.array_equal(WIDE.resolve(z), WIDE.resolve(np.where(np.arange(30) < 21, -math.inf, z)))


@pytest.mark.parametrize("fitted", [FITTED, WIDE], ids=["fewer classes than it sees", "more"])
def test_tensors_give_the_same(fitted):
    z = drawn(3000, fitted.n_features_in_, lambda m: 1 + m, 3)[0]
    np.testing.assert_allclose(fitted.resolve(torch.from_numpy(z)).numpy(), fitted.resolve(z), rtol=1e-12)
    p = fitted.predict_proba(torch.from_numpy(z))
    np.testing.assert_allclose(p.numpy(), fitted.predict_proba(z), rtol=1e-9)
    assert fitted.resolve(torch.from_numpy(z).float()).dtype == torch.float32


def test_it_goes_wherever_a_temperature_does():
    z = drawn(40, 4, lambda m: 1 + m, 3)[0]
    p = logitherm.softmax(z, FITTED)
    np.testing.assert_allclose(p, FITTED.predict_proba(z), rtol=1e-12)
    np.testing.assert_array_equal(logitherm.softmax(z.reshape(5, 8, 4), FITTED), p.reshape(5, 8, 4))


def test_files(tmp_path):
    FITTED.save(tmp_path / "c.json")
    back = ParametricTemperatureScaling.load(tmp_path / "c.json")
    np.testing.assert_array_equal(back.transform(LOGITS), FITTED.transform(LOGITS))
    values = json.loads((tmp_path / "c.json").read_text())
    broken = [{key: value for key, value in values.items() if key != name} for name in values.keys() - {"format"}]
    wrong = {
        "weights": [[], values["weights"][:2], values["weights"][::-1], [1, 2, 3], [[["1"]]]],
        "biases": [[], [[0.0] * 5, [0.0] * 4, 0.0], [[0.0] * 5, [0.0] * 5, None]],
        "temperature": [-1.0, None, "2"],
        "strength": [-1],
        "classes": [5],
    }
    broken += [values | {name: value} for name, tried in wrong.items() for value in tried]
    for each in broken:
        (tmp_path / "broken.json").write_text(json.dumps(each))
        with pytest.raises(ValueError, match="must be a calibrator saved by ParametricTemperatureScaling"):
            ParametricTemperatureScaling.load(tmp_path / "broken.json")


@pytest.mark.parametrize("strength", [0, -1, math.inf, math.nan])
def test_bad_strengths_are_named(strength):
    with pytest.raises(ValueError, match="strength: must be finite and positive"):
        ParametricTemperatureScaling(strength=strength).fit(LOGITS, LABELS)


def test_slopes_are_those_of_the_likelihood_and_the_pass_is_compiled(ran):
    """On more rows than a block, by the gain of a small step along the slopes."""
    z, labels, _ = drawn(2500, 8, lambda m: 1 + m / 2, 0)
    data = parametric.labelled(z.astype(np.float32), labels)
    x = parametric._gaps(data.logits, 1.0)
    rng = np.random.default_rng(0)
    at = 0.3 * rng.normal(size=parametric._count(x.shape[1]))
    objective = parametric._objective(data, x, 1.0, 10.0)
    slopes = objective(at)[1]
    assert ran("moments") == 1
    for _ in range(5):
        step = 1e-3 * rng.normal(size=len(at))
        gain = objective(at + step)[0] - objective(at - step)[0]
        assert gain == pytest.approx(2 * step @ slopes, rel=1e-3, abs=1e-7)
