"""The identity of a whole network without biases, and what is refused."""

import math

import numpy as np
import pytest
import torch

from logitherm import fit_temperature
from logitherm.gauge import network_stationarity, stationarity

DECAY = 0.02


def rows(n=120, dtype=torch.float64):
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(n, 5, generator=draw, dtype=dtype)
    return x, (x[:, :3] + torch.randn(n, 3, generator=draw, dtype=dtype)).argmax(dim=1)


def layers(*widths, bias=False, between=torch.nn.ReLU, seed=0):
    torch.manual_seed(seed)
    parts = []
    for inputs, outputs in zip(widths, widths[1:]):
        parts += [torch.nn.Linear(inputs, outputs, bias=bias), between()]
    return torch.nn.Sequential(*parts[:-1]).double()


def train(network, x, y, decay=DECAY, weights=None, reduction="mean"):
    """To the end, by full-batch steps with the gradient of decay W, as torch.optim.SGD has it."""
    ends = {"max_iter": 250, "tolerance_grad": 1e-9, "tolerance_change": 0, "line_search_fn": "strong_wolfe"}
    optimizer = torch.optim.LBFGS(network.parameters(), **ends)

    def loss():
        optimizer.zero_grad()
        each = torch.nn.functional.cross_entropy(network(x), y, reduction="none")
        each = each if weights is None else each * weights
        total = each.sum() if reduction == "sum" else each.sum() / (len(y) if weights is None else weights.sum())
        total = total + decay / 2 * sum((w**2).sum() for w in network.parameters() if w.requires_grad)
        total.backward()
        return total

    optimizer.step(loss)
    network.zero_grad()
    return network


X, Y = rows()


@pytest.fixture(scope="module")
def linear():
    """Three linear layers and nothing between: smooth, so that the gradient goes to 0."""
    return train(layers(5, 6, 4, 3, between=torch.nn.Identity), X, Y)


def test_all_sides_agree_at_the_end(linear):
    found = network_stationarity(linear, X, Y, weight_decay=DECAY)
    assert found.score > 0.03
    assert [layer.name for layer in found.layers] == ["0.weight", "2.weight", "4.weight"]
    for layer in found.layers:
        assert layer.expected == pytest.approx(found.score, rel=1e-5)
        assert abs(layer.residual) < 1e-5
    total = sum(layer.squared_norm for layer in found.layers)
    assert found.expected == pytest.approx(DECAY / 3 * total, rel=1e-12)
    assert found.imbalance < 1e-5 and found.gradient < 1e-4
    assert found.verdict.startswith("At its scale")
    assert fit_temperature(linear(X).detach(), Y).temperature < 1


def test_relu_layers_agree_too():
    found = network_stationarity(train(layers(5, 8, 8, 3), X, Y), X, Y, weight_decay=DECAY)
    assert all(abs(layer.residual) < 0.01 for layer in found.layers) and found.imbalance < 0.01


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_weights_and_sums(reduction):
    weights = torch.linspace(0.1, 2, 120, dtype=torch.float64)
    decay = DECAY * (float(weights.sum()) if reduction == "sum" else 1)
    network = train(layers(5, 4, 3, between=torch.nn.Identity), X, Y, decay, weights, reduction)
    found = network_stationarity(network, X, Y, weight_decay=decay, weights=weights, reduction=reduction)
    assert abs(found.residual) < 1e-4 and found.gradient < 1e-3 and found.imbalance < 1e-3


def test_away_from_the_end(linear):
    fresh = layers(5, 6, 4, 3, between=torch.nn.Identity)
    found = network_stationarity(fresh, X, Y, weight_decay=DECAY)
    assert found.gradient > 0.1 and found.verdict.startswith("Not stationary")
    scaled = layers(5, 6, 4, 3, between=torch.nn.Identity)
    scaled.load_state_dict({name: 1.1 * value for name, value in linear.state_dict().items()})
    assert all(layer.residual < -0.1 for layer in network_stationarity(scaled, X, Y, weight_decay=DECAY).layers)


def test_the_gradient_is_that_of_the_objective():
    network = layers(5, 4, 3)
    found = network_stationarity(network, X, Y, weight_decay=DECAY, batch_size=7)
    penalised = torch.nn.functional.cross_entropy(network(X), Y)
    penalised = penalised + DECAY / 2 * sum((w**2).sum() for w in network.parameters())
    slopes = torch.autograd.grad(penalised, list(network.parameters()))
    size = math.sqrt(sum(float((g**2).sum()) for g in slopes))
    norm = DECAY * math.sqrt(sum((w.detach() ** 2).sum().item() for w in network.parameters()))
    assert found.gradient == pytest.approx(size / norm, rel=1e-9)
    assert network_stationarity(network, X, Y, weight_decay=0).gradient == math.inf


def test_one_score_for_arrays_and_networks(linear):
    found = network_stationarity(linear, X, Y, penalty=DECAY / 2)
    same = stationarity(linear(X).detach(), Y, {"last": linear[4].weight.detach()}, penalty=DECAY / 2)
    assert same.score == pytest.approx(found.score, rel=1e-12)
    assert same.layers[0].expected == pytest.approx(found.layers[2].expected, rel=1e-12)


def test_float32_convolutions_pooling_and_frozen_layers():
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv1d(1, 4, 3, bias=False),
        torch.nn.LeakyReLU(),
        torch.nn.AdaptiveAvgPool1d(2),
        torch.nn.Flatten(),
        torch.nn.Linear(8, 3, bias=False),
        torch.nn.Dropout(0.5),
    )
    network[4].weight.requires_grad_(False)
    network.train()
    network[1].eval()
    found = network_stationarity(network, X.float()[:, None, :], Y.numpy(), weight_decay=DECAY)
    assert [layer.name for layer in found.layers] == ["0.weight"]
    assert network.training and network[5].training and not network[1].training  # as they were
    assert all(p.grad is None for p in network.parameters())


class Sum(torch.nn.Module):
    """Two branches: the logits double with both, not with one."""

    def __init__(self):
        super().__init__()
        self.a, self.b = torch.nn.Linear(5, 3, bias=False), torch.nn.Linear(5, 3, bias=False)

    def forward(self, x):
        return self.a(x) + self.b(x)


def frozen():
    network = layers(5, 3)
    network.requires_grad_(False)
    return network


@pytest.mark.parametrize(
    ("network", "args", "kwargs", "error", "message"),
    [
        (layers(5, 4, 3, bias=True), (X, Y), {}, ValueError, "others when 0.weight doubles, so biases"),
        (layers(5, 4, 3, between=torch.nn.GELU), (X, Y), {}, ValueError, "others when 0.weight doubles"),
        (Sum().double(), (X, Y), {}, ValueError, "others when a.weight doubles"),
        (frozen(), (X, Y), {}, ValueError, "network: must have parameters that need a gradient"),
        (layers(5, 3), (X[:0], Y[:0]), {}, ValueError, "inputs: must have at least one row"),
        (
            layers(5, 3),
            (X.numpy(), Y),
            {},
            TypeError,
            "network, inputs: must be a torch module and a tensor; got shape",
        ),
        (np.ones(3), (X, Y), {}, TypeError, "must be a torch module and a tensor"),
        (layers(5, 3), (X[0], Y[:1]), {}, ValueError, r"network: must give logits \(rows, classes\)"),
        (layers(5, 3), (X, Y[:5]), {}, ValueError, "labels: must have the batch shape"),
        (layers(5, 3), (X, Y), {"batch_size": 0}, ValueError, "batch_size: must be at least 1"),
        (layers(5, 3), (X, Y), {"penalty": 1.0}, ValueError, "penalty, weight_decay: must be one of the two"),
    ],
)
def test_what_is_refused(network, args, kwargs, error, message):
    with pytest.raises(error, match=message):
        network_stationarity(network, *args, weight_decay=DECAY, **kwargs)
