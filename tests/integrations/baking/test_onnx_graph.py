"""Graphs in memory: what is done to nodes and constants where files and runs do not show it."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from logitherm import TemperatureScaling
from logitherm.calibration import VectorScaling
from logitherm.integrations.baking.fold import affine_map
from logitherm.integrations.baking.onnx_graph import fold_graph
from logitherm.io import InputError

NODE = helper.make_node


def graph(nodes, constants, shapes, opset=17):
    """A model from x to logits of these shapes; names stand for axes of any length."""
    value = helper.make_tensor_value_info
    x, logits = (value(name, TensorProto.FLOAT, shape) for name, shape in zip(("x", "logits"), shapes, strict=True))
    stored = [numpy_helper.from_array(np.asarray(v, dtype=np.float32), name) for name, v in constants.items()]
    made = helper.make_graph(nodes, "graph", [x], [logits], stored)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def run(model, x):
    return ReferenceEvaluator(model).run(None, {"x": x.astype(np.float32)})[0]


@pytest.mark.parametrize("shape", [("n", "k"), (None, None), None], ids=str)
@pytest.mark.parametrize("classes", [2, 4])
def test_an_unknown_number_of_classes_takes_one_temperature_only(fitted, calibrator, shape, classes):
    """Broadcast over x of one column, two scales and two biases would give two."""
    model = graph([NODE("Tanh", ["x"], ["logits"])], {}, (shape, shape))
    one = fitted(type(calibrator), classes)
    if not isinstance(one, TemperatureScaling):
        before = model.SerializeToString()
        with pytest.raises(InputError, match=r"^model: must have a known number of classes at 'logits'.*fixed last"):
            fold_graph(model, affine_map(one), None)
        assert model.SerializeToString() == before
        return
    assert str(fold_graph(model, affine_map(one), None)) == "inserted Div after Tanh"
    for columns in (1, classes):
        x = np.random.default_rng(0).normal(size=(3, columns))
        np.testing.assert_allclose(run(model, x), np.tanh(x) / one.temperature_, rtol=1e-5)


def test_a_known_number_of_classes_that_only_inference_knows(fitted):
    scaling = fitted(VectorScaling)
    w = np.random.default_rng(0).normal(size=(3, 4))
    nodes = [NODE("MatMul", ["x", "w"], ["h"]), NODE("Tanh", ["h"], ["z"]), NODE("Softmax", ["z"], ["logits"])]
    model = graph(nodes, {"w": w}, (["n", 3], ["n", "k"]))
    assert not fold_graph(model, affine_map(scaling), None).folded
    x = np.random.default_rng(1).normal(size=(5, 3))
    np.testing.assert_allclose(run(model, x), scaling.predict_proba(np.tanh(x @ w)), rtol=1e-4)


def test_names_that_are_taken_stay_what_they_are(fitted):
    scaling = fitted(VectorScaling)
    nodes = [
        NODE("Tanh", ["x"], ["calibrator_Mul_constant"], name="calibrator_Mul"),
        NODE("Neg", ["calibrator_Mul_constant"], ["logits_uncalibrated"]),
        NODE("Neg", ["logits_uncalibrated"], ["logits_scaled"]),
        NODE("Identity", ["logits_scaled"], ["logits"]),
    ]
    model = graph(nodes, {}, (["n", 4], ["n", 4]))
    fold_graph(model, affine_map(scaling), None)
    onnx.checker.check_model(model, full_check=True)
    x = np.random.default_rng(0).normal(size=(5, 4))
    np.testing.assert_allclose(run(model, x), scaling.transform(np.tanh(x)), rtol=1e-4, atol=1e-6)
    made = [name for node in model.graph.node for name in (node.name, *node.output) if name]
    assert len(made) == len(set(made))


def test_operators_of_other_domains_are_no_layers():
    model = graph([NODE("Gemm", ["x", "w"], ["logits"], domain="other")], {"w": np.eye(4)}, (["n", 4], ["n", 4]))
    model.opset_import.append(helper.make_opsetid("other", 1))
    assert str(fold_graph(model, affine_map(2.0), None)) == "inserted Div after Gemm"
    np.testing.assert_array_equal(numpy_helper.to_array(model.graph.initializer[0]), np.eye(4))


def test_a_classifier_with_its_softmax_inside():
    node = NODE("LinearClassifier", ["x"], ["label", "logits"], domain="ai.onnx.ml", coefficients=[1.0] * 16)
    model = graph([node], {}, (["n", 4], ["n", 4]))
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
    with pytest.raises(InputError, match="LinearClassifier makes probabilities or labels inside"):
        fold_graph(model, affine_map(2.0), None)
