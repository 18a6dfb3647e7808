"""ONNX models of every kind, by onnxruntime before and after."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from logitherm import TemperatureScaling
from logitherm.calibration import VectorScaling, binary_logits
from logitherm.integrations.baking import bake_onnx
from logitherm.io import InputError

KINDS = {np.float16: TensorProto.FLOAT16, np.float32: TensorProto.FLOAT, np.float64: TensorProto.DOUBLE}
ROUNDING = {np.float16: 8e-3, np.float32: 3e-6, np.float64: 1e-13}
K, D = 4, 6


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


X = numbers(32, D, seed=9)
NODE = helper.make_node


class Folder:
    """Graphs of x (n, D) written, baked and run."""

    def __init__(self, path):
        self.path = path

    def save(self, nodes, constants, outputs=("logits",), dtype=np.float32, shape=("n", K), opset=17, inputs=(), ir=8):
        kind = KINDS[dtype]
        graph = helper.make_graph(
            nodes,
            "graph",
            [helper.make_tensor_value_info("x", kind, ["n", D]), *inputs],
            [
                helper.make_tensor_value_info(o, kind, shape)
                if isinstance(o, str)
                else helper.make_tensor_value_info(*o)
                for o in outputs
            ],
            [numpy_helper.from_array(np.asarray(v, dtype=dtype), name) for name, v in constants.items()],
        )
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir), self.source)
        self.dtype = dtype

    @property
    def source(self):
        return self.path / "model.onnx"

    @property
    def target(self):
        return self.path / "baked.onnx"

    def bake(self, calibrator, **options):
        done = bake_onnx(self.source, calibrator, self.target, **options)
        onnx.checker.check_model(self.target, full_check=True)
        return done

    def run(self, path, output=None):
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        names = [value.name for value in session.get_outputs()]
        return session.run([output or names[0]], {"x": X.astype(self.dtype)})[0]

    def check(self, calibrator, expected=None, output=None):
        """The outputs are the calibrator's of the old ones."""
        before, after = self.run(self.source, output), self.run(self.target, output)
        assert after.dtype == self.dtype and after.shape == before.shape
        expected = calibrator.transform(before.astype(np.float64)) if expected is None else expected
        scale = max(1.0, np.abs(expected).max())
        np.testing.assert_allclose(after, expected, rtol=0, atol=ROUNDING[self.dtype] * scale)

    def operators(self):
        return [node.op_type for node in onnx.load(self.target).graph.node]


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path)


def gemm(**options):
    inputs = ["x", "w", "c"] if options.pop("biased", True) else ["x", "w"]
    return [NODE("Gemm", inputs, ["logits"], name="classifier", **options)]


LAYERS = {
    "transB": (gemm(transB=1), {"w": numbers(K, D), "c": numbers(K)}),
    "alpha and beta": (gemm(alpha=0.5, beta=2.0), {"w": numbers(D, K), "c": numbers(K)}),
    "a row of biases": (gemm(transB=1, alpha=0.5), {"w": numbers(K, D), "c": numbers(1, K)}),
    "one bias": (gemm(beta=3.0), {"w": numbers(D, K), "c": numbers(1)}),
    "beta of 0": (gemm(beta=0.0), {"w": numbers(D, K), "c": numbers(K)}),
    "no bias": (gemm(biased=False, alpha=2.0, beta=0.5), {"w": numbers(D, K)}),
    "MatMul and Add": (
        [NODE("MatMul", ["x", "w"], ["h"], name="classifier"), NODE("Add", ["h", "c"], ["logits"])],
        {"w": numbers(D, K), "c": numbers(K)},
    ),
    "Add and MatMul": (
        [NODE("MatMul", ["x", "w"], ["h"], name="classifier"), NODE("Add", ["c", "h"], ["logits"])],
        {"w": numbers(D, K), "c": numbers(1, 1)},
    ),
}


@pytest.mark.parametrize("layer", LAYERS)
def test_a_linear_layer_is_folded(folder, calibrator, layer):
    folder.save(*LAYERS[layer])
    done = folder.bake(calibrator)
    assert done.folded and str(done) == f"folded into {LAYERS[layer][0][0].op_type} 'classifier'"
    assert folder.operators() == [node.op_type for node in LAYERS[layer][0]]
    folder.check(calibrator)


@pytest.mark.parametrize("dtype", list(KINDS))
@pytest.mark.parametrize("layer", ["transB", "MatMul and Add"])
def test_every_dtype(folder, calibrator, dtype, layer):
    folder.save(*LAYERS[layer], dtype=dtype)
    assert folder.bake(calibrator).folded
    folder.check(calibrator)


def test_a_matmul_alone_holds_a_temperature_but_no_bias(folder, calibrator):
    folder.save([NODE("MatMul", ["x", "w"], ["logits"])], {"w": numbers(D, K)})
    done = folder.bake(calibrator)
    assert done.folded == isinstance(calibrator, TemperatureScaling)
    folder.check(calibrator)


INSERTED = {
    "TemperatureScaling": ["Div"],
    "BiasCorrectedTemperatureScaling": ["Mul", "Add"],
    "VectorScaling": ["Mul", "Add"],
    "StructuredMatrixScaling": ["MatMul", "Add"],
}


@pytest.mark.parametrize("dtype", list(KINDS))
def test_behind_anything_else_nodes_are_inserted(folder, calibrator, dtype):
    nodes = [NODE("MatMul", ["x", "w"], ["h"]), NODE("Relu", ["h"], ["logits"])]
    folder.save(nodes, {"w": numbers(D, K)}, dtype=dtype)
    done = folder.bake(calibrator)
    nodes = INSERTED[type(calibrator).__name__]
    assert str(done) == f"inserted {' and '.join(nodes)} after Relu" and not done.folded
    assert folder.operators() == ["MatMul", "Relu", *nodes]
    folder.check(calibrator)


SHARED = {
    "weight used twice": ([*gemm(), NODE("MatMul", ["x", "w"], ["other"])], {"w": numbers(D, K), "c": numbers(K)}),
    "bias used twice": ([*gemm(), NODE("Add", ["logits", "c"], ["other"])], {"w": numbers(D, K), "c": numbers(K)}),
    "product used twice": (
        [NODE("MatMul", ["x", "w"], ["other"]), NODE("Add", ["other", "c"], ["logits"])],
        {"w": numbers(D, K), "c": numbers(K)},
    ),
}


@pytest.mark.parametrize("graph", SHARED)
def test_shared_weights_stay(folder, calibrator, graph):
    folder.save(*SHARED[graph], outputs=("logits", "other"))
    assert not folder.bake(calibrator, output="logits").folded
    folder.check(calibrator, output="logits")
    if graph != "bias used twice":  # there it reads the logits
        np.testing.assert_array_equal(folder.run(folder.source, "other"), folder.run(folder.target, "other"))


def test_weights_read_inside_a_branch_are_shared(folder):
    other = helper.make_tensor_value_info("v", TensorProto.FLOAT, None)
    branch = helper.make_graph([NODE("Identity", ["w"], ["v"])], "branch", [], [other])
    nodes = [*gemm(biased=False), NODE("If", ["yes"], ["copy"], then_branch=branch, else_branch=branch)]
    folder.save(nodes, {"w": numbers(D, K)}, outputs=("logits", ("copy", TensorProto.FLOAT, [D, K])))
    model = onnx.load(folder.source)
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    onnx.save(model, folder.source)
    assert not folder.bake(2.0, output="logits").folded
    np.testing.assert_array_equal(folder.run(folder.source, "copy"), folder.run(folder.target, "copy"))


def test_weights_that_a_caller_may_replace_stay(folder):
    weight = helper.make_tensor_value_info("w", TensorProto.FLOAT, [D, K])
    folder.save(gemm(biased=False), {"w": numbers(D, K)}, inputs=[weight])
    assert not folder.bake(2.0).folded
    folder.check(None, folder.run(folder.source) / 2)


@pytest.mark.parametrize("size", [0, 1, K])
def test_old_files_list_all_constants_as_inputs(folder, calibrator, size):
    layer, constants = gemm(biased=size > 0), {"w": numbers(D, K)} | ({"c": numbers(size)} if size else {})
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, v.shape) for name, v in constants.items()]
    folder.save(layer, constants, inputs=inputs, ir=3, opset=11)
    assert folder.bake(calibrator).folded == (size != 1)
    folder.check(calibrator)


@pytest.mark.parametrize("operator", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize("middle", [[], ["Relu"], ["Identity"]], ids=str)
def test_a_softmax_at_the_end_reads_calibrated_logits(folder, calibrator, operator, middle):
    nodes = [NODE("Gemm", ["x", "w", "c"], ["h0"])]
    nodes += [NODE(op, [f"h{i}"], [f"h{i + 1}"]) for i, op in enumerate(middle)]
    nodes += [NODE(operator, [f"h{len(middle)}"], ["p"]), NODE("Identity", ["p"], ["out"])]
    constants = {"w": numbers(D, K), "c": numbers(K)}
    folder.save(nodes, constants, outputs=("out",))
    assert folder.bake(calibrator).folded == (middle != ["Relu"])
    z = X @ constants["w"] + constants["c"]
    p = calibrator.predict_proba(np.maximum(z, 0) if middle == ["Relu"] else z)
    folder.check(None, p if operator == "Softmax" else np.log(p))


def test_logits_and_probabilities_agree_whichever_is_named(folder, calibrator):
    nodes = [*gemm(), NODE("Softmax", ["logits"], ["p"], axis=1)]
    folder.save(nodes, {"w": numbers(D, K), "c": numbers(K)}, outputs=("logits", "p"))
    for output in ("logits", "p"):
        folder.bake(calibrator, output=output, force=True)
        folder.check(calibrator, output="logits")
        folder.check(None, calibrator.predict_proba(folder.run(folder.source, "logits")), output="p")


def test_scores_of_labels_behind_a_sigmoid(folder, platt):
    nodes = [NODE("Gemm", ["x", "w", "c"], ["z"]), NODE("Sigmoid", ["z"], ["p"])]
    constants = {"w": numbers(D, K), "c": numbers(K)}
    folder.save(nodes, constants, outputs=("p",))
    scaling = platt(K)
    assert folder.bake(scaling).folded
    folder.check(None, scaling.predict_proba(X @ constants["w"] + constants["c"]))


def test_one_score_that_is_squeezed(folder, platt, fitted):
    nodes = [NODE("Gemm", ["x", "w"], ["z"]), NODE("Squeeze", ["z", "axis"], ["logits"])]
    folder.save(nodes, {"w": numbers(D, 1)}, shape=("n",))
    model = onnx.load(folder.source)
    model.graph.initializer.append(numpy_helper.from_array(np.array([1]), "axis"))
    onnx.save(model, folder.source)
    x = folder.run(folder.source)
    for scaling in (platt(), fitted(VectorScaling, 2)):
        assert folder.bake(scaling, force=True).folded
        u = scaling.transform(x if x.ndim == 1 and scaling.n_features_in_ == 1 else binary_logits(x))
        folder.check(None, u if u.ndim == 1 else u[:, 1] - u[:, 0])


def test_mixed_precision(folder):
    nodes = [
        NODE("Cast", ["x"], ["half"], to=TensorProto.FLOAT16),
        NODE("MatMul", ["half", "w"], ["h"]),
        NODE("Cast", ["h"], ["logits"], to=TensorProto.FLOAT),
    ]
    folder.save(nodes, {})
    model = onnx.load(folder.source)
    model.graph.initializer.append(numpy_helper.from_array(numbers(D, K).astype(np.float16), "w"))
    onnx.save(model, folder.source)
    assert folder.bake(2.0).folded
    np.testing.assert_allclose(folder.run(folder.target), folder.run(folder.source) / 2, atol=1e-2)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")  # of the exporter itself
@pytest.mark.parametrize("dynamo", [True, False])
def test_an_export_of_torch(folder, fitted, dynamo):
    pytest.importorskip("onnxscript", reason="torch exports to ONNX with it")
    calibrator = fitted(VectorScaling)
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(D, 8), torch.nn.ReLU(), torch.nn.Linear(8, K)).eval()
    x = torch.tensor(X, dtype=torch.float32)
    options = {"dynamo": dynamo, "input_names": ["x"], "output_names": ["logits"], "external_data": dynamo}
    torch.onnx.export(net, (x,), folder.source, **options, **({"verbose": False} if dynamo else {}))
    folder.dtype = np.float32
    assert folder.bake(calibrator).folded
    assert sorted(p.name for p in folder.path.iterdir() if "baked" in p.name) == ["baked.onnx"]
    folder.check(calibrator, calibrator.transform(net(x).detach().numpy()))


# -- refusals --------------------------------------------------------------------------------------------


def refused(folder, match, calibrator=2.0, **options):
    with pytest.raises(ValueError, match=match):
        folder.bake(calibrator, **options)
    assert not folder.target.exists()


def test_outputs_that_are_no_logits(folder):
    constants = {"w": numbers(D, K), "c": numbers(K)}
    folder.save([*gemm(), NODE("Softmax", ["logits"], ["p"])], constants, outputs=("logits", "p"))
    refused(folder, r"^output: must be named where there are several; got None for logits, p")
    refused(folder, r"^output: must be one of logits, p; got 'q'", output="q")
    best = NODE("ArgMax", ["logits"], ["best"], axis=1, keepdims=0)
    folder.save([*gemm(), best], constants, outputs=(("best", TensorProto.INT64, ["n"]),))
    refused(folder, r"^output: must be logits.*got 'best', where they are not of float16")
    twice = [NODE("Gemm", ["x", "w"], ["z"]), NODE("Softmax", ["z"], ["p"]), NODE("Softmax", ["p"], ["logits"])]
    folder.save(twice, constants)
    refused(folder, "where Softmax makes probabilities")
    graph = helper.make_graph(
        [],
        "nothing",
        [helper.make_tensor_value_info("x", 1, ["n", K])],
        [helper.make_tensor_value_info("x", 1, ["n", K])],
    )
    onnx.save(helper.make_model(graph), folder.source)
    refused(folder, "where no node makes them")


def test_classes_that_are_not_last(folder, fitted):
    nodes = [NODE("Gemm", ["x", "w"], ["z"]), NODE("Softmax", ["z"], ["p"], axis=0)]
    folder.save(nodes, {"w": numbers(D, K)}, outputs=("p",))
    refused(folder, "Softmax over axis 0 of 2", fitted(VectorScaling))
    assert folder.bake(2.0).folded


@pytest.mark.parametrize("middle", ["Identity", "Relu"])
def test_other_classes(folder, fitted, middle):
    folder.save([NODE("Gemm", ["x", "w"], ["z"]), NODE(middle, ["z"], ["logits"])], {"w": numbers(D, K)})
    refused(folder, "got 3 for .* with 4 outputs", fitted(TemperatureScaling, 3))


def test_numbers_that_float16_cannot_hold(folder):
    folder.save(*LAYERS["transB"], dtype=np.float16)
    refused(folder, "must stay finite", 1e-6)
    folder.save([NODE("Relu", ["x"], ["logits"])], {}, dtype=np.float16, shape=("n", D))
    refused(folder, "must fit the graph's float16", 1e6)


def test_an_operator_set_too_old_for_a_node(folder):
    folder.save([NODE("Relu", ["x"], ["logits"])], {}, shape=("n", D), opset=6)
    refused(folder, "operator set 7 or later")


def test_files_that_are_none(folder):
    refused(folder, "no such file")
    folder.source.write_bytes(b"no protobuf")
    refused(folder, r"must be a sound ONNX model")
    folder.save(*LAYERS["transB"])
    folder.target.write_bytes(b"mine")
    with pytest.raises(InputError, match="exists; pass force=True"):
        folder.bake(2.0)
    assert folder.target.read_bytes() == b"mine"


def test_weights_that_do_not_fit_into_one_file(folder, monkeypatch):
    folder.save(*LAYERS["transB"])
    monkeypatch.setattr("logitherm.integrations.baking.onnx_file.MOST_BYTES", 90)
    refused(folder, "less than 2 GB with its weights")


def test_weights_beside_the_file(folder, calibrator):
    folder.save(*LAYERS["transB"])
    expected = calibrator.transform(folder.run(folder.source))
    onnx.save(onnx.load(folder.source), folder.source, save_as_external_data=True, location="w.data", size_threshold=0)
    folder.bake(calibrator)
    (folder.path / "w.data").unlink()
    np.testing.assert_allclose(folder.run(folder.target), expected, rtol=1e-5, atol=1e-5)
    folder.target.unlink()
    refused(folder, "must be a sound ONNX model")
