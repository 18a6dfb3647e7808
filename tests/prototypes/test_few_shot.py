"""Episodes: the rule of the classifier with gradients, and learned temperatures that come to it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from logitherm import fit_temperature
from logitherm.prototypes import (
    FewShotHead,
    PrototypeClassifier,
    episode,
    prototype_logits,
    within_class_covariance,
    within_class_variance,
)
from logitherm.thermostat import LearnableTemperature


def draw(generator, *batch, ways=5, shots=5, queries=10, features=64, spread=1.0, sep=1.0):
    """Support and queries of episodes (labels of the queries count 0 .. ways-1, queries of each)."""
    means = sep * torch.randn(*batch, ways, 1, features, generator=generator, dtype=torch.float64)
    rows = means + spread * torch.randn(
        *batch, ways, shots + queries, features, generator=generator, dtype=torch.float64
    )
    labels = torch.arange(ways).repeat_interleave(queries).expand(*batch, -1)
    return rows[..., :shots, :], rows[..., shots:, :].flatten(-3, -2), labels


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("estimate", ["empirical_bayes", "corrected", "plug_in"])
@pytest.mark.parametrize("variance", [None, 1.3])
def test_it_is_the_classifier_of_the_episode(generator, estimate, variance):
    support, queries, _ = draw(generator)
    fitted = PrototypeClassifier(estimate, variance=variance).fit(
        support.flatten(0, 1).numpy(), np.repeat(np.arange(5), 5)
    )
    found = episode(support, estimate=estimate, variance=variance)
    assert found.temperature.item() == pytest.approx(fitted.temperature_, rel=1e-5)
    assert found.variance.item() == pytest.approx(fitted.variance_)
    np.testing.assert_allclose(found.prototypes.numpy(), fitted.prototypes_, rtol=1e-5, atol=1e-6)
    z = prototype_logits(queries, support, estimate=estimate, variance=variance)
    right = fitted.logits(queries.numpy())
    np.testing.assert_allclose(
        z.log_softmax(-1).numpy(), torch.tensor(right).log_softmax(-1).numpy(), rtol=1e-4, atol=1e-4
    )


def test_a_batch_is_its_episodes(generator):
    support, queries, _ = draw(generator, 2, 3)
    z = prototype_logits(queries, support)
    assert z.shape == (2, 3, 50, 5)
    torch.testing.assert_close(z[1, 2], prototype_logits(queries[1, 2], support[1, 2]))
    torch.testing.assert_close(z[0], prototype_logits(queries[0], support[0]))


@pytest.mark.parametrize("estimate", ["empirical_bayes", "corrected", "plug_in"])
def test_gradients_reach_the_embeddings(generator, estimate):
    support, queries, _ = (x[..., :6] if x.ndim > 1 else x for x in draw(generator, ways=3, shots=3, queries=2))
    support, queries = support.requires_grad_(), queries.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda s, q: prototype_logits(q, s, estimate=estimate), (support, queries), eps=1e-4, atol=1e-2, rtol=1e-3
    )


@pytest.mark.parametrize(("shots", "sep"), [(1, 0.5), (2, 0.4), (5, 0.35), (20, 0.3)])
def test_calibrated_by_construction(generator, shots, sep):
    """T* = 1 on top of the rule; plain prototypes at 2 sigma^2 are too cold."""
    support, queries, labels = draw(generator, 200, shots=shots, sep=sep)
    found = {
        name: fit_temperature(
            prototype_logits(queries, support, estimate=name, variance=1.0 if shots == 1 else None), labels
        ).temperature
        for name in ("empirical_bayes", "plug_in")
    }
    assert found["empirical_bayes"] == pytest.approx(1, abs=0.07)
    assert found["plug_in"] > 1.2


def test_noise_alone_keeps_some_gradient(generator):
    support, queries, labels = draw(generator, sep=0.0)
    support.requires_grad_()
    z = prototype_logits(queries, support)
    assert 0 < episode(support).reliability.item() < 0.3
    cross_entropy(z, labels).backward()
    assert support.grad.abs().max() > 0


def test_a_learned_temperature_comes_to_the_rule_on_gaussian_clusters(generator):
    support, queries, labels = draw(generator, 300, shots=10, features=32, sep=1.5, spread=3.0)
    head = FewShotHead(LearnableTemperature(torch.tensor(1.0, dtype=torch.float64)))
    rule = episode(support).temperature.mean().item()
    optimizer = torch.optim.LBFGS(head.parameters(), max_iter=50, line_search_fn="strong_wolfe")

    def loss():
        optimizer.zero_grad()
        value = cross_entropy(head(queries, support).flatten(0, 1), labels.flatten())
        value.backward()
        return value

    optimizer.step(loss)
    assert rule == pytest.approx(2 * 9, rel=0.1)
    assert head.temperature.resolve().item() == pytest.approx(rule, rel=0.06)


def test_elsewhere_it_tells_how_far_from_gaussian(generator):
    """Rows of one class whose widths differ a lot: the best T is well above 2 sigma^2."""
    support, queries, labels = draw(generator, 300, shots=10, features=32, sep=0.5)
    means = torch.zeros_like(support[..., :1, :]) + support.mean(-2, keepdim=True)
    widths = torch.distributions.Gamma(0.5, 0.5)
    torch.manual_seed(0)
    support = means + (support - means) * widths.sample(support.shape[:-1] + (1,)).sqrt()
    centre = means.squeeze(-2).repeat_interleave(10, dim=-2)
    queries = centre + (queries - centre) * widths.sample(queries.shape[:-1] + (1,)).sqrt()
    assert fit_temperature(prototype_logits(queries, support), labels).interval[0] > 1.3


def test_temperatures_of_every_kind(generator):
    support, queries, _ = draw(generator, 4)
    z = prototype_logits(queries, support, 1.0)
    torch.testing.assert_close(prototype_logits(queries, support, 4.0), z / 4)
    per_episode = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)[:, None]
    torch.testing.assert_close(prototype_logits(queries, support, per_episode), z / per_episode[..., None])
    torch.testing.assert_close(FewShotHead(4.0)(queries, support), z / 4)
    with pytest.raises(
        ValueError, match=r"temperature: must be positive and finite for a loss; got 0.0; 2 sigma\^2 is usual"
    ):
        prototype_logits(queries, support, 0.0)


def test_half_types_compute_in_float32(generator):
    support, queries, _ = draw(generator)
    z = prototype_logits(queries.bfloat16(), support.bfloat16())
    assert z.dtype == torch.float32
    assert (z.softmax(-1) - prototype_logits(queries, support).softmax(-1)).abs().max() < 0.05


def test_an_offset_costs_no_digits(generator):
    support, queries, _ = draw(generator)
    z = prototype_logits(queries, support).log_softmax(-1)
    moved = prototype_logits((queries + 100).float(), (support + 100).float()).log_softmax(-1)
    assert (z - moved).abs().max() < 0.01


def test_base_classes_lend_their_spread_to_one_shot(generator):
    support, queries, _ = draw(generator, shots=1)
    with pytest.raises(ValueError, match="one shot a class leaves no residual to take sigma"):
        FewShotHead()(queries, support)
    base, _, _ = draw(generator, ways=20, shots=40)
    rows, labels = base.flatten(0, 1), torch.arange(20).repeat_interleave(40)
    head = FewShotHead(variance=within_class_variance(rows, labels))
    assert head.variance.item() == pytest.approx(1.0, rel=0.03)
    other = FewShotHead(variance=0.0)
    other.load_state_dict(head.state_dict())
    torch.testing.assert_close(other(queries, support), head(queries, support))
    whole = FewShotHead(covariance=within_class_covariance(rows, labels))
    torch.testing.assert_close(whole(queries, support), head(queries, support))


@pytest.mark.parametrize("shots", [1, 10])
def test_embeddings_that_are_not_isotropic_need_the_spread_between_prototypes(generator, shots):
    """Known from base classes, or from the episode itself; one variance of all directions is far too cold."""
    widths = torch.logspace(-0.5, 0.5, 64, dtype=torch.float64)
    support, queries, labels = draw(generator, 300, shots=shots, sep=0.0)
    means = torch.randn(300, 5, 1, 64, generator=generator, dtype=torch.float64)
    support = means + widths * support
    queries = means.squeeze(-2).repeat_interleave(10, dim=-2) + widths * queries
    base = {"covariance": torch.diag(widths**2)}
    found = {}
    for spread in ("pooled", "between"):
        z = prototype_logits(queries, support, spread=spread, **(base if shots == 1 else {}))
        found[spread] = fit_temperature(z, labels).temperature
    assert found["pooled"] > 1.3 and found["between"] == pytest.approx(1, abs=0.15)
    if shots > 1:
        fitted = PrototypeClassifier(spread="between").fit(
            support[0].flatten(0, 1).numpy(), np.repeat(np.arange(5), 10)
        )
        assert episode(support[0], spread="between").temperature.item() == pytest.approx(fitted.temperature_, rel=1e-4)


def test_the_variance_within_classes_has_a_gradient(generator):
    rows = torch.randn(9, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([3, 3, 3, 0, 0, 7, 7, 7, 7])
    assert torch.autograd.gradcheck(lambda x: within_class_variance(x, labels), rows)
    fitted = PrototypeClassifier("plug_in").fit(rows.detach().numpy(), labels.numpy())
    assert within_class_variance(rows, labels).item() == pytest.approx(fitted.variance_)
    assert torch.autograd.gradcheck(lambda x: within_class_covariance(x, labels), rows)
    covariance = within_class_covariance(rows, labels)
    assert covariance.diagonal().mean().item() == pytest.approx(fitted.variance_)


def test_bad_input(generator):
    support, queries, labels = draw(generator)
    with pytest.raises(ValueError, match="one shot a class leaves no residual to take sigma"):
        episode(support[:, :1])
    with pytest.raises(ValueError, match="support: must have at least two classes"):
        episode(support[:1])
    with pytest.raises(ValueError, match="rows of a class must be finite and differ; episode 1 has zero variance"):
        episode(torch.stack([support, support[:, :1].expand_as(support)]))
    with pytest.raises(ValueError, match="episode 0 has NaN, inf"):
        episode(support * torch.nan)
    with pytest.raises(ValueError, match="support: must be finite; episode 0 has NaN, inf"):
        episode(support[:, :1] * torch.inf, variance=1.0)
    with pytest.raises(ValueError, match="queries: must be finite; row 3 has NaN, inf"):
        prototype_logits(queries.index_fill(0, torch.tensor(3), torch.nan), support)
    with pytest.raises(TypeError, match="support: must be a floating tensor"):
        episode(support.long())
    with pytest.raises(TypeError, match=r"support: must be a floating tensor; got a ndarray; take torch.as_tensor"):
        episode(support.numpy())
    with pytest.raises(TypeError, match="variance: must be a number or a tensor; got str"):
        episode(support, variance="auto")
    with pytest.raises(ValueError, match="covariance: must be positive and finite; got 0 as sigma"):
        episode(support, covariance=torch.zeros(64, 64))
    with pytest.raises(ValueError, match="covariance: must be finite; row 1 has NaN"):
        episode(support, covariance=torch.eye(64).index_fill(0, torch.tensor(1), torch.nan), spread="between")
    with pytest.raises(ValueError, match=r"queries: must broadcast against the episodes \(2,\)"):
        prototype_logits(queries.expand(3, -1, -1), torch.stack([support, support]))
    with pytest.raises(ValueError, match="estimate: must be one of"):
        FewShotHead(estimate="bayes")
    with pytest.raises(ValueError, match="variance: goes with spread='pooled' and no covariance"):
        FewShotHead(variance=1.0, covariance=torch.eye(64))
    with pytest.raises(ValueError, match=r"covariance: must have shape \(5, 5\); got shape \(4, 5\)"):
        FewShotHead(covariance=torch.ones(4, 5))
    with pytest.raises(TypeError, match=r"support: cannot be a tensor of torch.func"):
        torch.vmap(episode)(torch.stack([support, support]))
    with pytest.raises(ValueError, match=r"queries: must have 64 features like the support"):
        prototype_logits(queries[:, :5], support)
    with pytest.raises(ValueError, match="estimate: must be one of empirical_bayes"):
        episode(support, estimate="student")
    with pytest.raises(ValueError, match="variance: must be positive and finite"):
        episode(support, variance=-1.0)
    with pytest.raises(ValueError, match=r"variance: must broadcast against the episodes \(\)"):
        episode(support, variance=torch.ones(2))
    with pytest.raises(ValueError, match="spread: must be one of pooled, between; got 'per_class'"):
        episode(support, spread="per_class")
    with pytest.raises(ValueError, match="variance: goes with spread='pooled' and no covariance"):
        episode(support, spread="between", variance=1.0)
    with pytest.raises(ValueError, match=r"covariance: must have shape \(64, 64\); got shape \(5, 5\)"):
        episode(support, covariance=torch.eye(5))
    with pytest.raises(ValueError, match="must leave 3 degrees of freedom"):
        episode(support[:2, :2, :1])
    with pytest.raises(ValueError, match="labels: must be an integer tensor of shape"):
        within_class_variance(queries, labels[:3])
    with pytest.raises(ValueError, match="labels: must name a class twice"):
        within_class_variance(queries[:3], torch.arange(3))


@pytest.mark.parametrize("estimate", ["empirical_bayes", "corrected", "plug_in"])
def test_dead_features_change_nothing(generator, estimate):
    support, queries, _ = draw(generator, 2, sep=0.5)
    dead = [torch.nn.functional.pad(x, (0, 64), value=3.0) for x in (queries, support)]
    expected = prototype_logits(queries, support, estimate=estimate)
    torch.testing.assert_close(prototype_logits(*dead, estimate=estimate), expected, rtol=1e-5, atol=1e-5)
    found = PrototypeClassifier(estimate).fit(dead[1][0].flatten(0, 1).numpy(), np.arange(25) // 5)
    assert episode(dead[1], estimate=estimate).temperature[0].item() == pytest.approx(found.temperature_, rel=1e-5)


def test_equal_prototypes_leave_all_classes_alike():
    z = prototype_logits(torch.ones(1, 8), torch.zeros(3, 1, 8), covariance=torch.eye(8), spread="between")
    assert z.tolist() == [[0.0, 0.0, 0.0]]


def test_autocast_costs_no_digits(generator):
    support, queries, labels = draw(generator)
    covariance = within_class_covariance(queries, labels)
    expected = prototype_logits(queries, support, covariance=covariance, spread="between")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(within_class_covariance(queries, labels), covariance)
        torch.testing.assert_close(
            prototype_logits(queries, support, covariance=covariance, spread="between"), expected
        )
