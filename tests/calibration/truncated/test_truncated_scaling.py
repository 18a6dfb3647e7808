"""Answers of which only the largest log-probabilities are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import logitherm
from logitherm.calibration import TopAnswers, TruncatedTemperatureScaling, load_calibrator
from logitherm.calibration.truncated.fillings import (
    Truncated,
    completed,
    concentrated,
    even,
    extreme_mean,
    mean_and_variance,
    power_law,
)


def truncated(p: np.ndarray, k: int) -> Truncated:
    """The k largest of sorted probabilities."""
    mass = p[k:].sum()
    cap = min(p[k - 1], mass)
    return known(p[:k], mass, cap, len(p) - k)


def known(listed, mass, cap, missing, slack=0.0):
    masses = (np.log([m]) for m in (mass, mass * (1 - slack), mass * (1 + slack)))
    return Truncated(np.log(listed)[None], *masses, np.log([cap]), np.array([float(missing)]), False)


def mean_logit(listed: np.ndarray, others: np.ndarray, b: float) -> float:
    q = np.concatenate([listed, others[others > 0]])
    return float((q**b * np.log(q)).sum() / (q**b).sum())


@settings(max_examples=60, deadline=None)
@given(
    states=st.sampled_from([3, 5, 20, 300]),
    k=st.integers(1, 3),
    concentration=st.sampled_from([0.2, 1.0, 5.0]),
    b=st.sampled_from([0.05, 0.3, 0.6, 1.0, 1.001, 1.4, 3.0, 8.0]),
    seed=st.integers(0, 10**6),
)
def test_no_filling_is_beyond_the_extremes(states, k, concentration, b, seed):
    rng = np.random.default_rng(seed)
    p = np.sort(rng.dirichlet(np.full(states, concentration)) + 1e-9)[::-1]
    k = min(k, states - 1)
    p /= p.sum()
    rows = truncated(p, k)
    mass, cap, missing = p[k:].sum(), float(np.exp(rows.log_cap[0])), states - k
    fillings = [p[k:], np.full(missing, mass / missing)]
    for _ in range(20):  # some at the cap, some equal, the others without anything
        capped = rng.integers(0, int(mass / cap) + 1)
        left = mass - capped * cap
        equal = rng.integers(1, missing + 1)
        if capped + equal <= missing and 0 <= left <= equal * cap:
            fillings.append(np.array([cap] * capped + [left / equal] * equal + [0.0] * (missing - capped - equal)))
    means = [mean_logit(p[:k], q, b) for q in fillings]
    lowest, highest = (float(extreme_mean(rows, b, largest=side)[0][0]) for side in (False, True))
    assert lowest - 1e-8 <= min(means) and max(means) <= highest + 1e-8


@pytest.mark.parametrize("b", [0.3, 0.7, 1.0, 1.5, 4.0])
def test_the_extremes_are_reached_where_a_filling_has_whole_numbers(b):
    """With one missing state there is one filling; with two and twice the cap as well."""
    for p in (np.array([0.5, 0.3, 0.2]), np.array([0.4, 0.2, 0.2, 0.2])):
        k = 2
        found = [float(extreme_mean(truncated(p, k), b, largest=side)[0][0]) for side in (False, True)]
        np.testing.assert_allclose(found, mean_logit(p[:k], p[k:], b), rtol=1e-9)


def test_a_dense_search_finds_nothing_much_inside_the_extremes():
    """Three missing states, all fillings on a fine grid."""
    p = np.array([0.4, 0.2, 0.2, 0.15, 0.05])
    grid = np.linspace(0, 0.2, 201)
    x, y = np.meshgrid(grid, grid)
    z = 0.4 - x - y
    fits = (z >= -1e-12) & (z <= 0.2)
    for b in (0.3, 0.8, 1.5, 3.0):
        q = np.stack([x[fits], y[fits], np.maximum(z[fits], 0.0)])
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = np.where(q > 0, np.log(q), 0.0)
        weights, listed = q**b * (q > 0), p[:2] ** b
        means = ((listed @ np.log(p[:2])) + (weights * logs).sum(axis=0)) / (listed.sum() + weights.sum(axis=0))
        rows = known(p[:2], 0.4, 0.2, 3)
        low, high = (float(extreme_mean(rows, b, largest=side)[0][0]) for side in (False, True))
        width = high - low
        assert low - 1e-9 <= means.min() <= low + 0.1 * width
        assert high - 0.1 * width <= means.max() <= high + 1e-9


def test_fillings_spend_the_mass():
    rng = np.random.default_rng(0)
    p = -np.sort(-rng.dirichlet(np.full(5000, 0.05), size=50), axis=1) + 1e-12
    answers = TopAnswers.of_tokens(np.log(p[:, :5] / p.sum(axis=1, keepdims=True)), states=5000)
    rows = answers.rows
    for filling in (even(rows, rows.log_mass), concentrated(rows, rows.log_mass), power_law(rows)):
        spent = (np.exp(filling.logits + filling.log_copies)).sum(axis=1)
        np.testing.assert_allclose(spent, np.exp(answers.rows.log_mass), rtol=1e-7)
        assert np.all(filling.logits[filling.log_copies > -np.inf].max() <= answers.rows.log_cap.max() + 1e-9)


@settings(max_examples=60, deadline=None)
@given(
    missing=st.integers(1, 30),
    share=st.floats(0.01, 1),
    slack=st.floats(0, 0.9),
    b=st.sampled_from([0.05, 0.4, 0.9, 1.0, 1.2, 3.0]),
    seed=st.integers(0, 10**6),
)
def test_no_mass_within_its_bounds_is_beyond_the_extremes(missing, share, slack, b, seed):
    rng = np.random.default_rng(seed)
    listed = np.sort(rng.dirichlet(np.ones(4)))[::-1] * rng.uniform(0.2, 0.95)
    cap = listed[-1] + 1e-6
    mass = share * missing * cap / (1 + slack)
    rows = known(listed, mass, min(cap, mass * (1 + slack)), missing, slack)
    lowest, highest = (float(extreme_mean(rows, b, largest=side)[0][0]) for side in (False, True))
    for m in mass * (1 + slack * rng.uniform(-1, 1, 5)):
        for q in (np.full(missing, m / missing), np.append(np.full(int(m / cap), cap), m - int(m / cap) * cap)):
            assert lowest - 1e-8 <= mean_logit(listed, q, b) <= highest + 1e-8


def listed_answers(seed=0, n=1500, states=1000, k=20, temperature=1.3, sharpness=2.0):
    """Logits, labels, the k largest log-probabilities and the place of the label among them or -1."""
    rng = np.random.default_rng(seed)
    z = sharpness * rng.normal(size=(n, states))
    labels = (z / temperature + rng.gumbel(size=z.shape)).argmax(axis=1)
    top = np.argsort(-z, axis=1)[:, :k]
    hit = top == labels[:, None]
    place = np.where(hit.any(axis=1), hit.argmax(axis=1), -1)
    return z, labels, np.take_along_axis(logitherm.log_softmax(z), top, axis=1), place


@pytest.mark.parametrize("temperature", [0.6, 1.0, 1.5])
def test_the_temperature_of_the_whole_rows_lies_within_the_bounds(temperature):
    z, labels, log_p, place = listed_answers(temperature=temperature)
    whole = logitherm.fit_temperature(z, labels).temperature
    widths = []
    for k in (5, 10, 20):
        answers = TopAnswers.of_tokens(log_p[:, :k], states=1000)
        found = TruncatedTemperatureScaling().fit(answers, np.where(place < k, place, -1))
        low, high = found.temperature_bounds_
        assert low <= whole <= high and low <= found.temperature_ <= high
        assert found.interval_[0] < low and found.interval_[1] >= high
        widths.append(1 / low - 1 / high)
    assert widths[0] > widths[1] > widths[2]


def test_a_label_beyond_the_list_may_come_with_its_probability():
    z, labels, log_p, place = listed_answers(temperature=0.7)
    occurred = np.where(place < 0, np.take_along_axis(logitherm.log_softmax(z), labels[:, None], 1)[:, 0], -np.inf)
    known = TopAnswers.of_tokens(log_p, states=1000, occurred=occurred)
    better = TruncatedTemperatureScaling().fit(known, np.where(place < 0, 20, place))
    without = TruncatedTemperatureScaling().fit(TopAnswers.of_tokens(log_p, states=1000), place)
    whole = logitherm.fit_temperature(z, labels).temperature
    assert better.temperature_bounds_[0] <= whole <= better.temperature_bounds_[1]
    assert np.diff(better.temperature_bounds_) < np.diff(without.temperature_bounds_)
    assert without.unlisted_ == (place < 0).sum() and better.unlisted_ == 0


def test_with_nothing_missing_it_is_temperature_scaling():
    rng = np.random.default_rng(1)
    z = 3 * rng.normal(size=(800, 6))
    labels = (z / 2 + rng.gumbel(size=z.shape)).argmax(axis=1)
    found = TruncatedTemperatureScaling().fit(TopAnswers.of_tokens(logitherm.log_softmax(z), states=6), labels)
    plain = logitherm.fit_temperature(z, labels)
    np.testing.assert_allclose([found.temperature_, *found.temperature_bounds_], plain.temperature, rtol=1e-6)
    np.testing.assert_allclose(found.standard_error_, plain.sandwich_error, rtol=1e-5)
    answers = TopAnswers.of_tokens(logitherm.log_softmax(z), states=6)
    np.testing.assert_allclose(found.predict_proba(answers), logitherm.softmax(z, plain.temperature), atol=1e-6)


def test_an_unlisted_label_counts_as_one_of_the_unlisted_states():
    """The score is the derivative of -log(P(unlisted)) under the filling."""
    _, _, log_p, _ = listed_answers(n=3, k=4)
    answers = TopAnswers.of_tokens(log_p, states=1000)
    filling = answers.filling()

    def nll(b: float) -> np.ndarray:
        others = (np.exp(filling.log_copies) * np.exp(b * filling.logits)).sum(axis=1)
        return np.log(np.exp(b * log_p).sum(axis=1) + others) - np.log(others)

    for b in (0.5, 1.0, 2.0):
        slope = (nll(b + 1e-5) - nll(b - 1e-5)) / 2e-5
        whole = mean_and_variance(completed(answers.rows, filling, b), b)[0]
        others = mean_and_variance(completed(answers.rows, filling, b, listed=False), b)[0]
        np.testing.assert_allclose(whole - others, slope, rtol=1e-6)


def multiple_choice(seed=0, n=1200, temperature=1.6, k=20):
    """Answers A to D of a model with 200 other tokens; the k most probable tokens are listed."""
    rng = np.random.default_rng(seed)
    z = np.concatenate([3 * rng.normal(size=(n, 4)) + 6, rng.normal(size=(n, 200))], axis=1)
    labels = (z[:, :4] / temperature + rng.gumbel(size=(n, 4))).argmax(axis=1)
    log_p = logitherm.log_softmax(z)
    names = np.array(["A", "B", "C", "D", *(f"t{i}" for i in range(200))])
    top = np.argsort(-z, axis=1)[:, :k]
    answers = [dict(zip(names[t].tolist(), p[t].tolist(), strict=True)) for t, p in zip(top, log_p, strict=True)]
    return z[:, :4], labels, answers


def test_multiple_choice():
    z, labels, answers = multiple_choice()
    known = TopAnswers.of_choices(answers, ["A", "B", "C", "D"])
    listed = np.take_along_axis(known.log_probabilities, labels[:, None], 1)[:, 0] > -np.inf
    whole = logitherm.fit_temperature(z[listed], labels[listed]).temperature
    found = TruncatedTemperatureScaling().fit(known.take(np.flatnonzero(listed)), labels[listed])
    low, high = found.temperature_bounds_
    assert low <= whole <= high and high / low < 1.3
    p = found.predict_proba(known)
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-9)
    low_p, high_p = found.probability_bounds(known)
    assert np.all(low_p <= p + 1e-12) and np.all(p <= high_p + 1e-12)
    truth = logitherm.softmax(z, found.temperature_)
    assert np.all(low_p <= truth + 1e-9) and np.all(truth <= high_p + 1e-9)


def test_an_unlisted_choice_leaves_the_temperature_open():
    known = TopAnswers.of_choices(
        [{"A": math.log(0.6), "B": math.log(0.3)}, {"A": math.log(0.6), "x": math.log(0.3)}] * 20, ["A", "B"]
    )
    assert TruncatedTemperatureScaling().fit(known, [0, 1] * 20).temperature_bounds_[1] == math.inf
    assert TruncatedTemperatureScaling().fit(known, [0, 1] * 20).unlisted_ == 20


def test_probability_bounds_hold_the_whole_rows():
    z, _, log_p, place = listed_answers(temperature=0.7)
    answers = TopAnswers.of_tokens(log_p, states=1000)
    found = TruncatedTemperatureScaling().fit(answers, place)
    low, high = found.probability_bounds(answers)
    truth = -np.sort(-logitherm.softmax(z, found.temperature_), axis=1)[:, :20]
    assert np.all(low <= truth + 1e-12) and np.all(truth <= high + 1e-12)
    np.testing.assert_array_equal(found.predict(answers), 0)


def test_rounding_is_within_the_bounds():
    """Sure rows: what is left of 1 is of the size of float32 rounding, and heating magnifies it."""
    rng = np.random.default_rng(2)
    z = rng.normal(size=(400, 5000))
    z[:, 0] += 20
    labels = (z / 2 + rng.gumbel(size=z.shape)).argmax(axis=1)
    whole = logitherm.fit_temperature(z, labels).temperature
    log_p = logitherm.log_softmax(z.astype(np.float32)).astype(np.float32)
    top = np.argsort(-z, axis=1)[:, :20]
    hit = top == labels[:, None]
    place = np.where(hit.any(axis=1), hit.argmax(axis=1), 20)
    occurred = np.where(place == 20, np.take_along_axis(log_p, labels[:, None], 1)[:, 0], -np.inf)
    assert (place == 20).any()
    listed = np.take_along_axis(log_p, top, 1)
    low, high = (
        TruncatedTemperatureScaling()
        .fit(TopAnswers.of_tokens(listed, states=5000, occurred=occurred), place)
        .temperature_bounds_
    )
    assert low <= whole <= high
    unlisted = TruncatedTemperatureScaling().fit(
        TopAnswers.of_tokens(listed, states=5000), np.where(place == 20, -1, place)
    )
    assert unlisted.temperature_bounds_[1] == math.inf and np.isfinite(unlisted.temperature_)


def test_an_unlisted_token_where_all_are_listed_is_refused():
    answers = TopAnswers.of_tokens(np.log([[0.5, 0.5], [0.5, 0.5]]), states=2)
    with pytest.raises(ValueError, match=r"row 1 has -1 \(1 such in all\); -1 stands for a token that is not listed"):
        TruncatedTemperatureScaling().fit(answers, [0, -1])


def test_separable_answers_and_answers_without_signal():
    sure = TopAnswers.of_tokens(np.log(np.tile([0.6, 0.2], (40, 1))), states=50)
    zero = TruncatedTemperatureScaling().fit(sure, np.zeros(40, dtype=int))
    assert zero.temperature_ == 0 and zero.at_bound_ == "zero" and zero.standard_error_ is None
    np.testing.assert_array_equal(zero.predict_proba(sure), np.tile([1.0, 0.0], (40, 1)))
    whole = TopAnswers.of_tokens(np.log(np.tile([0.7, 0.3], (40, 1))), states=2)
    endless = TruncatedTemperatureScaling().fit(whole, np.tile([1, 1, 0], 14)[:40])
    assert endless.at_bound_ == "infinite"
    np.testing.assert_allclose(endless.predict_proba(whole), 0.5)


def test_weights_are_copies():
    _, _, log_p, place = listed_answers(n=60)
    weights = np.arange(60) % 3
    index = np.repeat(np.arange(60), weights)
    answers = TopAnswers.of_tokens(log_p, states=1000)
    weighted = TruncatedTemperatureScaling().fit(answers, place, weights)
    copied = TruncatedTemperatureScaling().fit(answers.take(index), place[index])
    np.testing.assert_allclose(weighted.temperature_bounds_, copied.temperature_bounds_, rtol=1e-6)
    np.testing.assert_allclose(weighted.temperature_, copied.temperature_, rtol=1e-6)


def test_files(tmp_path):
    _, _, log_p, place = listed_answers(n=100)
    answers = TopAnswers.of_tokens(log_p, states=1000)
    fitted = TruncatedTemperatureScaling().fit(answers, place)
    fitted.save(tmp_path / "c.json")
    back = load_calibrator(tmp_path / "c.json")
    assert isinstance(back, TruncatedTemperatureScaling) and back.temperature_bounds_ == fitted.temperature_bounds_
    np.testing.assert_array_equal(back.transform(answers), fitted.transform(answers))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TopAnswers.of_tokens(np.zeros((2, 3)), states=10), "logarithms of at most 1 together; row 0"),
        (lambda: TopAnswers.of_tokens(np.full((2, 3), np.nan), states=10), "logarithms of at most 1 together; row 0"),
        (lambda: TopAnswers.of_tokens(np.full((2, 3), -np.inf), states=10), "logarithms of at most 1 together; row 0"),
        (lambda: TopAnswers.of_tokens(np.zeros((2, 3), dtype=int), states=10), "must be floating"),
        (lambda: TopAnswers.of_tokens(np.log([[0.2, 0.1]]), states=1), "at least as many as are listed; got 1 for 2"),
        (lambda: TopAnswers.of_tokens(np.log([[0.2, 0.1]]), states=4), "row 0 leaves 0.7 to 2 states of at most 0.1"),
        (lambda: TopAnswers.of_choices([{"A": -0.1}, {" B": -0.1}], ["A", "B"]), r"row 1 lists \[' B'\]"),
        (lambda: TopAnswers.of_choices([{"A": -0.1}], "AB"), "choices: must be two different tokens"),
        (lambda: TopAnswers.of_choices([], ["A", "B"]), "answers: must list tokens; got 0 answers"),
        (lambda: TopAnswers.of_tokens(np.log([[0.2]]), states=9, rounding=-1.0), r"rounding: must be .* got -1"),
    ],
)
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_labels_are_checked():
    answers = TopAnswers.of_tokens(np.log([[0.5, 0.2], [0.5, 0.2]]), states=10, occurred=[-np.inf, math.log(0.1)])
    for labels, message in (
        ([0, 3], "row 1 has 3"),
        ([2, 0], "row 0 has 2"),  # an empty column
        ([0, -2], "row 1 has -2"),
        ([0.0, 1.0], "must be integers"),
    ):
        with pytest.raises(ValueError, match=message):
            TruncatedTemperatureScaling().fit(answers, labels)
    with pytest.raises(TypeError, match="must be TopAnswers"):
        TruncatedTemperatureScaling().fit(np.zeros((2, 2)), [0, 1])


def test_rows_that_are_masked_or_ignored_do_not_count():
    rng = np.random.default_rng(0)
    p = -np.sort(-rng.dirichlet(np.ones(6), size=60))
    answers = TopAnswers.of_tokens(np.log(p[:, :3]), states=6)
    labels = rng.integers(0, 3, 60)
    keep = np.arange(60) % 4 > 0
    kept = TruncatedTemperatureScaling().fit(answers, labels, keep)
    masked = TruncatedTemperatureScaling().fit(answers, labels, mask=keep)
    ignored = TruncatedTemperatureScaling().fit(answers, np.where(keep, labels, -100), ignore_index=-100)
    assert kept.temperature_ == masked.temperature_ == ignored.temperature_
    assert masked.n_ == ignored.n_ == 45 and masked.temperature_bounds_ == kept.temperature_bounds_
    with pytest.raises(ValueError, match="weights: must not all be zero"):
        TruncatedTemperatureScaling().fit(answers, labels, mask=~keep & keep)


# -- the likelihood --------------------------------------------------------------------------------------


@given(seed=st.integers(0, 1000), choices=st.booleans(), temperature=st.floats(0.1, 10))
def test_the_fitted_temperature_has_the_least_nll(seed, choices, temperature):
    """Of labels that are listed and of some that are not."""
    rng = np.random.default_rng(seed)
    p = -np.sort(-rng.dirichlet(np.full(8, 0.5), size=30), axis=1) + 1e-9
    log_p = np.log(p / p.sum(axis=1, keepdims=True))
    if choices:
        answers = TopAnswers.of_choices(
            [dict(zip("abcdefgh"[:6], row[:6], strict=True)) for row in log_p], list("abch")
        )
    else:
        answers = TopAnswers.of_tokens(log_p[:, :4], states=8)
    labels = rng.integers(0 if choices else -1, 4, size=30)
    scaling = TruncatedTemperatureScaling().fit(answers, labels)
    assert scaling.nll(answers, labels) <= scaling.nll(answers, labels, temperature) + 1e-9


def test_the_nll_is_that_of_the_known_rows_and_of_what_is_left():
    rng = np.random.default_rng(0)
    z = 2 * rng.normal(size=(200, 5))
    labels = (z / 1.5 + rng.gumbel(size=z.shape)).argmax(axis=1)
    log_p = logitherm.log_softmax(z)
    whole = TopAnswers.of_tokens(log_p, states=5)
    scaling = TruncatedTemperatureScaling().fit(whole, labels)
    for t in (0.5, 1.0, 3.0, math.inf):
        assert scaling.nll(whole, labels, t) == pytest.approx(logitherm.metrics.nll(z, labels, t), rel=1e-5)
    top = TopAnswers.of_tokens(np.log(np.array([[0.6, 0.3]])), states=100)
    assert scaling.nll(top, np.array([-1]), 1.0) == pytest.approx(-math.log(0.1), rel=1e-5)
    with pytest.raises(ValueError, match=r"temperature: must lie in \[0, inf\]; got -1"):
        scaling.nll(whole, labels, -1)
