"""Alignment and uniformity against their definition, and against the loss."""

import math

import pytest
import torch
from torch.nn.functional import normalize

from logitherm.contrastive import alignment, info_nce, uniformity
from logitherm.thermostat import LearnableTemperature, LinearSchedule


@pytest.fixture
def features():
    generator = torch.Generator().manual_seed(0)
    return [3 * torch.randn(12, 6, generator=generator, dtype=torch.float64) for _ in range(2)]


def test_alignment_is_the_mean_squared_distance(features):
    a, b = (normalize(x, dim=1) for x in features)
    wanted = (a - b).norm(dim=1).square().mean()
    assert alignment(*features).item() == pytest.approx(wanted.item())
    assert alignment(a, a).item() == 0
    assert alignment(a, -a).item() == pytest.approx(4)


@pytest.mark.parametrize("block", [1024, 5])
@pytest.mark.parametrize("t", [2.0, 0.5, 20.0])
def test_uniformity_is_that_of_the_paper(features, t, block):
    x = normalize(features[0], dim=1)
    wanted = torch.pdist(x).square().mul(-t).exp().mean().log()  # the paper's code
    assert uniformity(features[0], 1 / (2 * t), block=block).item() == pytest.approx(wanted.item())


def test_two_is_the_papers_usual_value(features):
    assert uniformity(features[0]).item() == uniformity(features[0], 0.25).item()


def test_gradients(features):
    x = features[0][:5].clone().requires_grad_()
    t = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(uniformity, (x, t))
    assert torch.autograd.gradcheck(alignment, (x, features[1][:5]))


def test_limits(features):
    same = torch.ones(4, 3, dtype=torch.float64)
    assert uniformity(same).item() == pytest.approx(0, abs=1e-12)
    assert uniformity(features[0], 1e9).item() == pytest.approx(0, abs=1e-8)
    closest = torch.pdist(normalize(features[0], dim=1)).min().item()
    assert 1e-5 * uniformity(features[0], 1e-5).item() == pytest.approx(-(closest**2) / 2, rel=1e-3)


def test_info_nce_tends_to_their_sum():
    generator = torch.Generator().manual_seed(1)
    a = torch.randn(4000, 3, generator=generator, dtype=torch.float64)  # every anchor sees the same sphere
    b = a + 0.3 * torch.randn(a.shape, generator=generator, dtype=torch.float64)
    for t in (0.25, 1.0):
        loss = info_nce(a, b, temperature=t).item() - math.log(len(a) - 1)
        assert loss == pytest.approx(alignment(a, b).item() / (2 * t) + uniformity(a, t).item(), abs=0.02)


def test_temperatures_of_any_kind(features):
    x = features[0]
    assert uniformity(x, LearnableTemperature(0.5)).item() == pytest.approx(uniformity(x, 0.5).item())
    schedule = LinearSchedule(1.0, 0.5, steps=2)
    assert uniformity(x, schedule, step=2).item() == pytest.approx(uniformity(x, 0.5).item())


def test_half_types_and_bad_inputs(features):
    half = [x.half() for x in features]
    assert alignment(*half).dtype == uniformity(half[0]).dtype == torch.float32
    assert alignment(features[0], half[1]).dtype == torch.float64
    for t in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="temperature: must"):
            uniformity(features[0], t)
    with pytest.raises(ValueError, match="features: must have a negative"):
        uniformity(features[0][:1])
    with pytest.raises(ValueError, match="keys: must have 12 rows"):
        alignment(features[0], features[1][:5])
    with pytest.raises(ValueError, match="features: rows must be finite"):
        uniformity(torch.zeros(3, 2))
