"""Two ranks of torch.distributed are one process with the whole batch."""

import sys

import pytest
import torch
import torch.distributed as dist

from logitherm.contrastive import clip_loss, info_nce, siglip_loss, supcon_loss
from logitherm.thermostat import LearnableTemperature

RANKS, ROWS = 2, 5
LABELS = torch.tensor([0, 1, 0, 2, 3, 0, 1, 1, 4, 4])  # not as many anchors count on one rank as on the other
T_ROWS = torch.linspace(0.1, 0.5, RANKS * ROWS, dtype=torch.float64)


class Towers(torch.nn.Module):
    """Two linear maps, a temperature and a bias."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.image, self.text = torch.nn.Linear(6, 4), torch.nn.Linear(6, 4)
        self.temperature = LearnableTemperature(0.2)
        self.bias = torch.nn.Parameter(torch.tensor(-1.0))
        self.double()

    def forward(self, x):
        return self.image(x), self.text(x.flip(1)), self.temperature.resolve(), 1.0 * self.bias


LOSSES = {
    "info_nce": lambda a, b, t, bias, rows, group: info_nce(a, b, temperature=t, group=group),
    "clip": lambda a, b, t, bias, rows, group: clip_loss(a, b, temperature=t, group=group, block=3),
    "clip, per row": lambda a, b, t, bias, rows, group: clip_loss(a, b, temperature=T_ROWS[rows], group=group),
    "siglip": lambda a, b, t, bias, rows, group: siglip_loss(a, b, temperature=t, bias=bias, group=group, block=3),
    "supcon": lambda a, b, t, bias, rows, group: supcon_loss(
        a, LABELS[rows], temperature=t, base_temperature=0.07, group=group
    ),
}


def batch():
    return torch.randn(RANKS * ROWS, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def run(model, rows, group):
    """Loss and gradients of every parameter, by loss."""
    found = {}
    for name, loss in LOSSES.items():
        model.zero_grad()
        a, b, t, bias = model(batch()[rows])
        value = loss(a, b, t, bias, rows, group)
        (value + 0 * (a.sum() + b.sum() + t + bias)).backward()  # every parameter has a part, as DDP wants it
        inner = getattr(model, "module", model)
        found[name] = value.detach(), [p.grad.clone() for p in inner.parameters()]
    return found


def rank(number, folder):
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=number, world_size=RANKS)
    torch.set_num_threads(1)
    model = torch.nn.parallel.DistributedDataParallel(Towers())
    found = run(model, slice(number * ROWS, (number + 1) * ROWS), dist.group.WORLD)
    try:
        info_nce(torch.eye(3)[: 2 + number], torch.eye(3)[: 2 + number], temperature=1.0, group=dist.group.WORLD)
    except ValueError as error:
        found["uneven"] = str(error)
    torch.save(found, f"{folder}/{number}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_ranks_are_one_process(tmp_path, processes):
    processes(__file__, RANKS, tmp_path)
    ranks = [torch.load(tmp_path / f"{number}.pt", weights_only=True) for number in range(RANKS)]
    one = run(Towers(), slice(0, RANKS * ROWS), None)
    for name, (value, gradients) in one.items():
        torch.testing.assert_close(sum(found[name][0] for found in ranks) / RANKS, value, rtol=1e-12, atol=1e-12)
        for found in ranks:  # DDP has made the mean of the gradients
            for mine, whole in zip(found[name][1], gradients):
                torch.testing.assert_close(mine, whole, rtol=1e-10, atol=1e-12)
    for found in ranks:
        assert found["uneven"] == "keys: must have as many rows on every rank; got [2, 3]; drop_last=True of a loader"


if __name__ == "__main__":
    rank(int(sys.argv[1]), sys.argv[2])
