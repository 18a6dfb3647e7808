"""Two ranks of DistributedDataParallel learn what one process with the whole batch does."""

import sys

import pytest

torch = pytest.importorskip("torch")
import torch.distributed as dist  # noqa: E402

from logitherm.distillation import (  # noqa: E402
    SparseTeacher,
    linear_distillation_loss,
    linear_sparse_distillation_loss,
)
from logitherm.thermostat import LearnableTemperature  # noqa: E402

RANKS, ROWS, WIDTH, STATES = 2, 4, 6, 30


def draw(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


LARGE, HEAVY = draw(RANKS * ROWS, 8, seed=1), draw(STATES, 8, seed=2)


class Student(torch.nn.Module):
    """Computes its loss, as it must where another module's gradients are found: DDP waits for the forward pass."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body, self.head = torch.nn.Linear(5, WIDTH), torch.nn.Linear(WIDTH, STATES)
        self.temperature = LearnableTemperature(2.0, low=0.5, high=8.0)
        self.double()

    def forward(self, x, rows, kind):
        hidden = torch.tanh(self.body(x))
        if kind == "stored":
            known = SparseTeacher.from_logits(LARGE[rows] @ HEAVY.T, k=6, temperatures=(2.0,))
            loss = linear_sparse_distillation_loss(hidden, self.head, known, temperature=2.0)
            return loss + 0 * self.temperature.resolve()
        t = self.temperature if kind == "learned" else 2.0
        return linear_distillation_loss(hidden, self.head, LARGE[rows], HEAVY, temperature=t) + (
            0 * self.temperature.resolve()
        )


def run(model, rows):
    """Loss and gradients by kind."""
    found = {}
    for kind in ("fixed", "learned", "stored"):
        model.zero_grad()
        value = model(draw(RANKS * ROWS, 5, seed=3)[rows], rows, kind)
        value.backward()
        found[kind] = value.detach(), [p.grad.clone() for p in model.parameters()]
    return found


def rank(number, folder):
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=number, world_size=RANKS)
    torch.set_num_threads(1)
    found = run(torch.nn.parallel.DistributedDataParallel(Student()), slice(number * ROWS, (number + 1) * ROWS))
    torch.save(found, f"{folder}/{number}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_ranks_are_one_process(tmp_path, processes):
    processes(__file__, RANKS, tmp_path)
    ranks = [torch.load(tmp_path / f"{number}.pt", weights_only=True) for number in range(RANKS)]
    for kind, (value, gradients) in run(Student(), slice(0, RANKS * ROWS)).items():
        torch.testing.assert_close(sum(found[kind][0] for found in ranks) / RANKS, value, rtol=1e-12, atol=1e-12)
        for found in ranks:
            for mine, whole in zip(found[kind][1], gradients):
                torch.testing.assert_close(mine, whole, rtol=1e-10, atol=1e-12)


if __name__ == "__main__":
    rank(int(sys.argv[1]), sys.argv[2])
