"""A model that divides its logits by a temperature, as users of PyTorch meet it."""

from __future__ import annotations

import copy
import math
from collections import namedtuple

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

import logitherm
from logitherm.integrations.torch import TemperatureScaledModel

Output = namedtuple("Output", ["loss", "logits"])


class Counting(nn.Module):
    """An overconfident classifier with dropout and batch statistics, that counts its forward passes."""

    def __init__(self, classes=4):
        super().__init__()
        self.norm, self.dropout, self.head = nn.BatchNorm1d(6), nn.Dropout(0.5), nn.Linear(6, classes)
        with torch.no_grad():
            self.head.weight.mul_(8)
        self.rows = 0

    def forward(self, x):
        self.rows += len(x)
        return self.head(self.dropout(self.norm(x)))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def model():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Counting().eval()


@pytest.fixture
def rows(model):
    """Inputs, and labels drawn from the model at T = 2.5."""
    x = torch.randn(2400, 6, generator=seeded())
    with torch.no_grad():
        labels = torch.multinomial((model(x) / 2.5).softmax(dim=1), 1, generator=seeded())[:, 0]
    model.rows = 0
    return TensorDataset(x, labels)


def logits_of(model, rows):
    with torch.no_grad():
        return model(rows.tensors[0])


def test_the_fit_is_that_of_all_logits_at_once(model, rows):
    scaled = TemperatureScaledModel(model)
    found = scaled.fit(DataLoader(rows, 100))
    assert model.rows == len(rows), "the model runs once"
    due = logitherm.fit_temperature(logits_of(model, rows), rows.tensors[1])
    assert found.temperature == pytest.approx(due.temperature, rel=1e-6) and found.n == 2400
    assert found.interval == pytest.approx(due.interval, rel=1e-6)
    assert found.interval[0] < 2.5 < found.interval[1]
    assert float(scaled.temperature) == pytest.approx(found.temperature, rel=1e-7)
    x = rows.tensors[0]
    torch.testing.assert_close(scaled(x), model(x) / found.temperature)
    torch.testing.assert_close(scaled.predict_proba(x), scaled(x).softmax(dim=1))
    assert torch.equal(scaled(x).argmax(dim=1), model(x).argmax(dim=1))


@pytest.mark.parametrize("keep", [True, False])
def test_modes_randomness_and_gradients_are_as_before(model, rows, keep):
    scaled = TemperatureScaledModel(model).train()
    model.norm.eval()
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    found = scaled.fit(DataLoader(rows, 100, shuffle=True, generator=seeded()), keep_logits=keep)
    assert scaled.training and model.training and model.dropout.training and not model.norm.training
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    model.eval()
    due = logitherm.fit_temperature(logits_of(model, rows), rows.tensors[1]).temperature
    assert found.temperature == pytest.approx(due, rel=1e-6)


def test_modes_come_back_where_the_fit_fails(model):
    scaled = TemperatureScaledModel(model, temperature=3.0).train()
    with pytest.raises(ValueError, match=r"labels: must lie in \[0, 4\); row 0 has 4 .*in batch 0"):
        scaled.fit([(torch.randn(5, 6), torch.full((5,), 4))])
    assert model.training and float(scaled.temperature) == 3.0


def test_without_keeping_logits_the_model_runs_in_every_pass(model, rows):
    kept = TemperatureScaledModel(model).fit(DataLoader(rows, 100)).temperature
    model.rows = 0
    scaled = TemperatureScaledModel(model)
    found = scaled.fit(DataLoader(rows, 100), keep_logits=False)
    assert found.temperature == kept
    assert 2 * len(rows) < model.rows < 7 * len(rows)
    with pytest.raises(ValueError, match=r"loader: must be readable more than once .* one-shot list_iterator"):
        scaled.fit(iter([tuple(rows.tensors)]), keep_logits=False)
    assert scaled.fit(iter([tuple(rows.tensors)])).temperature == pytest.approx(kept, rel=1e-6)


def test_data_that_differ_from_pass_to_pass_are_noticed(model, rows):
    class Augmented(Dataset):
        generator = seeded(1)

        def __len__(self):
            return len(rows)

        def __getitem__(self, index):
            x, y = rows[index]
            return x + torch.randn(6, generator=self.generator), y

    scaled = TemperatureScaledModel(model)
    with pytest.raises(ValueError, match="leave random augmentation out"):
        scaled.fit(DataLoader(Augmented(), 100), keep_logits=False)
    assert scaled.fit(DataLoader(Augmented(), 100)).converged


# -- what batches may be ---------------------------------------------------------------------------------


def test_weights_and_rows_to_leave_out(model, rows):
    x, y = rows.tensors
    weights = torch.randint(0, 3, y.shape, generator=seeded())
    scaled = TemperatureScaledModel(model)
    weighted = scaled.fit(DataLoader(TensorDataset(x, y, weights), 100))
    repeated = scaled.fit([(x.repeat_interleave(weights, dim=0), y.repeat_interleave(weights))])
    assert weighted.temperature == pytest.approx(repeated.temperature, rel=1e-6)
    ignored = torch.where(weights == 0, -100, y)
    left = scaled.fit(DataLoader(TensorDataset(x, ignored), 100), ignore_index=-100)
    assert left.n == int((weights > 0).sum())


def test_inputs_of_several_arguments_and_of_names(model, rows):
    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, a, b):
            return Output(None, self.model(a + b))

    x, y = rows.tensors
    scaled = TemperatureScaledModel(Sum().eval(), read=lambda output: output.logits)
    due = logitherm.fit_temperature(logits_of(model, rows), y).temperature
    assert scaled.fit([((x / 2, x / 2), y)]).temperature == pytest.approx(due, rel=1e-5)
    assert scaled.fit([({"a": x / 4, "b": 3 * x / 4}, y)]).temperature == pytest.approx(due, rel=1e-5)
    assert scaled.fit([{"a": x, "b": torch.zeros(6), "labels": y}]).temperature == pytest.approx(due, rel=1e-5)
    torch.testing.assert_close(scaled(a=x, b=torch.zeros(6)), model(x) / scaled.temperature)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (torch.zeros(4, 6), r"batch 0 is shape \(4, 6\), float32"),
        ((torch.zeros(4, 6),), "batch 0 is tuple"),
        ({"x": 1, "y": 2}, r"batch 0 is a mapping of \['x', 'y'\]"),
    ],
)
def test_batches_of_another_form_are_named(model, batch, message):
    with pytest.raises(ValueError, match=rf"loader: batches must be \(inputs, labels\).*{message}"):
        TemperatureScaledModel(model).fit([batch])


def test_a_model_that_returns_something_else_is_named(model):
    class Wrapped(nn.Module):
        def forward(self, x):
            return Output(None, x)

    with pytest.raises(TypeError, match=r"read: must make a tensor of logits .* got Output.*read=lambda output"):
        TemperatureScaledModel(Wrapped())(torch.zeros(2, 3))
    with pytest.raises(TypeError, match=r"logits: must be floating point; got shape \(2, 3\), int64"):
        TemperatureScaledModel(nn.Identity())(torch.zeros(2, 3, dtype=torch.int64))


def test_maps_of_classes():
    z = 3 * torch.randn(4, 5, 6, 7, generator=seeded())
    labels = torch.distributions.Categorical(logits=(z / 2).movedim(1, -1)).sample()
    labels[0, 0] = 255
    scaled = TemperatureScaledModel(nn.Identity(), axis=1)
    found = scaled.fit([(z, labels)], ignore_index=255)
    due = logitherm.fit_temperature(z, labels, axis=1, ignore_index=255)
    assert found.temperature == pytest.approx(due.temperature, rel=1e-7)
    torch.testing.assert_close(scaled.predict_proba(z).sum(dim=1), torch.ones(4, 6, 7))
    scaled.set_temperature(0.0)
    torch.testing.assert_close(scaled(z).softmax(dim=1), logitherm.softmax(z, 0.0, axis=1))


def test_a_hugging_face_model():
    transformers = pytest.importorskip("transformers", reason="a real model of theirs")
    config = transformers.BertConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, num_labels=3
    )
    bert = transformers.BertForSequenceClassification(config).eval()
    ids, labels = torch.randint(0, 50, (40, 7), generator=seeded()), torch.randint(0, 3, (40,), generator=seeded())
    batches = [
        transformers.BatchEncoding({"input_ids": i, "labels": y}) for i, y in zip(ids.split(20), labels.split(20))
    ]
    scaled = TemperatureScaledModel(bert, read=lambda output: output.logits)
    found = scaled.fit(batches)
    with torch.no_grad():
        due = logitherm.fit_temperature(bert(ids).logits, labels)
    assert (found.at_bound, found.n) == (due.at_bound, 40)
    assert found.temperature == pytest.approx(due.temperature, rel=1e-4)
    assert scaled(input_ids=ids).shape == (40, 3)


# -- what becomes of T -----------------------------------------------------------------------------------


def test_state_dict_carries_the_temperature(model, tmp_path):
    scaled = TemperatureScaledModel(model, temperature=1.7)
    torch.save(scaled.state_dict(), tmp_path / "m.pt")
    again = TemperatureScaledModel(Counting())
    assert again.load_state_dict(torch.load(tmp_path / "m.pt", weights_only=True), strict=True)
    x = torch.randn(3, 6)
    assert torch.equal(again.eval()(x), scaled(x))
    with pytest.raises(RuntimeError, match=r"Missing key\(s\) in state_dict: .*temperature"):
        again.load_state_dict({f"model.{name}": value for name, value in model.state_dict().items()})
    with pytest.raises(RuntimeError, match=r"temperature: must lie in \[0, inf\]; got -1"):
        again.load_state_dict(scaled.state_dict() | {"temperature": torch.tensor(-1.0)})


@pytest.mark.parametrize("temperature", [0.0, math.inf])
def test_limits_survive_state_dict_copies_and_dtypes(temperature):
    z = torch.tensor([[1.0, 3.0, 3.0, -math.inf], [0.0, -1.0, 5.0, 4.0]])
    scaled = TemperatureScaledModel(nn.Identity(), temperature=temperature)
    outer = nn.Sequential(TemperatureScaledModel(nn.Identity()))
    outer.load_state_dict(nn.Sequential(scaled).state_dict())
    due = logitherm.softmax(z, temperature)
    for each in (scaled, outer[0], copy.deepcopy(scaled), scaled.half(), torch.compile(scaled, backend="eager")):
        torch.testing.assert_close(each(z).softmax(dim=1), due)
    torch.testing.assert_close(scaled.predict_proba(z), due)
    scaled.set_temperature(2.0)
    assert torch.equal(scaled(z), z / 2)


def test_separable_rows_and_rows_without_signal(model, rows):
    x = rows.tensors[0]
    z = logits_of(model, rows)
    scaled = TemperatureScaledModel(model)
    assert scaled.fit([(x, z.argmax(dim=1))]).at_bound == "zero"
    assert torch.equal(scaled(x).softmax(dim=1).amax(dim=1), torch.ones(len(x)))
    assert scaled.fit([(x, z.argmin(dim=1))]).at_bound == "infinite"
    assert torch.equal(scaled(x), torch.zeros(len(x), 4))
    for temperature in (-1.0, math.nan):
        with pytest.raises(ValueError, match=r"temperature: must lie in \[0, inf\]"):
            scaled.set_temperature(temperature)


@pytest.mark.parametrize("cast", ["half", "bfloat16", "double", "float"])
def test_temperature_keeps_its_digits(cast):
    scaled = getattr(TemperatureScaledModel(nn.Linear(3, 3), temperature=1.2345678), cast)()
    assert scaled.temperature.dtype == torch.float32
    assert float(scaled.temperature) == pytest.approx(1.2345678, rel=1e-7)
    z = scaled(torch.randn(4, 3, dtype=scaled.model.weight.dtype))
    assert z.dtype == scaled.model.weight.dtype


def test_moves_go_with_the_model():
    scaled = TemperatureScaledModel(nn.Linear(3, 3), temperature=1.5)
    with torch.device("meta"):
        empty = TemperatureScaledModel(nn.Linear(3, 3))
    assert empty.temperature.is_meta and "temperature=?" in repr(empty)
    empty.load_state_dict(scaled.state_dict(), assign=True)
    assert repr(empty).startswith("TemperatureScaledModel(\n  temperature=1.5")
    assert scaled.to("meta", torch.float16).temperature.is_meta
    assert TemperatureScaledModel(scaled.model).temperature.is_meta


def test_half_logits_are_divided_in_float32():
    z = (5 * torch.randn(500, 8, generator=seeded())).to(torch.bfloat16)
    scaled = TemperatureScaledModel(nn.Identity(), temperature=1.003)
    assert torch.equal(scaled(z), (z.float() / 1.003).to(torch.bfloat16))
    assert scaled.predict_proba(z).dtype == torch.bfloat16


def test_gradients_pass_to_the_model():
    scaled = TemperatureScaledModel(nn.Linear(3, 3), temperature=2.0)
    scaled(torch.ones(1, 3))[0, 1].backward()
    assert scaled.model.weight.grad[1].tolist() == [0.5, 0.5, 0.5]


def test_autocast(model, rows):
    scaled = TemperatureScaledModel(model)
    plain = scaled.fit(DataLoader(rows, 300)).temperature
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = scaled.fit(DataLoader(rows, 300), keep_logits=False)
        assert scaled(rows.tensors[0]).dtype == torch.bfloat16
        with torch.no_grad():
            due = logitherm.fit_temperature(model(rows.tensors[0]), rows.tensors[1])
    assert found.temperature == pytest.approx(due.temperature, rel=1e-5)
    assert found.temperature == pytest.approx(plain, rel=0.01)


@pytest.mark.slow
def test_compiled_models(model, rows):
    x = rows.tensors[0]
    due = TemperatureScaledModel(model).fit(DataLoader(rows, 600)).temperature
    inner = TemperatureScaledModel(torch.compile(model))
    assert inner.fit(DataLoader(rows, 600)).temperature == pytest.approx(due, rel=1e-5)
    outer = torch.compile(inner, fullgraph=True)
    torch.testing.assert_close(outer(x), model(x) / due, rtol=1e-4, atol=1e-5)
    inner.set_temperature(3.0)
    torch.testing.assert_close(outer(x), model(x) / 3.0, rtol=1e-4, atol=1e-5)


def test_it_can_be_exported(model):
    x = torch.randn(3, 6)
    scaled = TemperatureScaledModel(model, temperature=2.0)
    frozen = torch.export.export(TemperatureScaledModel(nn.Sequential(model.norm, model.head), temperature=2.0), (x,))
    torch.testing.assert_close(frozen.module()(x), scaled(x))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("keep", [True, False])
def test_on_a_gpu(model, rows, keep):
    due = TemperatureScaledModel(model).fit(DataLoader(rows, 100)).temperature
    scaled = TemperatureScaledModel(model).cuda()
    assert scaled.temperature.is_cuda
    assert scaled.fit(DataLoader(rows, 100), keep_logits=keep).temperature == pytest.approx(due, rel=1e-4)
    assert scaled(rows.tensors[0].cuda()).is_cuda
