"""Scores against their definitions in float64 and in many digits, and the identities that tie them to F."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import logsumexp, softmax
from scipy.stats import entropy as shannon

from logitherm import free_energy
from logitherm.ood import (
    entropy_score,
    free_energy_score,
    generalized_entropy_score,
    max_logit_score,
    max_softmax_score,
    odin_score,
)
from logitherm.thermostat import PerGroup

DIFFERENCES = (max_softmax_score, entropy_score, generalized_entropy_score, odin_score)
SCORES = (free_energy_score, max_logit_score, *DIFFERENCES)

finite = st.integers(-3, 3).map(float) | st.floats(-30, 30)
state = finite | st.just(-math.inf)
rows = st.lists(state, min_size=1, max_size=8).map(np.array).filter(lambda z: z.max() > -math.inf)
temperatures = st.floats(-1, 2).map(lambda x: 10.0**x)


def allowed(z):
    return z[z > -math.inf]


def gen(p, gamma, top):
    kept = np.sort(p)[::-1][:top]
    return (kept**gamma * (1 - kept) ** gamma).sum()


@pytest.fixture
def logits(rng):
    return 3 * rng.normal(size=(400, 12))


# -- definitions -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("t", [0.5, 1.0, 7.0])
def test_definitions(logits, t):
    p = softmax(logits / t, axis=1)
    assert free_energy_score(logits, t) == pytest.approx(-t * logsumexp(logits / t, axis=1), abs=1e-12)
    assert max_logit_score(logits) == pytest.approx(-logits.max(1), abs=0)
    assert max_softmax_score(logits, t) == pytest.approx(-np.log(p.max(1)), abs=1e-13)
    assert entropy_score(logits, t) == pytest.approx(shannon(p, axis=1), abs=1e-12)
    assert odin_score(logits, t) == pytest.approx(-t * np.log(12 * p.max(1)), abs=1e-11)
    for gamma, top in ((0.1, 100), (0.5, 4), (1.0, 1)):
        expected = [gen(row, gamma, top) for row in p]
        assert generalized_entropy_score(logits, t, gamma=gamma, top=top) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("score", SCORES)
def test_axis_batch_lists_and_torch(score, logits):
    expected = score(logits)
    assert expected.shape == (400,) and expected.dtype == np.float64
    assert np.array_equal(score(logits.T, axis=0), expected)
    assert np.array_equal(score(logits.reshape(20, 20, 12)), expected.reshape(20, 20))
    assert score(logits.tolist()) == pytest.approx(expected, abs=1e-12)
    found = score(torch.tensor(logits))
    assert isinstance(found, torch.Tensor) and found.numpy() == pytest.approx(expected, abs=1e-12)
    half = score(torch.tensor(logits).bfloat16())
    assert half.dtype == torch.float32
    assert np.array_equal(half.numpy(), score(torch.tensor(logits).bfloat16().float()).numpy())


@pytest.mark.parametrize("score", [free_energy_score, *DIFFERENCES])
def test_a_temperature_a_row_and_a_protocol(score, logits):
    t = np.linspace(0.5, 2000, 400)
    assert score(logits, t)[7] == pytest.approx(score(logits[7], t[7]), rel=1e-12)
    group = np.arange(400) % 2
    known = PerGroup(np.array([2.5, 40.0]), group)
    assert np.array_equal(score(logits, known), score(logits, np.where(group, 40.0, 2.5)))


@pytest.mark.parametrize("score", SCORES)
def test_more_doubt_scores_higher(score):
    z = np.array([[9.0, 0.0, 0.0], [3.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    assert np.all(np.diff(score(z)) > 0)


@pytest.mark.parametrize("score", SCORES)
def test_gradients(score, rng):
    z = torch.tensor(rng.normal(size=(3, 5)), requires_grad=True)
    assert torch.autograd.gradcheck(score, (z,))
    lone = torch.tensor([[2.0, -math.inf, -math.inf], [200.0, -300.0, -math.inf]], requires_grad=True)
    score(lone).sum().backward()
    assert torch.isfinite(lone.grad).all()


# -- limits ----------------------------------------------------------------------------------------------


@given(rows)
def test_limits(z):
    inside = allowed(z)
    k, best = len(inside), int((inside == inside.max()).sum())

    def of_uniform(m, top=100):
        return min(m, top) * (1 / m * (1 - 1 / m)) ** 0.1

    assert free_energy_score(z, 0) == max_logit_score(z) == -inside.max()
    assert free_energy_score(z, math.inf) == (-math.inf if k > 1 else -inside[0])
    assert odin_score(z, 0) == 0
    assert odin_score(z, math.inf) == pytest.approx(inside.mean() - inside.max(), abs=1e-13)
    for t, m in ((0.0, best), (math.inf, k)):
        assert max_softmax_score(z, t) == pytest.approx(math.log(m), abs=1e-14)
        assert entropy_score(z, t) == pytest.approx(math.log(m), abs=1e-14)
        assert generalized_entropy_score(z, t) == pytest.approx(of_uniform(m), rel=1e-12)
        assert generalized_entropy_score(z, t, top=2) == pytest.approx(of_uniform(m, 2), rel=1e-12)


@given(rows, temperatures)
def test_forbidden_states_do_not_count(z, t):
    for score in (free_energy_score, *DIFFERENCES):
        assert score(z, t) == pytest.approx(score(allowed(z), t), rel=1e-12, abs=1e-12)
    assert max_logit_score(z) == max_logit_score(allowed(z))


# -- identities ------------------------------------------------------------------------------------------


@given(rows, temperatures)
def test_max_softmax_is_a_difference_of_free_energies(z, t):
    assert max_softmax_score(z, t) == pytest.approx((free_energy(z, 0.0) - free_energy(z, t)) / t, abs=1e-11)


@given(rows, temperatures, st.floats(0.05, 0.95))
def test_gen_lies_below_the_renyi_sum_of_free_energies(z, t, order):
    """sum p^g = exp(g (F(T) - F(T/g)) / T), and the Renyi entropy is its logarithm over 1 - g."""
    f, heated = free_energy(z, t), free_energy(z, t / order)
    sum_of_powers = math.exp(order * (f - heated) / t)
    p = softmax(allowed(z) / t)
    assert (p**order).sum() == pytest.approx(sum_of_powers, rel=1e-9)
    score = generalized_entropy_score(z, t, gamma=order)
    assert score <= sum_of_powers * (1 + 1e-9)
    others = np.where(np.eye(len(p)), 0, p).sum(axis=1)  # 1 - p, without its cancellation
    assert score == pytest.approx((p**order * others**order).sum(), rel=1e-9)


@given(rows, st.floats(2, 12).map(lambda x: 10.0**x))
def test_hot_free_energy_is_the_mean_logit_and_hot_odin_a_centred_max_logit(z, t):
    inside = allowed(z)
    top, mean, k = inside.max(), inside.mean(), len(inside)
    spread = top - inside.min()
    left = spread**2 / (8 * t)  # of the expansion in 1/T: the variance is at most a quarter of the spread's square
    assert free_energy_score(z, t) + t * math.log(k) == pytest.approx(-mean, abs=left + 1e-14 * t + 1e-12)
    assert odin_score(z, t) == pytest.approx(mean - top, abs=left + 1e-7 * spread + 1e-13)


@given(rows, temperatures, st.integers(-50, 50))
def test_a_shift_moves_the_first_two_scores_alone(z, t, shift):
    assert free_energy_score(z + shift, t) == pytest.approx(free_energy_score(z, t) - shift, abs=1e-10)
    assert max_logit_score(z + shift) == pytest.approx(max_logit_score(z) - shift, abs=1e-12)
    for score in DIFFERENCES:
        assert score(z + shift, t) == pytest.approx(score(z, t), rel=1e-6, abs=1e-9)


@given(rows, temperatures)
def test_log_probabilities_serve_the_differences(z, t):
    log_p = z - logsumexp(z)
    for score in DIFFERENCES:
        assert score(log_p, t, kind="log_probabilities") == pytest.approx(score(z, t), rel=1e-6, abs=1e-9)


three = st.lists(finite, min_size=3, max_size=3)


@given(st.lists(three, min_size=2, max_size=6).map(np.array), st.floats(1, 1000))
def test_odin_ranks_as_the_largest_probability(z, t):
    by_odin, by_p = odin_score(z, t), max_softmax_score(z, t)
    for i in range(1, len(z)):
        if abs(by_odin[i] - by_odin[0]) > 1e-6 * (1 + t):
            assert (by_odin[i] > by_odin[0]) == (by_p[i] > by_p[0])


# -- numbers that rounding would lose --------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("t", [1.0, 10.0, 1e3, 1e6, 1e9, 1e15, 1e30])
def test_odin_is_right_however_hot(definition, rng, dtype, t):
    z = (5 * rng.normal(size=(4, 10)) + 100).astype(dtype)
    hot = float(np.asarray(t, dtype))
    for row, found in zip(z, odin_score(z, t)):
        top_probability = definition(row, hot).top_probability
        exact = -float(mpmath.mpf(hot) * (mpmath.log(10 * top_probability)))
        assert found == pytest.approx(exact, abs=(1e-6 if dtype == "float32" else 1e-7) * float(np.ptp(row)))
        assert found.dtype == dtype


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_sure_rows_keep_their_order(dtype):
    gap = np.arange(20, 700, 20, dtype=dtype)
    z = np.stack([gap, 0 * gap, -gap], axis=1)
    if dtype == "float64":
        assert max_softmax_score(z)[-1] == pytest.approx(math.exp(-680), rel=1e-9)
    assert np.all(np.diff(max_softmax_score(z)[:4]) < 0)
    found = generalized_entropy_score(z)
    assert np.all(np.diff(found) < 0)
    # p of the second is exp(-gap), that of the third negligible: twice exp(-gap / 10), and exp(-2 gap / 10)
    expected = 2 * np.exp(-gap.astype("f8") / 10) + np.exp(-gap.astype("f8") / 5)
    assert found == pytest.approx(expected, rel=2e-5 if dtype == "float32" else 1e-8)


def test_the_compiled_route_is_as_good(ran, rng):
    z = (4 * rng.normal(size=(3000, 20))).astype(np.float32)
    ran("log_softmax")
    found = max_softmax_score(z), generalized_entropy_score(z), free_energy_score(z)
    assert ran("log_softmax") == 2
    p = softmax(z.astype(np.float64), axis=1)
    assert found[0] == pytest.approx(-np.log1p(-(1 - p.max(1))), rel=1e-5, abs=1e-7)
    assert found[1] == pytest.approx([gen(row, 0.1, 100) for row in p], rel=1e-5)
    assert found[2] == pytest.approx(-logsumexp(z.astype(np.float64), axis=1), rel=1e-6)
    ran("moments")
    for t in (1000.0, 1e6):
        by_the_reference = [odin_score(row, t) for row in z[:50]]
        assert odin_score(z, t)[:50] == pytest.approx(by_the_reference, rel=1e-6)
        assert ran("moments") == 1


# -- refusals --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("score", [free_energy_score, max_logit_score])
def test_free_energy_of_log_probabilities_is_refused(score, logits):
    with pytest.raises(ValueError, match=r"^kind: must be 'logits' for .*log Z is 0.*max_softmax_score.*odin_score"):
        score(logits - logsumexp(logits, axis=1, keepdims=True), kind="log_probabilities")


@given(
    z=arrays(np.float64, st.tuples(st.integers(2, 6), st.integers(2, 5)), elements=st.floats(-30, 30)),
    dtype=st.sampled_from([np.float32, np.float64]),
    temperature=st.sampled_from([0.5, 1.0, 3.0]),
)
def test_log_probabilities_passed_as_logits_are_seen(z, dtype, temperature):
    """log Z is 0 in all rows; one row that is not normalised is enough to take them as logits."""
    log_p = (z - logsumexp(z, axis=1, keepdims=True)).astype(dtype)
    with pytest.raises(ValueError, match=rf"^logits: must not be log probabilities.*all {len(z)} rows"):
        free_energy_score(log_p, temperature)
    with pytest.raises(ValueError, match=r"^logits: must not be log probabilities"):
        free_energy_score(log_p.T, temperature, axis=0)
    free_energy_score(log_p, temperature, check=False)
    free_energy_score(log_p[:1], temperature)  # of one row it may be chance
    log_p[-1] += 1e-3
    free_energy_score(log_p, temperature)


def test_log_softmax_of_torch_with_many_classes_is_seen():
    torch = pytest.importorskip("torch", reason="log_softmax in float32 is torch's")
    z = 3 * torch.randn(5, 50_000, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match="must not be log probabilities"):
        free_energy_score(z.log_softmax(dim=1).requires_grad_())
    free_energy_score(z)


@pytest.mark.parametrize("score", SCORES)
def test_bad_input_is_refused(score):
    with pytest.raises(ValueError, match=r"^kind: must be one of"):
        score(np.zeros((1, 2)), kind="probabilities")
    with pytest.raises(TypeError, match=r"^logits: must be floating point"):
        score(np.zeros((1, 2), int))
    for bad, what in ((math.nan, "NaN"), (math.inf, r"\+inf"), (-math.inf, "no allowed state")):
        z = np.zeros((4, 2))
        z[2, :] = bad
        with pytest.raises(ValueError, match=rf"^logits: .*row 2 of 4 has {what}"):
            score(z)
        for logits in (z, torch.tensor(z)):
            found = score(logits, check=False)
            assert [math.isnan(v) for v in found] == [False, False, True, False]
    if score is not max_logit_score:
        with pytest.raises(ValueError, match=r"^temperature: must lie in"):
            score(np.zeros((1, 2)), -1.0)


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"gamma": 0.0}, ValueError, r"^gamma: must lie in \(0, 1\]"),
        ({"gamma": 1.5}, ValueError, r"^gamma: must lie in"),
        ({"gamma": "x"}, TypeError, "^gamma: must be a number"),
        ({"top": 0}, ValueError, "^top: must be at least 1"),
        ({"top": 2.0}, TypeError, "^top: must be an integer"),
    ],
)
def test_gen_options_are_checked(options, error, match):
    with pytest.raises(error, match=match):
        generalized_entropy_score(np.zeros((1, 2)), **options)


def test_probabilities_are_seen_and_refused(rng):
    p = softmax(rng.normal(size=(20, 4)), axis=-1)
    with pytest.raises(ValueError, match="must not be probabilities, of which F is not identifiable; got 20 rows"):
        free_energy_score(p)
    assert free_energy_score(p, check=False).shape == (20,)
