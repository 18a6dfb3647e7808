"""Tests of one temperature: silent where it is enough, loud where it is not, and right about why."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from logitherm import fit_temperature, softmax
from logitherm.calibration import BiasCorrectedTemperatureScaling, VectorScaling, goodness_of_fit
from logitherm.calibration.goodness import _test_classes, _test_entropy, _test_matrix, _test_parts
from logitherm.calibration.rows import labelled
from logitherm.metrics import nll


def simulated(n=3000, classes=4, seed=0, temperature=1.7, bias=0.0, scale=1.0, row_scale=None, blunders=0.0):
    """Labels from softmax(z row_scale scale + bias), some at random; logits heated by mistake."""
    rng = np.random.default_rng(seed)
    z = 2 * rng.normal(size=(n, classes)) * rng.choice([0.5, 1.5], size=(n, 1))
    u = z * scale + bias
    if row_scale is not None:
        u *= row_scale(z)
    labels = (u + rng.gumbel(size=z.shape)).argmax(axis=1)
    wrong = rng.random(n) < blunders
    labels[wrong] = rng.integers(0, classes, wrong.sum())
    return temperature * z, labels


def test_under_the_null_hypothesis_p_values_are_uniform():
    """150 honest samples: a fifth of the p-values below a fifth, within four standard errors, robust or not."""
    groups = np.arange(400) % 5
    found: dict[str, list[tuple[float, float]]] = {}
    for seed in range(150):
        for test in goodness_of_fit(*simulated(n=400, seed=seed), groups=groups, parts=2).tests:
            found.setdefault(test.family, []).append((test.p_value, test.trusted_p_value))
    assert set(found) == {"confidence", "entropy", "bias", "class", "matrix", "group", "ensemble"}
    for family, p in found.items():
        require_uniform(np.array(p)[:, 0], family, below=family != "ensemble")  # on a bound they are too large
        require_uniform(np.array(p)[:, 1], family, below=family != "ensemble")


def require_uniform(p, name, *, below=True):
    for level in (0.05, 0.2):
        error = np.sqrt(level * (1 - level) / len(p))
        share = np.mean(p < level)
        assert share < level + 4 * error, (name, level, share)
        if below:
            assert share > level - 4 * error, (name, level, share)


def score_tests(seed, n, classes, blunders):
    """The tests of families that are as right as one T, where blunders fall on all classes and groups alike."""
    z, labels = simulated(n=n, classes=classes, seed=seed, blunders=blunders)
    data, t = labelled(z, labels), fit_temperature(z, labels).temperature
    tests = [_test_parts("group", data, t, np.arange(n) % 5), *_test_classes(data, t), _test_matrix(data, t)]
    return {test.family: test for test in tests if test is not None}


def p_values(samples, *arguments):
    found: dict[str, list[tuple[float, float]]] = {}
    for seed in range(samples):
        for test in score_tests(seed, *arguments).values():
            found.setdefault(test.family, []).append((test.p_value, test.robust_p_value))
    return {family: np.array(p) for family, p in found.items()}


@pytest.mark.slow
@pytest.mark.parametrize(("n", "blunders"), [(400, 0.0), (400, 0.05), (1500, 0.05)])
def test_robust_p_values_are_uniform_with_blunders_too(n, blunders):
    """300 samples, where the model-based test of groups rejects two to four times too often."""
    found = p_values(300, n, 4, blunders)
    assert set(found) == {"group", "bias", "class", "matrix"}
    for family, p in found.items():
        require_uniform(p[:, 1], family)
    assert (np.mean(found["group"][:, 0] < 0.05) > 0.09) == (blunders > 0)


@pytest.mark.slow
def test_classes_that_hardly_occur_do_not_deceive_the_robust_tests():
    """Whose empirical variance is 0: taken as it is, it makes a third of the tests of a bias reject at 5 %."""
    rare = -np.linspace(0, 6, 20)
    found = []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        z = 2 * rng.normal(size=(500, 20)) + rare
        data = labelled(z, (z + rng.gumbel(size=z.shape)).argmax(axis=1))
        tests = _test_classes(data, fit_temperature(z, data.labels).temperature)
        found.append([test.robust_p_value for test in tests])
    for p in np.array(found).T:
        require_uniform(p, "rare", below=False)


@given(seed=st.integers(0, 10_000), n=st.integers(60, 200), scale=st.sampled_from([0.125, 2.0, 64.0]))
def test_the_robust_statistic_knows_no_scale_of_weights_and_is_at_most_the_rows(seed, n, scale):
    """U and the root of V grow alike with all weights; and (sum s)^2 is at most n times the sum of squares."""
    z, labels = simulated(n=n, classes=3, seed=seed)
    weights = np.random.default_rng(seed).uniform(0.5, 2, n)
    t = fit_temperature(z, labels, weights=weights).temperature
    rows = labelled(z, labels, weights)
    heavier = rows._replace(weights=scale * rows.weights)
    part = np.arange(n) % 3
    for a, b in zip(
        (_test_parts("group", rows, t, part), _test_entropy(rows, t), *_test_classes(rows, t)),
        (_test_parts("group", heavier, t, part), _test_entropy(heavier, t), *_test_classes(heavier, t)),
        strict=True,
    ):
        assert b.robust_statistic == pytest.approx(a.robust_statistic, rel=1e-6, abs=1e-9)
        assert b.statistic == pytest.approx(scale * a.statistic, rel=1e-6, abs=1e-9)
        assert a.robust_statistic <= n * (1 + 1e-9)


def test_the_robust_form_is_the_definition():
    """U' V^-1 U of the rows' own effective scores, for the classes that all occur often."""
    z, labels = simulated(n=2000)
    t = fit_temperature(z, labels).temperature
    data = labelled(z, labels)
    x, p = z / t, softmax(z, t)
    seen = np.eye(4)[labels] - p
    heat = (seen * x).sum(axis=1)
    cross = (p * (x - (p * x).sum(axis=1, keepdims=True))).sum(axis=0)
    own = (p * x**2).sum() - ((p * x).sum(axis=1) ** 2).sum()
    s = (seen - np.outer(heat, cross / own))[:, :3]  # of four biases three are free
    expected = s.sum(axis=0) @ np.linalg.solve(s.T @ s, s.sum(axis=0))
    assert _test_classes(data, t)[0].robust_statistic == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(
    ("truth", "first"),
    [
        ({"bias": np.array([1.0, 0, 0, 0])}, {"bias", "class"}),
        ({"scale": np.array([1.5, 1, 1, 0.5])}, {"class"}),
        ({"row_scale": lambda z: np.where(np.ptp(z, axis=1, keepdims=True) > 3, 0.4, 1.5)}, {"confidence", "entropy"}),
        ({"blunders": 0.1}, {"ensemble", "confidence", "entropy"}),
    ],
)
def test_what_is_missing_is_found(truth, first):
    found = goodness_of_fit(*simulated(**truth))
    assert found.tests[0].family in first
    assert found.tests[0].p_value < 1e-6
    enough = goodness_of_fit(*simulated())
    assert min(test.p_value for test in enough.tests) > 1e-3


def test_a_matrix_is_found_where_classes_are_mixed():
    rng = np.random.default_rng(0)
    z = 2 * rng.normal(size=(3000, 5))
    mixing = np.eye(5) + 0.5 * np.eye(5, k=1) - 0.5 * np.eye(5, k=-3)
    labels = (z @ mixing.T + rng.gumbel(size=z.shape)).argmax(axis=1)
    found = {test.family: test for test in goodness_of_fit(z, labels).tests}
    assert found["matrix"].p_value < 1e-20
    assert found["matrix"].freedom == 4 * 5 - 1  # classes less one, a bias and logits less their mean; less T
    assert found["matrix"].gain > 3 * found["class"].gain


def test_groups():
    z, labels = simulated()
    other, more = simulated(seed=1, temperature=4.0)
    groups = np.repeat(["a", "b"], 3000)
    found = goodness_of_fit(np.concatenate([z, other]), np.concatenate([labels, more]), groups=groups)
    test = next(test for test in found.tests if test.family == "group")
    assert test.freedom == 1 and test.p_value < 1e-20
    for part, (logits, own), name in zip(found.by_group, ((z, labels), (other, more)), "ab", strict=True):
        fit = fit_temperature(logits, own)
        assert (part.name, part.n) == (name, 3000)
        assert (part.temperature, part.low, part.high) == pytest.approx((fit.temperature, *fit.interval), rel=1e-5)


def test_half_the_statistic_is_about_the_gain_of_the_family():
    z, labels = simulated(n=20_000, bias=np.array([0.1, 0, 0, 0]))
    found = {test.family: test for test in goodness_of_fit(z, labels).tests}
    single = fit_temperature(z, labels).nll_after
    for family, richer in (("bias", BiasCorrectedTemperatureScaling), ("class", VectorScaling)):
        gain = single - nll(richer(strength=0).fit(z, labels).transform(z), labels)
        assert found[family].gain == pytest.approx(gain, rel=0.05)


def test_parts_of_confidence_tell_their_temperatures_about_equally_well():
    z, labels = simulated(n=6000)
    parts = goodness_of_fit(z, labels, parts=6).by_confidence
    assert len(parts) == 6 and sum(part.n for part in parts) == 6000
    widths = [np.log(part.high / part.low) for part in parts]
    assert max(widths) < 3 * min(widths)
    assert all(part.low < 1.7 * 1.2 and part.high > 1.7 / 1.2 for part in parts)


def test_weights_count_rows():
    z, labels = simulated(n=800, bias=np.array([0.5, 0, 0, 0]))
    weights = np.random.default_rng(0).integers(0, 3, 800)
    weighted = goodness_of_fit(z, labels, weights=weights)
    repeated = goodness_of_fit(np.repeat(z, weights, axis=0), np.repeat(labels, weights))
    for a in weighted.tests:
        b = next(test for test in repeated.tests if test.family == a.family)
        if a.family != "confidence":  # whose parts may be cut elsewhere
            assert a.statistic == pytest.approx(b.statistic, rel=1e-2, abs=1e-2)


def test_nothing_to_test():
    z, _ = simulated(n=100)
    for labels in (z.argmax(axis=1), z.argmin(axis=1)):
        found = goodness_of_fit(z, labels)
        assert found.tests == () and found.by_confidence == ()
        json.dumps(found.to_dict(), allow_nan=False)


def test_groups_of_another_length_are_refused():
    with pytest.raises(ValueError, match=r"groups: must have one entry a row, shape \(3000,\)"):
        goodness_of_fit(*simulated(), groups=[1, 2])
