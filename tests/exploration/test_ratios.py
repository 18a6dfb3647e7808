"""Log-probabilities at the temperature of sampling: exact, differentiable, and a mismatch is found and named."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import logitherm
from logitherm.exploration import check_log_prob, importance_ratio, logprob_at


@given(seed=st.integers(0, 2**31), t=st.floats(0.05, 20), states=st.integers(1, 9))
def test_it_is_the_log_softmax_of_the_action(seed, t, states):
    rng = np.random.default_rng(seed)
    z, actions = 5 * rng.normal(size=(4, states)), rng.integers(states, size=4)
    expected = logitherm.log_softmax(z, t)[np.arange(4), actions]
    np.testing.assert_allclose(logprob_at(z, actions, t), expected, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(importance_ratio(z, actions, expected, t), 1, rtol=1e-12)


def test_limits():
    z = np.array([[2.0, 2.0, 0.0]] * 3)
    actions = np.arange(3)
    assert logprob_at(z, actions, 0.0).tolist() == [-math.log(2), -math.log(2), -math.inf]
    assert logprob_at(z, actions, math.inf) == pytest.approx(-math.log(3))


def test_gradients():
    z = torch.tensor(np.random.default_rng(0).normal(size=(4, 5)), requires_grad=True)
    t = torch.tensor(0.6, dtype=torch.float64, requires_grad=True)
    actions = torch.tensor([0, 1, 4, 2])
    assert torch.autograd.gradcheck(lambda v, s: logprob_at(v, actions, s), (z, t))
    old = logprob_at(z.detach() + 0.1, actions, 0.6).requires_grad_()
    importance_ratio(z, actions, old, 0.6).sum().backward()
    assert old.grad is None


def test_the_ratio_at_the_wrong_temperature_is_not_one():
    """Tokens of T = 0.6 whose old log-probabilities a server reports at T = 1."""
    z = 3 * np.random.default_rng(0).normal(size=(3000, 100))
    tokens = logitherm.sample(z, 0.6, generator=1)
    reported = logprob_at(z, tokens, 1.0)
    assert importance_ratio(z, tokens, logprob_at(z, tokens, 0.6), 0.6).mean() == pytest.approx(1)
    assert importance_ratio(z, tokens, reported, 0.6).mean() > 1.2
    check = check_log_prob(z, tokens, reported, 0.6)
    assert not check.passed and check.fitted_temperature == pytest.approx(1, rel=1e-4)
    assert "differ" in str(check) and "T = 1.000" in str(check)


@settings(max_examples=15)
@given(seed=st.integers(0, 1000), t=st.floats(0.1, 5), noise=st.sampled_from([0.0, 0.02]))
def test_the_temperature_is_found_through_noise(seed, t, noise):
    rng = np.random.default_rng(seed)
    z = 2 * rng.normal(size=(400, 20))
    tokens = logitherm.sample(z, t, generator=seed)
    given_log_prob = np.minimum(logprob_at(z, tokens, t) + noise * rng.normal(size=400), 0)
    check = check_log_prob(z, tokens, given_log_prob, t)
    assert check.passed and check.fitted_temperature == pytest.approx(t, rel=0.02 if noise else 1e-4)


def test_other_weights_are_not_called_a_temperature():
    rng = np.random.default_rng(0)
    z, other = 3 * rng.normal(size=(2, 500, 20))
    tokens = logitherm.sample(other, 1.0, generator=0)
    check = check_log_prob(z, tokens, logprob_at(other, tokens), 1.0)
    assert not check.passed and "no temperature mends it" in check.message


def test_errors():
    z, actions = np.zeros((2, 3)), np.array([0, 1])
    with pytest.raises(ValueError, match=r"log_prob: must be logarithms of probabilities; row 1 has 0\.5"):
        importance_ratio(z, actions, np.array([-1.0, 0.5]))
    with pytest.raises(ValueError, match=r"log_prob: must have the batch shape \(2,\)"):
        importance_ratio(z, actions, np.array([-1.0]))
    with pytest.raises(ValueError, match="actions: must be allowed; that of row 1"):
        logprob_at(z, actions, mask=[True, False, True])
    with pytest.raises(ValueError, match=r"actions: must lie in \[0, 3\)"):
        logprob_at(z, np.array([0, 3]))
    with pytest.raises(ValueError, match=r"temperature: must lie in .0, inf. to be checked"):
        check_log_prob(z, actions, np.array([-1.0, -1.0]), 0.0)
    with pytest.raises(ValueError, match="logits: must hold at least one row"):
        check_log_prob(z[:0], actions[:0], np.zeros(0))


def test_padding_is_left_out():
    rng = np.random.default_rng(0)
    z, tokens = torch.tensor(3 * rng.normal(size=(2, 6, 9))), torch.tensor(rng.integers(9, size=(2, 6)))
    labels = torch.where(torch.arange(6) < torch.tensor([[4], [6]]), tokens, -100)
    kept = labels != -100
    whole, z = logprob_at(z, tokens, 0.6), z.requires_grad_()
    found = logprob_at(z, labels, 0.6, ignore_index=-100)
    assert torch.equal(found, torch.where(kept, whole, 0.0))
    found.sum().backward()
    assert bool((z.grad[~kept] == 0).all()) and bool((z.grad[kept] != 0).any(-1).all())
    old = torch.where(kept, whole, 1.0)  # as some trainers pad
    assert torch.equal(importance_ratio(z, labels, old, 0.6, ignore_index=-100), torch.ones(2, 6, dtype=z.dtype))
    assert check_log_prob(z, labels.numpy(), old, 0.6, ignore_index=-100).passed
    with pytest.raises(ValueError, match=r"actions: must lie in \[0, 9\); row \(0, 4\) has -100"):
        logprob_at(z, labels)
    with pytest.raises(ValueError, match="logits: must hold at least one row"):
        check_log_prob(z, torch.full((2, 6), -100), old, 0.6, ignore_index=-100)


def test_no_array_of_the_size_of_the_logits_is_kept():
    """Besides the logits only numbers of a row are saved, and the gradient is made in blocks."""
    z = torch.randn(64, 5000, generator=torch.Generator().manual_seed(0), requires_grad=True)
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: saved.append(x) or x, lambda x: x):
        found = logprob_at(z, torch.arange(64), 0.6)
    large = [x for x in saved if x.numel() > 64]
    assert large and {x.data_ptr() for x in large} == {z.data_ptr()}
    (ours,) = torch.autograd.grad(found.sum(), z)
    expected = torch.log_softmax(z / 0.6, -1)[torch.arange(64), torch.arange(64)]
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(ours, torch.autograd.grad(expected.sum(), z)[0])


def test_derivatives_of_derivatives_and_transforms():
    z = torch.tensor(np.random.default_rng(0).normal(size=(4, 5)), requires_grad=True)
    t = torch.tensor([0.6, 1.0, 2.0, 0.3], dtype=torch.float64, requires_grad=True)
    actions = torch.tensor([0, 1, 4, 2])
    assert torch.autograd.gradcheck(lambda v, s: logprob_at(v, actions, s), (z, t))
    assert torch.autograd.gradgradcheck(lambda v, s: logprob_at(v, actions, s), (z, t))
    expected = logprob_at(z, actions, t).detach()
    torch.testing.assert_close(torch.vmap(logprob_at)(z.detach(), actions, t.detach()), expected)
    compiled = torch.compile(logprob_at, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(z, actions, t), expected)
    slopes = torch.vmap(torch.func.grad(lambda v, a: logprob_at(v, a, 0.5)))(z.detach(), actions)
    torch.testing.assert_close(slopes, torch.autograd.grad(logprob_at(z, actions, 0.5).sum(), z)[0])


def test_at_zero_the_gradient_is_zero():
    z = torch.tensor([[1.0, 0.0], [0.0, 1.0]], requires_grad=True)
    logprob_at(z, torch.tensor([0, 0]), 0.0).sum().backward()
    assert z.grad.tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_rows_of_a_vocabulary_are_few_and_the_whole_is_quick_to_check():
    z = torch.randn(300, 20_000, generator=torch.Generator().manual_seed(0)).bfloat16() * 3
    tokens = logitherm.sample(z, 0.7, generator=0)
    check = check_log_prob(z, tokens, logprob_at(z, tokens), 0.7)
    assert not check.passed and check.fitted_temperature == pytest.approx(1, rel=1e-4)
    with pytest.raises(ValueError, match="log_prob: must be finite; row 3 has -inf"):
        check_log_prob(z[:4], tokens[:4], [-1.0, -1.0, -1.0, -math.inf])
    with pytest.raises(ValueError, match="temperature: must lie in"):
        check_log_prob(z[:4], tokens[:4], [-1.0] * 4, "0.6")
