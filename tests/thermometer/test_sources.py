"""Fits from batches: the same answer as from one array, whatever the chunks, and nothing kept."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from logitherm import fit_temperature

SAME = ("temperature", "standard_error", "sandwich_error", "nll_before", "nll_after", "likelihood_ratio")


@pytest.fixture(scope="module")
def data(draw):
    logits, labels = draw(3000, 6, 2.0)
    return logits.astype(np.float32), labels


def agree(fit, want):
    for name in SAME:
        assert getattr(fit, name) == pytest.approx(getattr(want, name), rel=1e-4 if "error" in name else 2e-7), name
    assert (fit.n, fit.classes) == (want.n, want.classes)


@pytest.mark.parametrize("size", [1, 7, 500, 2999, 3000])
def test_a_list_of_batches(data, size):
    logits, labels = data
    if size == 1:
        logits, labels = logits[:300], labels[:300]
    batches = [(logits[i : i + size], labels[i : i + size]) for i in range(0, len(labels), size)]
    agree(fit_temperature(batches), fit_temperature(logits, labels))


def test_a_data_loader_of_logits(data):
    loader = DataLoader(TensorDataset(*(torch.from_numpy(v) for v in data)), batch_size=256, shuffle=True)
    agree(fit_temperature(loader), fit_temperature(*data))


def test_a_data_loader_of_inputs_with_a_model():
    torch.manual_seed(0)
    model = torch.nn.Linear(8, 4)
    inputs, labels = torch.randn(1000, 8), torch.randint(4, (1000,))
    with torch.no_grad():
        logits = model(inputs)
    labels = torch.where(torch.rand(1000) < 0.7, logits.argmax(1), labels)
    seen = []

    def forward(batch):
        seen.append(torch.is_grad_enabled())
        return model(batch)

    fit = fit_temperature(DataLoader(TensorDataset(inputs, labels), batch_size=100), model=forward)
    assert fit.temperature == pytest.approx(fit_temperature(logits, labels).temperature, rel=1e-5)
    assert seen and not any(seen)


def test_weights_and_ignored_labels_in_batches(data):
    logits, labels = data
    weights = np.random.default_rng(0).random(3000)
    batches = [(logits[i::3], labels[i::3], weights[i::3]) for i in range(3)]
    agree(fit_temperature(batches), fit_temperature(logits, labels, weights=weights))
    ignored = np.where(weights < 0.2, -100, labels)
    batches = [(logits[i::3], ignored[i::3]) for i in range(3)]
    want = fit_temperature(logits, ignored, ignore_index=-100)
    agree(fit_temperature(batches, ignore_index=-100), want)


class Changing:
    """Batches that lose a row with every pass."""

    def __init__(self, data):
        self.data, self.passes = data, 0

    def __iter__(self):
        self.passes += 1
        logits, labels = self.data
        yield logits[self.passes :], labels[self.passes :]


@pytest.mark.parametrize(
    ("batches", "error", "message"),
    [
        (lambda z, y: iter([(z, y)]), ValueError, "must be readable more than once; got a one-shot"),
        (lambda z, y: [], ValueError, "at least one batch"),
        (lambda z, y: [z], ValueError, "batches must be"),
        (lambda z, y: [(z, y), (z[:, :3], np.zeros_like(y))], ValueError, "must agree in classes; batch 1 has 3"),
        (lambda z, y: Changing((z, y)), ValueError, "the same in every pass"),
        (lambda z, y: object(), TypeError, "logits: must be"),
    ],
)
def test_batches_that_cannot_be_fitted(data, batches, error, message):
    with pytest.raises(error, match=message):
        fit_temperature(batches(*data))


def test_labels_beside_batches_are_refused(data):
    with pytest.raises(ValueError, match="labels: must not be given with batches"):
        fit_temperature([data], data[1])
