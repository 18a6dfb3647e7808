"""alpha is solved exactly, gradient steps lead to it, and targets that cannot be held are named."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import logitherm
from logitherm.exploration import check_entropy_target, entropy_target, sac_temperature, sac_temperature_loss
from logitherm.thermostat import LearnableTemperature


@given(seed=st.integers(0, 2**31), share=st.floats(0.02, 0.98), pooled=st.booleans())
def test_the_entropy_is_the_target(seed, share, pooled):
    q = np.random.default_rng(seed).normal(size=(20, 4)) * 3
    target = share * math.log(4)
    found = logitherm.entropy(q, sac_temperature(q, target, pooled=pooled))
    np.testing.assert_allclose(found.mean() if pooled else found, target, atol=1e-13)


def test_gradient_steps_end_at_the_exact_alpha():
    q = torch.tensor(np.random.default_rng(0).normal(size=(50, 3)))
    exact = float(sac_temperature(q, 0.6))
    alpha = LearnableTemperature(torch.tensor(5.0, dtype=torch.float64))
    optimizer = torch.optim.Adam(alpha.parameters(), lr=0.05)
    for _ in range(400):
        optimizer.zero_grad()
        sac_temperature_loss(alpha, logitherm.entropy(q, alpha), 0.6).backward()
        optimizer.step()
    assert alpha.resolve().item() == pytest.approx(exact, rel=1e-3)


def test_continuous_actions_of_two_proposals():
    """exp(-|a|^2 / alpha) in two dimensions has entropy log(pi e alpha)."""
    rng = np.random.default_rng(0)
    target = 1.0
    wide = 3 * rng.normal(size=(200_000, 2))
    density = -(wide**2).sum(-1) / 18 - math.log(2 * math.pi * 9)
    box = rng.uniform(-4, 4, size=(200_000, 2))
    for actions, log_density in ((wide, density), (box, np.full(len(box), -2 * math.log(8)))):
        alpha = sac_temperature(-(actions**2).sum(-1)[None], target, log_density=log_density[None])
        assert math.log(math.pi * math.e * float(alpha)) == pytest.approx(target, abs=0.02)


@pytest.mark.parametrize(("share", "most"), [(0.98, 0.583), (0.89, 0.693), (0.7, 0.811)])
def test_how_sure_a_target_lets_a_policy_be(share, most):
    check = check_entropy_target(share * math.log(2), actions=2)
    assert check.verdict == "binds" and check.top_probability == pytest.approx(most, abs=5e-4)


@given(actions=st.integers(2, 1000), p=st.floats(0.0, 1.0))
def test_a_target_by_certainty(actions, p):
    p = 1 / actions + p * (1 - 1 / actions)
    target = entropy_target(actions, top_probability=min(p, 1.0))
    assert -1e-12 <= target <= math.log(actions) + 1e-12
    if 0.01 < target < math.log(actions) - 0.01:
        assert check_entropy_target(target, actions=actions).top_probability == pytest.approx(p, abs=1e-6)


@pytest.mark.parametrize(
    ("target", "options", "verdict"),
    [
        (-math.log(4), {"actions": 4}, "never binds"),
        (0.0, {"actions": 4}, "never binds"),
        (math.log(4), {"actions": 4}, "out of reach"),
        (-2.0, {"low": [-1.0, -1.0], "high": [1.0, 1.0]}, "binds"),
        (1.5, {"low": [-1.0, -1.0], "high": [1.0, 1.0]}, "out of reach"),
    ],
)
def test_verdicts(target, options, verdict):
    check = check_entropy_target(target, **options)
    assert check.verdict == verdict and str(check).startswith(verdict)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: check_entropy_target(0.3), "actions, low, high: give the number of discrete actions, or both ends"),
        (lambda: check_entropy_target(0.3, actions=2, low=0, high=1), "actions, low, high"),
        (lambda: check_entropy_target(math.nan, actions=2), "target: must be a finite number"),
        (lambda: check_entropy_target(0.3, actions=1), "actions: must be an integer of at least 2; got 1"),
        (lambda: check_entropy_target(0.3, low=1.0, high=1.0), "low, high: must be finite with low < high"),
        (
            lambda: entropy_target(4, top_probability=0.1),
            r"top_probability: must lie in \[1 / actions, 1\], \[0.25, 1\]",
        ),
        (lambda: sac_temperature(np.array([[1.0, 0.0]]), 0.7), "entropy: must lie between .*got 0.7"),
        (lambda: sac_temperature(np.array([[1.0, np.nan]]), 0.5), "values: .*NaN"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_samples_that_are_masked_do_not_count():
    a = np.linspace(-4, 4, 401)[None]
    alone = sac_temperature(-(a**2), 0.5, log_density=-np.log(8.0))
    padded = np.concatenate([-(a**2), np.zeros((1, 99))], axis=1)
    assert sac_temperature(padded, 0.5, log_density=-np.log(8.0), mask=np.arange(500) < 401) == pytest.approx(alone)


def test_what_is_no_temperature_to_learn():
    with pytest.raises(TypeError, match="temperature: must be a LearnableTemperature"):
        sac_temperature_loss(1.0, torch.tensor([0.3]), 0.5)


def test_certainty_has_no_entropy():
    assert str(entropy_target(4, top_probability=1)) == "0.0"
