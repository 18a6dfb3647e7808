"""A linear head against teachers of whom little is known, block by block, against the losses on whole logits."""

import gc
import os
import subprocess
import sys

import pytest

pytest.importorskip("torch", reason="the losses are PyTorch's")
import torch

from logitherm.distillation import (
    SampledTeacher,
    SparseTeacher,
    head_loss,
    linear_sparse_distillation_loss,
    sparse_distillation_loss,
)
from logitherm.thermostat import CosineSchedule, SetPoint

DIVERGENCES = ["forward_kl", "reverse_kl", "jsd", "skew_forward", "skew_reverse"]
BATCH, STATES, WIDTH = (3, 5), 20, 4


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of two rows, tiles of one: several of each, the last one uneven."""
    monkeypatch.setattr(head_loss, "BLOCK_BYTES", 1)
    monkeypatch.setattr(head_loss, "FEWEST_ROWS", 2)
    monkeypatch.setattr(head_loss, "TILE_VALUES", 1)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def student():
    return [x.requires_grad_() for x in (draw(*BATCH, WIDTH), draw(STATES, WIDTH, seed=1), draw(STATES, seed=2))]


def teacher(kind, states=STATES + 1, temperatures=(0.5, 2.0)):
    z = 2 * draw(15, states, seed=3)
    if kind == "sparse":
        return SparseTeacher.from_logits(z, k=4, temperatures=temperatures)
    return SampledTeacher.from_logits(z, draws=6, temperature=temperatures[-1], generator=0, proposal_power=0.5)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("softcap", [None, 2.0])
@pytest.mark.parametrize("options", [{}, {"hard_weight": 0.3}, {"reduction": "sum"}], ids=["plain", "labels", "sum"])
@pytest.mark.parametrize("case", [*DIVERGENCES, "draws"])
def test_losses_and_slopes_of_whole_logits(case, options, softcap):
    hidden, weight, bias = student()
    known = teacher("draws" if case == "draws" else "sparse")
    options = {"temperature": 2.0, "divergence": "forward_kl" if case == "draws" else case} | options
    if "hard_weight" in options:
        labels = torch.randint(0, STATES, BATCH, generator=torch.Generator().manual_seed(0))
        labels[0, :2] = -100
        options["labels"] = labels
    if options.get("reduction") == "sum":
        options["token_weights"] = torch.rand(BATCH, dtype=torch.float64) * (torch.arange(5) > 0)
    z = hidden @ weight.T + bias
    z = z if softcap is None else softcap * torch.tanh(z / softcap)
    whole = sparse_distillation_loss(z, known, **options)
    blocked = linear_sparse_distillation_loss(hidden, (weight, bias), known, student_softcap=softcap, **options)
    assert blocked.item() == pytest.approx(whole.item(), rel=1e-12)
    learned = (hidden, weight, bias)
    for mine, theirs in zip(torch.autograd.grad(blocked, learned), torch.autograd.grad(whole, learned)):
        assert torch.allclose(mine, theirs, rtol=1e-10, atol=1e-12)


def test_temperatures():
    hidden, weight, bias = student()
    known, z = teacher("sparse"), (hidden @ weight.T + bias).detach()
    rows = torch.full(BATCH, 2.0)
    rows[1] = 0.5
    warm = CosineSchedule(2.0, 0.5, steps=10)
    for t, step in ((rows, None), (warm, 10)):
        found = linear_sparse_distillation_loss(hidden, (weight, bias), known, temperature=t, step=step)
        assert found.item() == pytest.approx(sparse_distillation_loss(z, known, temperature=t, step=step).item())
    with pytest.raises(TypeError, match="temperature: must not depend on logits"):
        linear_sparse_distillation_loss(hidden, weight, known, temperature=SetPoint(entropy=1.0))
    with pytest.raises(ValueError, match=r"stored of the teacher \(0.5, 2\); got 1"):
        linear_sparse_distillation_loss(hidden, weight, known)


def test_nothing_to_learn_from_oneself():
    for dtype, tolerance in ((torch.float64, 1e-14), (torch.float32, 1e-6)):
        hidden, weight = (x.detach().to(dtype).requires_grad_() for x in student()[:2])
        known = SparseTeacher.from_logits((hidden @ weight.T).reshape(15, STATES), k=5, temperatures=(3.0,))
        loss = linear_sparse_distillation_loss(hidden, weight, known, temperature=3.0)
        loss.backward()
        assert 0 <= loss.item() <= tolerance
        assert hidden.grad.abs().max() <= tolerance and weight.grad.abs().max() <= tolerance


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"student_head": torch.zeros(20, 5)}, "student_hidden: must be floating, of the head's width 5"),
        ({"student_hidden": draw(4, 4)}, "teacher: must have the 4 rows of the student; got 15"),
        ({"teacher": draw(15, 20)}, "teacher: must be a SparseTeacher or a SampledTeacher"),
        ({"student_head": torch.zeros(5000, 4)}, "teacher: must have the student's 5000 states"),
        ({"reduction": "none"}, "reduction: must be mean or sum.*sparse_distillation_loss gives"),
        ({"divergence": "dkd"}, "divergence: must be one of forward_kl"),
        ({"student_hidden": draw(15, 4) * torch.nan}, r"student: rows must be finite.* row 0"),
    ],
)
def test_refusals(changed, message):
    hidden, weight, _ = student()
    given = {"student_hidden": hidden, "student_head": weight, "teacher": teacher("sparse"), "temperature": 2.0}
    with pytest.raises((ValueError, TypeError), match=message):
        linear_sparse_distillation_loss(**given | changed)


MEMORY = """
import torch
from logitherm.distillation import SparseTeacher, linear_sparse_distillation_loss
torch.set_num_threads(2)
def high():
    return [int(l.split()[1]) for l in open("/proc/self/status") if l.startswith("VmHWM")][0] / 1024
n, states = 1024, 32_000
hidden, weight = torch.randn(n, 64, requires_grad=True), torch.randn(states, 64, requires_grad=True)
tokens = torch.stack([torch.randperm(states)[:32] for _ in range(n)])
teacher = SparseTeacher(tokens, torch.randn(n, 32), torch.zeros(n, 1), (2.0,), states)
def loss(rows):
    part = SparseTeacher(tokens[rows], teacher.logits[rows], teacher.log_rest[rows], (2.0,), states)
    linear_sparse_distillation_loss(hidden[rows], weight, part, temperature=2.0).backward()
loss(slice(0, 64))
hidden.grad = weight.grad = None
open("/proc/self/clear_refs", "w").write("5")
before = high()
loss(slice(None))
print(high() - before - (hidden.numel() + weight.numel()) * 4 / 2**20)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_is_that_of_a_block():
    """The logits are 131 MB here, and their slopes as much again."""
    gc.collect()
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    command = [sys.executable, "-c", MEMORY]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True, env=environment)
    assert float(done.stdout) < 100
