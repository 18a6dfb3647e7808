"""The policy is the maximiser of value plus entropy, in every library, under masks, priors and schedules."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import logitherm
from logitherm.exploration import BoltzmannPolicy, MellowmaxTemperature
from logitherm.thermostat import EntropyFraction, KLBudget, LinearSchedule, RelativeToGap, SetPoint


@given(seed=st.integers(0, 2**31), t=st.floats(0.05, 20), actions=st.integers(2, 9))
def test_no_other_policy_has_a_larger_objective(seed, t, actions):
    rng = np.random.default_rng(seed)
    q, prior = rng.normal(size=actions), rng.dirichlet(np.ones(actions))
    policy = BoltzmannPolicy(t, np.log(prior))
    p, other = policy.probabilities(q), rng.dirichlet(np.ones(actions))

    def objective(pi):
        return pi @ q - t * (pi @ np.log(pi / prior))

    assert objective(p) >= objective(other) - 1e-12
    assert policy.soft_value(q) == pytest.approx(objective(p), abs=1e-10)
    assert policy.entropy(q) == pytest.approx(-(p @ np.log(p / prior)), abs=1e-10)


def test_masks():
    q = np.array([[1.0, 2.0, 3.0], [4.0, np.nan, 0.0]])
    mask = np.array([[1, 1, 0], [1, 0, 1]], dtype=np.int8)  # as Gymnasium has them
    policy = BoltzmannPolicy(0.5)
    p = policy.probabilities(q, mask=mask)
    assert (p[mask == 0] == 0).all() and p.sum(-1) == pytest.approx(1)
    np.testing.assert_allclose(p[0, :2], logitherm.softmax(q[0, :2], 0.5))
    assert policy.greedy(q, mask=mask).tolist() == [1, 0]
    assert (policy.sample(np.tile(q[:1], (1000, 1)), mask=mask[0], generator=0) < 2).all()
    assert policy.log_probabilities(q, mask=mask)[0, 2] == -math.inf


def test_draws_have_the_law():
    q = np.array([1.0, 0.5, -0.2, 0.9])
    policy = BoltzmannPolicy(0.4)
    drawn = policy.sample(np.tile(q, (20_000, 1)), generator=np.random.default_rng(0))
    assert stats.chisquare(np.bincount(drawn), 20_000 * policy.probabilities(q)).pvalue > 1e-4


def test_limits_and_schedules():
    q = np.array([[2.0, 2.0, 1.0]])
    assert BoltzmannPolicy(0).probabilities(q).tolist() == [[0.5, 0.5, 0.0]]
    assert BoltzmannPolicy(math.inf, np.log([0.2, 0.3, 0.5])).probabilities(q)[0] == pytest.approx([0.2, 0.3, 0.5])
    policy = BoltzmannPolicy(LinearSchedule(2.0, 1.0, steps=10))
    assert policy.resolve(q, step=5).tolist() == [1.5]
    with pytest.raises(ValueError, match="step: must be a number >= 0 for a schedule"):
        policy.sample(q, generator=0)


def test_torch_and_numpy_agree_and_gradients_are_right():
    q = np.random.default_rng(0).normal(size=(4, 5))
    actions = np.array([0, 1, 4, 2])
    mask = np.ones(5, dtype=bool)
    mask[3] = False
    for temperature in (0.7, EntropyFraction(0.6), SetPoint(entropy=0.4), KLBudget(0.1)):
        policy = BoltzmannPolicy(temperature)
        tensor = torch.tensor(q, requires_grad=True)
        for name, arguments in (("probabilities", ()), ("entropy", ()), ("soft_value", ()), ("log_prob", (actions,))):
            found = getattr(policy, name)(tensor, *map(torch.as_tensor, arguments), mask=torch.as_tensor(mask))
            np.testing.assert_allclose(found.detach(), getattr(policy, name)(q, *arguments, mask=mask), atol=1e-12)
        assert torch.autograd.gradcheck(lambda v, p=policy: p.log_prob(v, torch.as_tensor(actions)), (tensor,))
        generator = torch.Generator().manual_seed(3)
        assert policy.sample(tensor, generator=generator).dtype == torch.int64


@pytest.mark.parametrize(
    ("values", "mask", "message"),
    [
        ([[1.0, np.nan]], None, "values: rows must be finite or -inf .*row 0 of 1 has NaN"),
        ([[1.0, 0.0], [0.0, np.inf]], None, "values: .*row 1 of 2 has .inf"),
        ([[1.0, 0.0], [0.0, 1.0]], [[True, False], [False, False]], "mask: must allow an action in every row; row 1"),
        ([[1.0, 0.0]], [True, True, True], r"mask: must broadcast against the values \(1, 2\)"),
    ],
)
def test_bad_values(values, mask, message):
    with pytest.raises(ValueError, match=message):
        BoltzmannPolicy(1.0).probabilities(np.array(values), mask=mask)


def test_other_mistakes():
    policy = BoltzmannPolicy(1.0)
    with pytest.raises(TypeError, match="values: must be floating point"):
        policy.probabilities(np.array([1, 2]))
    with pytest.raises(TypeError, match="mask: must be boolean"):
        policy.probabilities(np.array([1.0, 2.0]), mask=np.array([0.5, 1.0]))
    with pytest.raises(ValueError, match=r"actions: must lie in \[0, 2\); row 1 has 2"):
        policy.log_prob(np.zeros((2, 2)), np.array([0, 2]))
    with pytest.raises(ValueError, match="temperature: must lie in"):
        BoltzmannPolicy(-1.0).probabilities(np.array([1.0, 2.0]))


def test_what_the_prior_forbids_is_forbidden():
    """No rule may look at it: neither the greedy one nor a temperature in units of the row."""
    values, prior = np.array([[5.0, 1.0, 0.0]]), np.array([-np.inf, np.log(0.5), np.log(0.5)])
    for temperature in (0.0, EntropyFraction(0.5), RelativeToGap(0.5), MellowmaxTemperature(1.0), KLBudget(0.1)):
        policy = BoltzmannPolicy(temperature, prior)
        alone = BoltzmannPolicy(temperature).probabilities(values[:, 1:])
        np.testing.assert_allclose(policy.probabilities(values), np.insert(alone, 0, 0.0, axis=-1), rtol=1e-12)
        assert policy.greedy(values).tolist() == [1]
        np.testing.assert_allclose(
            logitherm.softmax(values, temperature, log_prior=prior), policy.probabilities(values), rtol=1e-12
        )
    with pytest.raises(ValueError, match="log_prior: must allow an action in every row; row 0 has none"):
        BoltzmannPolicy(1.0, prior).greedy(values, mask=[True, False, False])


@pytest.mark.parametrize("kind", [EntropyFraction, RelativeToGap, KLBudget])
@pytest.mark.parametrize("make", [list, np.array, torch.tensor])
def test_one_number_a_state_in_any_library(kind, make):
    number = make([0.2, 0.5])
    values = np.random.default_rng(0).normal(size=(2, 4))
    one_by_one = [BoltzmannPolicy(kind(x)).probabilities(row) for x, row in zip((0.2, 0.5), values)]
    for z in (values, torch.tensor(values)):
        found = np.asarray(BoltzmannPolicy(kind(number)).probabilities(z))
        np.testing.assert_allclose(found, one_by_one, rtol=1e-6)
        with pytest.raises(ValueError, match=r"must broadcast against the batch \(2,\)"):
            BoltzmannPolicy(kind([0.2, 0.5, 0.1])).probabilities(z)


def test_transforms_of_pytorch():
    values = torch.tensor(np.random.default_rng(0).normal(size=(3, 4)))
    mask, actions = torch.tensor([[1, 0, 1, 1]] * 3, dtype=torch.int8), torch.tensor([0, 2, 3])
    policy = BoltzmannPolicy(0.5)
    expected = policy.log_prob(values, actions, mask=mask)
    found = torch.vmap(lambda z, a, m: policy.log_prob(z, a, mask=m))(values, actions, mask)
    torch.testing.assert_close(found, expected)
    compiled = torch.compile(lambda z, a, m: policy.log_prob(z, a, mask=m), backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(values, actions, mask), expected)
