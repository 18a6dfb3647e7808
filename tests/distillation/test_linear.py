"""Losses of linear heads, block by block, against the losses on whole logits."""

import gc
import math
import os
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("torch", reason="the losses are PyTorch's")
import torch

from logitherm.distillation import by_vocabulary, distillation_loss, head_loss, linear_distillation_loss
from logitherm.thermostat import CosineSchedule, SetPoint

DIVERGENCES = ["forward_kl", "reverse_kl", "jsd", "skew_forward", "skew_reverse", "dkd", "mse"]


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of two rows, tiles of one: several of each, the last one uneven."""
    monkeypatch.setattr(head_loss, "BLOCK_BYTES", 1)
    monkeypatch.setattr(head_loss, "FEWEST_ROWS", 2)
    monkeypatch.setattr(head_loss, "TILE_VALUES", 1)


@pytest.fixture(params=["rows", "vocabulary"])
def way(request, monkeypatch):
    """Blocks of rows, and, where there is that way, of the vocabulary; several of each, the last one uneven."""
    if request.param == "vocabulary":
        monkeypatch.setattr(by_vocabulary, "ENOUGH_ROWS", 2.5)
        monkeypatch.setattr(by_vocabulary, "ROWS", 6)
        monkeypatch.setattr(by_vocabulary, "FEWEST_STATES", 3)
        monkeypatch.setattr(by_vocabulary, "BLOCK_BYTES", 1)
    return request.param


class Sides:
    """A student and a teacher of other widths, whose vocabularies are padded differently."""

    def __init__(self, dtype=torch.float64, batch=(3, 5), states=20):
        generator = torch.Generator().manual_seed(0)

        def draw(*shape):
            return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

        self.hidden, self.weight, self.bias = draw(*batch, 4), draw(states, 4), draw(states)
        self.large, self.heavy = draw(*batch, 6), draw(states + 1, 6)
        self.labels = torch.randint(0, states, batch, generator=generator)
        self.labels.view(-1)[:2] = -100
        for learned in (self.hidden, self.weight, self.bias):
            learned.requires_grad_()

    def logits(self, softcap=None):
        z = self.hidden @ self.weight.T + self.bias
        return (z if softcap is None else softcap * torch.tanh(z / softcap)), self.large @ self.heavy.T


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("softcap", [None, 2.0])
@pytest.mark.parametrize("options", ["plain", "labels", "temperatures", "learned"])
@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_losses_and_slopes_of_whole_logits(divergence, options, softcap, way, ran):
    sides = Sides()
    learned = [sides.hidden, sides.weight, sides.bias]
    chosen = {"divergence": divergence, "reduction": "mean"}
    if options == "labels":
        chosen |= {"hard_weight": 0.3}
    if options == "temperatures":
        weights = torch.rand(3, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        each = torch.linspace(0.5, 3, 15, dtype=torch.float64).reshape(3, 5).requires_grad_()
        other = torch.linspace(1, 2, 5, dtype=torch.float64, requires_grad=True)
        chosen |= {"temperature": each, "teacher_temperature": other, "token_weights": weights, "reduction": "sum"}
        learned += [each, other]
    if options == "learned":
        one = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)
        chosen |= {"temperature": one}
        learned.append(one)
    if options == "labels" or divergence == "dkd":
        chosen["labels"] = sides.labels
    whole = distillation_loss(*sides.logits(softcap), **chosen)
    heads = (sides.hidden, (sides.weight, sides.bias), sides.large, sides.heavy)
    blocked = linear_distillation_loss(*heads, student_softcap=softcap, **chosen)
    assert blocked.item() == pytest.approx(whole.item(), rel=1e-12)
    for mine, theirs in zip(torch.autograd.grad(blocked, learned), torch.autograd.grad(whole, learned)):
        assert torch.allclose(mine, theirs, rtol=1e-11, atol=1e-12)
    fast = divergence.endswith("_kl") and options in ("plain", "labels")
    assert bool(ran("divergence, by vocabulary")) == (fast and way == "vocabulary")
    assert bool(ran("divergence")) == (fast and way == "rows")


@pytest.mark.parametrize("divergence", ["forward_kl", "reverse_kl"])
def test_the_kernel_is_exact_and_runs(divergence, ran):
    """float32 against float64, 1e-6 of the largest slope."""
    single, double = Sides(torch.float32, (70,), 3000), Sides(torch.float64, (70,), 3000)
    found = []
    for sides in (single, double):
        heads = (sides.hidden, (sides.weight, sides.bias), sides.large, sides.heavy)
        loss = linear_distillation_loss(*heads, temperature=2.0, divergence=divergence)
        loss.backward()
        found.append((loss.detach(), sides.hidden.grad, sides.weight.grad, sides.bias.grad))
    assert ran("divergence") == 2
    exact = Sides(torch.float64, (70,), 3000)
    for name in ("hidden", "weight", "bias", "large", "heavy"):
        getattr(exact, name).data.copy_(getattr(single, name).data.double())
    loss = distillation_loss(*exact.logits(), temperature=2.0, divergence=divergence)
    loss.backward()
    truth = (loss.detach(), exact.hidden.grad, exact.weight.grad, exact.bias.grad)
    for mine, right in zip(found[0], truth):
        assert (mine.double() - right).abs().max() <= 2e-6 * right.abs().max()


def test_half_types_are_as_exact_as_float32_logits_of_the_same_numbers():
    sides = Sides(torch.bfloat16, (40,), 500)
    heads = (sides.hidden, (sides.weight, sides.bias), sides.large, sides.heavy)
    loss = linear_distillation_loss(*heads, temperature=2.0)
    loss.backward()
    assert loss.dtype == torch.float32 and sides.weight.grad.dtype == torch.bfloat16
    float_logits = sides.hidden.float() @ sides.weight.float().T + sides.bias.float()
    whole = distillation_loss(float_logits, sides.large.float() @ sides.heavy.float().T, temperature=2.0)
    assert loss.item() == pytest.approx(whole.item(), rel=1e-5)
    (weight,) = torch.autograd.grad(whole, sides.weight)
    assert (sides.weight.grad.float() - weight.float()).abs().max() <= 2**-7 * weight.float().abs().max()


def test_temperatures_that_need_no_logits_and_those_that_do():
    sides = Sides()
    heads = (sides.hidden, (sides.weight, sides.bias), sides.large, sides.heavy)
    schedule = CosineSchedule(4.0, 1.0, steps=10)
    at = linear_distillation_loss(*heads, temperature=schedule, step=5)
    assert at.item() == pytest.approx(distillation_loss(*sides.logits(), temperature=schedule, step=5).item())
    held = SetPoint(entropy=1.5)
    for chosen in ({"temperature": held}, {"temperature": 1.0, "teacher_temperature": held}):
        blocked, whole = linear_distillation_loss(*heads, **chosen), distillation_loss(*sides.logits(), **chosen)
        assert blocked.item() == pytest.approx(whole.item())
    with pytest.raises(TypeError, match="temperature: must not depend on the student's logits"):
        linear_distillation_loss(*heads, temperature=held, teacher_temperature=1.0)


def test_layers_without_derivatives_and_scaled_losses():
    torch.manual_seed(0)
    student, teacher = torch.nn.Linear(4, 20), torch.nn.Linear(6, 20, bias=False)
    hidden, large = torch.randn(7, 4), torch.randn(7, 6)
    loss = linear_distillation_loss(hidden, student, large, teacher, temperature=3.0)
    (loss / 4).backward()
    whole = distillation_loss(student(hidden), teacher(large), temperature=3.0) / 4
    (weight,) = torch.autograd.grad(whole, student.weight)
    assert torch.allclose(student.weight.grad, weight, atol=1e-6)
    with torch.no_grad():
        assert linear_distillation_loss(hidden, student, large, teacher, temperature=3.0).item() == loss.item()
    student.requires_grad_(False)
    hidden.requires_grad_()
    linear_distillation_loss(hidden, student, large, teacher).backward()
    assert hidden.grad is not None and student.weight.grad is not None


def test_autocast_checkpoints_and_accumulation():
    from torch.utils.checkpoint import checkpoint

    torch.manual_seed(0)
    body, head = torch.nn.Linear(5, 4), torch.nn.Linear(4, 20)
    large, heavy = torch.randn(8, 6), torch.randn(20, 6)
    x = torch.randn(8, 5)

    def loss(x, large):
        return linear_distillation_loss(body(x), head, large, heavy, reduction="sum") / 8

    whole = torch.autograd.grad(loss(x, large), [*body.parameters(), *head.parameters()])
    for part in (slice(0, 3), slice(3, 8)):
        loss(x[part], large[part]).backward()
    for mine, one in zip([*body.parameters(), *head.parameters()], whole):
        assert torch.allclose(mine.grad, one, atol=1e-6)
    again = torch.autograd.grad(
        checkpoint(loss, x, large, use_reentrant=False), [*body.parameters(), *head.parameters()]
    )
    assert all(torch.allclose(a, b) for a, b in zip(again, whole))
    with torch.autocast("cpu", torch.bfloat16):
        half = loss(x, large)
    half.backward()
    assert half.dtype == torch.float32 and half.item() == pytest.approx(loss(x, large).item(), rel=0.05)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:The .grad attribute:UserWarning")  # of the compiler
def test_the_surrounding_model_compiles():
    torch.manual_seed(0)
    body, head = torch.nn.Linear(5, 4), torch.nn.Linear(4, 20)
    x, large, heavy = torch.randn(8, 5), torch.randn(8, 6), torch.randn(20, 6)

    def loss(x):
        return linear_distillation_loss(torch.relu(body(x)), head, large, heavy)

    assert torch.compile(loss, backend="aot_eager")(x).item() == pytest.approx(loss(x).item(), rel=1e-5)


def test_no_rows_that_count():
    sides = Sides()
    heads = (sides.hidden, (sides.weight, sides.bias), sides.large, sides.heavy)
    loss = linear_distillation_loss(*heads, labels=torch.full((3, 5), -100), hard_weight=0.5)
    loss.backward()
    assert loss.item() == 0 and sides.weight.grad.abs().max() == 0


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"student_head": torch.zeros(20, 5)}, "student_hidden: must be floating, of the head's width 5"),
        ({"teacher_head": "lm_head"}, "teacher_head: must be nn.Linear"),
        ({"student_head": (torch.zeros(20, 4), torch.zeros(3))}, "student_head: must have a bias of shape"),
        ({"teacher_head": torch.zeros(5000, 6)}, "teacher: must have the student's 20 states"),
        ({"student_hidden": np.zeros((3, 5, 4))}, "student_hidden: must be a torch tensor; got numpy.ndarray"),
        ({"student_head": np.zeros((20, 4))}, "student_head: must be nn.Linear, .*; got numpy.ndarray"),
        ({"temperature": -1.0}, "temperature: must be positive and finite for a loss; got -1"),
        ({"teacher_temperature": 0.0}, "teacher_temperature: must be positive and finite for a loss; got 0"),
        ({"teacher_hidden": torch.zeros(15, 6)}, "teacher_hidden: must have the batch"),
        ({"student_softcap": 0.0}, "student_softcap: must be finite and positive"),
        ({"reduction": "none"}, "reduction: must be mean or sum"),
    ],
)
def test_refusals(changed, message):
    sides = Sides()
    given = {
        "student_hidden": sides.hidden,
        "student_head": (sides.weight, sides.bias),
        "teacher_hidden": sides.large,
        "teacher_head": sides.heavy,
    }
    with pytest.raises((ValueError, TypeError), match=message):
        linear_distillation_loss(**given | changed)


@pytest.mark.parametrize("divergence", ["forward_kl", "jsd"])
def test_the_row_that_is_none_is_named(divergence):
    sides = Sides(batch=(100,), states=700)
    sides.large[77, 0] = math.nan
    with pytest.raises(ValueError, match=r"teacher: rows must be finite.* row 77"):
        linear_distillation_loss(sides.hidden, sides.weight, sides.large, sides.heavy, divergence=divergence)


MEMORY = """
import torch
from logitherm.distillation import linear_distillation_loss
torch.set_num_threads(2)
def high():
    return [int(l.split()[1]) for l in open("/proc/self/status") if l.startswith("VmHWM")][0] / 1024
n, states = 1024, 16_000
hidden, large = torch.randn(n, 64, requires_grad=True), torch.randn(n, 64)
weight, heavy = torch.randn(states, 64, requires_grad=True), torch.randn(states, 64)
linear_distillation_loss(hidden[:64], weight, large[:64], heavy).backward()
hidden.grad = weight.grad = None
open("/proc/self/clear_refs", "w").write("5")
before = high()
linear_distillation_loss(hidden, weight, large, heavy, temperature=2.0).backward()
print(high() - before - (hidden.numel() + weight.numel()) * 4 / 2**20)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_is_that_of_a_block():
    """The logits of both sides are 131 MB here, and their slopes as much again."""
    gc.collect()
    done = subprocess.run(
        [sys.executable, "-c", MEMORY],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        env={**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"},
    )
    assert float(done.stdout) < 75
