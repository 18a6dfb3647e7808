"""Which kind of model it is, and what is changed: a copy, or the model itself."""

import pathlib
import subprocess
import sys

import numpy as np
import pytest
import torch
from onnx import helper
from sklearn.linear_model import LogisticRegression

import logitherm
from logitherm.integrations.baking.dispatch import bake


@pytest.fixture
def linear():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(90, 3)), np.arange(90) % 3
    return LogisticRegression().fit(x, y)


def test_the_public_name_is_this():
    assert logitherm.bake is bake


def test_a_copy_or_the_model_itself(linear):
    torch.manual_seed(0)
    for model, weight in ((linear, lambda m: m.coef_), (torch.nn.Linear(3, 2), lambda m: m.weight.detach().numpy())):
        before = weight(model).copy()
        baked = bake(model, 2.0)
        assert baked is not model and type(baked) is type(model)
        np.testing.assert_array_equal(weight(model), before)
        assert bake(model, 2.0, inplace=True) is model
        np.testing.assert_array_equal(weight(model), before / 2)
        np.testing.assert_array_equal(weight(baked), before / 2)


def test_a_refusal_changes_nothing_in_place(linear):
    before = linear.coef_.copy()
    with pytest.raises(ValueError, match="T must be positive and finite"):
        bake(linear, 0.0, inplace=True)
    with pytest.raises(ValueError, match=r"^head: is for torch modules"):
        bake(linear, 2.0, head="coef_", inplace=True)
    np.testing.assert_array_equal(linear.coef_, before)


@pytest.mark.parametrize("path", ["m.onnx", b"m.onnx", pathlib.Path("m.safetensors")])
def test_files_and_graphs_have_functions_of_their_own(path):
    for model in (path, helper.make_model(helper.make_graph([], "g", [], []))):
        with pytest.raises(TypeError, match=r"^model: must be a model in memory; got \w+; .*bake_onnx and bake_safet"):
            bake(model, 2.0)


def test_the_model_is_judged_after_the_calibrator():
    with pytest.raises(TypeError, match=r"^calibrator: "):
        bake(object(), "warm")
    with pytest.raises(TypeError, match=r"^model: .* got object; for other frameworks export to ONNX"):
        bake(object(), 2.0)


def test_what_a_library_is_for_need_not_be_loaded():
    """An estimator is baked without torch, which nobody asked for."""
    code = (
        "import sys, numpy as np; from sklearn.svm import LinearSVC; import logitherm; "
        "model = LinearSVC().fit(np.random.default_rng(0).normal(size=(30, 2)), np.arange(30) % 3); "
        "logitherm.bake(model, 2.0); print([m for m in ('torch', 'transformers', 'onnx') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
