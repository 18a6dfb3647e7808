"""A temperature that is a parameter: its bounds, its gradient, its state."""

import math
import subprocess
import sys

import pytest
import torch

import logitherm
from logitherm.contrastive import clip_loss
from logitherm.thermostat import CosineSchedule, LearnableTemperature, LinearSchedule, Temperature

Z = torch.tensor([[2.0, 1.0, -1.0], [0.5, 0.0, 3.0]], dtype=torch.float64)


def test_it_is_a_temperature_of_the_protocol():
    learned = LearnableTemperature(2.0)
    assert isinstance(learned, Temperature)
    torch.testing.assert_close(logitherm.entropy(Z, learned), logitherm.entropy(Z, 2.0), rtol=1e-6, atol=0)
    logitherm.entropy(Z, learned).sum().backward()
    wanted = logitherm.heat_capacity(Z, 2.0).sum().item()  # dS/dlog T = C
    assert learned.log_temperature.grad.item() == pytest.approx(wanted, rel=1e-5)
    torch.testing.assert_close(learned(Z), learned.resolve(Z))


def test_the_scales_of_clip_and_siglip():
    clip = LearnableTemperature(0.07, low=0.01, high=1.0)
    assert -clip.log_temperature.item() == pytest.approx(math.log(1 / 0.07))
    with torch.no_grad():
        clip.log_temperature.fill_(-4.7215)  # where a published SigLIP model ends
    assert 1 / clip.resolve().item() == pytest.approx(100, rel=1e-5)
    siglip = LearnableTemperature(math.exp(-4.7215))
    assert 1 / siglip.resolve().item() == pytest.approx(112.3, rel=1e-3)
    assert -LearnableTemperature(0.1).log_temperature.item() == pytest.approx(math.log(10))


@pytest.mark.parametrize(("start", "bound"), [(-50.0, 0.01), (50.0, 1.0)])
def test_a_bound_is_a_place_to_leave_from(start, bound):
    learned = LearnableTemperature(0.07, low=0.01, high=1.0)
    with torch.no_grad():
        learned.log_temperature.fill_(start)
    t = learned.resolve()
    assert t.item() == pytest.approx(bound)
    t.backward()
    assert learned.log_temperature.grad.item() == pytest.approx(bound)
    optimizer = torch.optim.SGD(learned.parameters(), lr=1.0)
    learned.log_temperature.grad.copy_(torch.tensor(0.5 if bound == 1.0 else -0.5))
    optimizer.step()
    assert 0.01 < learned.resolve().item() < 1.0


def test_steps_past_a_bound_end_on_it():
    learned = LearnableTemperature(0.5, low=0.01)
    optimizer = torch.optim.SGD(learned.parameters(), lr=1000.0)
    x = torch.eye(4)
    for _ in range(3):  # all pairs are told apart: the colder, the better
        optimizer.zero_grad()
        loss = clip_loss(x + 0.3, x + 0.3, temperature=learned)
        loss.backward()
        optimizer.step()
    assert learned.resolve().item() == pytest.approx(0.01)


def test_adversarial_reverses_the_gradient():
    slopes = {}
    for adversarial in (False, True, 0.5, CosineSchedule(0.0, 1.0, steps=10)):
        learned = LearnableTemperature(0.3, adversarial=adversarial)
        learned.resolve(Z, step=5).square().backward()
        slopes[str(adversarial)[:5]] = learned.log_temperature.grad.item()
    usual = 2 * 0.3**2
    assert list(slopes.values()) == pytest.approx([usual, -usual, -0.5 * usual, -0.5 * usual], rel=1e-5)


def test_an_adversary_makes_the_loss_larger():
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(8, 4, generator=generator)
    b = a + 0.5 * torch.randn(8, 4, generator=generator)
    ends = []
    for adversarial in (False, True):
        learned = LearnableTemperature(0.3, low=0.05, high=5.0, adversarial=adversarial)
        optimizer = torch.optim.SGD(learned.parameters(), lr=0.3)
        losses = []
        for _ in range(10):
            optimizer.zero_grad()
            loss = clip_loss(a, b, temperature=learned)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        ends.append(losses[-1] - losses[0])
    assert ends[0] < 0 < ends[1]


def test_a_schedule_of_the_adversary_needs_a_step():
    with pytest.raises(ValueError, match="step: must be a number"):
        LearnableTemperature(1.0, adversarial=LinearSchedule(0.0, 1.0, steps=10)).resolve(Z)


def test_state_and_device_of_a_module():
    learned = LearnableTemperature(0.3)
    other = LearnableTemperature(0.9)
    other.load_state_dict(learned.state_dict())
    assert other.resolve().item() == pytest.approx(0.3)
    assert list(learned.state_dict()) == ["log_temperature"]
    assert learned.double().resolve().dtype == torch.float64
    assert sum(p.numel() for p in torch.nn.Sequential(torch.nn.Linear(2, 2), learned).parameters()) == 7


def test_one_for_every_row():
    learned = LearnableTemperature(torch.tensor([0.5, 2.0], dtype=torch.float64))
    torch.testing.assert_close(logitherm.entropy(Z, learned), logitherm.entropy(Z, torch.tensor([0.5, 2.0])))
    assert repr(learned) == "LearnableTemperature(shape (2,))"
    shown = repr(LearnableTemperature(0.5, high=2.0, adversarial=True))
    assert shown == "LearnableTemperature(0.5, high=2, adversarial=True)"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"initial": 0.0}, "initial: must be positive"),
        ({"initial": math.nan}, "initial: must be positive"),
        ({"initial": 0.001, "low": 0.01}, "initial: must be positive, from 0.01"),
        ({"initial": 1.0, "low": 2.0, "high": 1.0}, "low, high: must have 0 <= low <= high"),
        ({"initial": 1.0, "low": -1.0}, "low, high: must have 0 <= low <= high"),
        ({"initial": 1.0, "adversarial": -1.0}, "adversarial: must be finite and at least 0"),
    ],
)
def test_bad_values(arguments, message):
    with pytest.raises(ValueError, match=message):
        LearnableTemperature(**arguments)


def test_the_package_does_not_load_torch_for_it():
    program = "import sys, logitherm.thermostat as t; print('torch' in sys.modules, t.LearnableTemperature.__name__)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.split() == ["False", "LearnableTemperature"]
    import logitherm.thermostat

    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        logitherm.thermostat.nothing  # noqa: B018
