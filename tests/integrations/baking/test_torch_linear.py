"""torch layers, alone and in modules."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

import logitherm
from logitherm import TemperatureScaling

ROUNDING = {torch.float16: 5e-3, torch.bfloat16: 4e-2, torch.float32: 2e-6, torch.float64: 1e-13}


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 8), nn.ReLU())
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        return self.head(self.body(x))


@pytest.fixture
def x():
    torch.manual_seed(0)
    return torch.randn(64, 6)


def close(found, expected, dtype=torch.float32):
    scale = float(expected.abs().max())
    torch.testing.assert_close(found.double(), expected.double(), rtol=0, atol=ROUNDING[dtype] * scale)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", list(ROUNDING), ids=str)
def test_a_layer(calibrator, x, dtype, bias):
    layer = nn.Linear(6, 4, bias=bias, dtype=dtype)
    before = copy.deepcopy(layer.state_dict())
    baked = logitherm.bake(layer, calibrator)
    assert type(baked) is nn.Linear and baked.weight.dtype == dtype
    x = x.to(dtype)
    close(baked(x), calibrator.transform(layer(x).detach().double()), dtype)
    assert all(torch.equal(before[name], value) for name, value in layer.state_dict().items())
    assert (baked.bias is None) == (not bias and isinstance(calibrator, TemperatureScaling))
    assert baked.bias is None or (baked.bias.dtype == dtype and baked.bias.requires_grad)


def test_a_module_by_the_name_of_its_head(calibrator, x):
    model = Net()
    baked = logitherm.bake(model, calibrator, head="head")
    close(baked(x), calibrator.transform(model(x).detach()))
    assert torch.equal(baked.body[0].weight, model.body[0].weight)
    assert baked.state_dict().keys() == model.state_dict().keys()


def test_in_place_keeps_the_parameters_that_an_optimiser_holds(x):
    model = Net()
    weight, expected = model.head.weight, model(x).detach() / 2
    assert logitherm.bake(model, 2.0, head="head", inplace=True) is model
    assert model.head.weight is weight and weight.requires_grad
    close(model(x), expected)


def test_one_score_and_a_calibrator_of_two_classes(fitted, platt, x):
    layer = nn.Linear(6, 1)
    two = fitted(TemperatureScaling, 2)
    close(logitherm.bake(layer, two)(x), layer(x).detach() / two.temperature_)
    scaling = platt()
    close(logitherm.bake(layer, scaling)(x), scaling.transform(layer(x).detach()))


def test_baking_commutes_with_training_mode_and_the_script(x):
    baked = logitherm.bake(Net().eval(), 3.0, head="head")
    assert not baked.training
    close(torch.jit.trace(baked, x)(x), baked(x).detach())


# -- refusals --------------------------------------------------------------------------------------------


def refused(match, model, calibrator=2.0, kind=ValueError, **options):
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(kind, match=match):
        logitherm.bake(model, calibrator, inplace=True, **options)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_the_head_must_be_named_and_linear():
    refused(r"^head: must name the linear layer.*got None; its last linear layers: body.0, head", Net())
    refused(r"^head: must name a layer of the model; got 'tail'", Net(), head="tail")
    refused(r"^head: must be a torch.nn.Linear; got ReLU at 'body.1'", Net(), head="body.1")
    refused("its last linear layers: none", nn.ReLU())


def test_a_shared_matrix_is_refused():
    model = Net()
    model.other = nn.Linear(8, 4)
    model.other.weight = model.head.weight
    refused("shares them with 'other', which would change too", model, head="head")
    model.other.weight = nn.Parameter(model.head.weight.detach()[:2])  # another parameter of the same memory
    refused("shares them with 'other'", model, head="head")
    model.other.weight = nn.Parameter(model.head.weight.clone())
    logitherm.bake(model, 2.0, head="head")


def test_another_name_of_the_same_layer_is_no_sharing(x):
    model = Net()
    model.alias = model.head
    close(logitherm.bake(model, 2.0, head="head")(x), model(x).detach() / 2)


def test_computed_weights_are_refused_until_they_are_own(x):
    model = Net()
    nn.utils.parametrizations.weight_norm(model.head)
    refused("must own its weight", model, head="head")
    nn.utils.parametrize.remove_parametrizations(model.head, "weight")
    close(logitherm.bake(model, 2.0, head="head")(x), model(x).detach() / 2)


def test_weights_that_are_not_there_or_quantised():
    with pytest.raises(ValueError, match="on meta"):
        logitherm.bake(nn.Linear(2, 3, device="meta"), 2.0)
    layer = nn.Linear(2, 3)
    layer.weight = nn.Parameter(torch.ones(3, 2, dtype=torch.int8), requires_grad=False)
    refused("has .*int8", layer)


def test_half_precision_does_not_overflow_in_silence():
    layer = nn.Linear(1, 2, dtype=torch.float16)
    nn.init.constant_(layer.weight, 100.0)
    refused("must stay finite", layer, 1e-3)


def test_other_classes_change_nothing(calibrator):
    refused("got 4 for the layer 'body.0' with 8 outputs", Net(), calibrator, head="body.0")


@pytest.mark.parametrize("model", ["model.onnx", np.zeros(3), None, lambda x: x])
def test_what_is_no_model(model):
    with pytest.raises(TypeError, match=r"^model: must be .*bake_onnx"):
        logitherm.bake(model, 2.0)
