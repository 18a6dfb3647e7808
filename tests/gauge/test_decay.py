"""A warning where weight decay and a free temperature work on the same weights, and what happens there."""

import warnings

import pytest
import torch

from logitherm.gauge import GaugeWarning, check_gauge
from logitherm.thermostat import LearnableTemperature

X = torch.randn(16, 8, generator=torch.Generator().manual_seed(0))


class Scaled(torch.nn.Module):
    """Logits over a learned temperature, of features that are normalised or not."""

    def __init__(self, *, normalised=False, hidden=True, bias=True):
        super().__init__()
        self.body = torch.nn.Linear(8, 8, bias=bias) if hidden else torch.nn.Identity()
        self.head = torch.nn.Linear(8, 3, bias=bias and not normalised)
        self.temperature = LearnableTemperature(0.5)
        self.normalised = normalised

    def forward(self, x):
        h = torch.relu(self.body(x))
        if self.normalised:
            normal = torch.nn.functional.normalize
            return normal(h, dim=1) @ normal(self.head.weight, dim=1).T / self.temperature.resolve()
        return self.head(h) / self.temperature.resolve()


def split(model, optimizer=torch.optim.AdamW, decay=0.1):
    """Two groups, as one is told to make them: no decay of the temperature."""
    scales = [p for name, p in model.named_parameters() if "temperature" in name]
    rest = [p for name, p in model.named_parameters() if "temperature" not in name]
    return optimizer([{"params": rest, "weight_decay": decay}, {"params": scales, "weight_decay": 0.0}], lr=0.1)


def said(*args, **kwargs):
    """What is found, and the lines of the warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = check_gauge(*args, **kwargs)
    assert all(w.category is GaugeWarning and w.filename == __file__ for w in caught)
    return found, [str(w.message) for w in caught]


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW])
def test_it_names_the_layers_whose_scale_is_free(optimizer):
    model = Scaled()
    found, (line,) = said(split(model, optimizer), model, inputs=X)
    assert found == ["head.weight"]  # below it are biases, which do not scale
    assert line.startswith("weight_decay: head.weight is decayed while a temperature is free") and "\n" not in line
    bare = Scaled(bias=False)
    found, (line,) = said(split(bare, optimizer), bare, inputs=X)
    assert found == ["body.weight", "head.weight"] and "body.weight, head.weight are decayed" in line


def test_normalised_features_have_no_such_freedom():
    model = Scaled(normalised=True, bias=False)
    assert said(split(model), model, inputs=X) == ([], [])
    found, (line,) = said(split(model), model)
    assert found == ["body.weight", "head.weight"] and line.endswith(
        "; give inputs to see whether normalisation makes it harmless"
    )


def test_what_holds_the_gauge_is_silent():
    model = Scaled()
    assert said(split(model, decay=0.0), model, inputs=X) == ([], [])
    all_decayed = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.1)  # log T goes to 0
    assert said(all_decayed, model, inputs=X) == ([], [])
    held = torch.optim.SGD([*model.body.parameters(), *model.head.parameters()], lr=0.1, weight_decay=0.1)
    assert said(held, model, inputs=X) == ([], [])
    plain = torch.nn.Linear(8, 3)
    assert said(torch.optim.AdamW(plain.parameters(), weight_decay=0.1), plain, inputs=X) == ([], [])


def test_decay_of_t_itself_holds_nothing():
    model = torch.nn.Linear(8, 3)
    model.temperature = torch.nn.Parameter(torch.tensor(1.0))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.1)
    assert said(optimizer, model)[0] == ["weight"]
    model.log_temperature = model.__dict__["_parameters"].pop("temperature")
    assert said(optimizer, model)[0] == []


def test_a_temperature_outside_of_the_model():
    model, temperature = torch.nn.Linear(8, 3), LearnableTemperature(1.0)
    scalar = torch.nn.Parameter(torch.tensor(1.0))
    for given in (temperature, scalar):
        parameters = [temperature.log_temperature] if given is temperature else [scalar]
        groups = [{"params": model.parameters(), "weight_decay": 0.1}, {"params": parameters}]
        optimizer = torch.optim.SGD(groups, lr=0.1)
        assert said(optimizer, model, inputs=X, temperature=given)[0] == ["weight"]
        assert said(optimizer, model, inputs=X)[0] == []  # nothing shows what it is


def test_the_model_is_left_as_it_was():
    model = torch.nn.Sequential(torch.nn.Dropout(0.5), Scaled(hidden=False)).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert said(split(model), model, inputs=(X,))[0] == ["1.head.weight"]
    assert model.training and model[0].training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_many_layers_are_counted():
    model = torch.nn.Sequential(*(torch.nn.Linear(8, 8, bias=False) for _ in range(5)), Scaled(bias=False))
    found, (line,) = said(split(model), model, inputs=X)
    assert len(found) == 7 and "0.weight, 1.weight, 2.weight and 4 more are decayed" in line


def test_weights_and_temperature_do_fall_together():
    """What is warned of: the same probabilities, from weights and a temperature that have no end but 0."""
    torch.manual_seed(0)
    draw = torch.Generator().manual_seed(1)
    labels = (X[:, :3] + torch.randn(16, 3, generator=draw)).argmax(dim=1)
    head, temperature = torch.nn.Linear(8, 3), LearnableTemperature(1.0)
    groups = [{"params": head.parameters(), "weight_decay": 0.05}, {"params": temperature.parameters()}]
    optimizer, seen = torch.optim.SGD(groups, lr=0.05), []
    for step in range(401):
        loss = torch.nn.functional.cross_entropy(head(X) / temperature.resolve(), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step in (200, 400):
            seen.append((head.weight.detach().norm().item(), temperature.resolve().item(), loss.item()))
    (norm, t, loss), (later_norm, later_t, later_loss) = seen
    assert later_t < 0.8 * t and later_norm < norm
    assert later_loss < loss  # the rows are fitted ever more closely: nothing was regularised


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda m, o: check_gauge(m, m), "optimizer, model: must be a torch optimizer and a module"),
        (lambda m, o: check_gauge(o, o), "optimizer, model: must be a torch optimizer and a module"),
        (lambda m, o: check_gauge(o, m, temperature=0.5), "temperature: must be a LearnableTemperature or a parameter"),
    ],
)
def test_what_is_refused(make, message):
    model = torch.nn.Linear(8, 3)
    with pytest.raises(TypeError, match=message):
        make(model, torch.optim.SGD(model.parameters(), lr=0.1))


def test_a_model_that_returns_something_else():
    class Pair(torch.nn.Linear):
        def forward(self, x):
            return x, x

    model, temperature = Pair(8, 3), LearnableTemperature(1.0)
    groups = [{"params": model.parameters(), "weight_decay": 0.1}, {"params": temperature.parameters()}]
    with pytest.raises(TypeError, match="model: must return logits for inputs; got tuple"):
        check_gauge(torch.optim.SGD(groups, lr=0.1), model, inputs=X, temperature=temperature)
