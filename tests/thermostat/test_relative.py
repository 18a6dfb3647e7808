"""Temperatures without units hold what they say, whatever the units, and under priors and masks."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import logitherm
from logitherm.thermostat import EntropyFraction, KLBudget, RelativeToGap, SetPoint, Temperature

RULES = [EntropyFraction(0.3), RelativeToGap(0.4), RelativeToGap(0.4, gap="second"), KLBudget(0.2)]


@given(
    seed=st.integers(0, 2**31),
    states=st.integers(2, 12),
    scale=st.sampled_from([1e-12, 1.0, 1e9]),
    rule=st.sampled_from(RULES),
)
def test_units_do_not_matter(seed, states, scale, rule):
    z = np.random.default_rng(seed).normal(size=(4, states))
    assert isinstance(rule, Temperature)
    np.testing.assert_allclose(
        logitherm.softmax(z, rule), logitherm.softmax(scale * z, rule), atol=1e-7 if scale > 1e6 else 1e-9
    )


@given(seed=st.integers(0, 2**31), fraction=st.floats(0.01, 0.99))
def test_entropy_fraction(seed, fraction):
    z = np.random.default_rng(seed).normal(size=(5, 7))
    z[1, 2:] = -math.inf
    expected = fraction * np.log([7, 2, 7, 7, 7])
    np.testing.assert_allclose(logitherm.entropy(z, EntropyFraction(fraction)), expected, atol=1e-13)


@given(seed=st.integers(0, 2**31), kl=st.floats(1e-6, 0.3), shift=st.floats(-20, 20))
def test_kl_budget_against_any_prior(seed, kl, shift):
    rng = np.random.default_rng(seed)
    z, q = rng.normal(size=(5, 7)), rng.normal(size=7)
    z[1, 2] = -math.inf
    p = logitherm.softmax(z, KLBudget(kl), log_prior=q + shift)
    prior = logitherm.softmax(np.where(z > -math.inf, q, -math.inf))
    found = np.where(p > 0, p * np.log(np.where(p > 0, p, 1) / np.where(prior > 0, prior, 1)), 0).sum(-1)
    most = logitherm.softmax(z, 0.0, log_prior=q)  # T = 0, where the best state is all there is
    reach = -np.log(np.where(most > 0, prior, 1).min(-1))
    np.testing.assert_allclose(found, np.minimum(kl, reach), rtol=1e-9, atol=1e-13)


def test_the_limits():
    z = np.array([[3.0, 1.0, 0.0], [2.0, 2.0, 2.0]])
    assert EntropyFraction(0.0).resolve(z).tolist() == [0.0, 0.0]
    assert EntropyFraction(1.0).resolve(z)[0] == math.inf
    assert KLBudget(0.0).resolve(z)[0] == math.inf
    assert KLBudget(99.0).resolve(z).tolist() == [0.0, 0.0]
    assert RelativeToGap(0.5).resolve(z)[1] == 0
    assert logitherm.softmax(z, RelativeToGap(0.5))[1] == pytest.approx(1 / 3)
    second = np.array([[3.0, 1.0, 0.0], [3.0, 3.0, 0.0], [3.0, -math.inf, -math.inf]])
    assert RelativeToGap(2.0, gap="second").resolve(second).tolist() == [4.0, 0.0, 0.0]


def test_a_set_point_is_relative_to_the_prior_of_the_caller():
    rng = np.random.default_rng(0)
    z, q = rng.normal(size=(3, 5)), np.log(rng.dirichlet(np.ones(5)))
    for caller in (logitherm.entropy, lambda *a, **k: logitherm.GibbsState.from_logits(*a, **k).entropy()):
        np.testing.assert_allclose(caller(z, SetPoint(entropy=-0.2), log_prior=q), -0.2, atol=1e-13)


def test_torch_with_derivatives():
    z = torch.tensor(np.random.default_rng(0).normal(size=(3, 5)), requires_grad=True)
    for rule in RULES:
        assert torch.autograd.gradcheck(lambda v, rule=rule: logitherm.softmax(v, rule), (z,))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EntropyFraction(1.5), r"fraction: must lie in \[0, 1\]; got 1.5"),
        (lambda: EntropyFraction(math.nan), "fraction: must lie in"),
        (lambda: RelativeToGap(-1.0), r"factor: must lie in \[0, inf\]; got -1.0"),
        (lambda: RelativeToGap(1.0, gap="median"), "gap: must be 'mean' or 'second'; got 'median'"),
        (lambda: KLBudget(-0.1), "kl: must lie in .* nats"),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()
