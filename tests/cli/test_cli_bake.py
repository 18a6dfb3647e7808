"""A calibrator folded into model files."""

import re

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file, save_file

from logitherm.calibration import PlattScaling, TemperatureScaling, VectorScaling

CLASSES, FEATURES = 5, 3


@pytest.fixture
def calibrator(files):
    TemperatureScaling().fit(files.logits, files.labels).save(files / "c.json")
    return files / "c.json"


@pytest.fixture
def graph(files):
    """A network of one layer, its logits and its probabilities."""

    def save(*nodes, outputs=("logits",), classes=CLASSES):
        weight = np.random.default_rng(0).normal(size=(FEATURES, classes)).astype(np.float32)
        layer = helper.make_node("Gemm", ["x", "w"], ["logits"], name="classifier")
        made = helper.make_graph(
            [layer, *nodes],
            "graph",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", FEATURES])],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", classes]) for name in outputs],
            [numpy_helper.from_array(weight, "w")],
        )
        onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), files / "m.onnx")
        return files / "m.onnx"

    return save


@pytest.fixture
def checkpoint(files):
    rng = np.random.default_rng(0)
    tensors = {name: rng.normal(size=(CLASSES, FEATURES)).astype(np.float32) for name in ("head.weight", "w")}
    save_file(tensors | {"head.bias": np.ones(CLASSES, np.float32)}, files / "m.safetensors")
    return files / "m.safetensors"


def logits(path, output="logits"):
    x = np.random.default_rng(1).normal(size=(20, FEATURES)).astype(np.float32)
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run([output], {"x": x})[0]


def test_an_onnx_graph(files, command, calibrator, graph):
    result = command("bake", calibrator, graph(), "-o", files / "new.onnx")
    fitted = TemperatureScaling.load(calibrator)
    assert result.stdout == ""
    assert re.search(r"new.onnx: T = [\d.]+ folded into Gemm 'classifier'\n$", result.stderr)
    np.testing.assert_allclose(
        logits(files / "new.onnx"), fitted.transform(logits(files / "m.onnx")), rtol=1e-5, atol=1e-6
    )


def test_an_inserted_node_is_said(files, command, calibrator, graph):
    graph(helper.make_node("Relu", ["logits"], ["kept"]), outputs=("kept",))
    result = command("bake", calibrator, files / "m.onnx", "-o", files / "new.onnx")
    assert "inserted Div after Relu" in result.stderr


def test_a_named_output(files, command, calibrator, graph):
    graph(helper.make_node("Softmax", ["logits"], ["p"]), outputs=("p", "logits"))
    bake = ("bake", calibrator, files / "m.onnx", "-o", files / "new.onnx")
    assert "must be named where there are several" in command(*bake, code=1).stderr
    command(*bake, "--graph-output", "p")
    p = TemperatureScaling.load(calibrator).predict_proba(logits(files / "m.onnx"))
    np.testing.assert_allclose(logits(files / "new.onnx", "p"), p, rtol=1e-5, atol=1e-6)


def test_a_checkpoint(files, command, calibrator, checkpoint):
    bake = ("bake", calibrator, checkpoint, "-o", files / "new.safetensors")
    assert "it has no 'classifier.weight'; matrices" in command(*bake, code=1).stderr
    result = command(*bake, "--weight", "head.weight")
    assert "folded into 'head.weight' and 'head.bias'" in result.stderr
    old, new = load_file(checkpoint), load_file(files / "new.safetensors")
    t = TemperatureScaling.load(calibrator).temperature_
    for name in old:
        np.testing.assert_allclose(new[name], old[name] / (1 if name == "w" else t), rtol=1e-6)
    command(*bake, "--weight", "w", "--bias", "head.bias", "--force")
    np.testing.assert_allclose(load_file(files / "new.safetensors")["w"], old["w"] / t, rtol=1e-6)


def test_json(files, as_json, calibrator, graph):
    found = as_json("bake", calibrator, graph(), "-o", files / "new.onnx")
    assert found == {
        "model": str(files / "m.onnx"),
        "calibrator": str(calibrator),
        "output": str(files / "new.onnx"),
        "where": "Gemm 'classifier'",
        "folded": True,
    }


def test_other_calibrators(files, command, graph):
    VectorScaling().fit(files.logits, files.labels).save(files / "v.json")
    result = command("bake", files / "v.json", graph(), "-o", files / "new.onnx")
    assert "vector folded into Gemm" in result.stderr
    happened = (files.logits > np.random.default_rng(7).normal(size=files.logits.shape)).astype(int)
    PlattScaling().fit(files.logits, happened).save(files / "p.json")
    result = command("bake", files / "p.json", graph(), "-o", files / "new.onnx", "--force")
    assert "PlattScaling folded into Gemm" in result.stderr


def test_what_cannot_be_folded(files, command, calibrator, graph, checkpoint):
    command("calibrate", files.val, "--method", "ensemble", "--save", files / "e.json")
    result = command("bake", files / "e.json", graph(), "-o", files / "new.onnx", code=1)
    assert "must be affine in the logits; got EnsembleTemperatureScaling" in result.stderr
    result = command("bake", calibrator, graph(classes=4), "-o", files / "new.onnx", code=1)
    assert "got 5 for Gemm 'classifier' with 4 outputs" in result.stderr
    assert "no such file" in command("bake", calibrator, files / "no.onnx", "-o", files / "new.onnx", code=1).stderr
    assert "no such file" in command("bake", files / "no.json", graph(), "-o", files / "new.onnx", code=1).stderr
    (files / "bad.onnx").write_bytes(b"bad")
    result = command("bake", calibrator, files / "bad.onnx", "-o", files / "new.onnx", code=1)
    assert "must be a sound ONNX model" in result.stderr
    assert "new.onnx" not in files.names()


def test_nothing_is_overwritten(files, command, calibrator, graph):
    (files / "new.onnx").write_bytes(b"mine")
    bake = ("bake", calibrator, graph(), "-o")
    assert "exists; pass --force" in command(*bake, files / "new.onnx", code=1).stderr
    assert (files / "new.onnx").read_bytes() == b"mine"
    command(*bake, files / "new.onnx", "--force")
    assert "is an input" in command(*bake, files / "m.onnx", "--force", code=1).stderr


def test_wrong_usage(files, command, calibrator, graph, checkpoint):
    graph()
    for arguments, said in [
        (("m.onnx",), "-o"),
        (("m.onnx", "-o", files / "new.bin"), "must both end in"),
        (("m.pt", "-o", files / "new.pt"), "must both end in"),
        (("m.onnx", "-o", files / "new.onnx", "--weight", "w"), "--weight and --bias are for .safetensors"),
        (("m.safetensors", "-o", files / "new.safetensors", "--graph-output", "p"), "--graph-output is for .onnx"),
    ]:
        assert said in command("bake", calibrator, files / arguments[0], *arguments[1:], code=2).stderr
